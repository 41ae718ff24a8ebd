//! What the bot's commands do.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

use super::{
    Engine,
    admin::NO_PERMISSION,
    lookup::{Found, several_have},
    session::{Live, Phase},
};
use crate::{
    bot::{self, Command},
    bridge::{Permission, ghost::contact_of, question::Question},
    domain::{
        BareJid, LoginId,
        effect::{Effect, Lane, Notice},
        feature::Feature,
        request::Person,
        time::Lifetime,
    },
    store::{StoreError, login::Login, portal::Room},
    translate::attention,
};

/// How many contacts a search shows.
const FOUND: usize = 20;
/// What is said where one of several logins has to be named.
const SEVERAL_ACCOUNTS: &str =
    "You have several accounts: please say which one, as in `start-chat you@example.org them@example.org`.";
/// How many people of one address are named.
const SEVERAL: usize = 5;

impl Engine {
    /// A person says something to the bot. `private`: in their management room.
    pub(super) fn on_command_text(
        &mut self,
        owner: &OwnedUserId,
        room: &OwnedRoomId,
        event: Option<&OwnedEventId>,
        text: &str,
        private: bool,
    ) -> Result<(), StoreError> {
        if self.bridge.settings.permission(owner) < Permission::User {
            return self.answer_in(owner, Some(room.clone()), NO_PERMISSION.to_owned());
        }
        let parsed = bot::parse(text);
        if private && self.awaits_secret(owner) && !matches!(parsed, Ok(Command::Cancel)) {
            self.redact(owner, room, event)?;
            return self.on_secret(owner, text);
        }
        let command = match parsed {
            Ok(command) => command,
            Err(sentence) => return self.answer_in(owner, Some(room.clone()), sentence),
        };
        if command.holds_secret() {
            self.redact(owner, room, event)?;
        }
        if let Command::Admin(_) = &command
            && let Some(sentence) = self.admin_refused(owner, private)
        {
            return self.answer_in(owner, Some(room.clone()), sentence.to_owned());
        }
        if let (Command::Login { .. } | Command::Relogin { .. }, false) = (&command, private) {
            return self.answer_in(
                owner,
                Some(room.clone()),
                "Please sign in in a room with me alone, so that nobody else reads it.".to_owned(),
            );
        }
        let answer = self.run_command(owner, room, command)?;
        match answer {
            Some(notice) if private => self.bridge.say_notice(owner, notice, None),
            Some(notice) => self.reply_in(owner, room.clone(), notice),
            None => Ok(()),
        }
    }

    /// Asks the contact of a room for attention (XEP-0224). Gives what to answer.
    fn nudge(&mut self, owner: &OwnedUserId, room: &OwnedRoomId) -> Result<Option<&'static str>, StoreError> {
        let portal = match self.bridge.store.room(room)? {
            Some(Room::Portal(portal)) if self.owner_of(&portal.login)?.as_ref() == Some(owner) => portal,
            _ => return Ok(Some("Use `!msgr nudge` in the room of a contact.")),
        };
        if !self.hears_the_owner(&portal)? {
            return Ok(Some("You have blocked this contact. `!msgr unblock` in this room ends it."));
        }
        if !self.features_of(&portal)?.has(Feature::Attention) {
            return Ok(Some("The contact's app does not know nudges, as far as I know."));
        }
        // Worth doing now or not at all: nobody wants to be nudged tomorrow.
        if !self.lives.get(&portal.login).is_some_and(Live::caught_up) {
            return Ok(Some("Your account is not on line just now."));
        }
        self.send(&portal.login, attention::to_xmpp(&portal.contact));
        Ok(Some("You sent a nudge."))
    }

    /// After which time the messages of a room's chat disappear (XEP-0466). Gives what to answer.
    fn disappearing(
        &mut self,
        owner: &OwnedUserId,
        room: &OwnedRoomId,
        wish: Option<Lifetime>,
    ) -> Result<String, StoreError> {
        match self.bridge.store.room(room)? {
            Some(Room::Portal(portal)) if self.owner_of(&portal.login)?.as_ref() == Some(owner) => {
                self.set_disappearing(&portal, wish)
            }
            _ => Ok("Use `!msgr disappearing` in the room of a contact.".to_owned()),
        }
    }

    /// Answers in a room, the management room if none is given.
    pub(super) fn answer_in(
        &mut self,
        owner: &OwnedUserId,
        room: Option<OwnedRoomId>,
        text: String,
    ) -> Result<(), StoreError> {
        match room {
            Some(room) => self.reply_in(owner, room, Notice::plain(text)),
            None => self.bridge.say(owner, text),
        }
    }

    fn reply_in(&mut self, owner: &OwnedUserId, room: OwnedRoomId, notice: Notice) -> Result<(), StoreError> {
        self.bridge.owe(Lane::Management(owner.clone()), Effect::Reply { room, notice })?;
        Ok(())
    }

    pub(super) fn logins_of(&self, owner: &OwnedUserId) -> Result<Vec<Login>, StoreError> {
        self.bridge.store.logins_of(owner)
    }

    /// The person's login of this address or id.
    pub(super) fn login_named(&self, owner: &OwnedUserId, name: &str) -> Result<Option<Login>, StoreError> {
        let jid = BareJid::parse(name).ok();
        Ok(self
            .logins_of(owner)?
            .into_iter()
            .find(|login| Some(&login.account) == jid.as_ref() || login.id.as_str() == name))
    }

    pub(super) fn run_command(
        &mut self,
        owner: &OwnedUserId,
        room: &OwnedRoomId,
        command: Command,
    ) -> Result<Option<Notice>, StoreError> {
        let plain = |text: &str| Ok(Some(Notice::plain(text)));
        match command {
            Command::Help => {
                let mut notice = bot::help(&self.bridge.settings.networks.keys().cloned().collect::<Vec<_>>());
                let private = self.bridge.store.management(owner)?.room.as_ref() == Some(room);
                if self.admin_refused(owner, private).is_none() {
                    bot::admin::extend_help(&mut notice);
                }
                Ok(Some(notice))
            }
            Command::Admin(command) => self.run_admin(owner, room, command),
            Command::Version => plain(&format!("messenger-bridge {}", self.bridge.settings.version)),
            Command::Cancel => {
                let was = self.end_conversation(owner);
                if was { plain("Cancelled.") } else { Ok(Some(Notice::plain(self.cancel_work(owner)?))) }
            }
            Command::Login { network, account, proof } => {
                self.begin_login(owner, network, account, proof)?;
                Ok(None)
            }
            Command::Relogin { login, proof } => {
                self.begin_relogin(owner, &login, proof)?;
                Ok(None)
            }
            Command::Logout { login, rooms } => match self.login_named(owner, &login)? {
                Some(login) => {
                    self.log_out(&login, rooms.unwrap_or(self.bridge.settings.after_logout))?;
                    plain(&format!("Signed out of {}.", login.account))
                }
                None => plain("You have no such login. `list-logins` shows yours."),
            },
            Command::ListLogins => self.list_logins(owner).map(Some),
            Command::Ping => {
                let mut notice = self.list_logins(owner)?;
                notice.text.insert_str(0, "I am here.\n");
                Ok(Some(notice))
            }
            Command::StartChat { login, who } => self.start_chat(owner, login.as_deref(), &who),
            Command::Search { text } => self.search(owner, &text).map(Some),
            Command::Decide { login, who, accept } => {
                self.decide_named(owner, login.as_deref(), &who, accept).map(Some)
            }
            Command::DeletePortal
            | Command::SyncPortal
            | Command::Id
            | Command::SetManagementRoom
            | Command::DeleteAllPortals { .. } => self.run_room_command(owner, room, &command).map(Some),
            Command::Block { login, who, blocked } => {
                self.block_named(owner, room, (login.as_deref(), who.as_deref()), blocked)
            }
            Command::Disappearing { wish } => {
                self.disappearing(owner, room, wish).map(|answer| Some(Notice::plain(answer)))
            }
            Command::PublishProfile { login, on } => self.publish_profile(owner, login.as_deref(), on).map(Some),
            Command::Nudge => Ok(self.nudge(owner, room)?.map(Notice::plain)),
            Command::Sync => {
                let mut asked = 0;
                for login in self.logins_of(owner)? {
                    if self.lives.get(&login.id).is_some_and(|live| live.phase == Phase::Up) {
                        self.bridge.store.put_login(&Login { roster_version: None, ..login.clone() })?;
                        self.take_up_import(&login.id)?;
                        self.invite_to_space(&login.id)?;
                        self.ask(&login.id, Question::Roster)?;
                        asked += 1;
                    }
                }
                plain(if asked > 0 {
                    "I am fetching your contact lists again."
                } else {
                    "None of your accounts is connected just now."
                })
            }
        }
    }

    /// Which login a command without one means: the only one.
    pub(super) fn only_login(
        &self,
        owner: &OwnedUserId,
        named: Option<&str>,
        network_for: Option<&BareJid>,
    ) -> Result<Result<Login, String>, StoreError> {
        if let Some(name) = named {
            return Ok(self
                .login_named(owner, name)?
                .ok_or_else(|| "You have no such login. `list-logins` shows yours.".to_owned()));
        }
        let mut logins = self.logins_of(owner)?;
        if logins.len() > 1
            && let Some(contact) = network_for
        {
            // Where only one of the accounts has the contact, or is on its server, that one is meant.
            let mut fitting = Vec::new();
            for login in &logins {
                if self.bridge.store.contact(&contact_of(&login.id, contact))?.is_some() {
                    fitting.push(login.clone());
                }
            }
            if fitting.is_empty() {
                fitting = logins.iter().filter(|login| login.account.domain() == contact.domain()).cloned().collect();
            }
            if fitting.len() == 1 {
                logins = fitting;
            }
        }
        match logins.len() {
            0 => Ok(Err("You are not signed in to any account. Use `login` to begin.".to_owned())),
            1 => Ok(Ok(logins.remove(0))),
            _ => Ok(Err(SEVERAL_ACCOUNTS.to_owned())),
        }
    }

    fn start_chat(
        &mut self,
        owner: &OwnedUserId,
        login: Option<&str>,
        who: &str,
    ) -> Result<Option<Notice>, StoreError> {
        let (login, contact) = match self.resolve(owner, login, who)? {
            Err(refusal) => return Ok(Some(Notice::plain(refusal.sentence))),
            Ok(Found::Several) => return Ok(Some(Notice::plain(SEVERAL_ACCOUNTS))),
            Ok(Found::Email(login, email)) => {
                return Ok(self.ask_who_has(&login, &email)?.err().map(Notice::plain));
            }
            Ok(Found::Contact(login, contact)) => (login, contact),
        };
        let contact = contact_of(&login.id, &contact);
        if !self.hears_the_owner(&contact)? {
            let (who, account) = (&contact.contact, &login.account);
            let text = format!("{who} is blocked by {account}. `unblock {account} {who}` ends it.");
            return Ok(Some(Notice::plain(text)));
        }
        let asked = self.open_chat_asking(&contact)?;
        Ok(Some(Notice::plain(chat_opened(contact.contact.as_str(), asked))))
    }

    pub(super) fn on_jid_lookup(
        &mut self,
        login: &LoginId,
        email: &str,
        answer: Option<&minidom::Element>,
        heard: bool,
    ) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(()) };
        let namespace = self.bridge.profile(&row.network).and_then(|profile| profile.jid_lookup).unwrap_or_default();
        let found = answer.and_then(|answer| answer.get_child("getjid", namespace));
        let jids = found.into_iter().flat_map(|found| found.children().filter(|child| child.is("jid", namespace)));
        let found: std::collections::BTreeSet<BareJid> =
            jids.take(SEVERAL).filter_map(|jid| BareJid::parse(jid.text().trim()).ok()).collect();
        let unheard = || format!("{email} could not be looked up: there was no answer. Please try again later.");
        let people: Vec<BareJid> = found.iter().cloned().collect();
        if self.looked_up(login, email, if heard { Ok(&people) } else { Err(unheard()) })? {
            return Ok(());
        }
        let mut found = found.into_iter();
        let sentence = match (found.next(), found.next()) {
            (Some(contact), None) => {
                let asked = self.open_chat_asking(&contact_of(login, &contact))?;
                chat_opened(email, asked)
            }
            // Whom the person means only they know.
            (Some(first), Some(second)) => {
                let all: Vec<BareJid> = [first, second].into_iter().chain(found).collect();
                format!("{}, as in `start-chat {}`.", several_have(email, &all), all[0])
            }
            (None, _) if heard => format!("Nobody with the address {email} was found."),
            (None, _) => unheard(),
        };
        self.bridge.say(&row.owner, sentence)
    }

    /// The stream is gone on which addresses were being looked up: nobody is left waiting for an answer.
    pub(super) fn lookups_lost(&mut self, login: &LoginId, emails: &[String]) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(()) };
        for email in emails {
            let text = format!(
                "{email} could not be looked up: {} has lost its connection. Please try again when it is back.",
                row.account
            );
            if !self.looked_up(login, email, Err(text.clone()))? {
                self.bridge.say(&row.owner, text)?;
            }
        }
        Ok(())
    }

    fn search(&self, owner: &OwnedUserId, text: &str) -> Result<Notice, StoreError> {
        use std::fmt::Write as _;
        let found = self.contacts_like(&self.logins_of(owner)?, text)?;
        if found.is_empty() {
            return Ok(Notice::plain("None of your contacts fits."));
        }
        let mut text = format!("Found {}:", found.len());
        for Person { name, contact, ghost, .. } in found.iter().take(FOUND) {
            let _ = write!(
                text,
                "\n- {} ({contact}){}",
                name.as_deref().unwrap_or_default(),
                ghost.as_ref().map(|ghost| format!(", {ghost}")).unwrap_or_default()
            );
        }
        if found.len() > FOUND {
            text.push_str("\nand more: please say more of the name.");
        }
        Ok(Notice::plain(text))
    }

    fn decide_named(
        &mut self,
        owner: &OwnedUserId,
        login: Option<&str>,
        who: &str,
        accept: bool,
    ) -> Result<Notice, StoreError> {
        let contact = match BareJid::parse(who) {
            Ok(contact) => contact,
            Err(error) => return Ok(Notice::plain(format!("That is not an address: {error}."))),
        };
        let mut asked = Vec::new();
        for candidate in self.logins_of(owner)? {
            let key = contact_of(&candidate.id, &contact);
            let named = login.is_none_or(|name| {
                candidate.id.as_str() == name || BareJid::parse(name).ok().as_ref() == Some(&candidate.account)
            });
            let asks = self.bridge.store.contact(&key)?.is_some_and(|row| row.asks);
            let writes = self.bridge.store.request(&key)?;
            if named && (asks || writes.is_some_and(|request| accept || !request.denied)) {
                asked.push((key, asks, writes.is_some()));
            }
        }
        match asked.as_slice() {
            [] => Ok(Notice::plain(format!("{contact} has not asked."))),
            [(key, asks, writes)] => {
                if *asks {
                    self.decide(key, accept)?;
                }
                match (writes, accept) {
                    (true, true) => self.open_chat(key)?,
                    (true, false) => self.refuse_newcomer(key)?,
                    (false, _) => {}
                }
                Ok(Notice::plain(if accept {
                    format!("{contact} is accepted.")
                } else {
                    format!("{contact} is denied.")
                }))
            }
            _ => Ok(Notice::plain(format!(
                "{contact} has asked several of your accounts: please say which one answers, as in `accept you@example.org {contact}`."
            ))),
        }
    }
}

fn chat_opened(who: &str, asked: bool) -> String {
    let asks = if asked { " I have asked them to be your contact." } else { "" };
    format!("Your chat with {who} is open: I have invited you to its room.{asks}")
}

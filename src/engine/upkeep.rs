//! What goes on beside the talk: roster and rooms at their pace, vCards, contacts' presence, typing.

use std::collections::VecDeque;

use minidom::Element;

use super::{Engine, Timer, session::Phase};
use crate::{
    bridge::{ghost::contact_of, question::Question},
    domain::{
        BareJid, LoginId, Output,
        effect::{ContactKey, Effect, Lane, Sender},
        output::Ephemeral,
    },
    store::{StoreError, contact::VCardState, portal::Membership, presence::Resources, profile::Avatar},
    translate::{
        chat_state::{self, ChatState},
        discovery, failure, idle, presence, roster,
        stanza::Stanza,
        subscription::{self, Said},
        vcard::{self, Announced, Photo},
    },
};

/// How long the homeserver shows a ghost typing, in milliseconds.
const TYPING: u64 = 30_000;
/// When it is shown again, while the contact has said nothing else.
const RENEW: u64 = 20_000;
/// When a contact that said nothing else is no longer believed to type.
const TYPING_ENDS: u64 = 180_000;
/// vCards asked for at once.
const VCARDS: usize = 2;
/// One contact's vCard is asked for no more often, in milliseconds.
const VCARD_REST: u64 = 10_000;
/// How long pushes of the roster are gathered before it is looked through again, in milliseconds.
const GATHER: u64 = 200;
/// Subscription requests of one login that wait for an answer. What is beyond, the server keeps and sends again at the next
/// sign-in (RFC 6121 section 3.1.3).
pub const MOST_ASKING: usize = 100;

/// A ghost that types.
#[derive(Debug)]
pub(super) struct Typing {
    since: u64,
}

impl Engine {
    /// A roster, or a push of one item.
    pub(super) fn on_roster(&mut self, login: &LoginId, query: &Element, push: bool) -> Result<(), StoreError> {
        let told = roster::from_xmpp(query);
        for _ in 0..told.skipped {
            self.bridge.ignore("roster item with an invalid address");
        }
        let mut gone: Vec<BareJid> = Vec::new();
        if !push {
            let listed: std::collections::HashSet<&BareJid> = told.items.iter().map(|item| &item.contact).collect();
            gone = self
                .bridge
                .store
                .contacts(login)?
                .into_iter()
                .filter(|(contact, row)| row.on_roster && !listed.contains(contact))
                .map(|(contact, _)| contact)
                .collect();
        }
        for item in &told.items {
            if item.removed {
                gone.push(item.contact.clone());
                continue;
            }
            let contact = contact_of(login, &item.contact);
            let mut row = self.bridge.contact(&contact)?;
            row.on_roster = true;
            row.roster_name.clone_from(&item.name);
            row.sees = item.sees;
            self.bridge.store.put_contact(&contact, &row)?;
            self.bridge.name_ghost(&contact)?;
            self.admit(&contact, false)?;
        }
        for contact in gone {
            let contact = contact_of(login, &contact);
            let mut row = self.bridge.contact(&contact)?;
            if !std::mem::replace(&mut row.on_roster, false) {
                continue;
            }
            self.bridge.store.put_contact(&contact, &row)?;
            if self.bridge.store.portal(&contact)?.is_some() {
                let text = "This contact was removed from your contact list. What was said stays here.";
                self.bridge.owe_event(&contact, Sender::Bot, failure::to_matrix(text, None), None, Vec::new())?;
            }
        }
        if let Some(mut row) = self.bridge.store.login(login)?
            && told.version.is_some()
            && row.roster_version != told.version
        {
            row.roster_version = told.version;
            self.bridge.store.put_login(&row)?;
        }
        if push { self.queue_import_soon(login) } else { self.queue_import(login) }
    }

    /// The same, once for many pushes: each look goes through the whole roster.
    fn queue_import_soon(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let uptime = self.bridge.now.uptime;
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        if live.import.looked.is_none_or(|looked| uptime.saturating_sub(looked) >= GATHER) {
            return self.queue_import(login);
        }
        if !std::mem::replace(&mut live.import.stale, true) {
            self.set_timer(GATHER, Timer::Roster(login.clone()));
        }
        Ok(())
    }

    /// The next vCards are asked for. Whoever changes their photo all the time is asked now and then.
    pub(super) fn next_vcard(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let uptime = self.bridge.now.uptime;
        while let Some(live) = self.lives.get_mut(login) {
            let asked =
                live.questions.values().filter(|pending| matches!(pending.question, Question::VCard { .. })).count();
            if asked >= VCARDS || live.phase != Phase::Up {
                break;
            }
            let known = &live.vcards_asked;
            let rested =
                |contact: &BareJid| known.get(contact).is_none_or(|at| uptime.saturating_sub(*at) >= VCARD_REST);
            let next =
                live.vcards.iter().position(|(contact, _)| rested(contact)).and_then(|at| live.vcards.remove(at));
            let Some((contact, hash)) = next else {
                if live.vcards.is_empty() {
                    // A quiet login holds no room for more.
                    live.vcards = VecDeque::new();
                }
                let wait = !(live.vcards.is_empty() && live.vcards_asked.is_empty());
                if wait && !std::mem::replace(&mut live.vcards_rest, true) {
                    self.set_timer(VCARD_REST, Timer::VCards(login.clone()));
                }
                break;
            };
            live.vcards_asked.insert(contact.clone(), uptime);
            self.ask(login, Question::VCard { contact, hash })?;
        }
        Ok(())
    }

    pub(super) fn vcards_rested(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let uptime = self.bridge.now.uptime;
        if let Some(live) = self.lives.get_mut(login) {
            live.vcards_rest = false;
            live.vcards_asked.retain(|_, at| uptime.saturating_sub(*at) < VCARD_REST);
            live.vcards_asked.shrink_to_fit();
        }
        self.next_vcard(login)
    }

    pub(super) fn on_vcard(
        &mut self,
        contact: &ContactKey,
        hash: Option<String>,
        answer: Option<&Element>,
    ) -> Result<(), StoreError> {
        let mut row = self.bridge.contact(contact)?;
        let (names, photo) = match answer.map(vcard::from_xmpp) {
            Some(card) => (Some((card.nickname, card.full_name)), Some(card.photo)),
            None => (None, None),
        };
        // The avatar goes before the photo.
        let photo = match self.bridge.store.profile(contact)?.avatar {
            Avatar::Picture(avatar) => {
                photo.filter(|photo| matches!(photo, Photo::Picture { hash, .. } if *hash == avatar))
            }
            Avatar::Unknown | Avatar::None | Avatar::Unusable(_) => photo,
        };
        // With a picture that is not shown yet the vCard is done with once that is uploaded, lest a crash lose it.
        let uploads = matches!(&photo, Some(Photo::Picture { hash, .. }) if row.shown_photo.as_ref() != Some(hash));
        if !uploads {
            row.vcard = VCardState::Fetched(hash);
        }
        if let Some(names) = names {
            (row.nickname, row.full_name) = names;
        }
        self.bridge.store.put_contact(contact, &row)?;
        self.bridge.name_ghost(contact)?;
        match photo {
            Some(Photo::Picture { mime, hash, bytes }) => self.bridge.picture_ghost(contact, hash, mime, bytes),
            Some(Photo::None) => self.bridge.unpicture_ghost(contact),
            Some(Photo::Unusable) => {
                self.bridge.ignore("photo of an unknown kind or size");
                Ok(())
            }
            None => Ok(()),
        }?;
        self.name_by_vcard4(contact)
    }

    /// A contact's presence, or something about a subscription.
    pub(super) fn on_presence(&mut self, login: &LoginId, element: &Element) -> Result<(), StoreError> {
        let Some(account) = self.lives.get(login).and_then(|live| live.account.clone()) else { return Ok(()) };
        let mut stanza = Stanza::read(element);
        let Some(from) = stanza.from.clone().filter(|from| from.bare != account) else { return Ok(()) };
        let contact = contact_of(login, &from.bare);
        if self.is_blocked(&contact)? {
            // Should the server let it through (XEP-0191 section 3.3).
            self.bridge.ignore("presence of someone who is blocked");
            return Ok(());
        }
        if let Some(said) = subscription::from_xmpp(&mut stanza) {
            return self.on_subscription(&contact, said);
        }
        if !matches!(stanza.kind.as_str(), "" | "unavailable") {
            self.bridge.ignore("presence of a type that is not used");
            return Ok(());
        }
        let Some(mut row) = self.bridge.store.contact(&contact)?.filter(|row| row.on_roster) else {
            self.bridge.ignore("presence of a stranger");
            return Ok(());
        };
        let Some(bound) = self.lives.get(login).and_then(|live| live.session.as_ref()).map(|session| session.bound)
        else {
            return Ok(());
        };
        let announced = vcard::take_announced(&mut stanza);
        let since = idle::from_xmpp(&mut stanza, self.bridge.now.wall);
        let read = presence::from_xmpp(&mut stanza, from.resource.as_deref().unwrap_or_default());
        let caps = match &read {
            presence::Presence::Available(client) => client.caps.clone(),
            presence::Presence::Unavailable => None,
        };
        let known = self.bridge.store.resources(&contact)?;
        let idle = self.bridge.store.idle_clients(&contact, bound)?;
        let before = known.as_ref().map(|row| idle::to_matrix(&row.list, &idle, self.busy));
        let resource = from.resource.as_deref().unwrap_or_default();
        let since = since.filter(|_| read != presence::Presence::Unavailable);
        self.bridge.store.put_idle_client(&contact, bound, resource, since)?;
        let apps = |row: &Resources| row.list.iter().filter_map(|app| app.caps.clone()).collect::<Vec<_>>();
        let apps_before = known.as_ref().map(apps);
        let merged = presence::merge(known, bound, resource, read);
        let idle = self.bridge.store.idle_clients(&contact, bound)?;
        let after = idle::to_matrix(&merged.list, &idle, self.busy);
        let offline = merged.list.is_empty();
        self.bridge.store.put_resources(&contact, &merged)?;
        if apps_before.unwrap_or_default() != apps(&merged) {
            self.note_features(&contact)?;
        }
        if before.as_ref() != Some(&after) && !(before.is_none() && offline) {
            self.show_contact_presence(&contact)?;
        }
        if offline {
            self.ghost_types(&contact, false)?;
        }
        if let Some(caps) = caps
            && (self.bridge.store.caps_chat_states(&caps)?.is_none()
                || self.bridge.store.caps_features(&caps)?.is_none())
        {
            self.ask_caps(login, &from.to_text(), caps, &from.bare)?;
        }
        let announced = match announced {
            Announced::Nothing => return Ok(()),
            Announced::NoPhoto => String::new(),
            Announced::Hash(hash) => hash,
        };
        if row.announced_photo.as_ref() == Some(&announced) {
            return Ok(());
        }
        let fetched =
            row.vcard == VCardState::Fetched(Some(announced.clone())) || row.shown_photo.as_ref() == Some(&announced);
        row.announced_photo = Some(announced.clone());
        self.bridge.store.put_contact(&contact, &row)?;
        if announced.is_empty() {
            // The avatar goes before the photo.
            let avatar = matches!(self.bridge.store.profile(&contact)?.avatar, Avatar::Picture(_));
            return if avatar { Ok(()) } else { self.bridge.unpicture_ghost(&contact) };
        }
        if !fetched && let Some(live) = self.lives.get_mut(login) {
            live.vcards.retain(|(waiting, _)| *waiting != from.bare);
            live.vcards.push_back((from.bare, Some(announced)));
            if live.caught_up() {
                self.next_vcard(login)?;
            }
        }
        Ok(())
    }

    fn ask_caps(&mut self, login: &LoginId, client: &str, caps: String, contact: &BareJid) -> Result<(), StoreError> {
        // One client is asked for all that have the same capabilities, and only a few at a time.
        const AT_ONCE: usize = 8;
        let Some(live) = self.lives.get(login) else { return Ok(()) };
        let asked = live.questions.values().filter(|pending| matches!(&pending.question, Question::Caps { .. }));
        let same = live
            .questions
            .values()
            .any(|pending| matches!(&pending.question, Question::Caps { caps: known, .. } if *known == caps));
        if same || asked.count() >= AT_ONCE {
            return Ok(());
        }
        self.ask(login, Question::Caps { client: client.to_owned(), caps, contact: contact.clone() })
    }

    pub(super) fn on_caps(
        &mut self,
        login: &LoginId,
        contact: &BareJid,
        caps: &str,
        answer: Option<&Element>,
    ) -> Result<(), StoreError> {
        let Some(answer) = answer else { return Ok(()) };
        let knows = discovery::has_feature(answer, chat_state::NS);
        let features = discovery::features(answer);
        self.bridge.store.put_last_features(&contact_of(login, contact), features)?;
        self.note_features(&contact_of(login, contact))?;
        if discovery::is_verified(answer, caps) {
            self.bridge.store.put_caps_features(caps, features)?;
            return self.bridge.store.put_caps_chat_states(caps, knows);
        }
        // An answer that does not fit the hash speaks for nobody but this contact (XEP-0115 section 5.4).
        let key = contact_of(login, contact);
        let mut row = self.bridge.contact(&key)?;
        if knows && !row.chat_states {
            row.chat_states = true;
            self.bridge.store.put_contact(&key, &row)?;
        }
        Ok(())
    }

    fn on_subscription(&mut self, contact: &ContactKey, said: Said) -> Result<(), StoreError> {
        let Some(login) = self.bridge.store.login(&contact.login)? else { return Ok(()) };
        let mut row = self.bridge.contact(contact)?;
        match said {
            Said::Asks { nick, text } => {
                if row.asks {
                    return Ok(());
                }
                if let Some(live) = self.lives.get_mut(&contact.login) {
                    if live.newcomers.asking >= MOST_ASKING {
                        self.bridge.ignore("subscription request beyond the bound");
                        return Ok(());
                    }
                    live.newcomers.asking += 1;
                }
                row.asks = true;
                if row.nickname.is_none() {
                    row.nickname.clone_from(&nick);
                }
                self.bridge.store.put_contact(contact, &row)?;
                let mut notice =
                    subscription::notice(&contact.contact, &login.account, nick.as_deref(), text.as_deref());
                match self.bridge.store.portal(contact)?.map(|portal| portal.owner) {
                    Some(Membership::Joined) => {}
                    Some(_) => notice.push_str(" Joining their room accepts, too."),
                    None => notice.push_str(" Should they write, joining their room accepts, too."),
                }
                self.bridge.say(&login.owner, notice)
            }
            // Whom nobody asked accepts nobody: the server has those who were asked on the contact list (RFC 6121 section 3.1.2).
            Said::Accepted if !row.on_roster => {
                self.bridge.ignore("acceptance that was not asked for");
                Ok(())
            }
            Said::Accepted => self
                .bridge
                .say(&login.owner, format!("{} has accepted you: you see each other's presence now.", contact.contact)),
            Said::Refused => {
                if row.sees {
                    self.bridge
                        .say(&login.owner, format!("{} no longer shows you their presence.", contact.contact))?;
                }
                Ok(())
            }
            Said::Left => Ok(()),
        }
    }

    pub(super) fn decide(&mut self, contact: &ContactKey, accept: bool) -> Result<(), StoreError> {
        use crate::domain::effect::Subscription::{Subscribe, Subscribed, Unsubscribed};
        let mut row = self.bridge.contact(contact)?;
        if let Some(live) = self.lives.get_mut(&contact.login)
            && std::mem::replace(&mut row.asks, false)
        {
            live.newcomers.asking = live.newcomers.asking.saturating_sub(1);
        }
        row.asks = false;
        let sees = row.sees;
        self.bridge.store.put_contact(contact, &row)?;
        let lane = Lane::Login(contact.login.clone());
        let who = contact.contact.clone();
        self.bridge.owe(
            lane.clone(),
            Effect::Subscribe { contact: who.clone(), kind: if accept { Subscribed } else { Unsubscribed } },
        )?;
        if accept && !sees {
            self.bridge.owe(lane, Effect::Subscribe { contact: who, kind: Subscribe })?;
        }
        Ok(())
    }

    /// A contact's chat state: the ghost types, or does not.
    pub(super) fn on_chat_state(&mut self, contact: &ContactKey, state: ChatState) -> Result<(), StoreError> {
        let Some(mut row) = self.bridge.store.contact(contact)? else { return Ok(()) };
        if !row.chat_states {
            row.chat_states = true;
            self.bridge.store.put_contact(contact, &row)?;
        }
        self.ghost_types(contact, chat_state::to_matrix(state))
    }

    fn ghost_types(&mut self, contact: &ContactKey, types: bool) -> Result<(), StoreError> {
        if !types {
            return self.stop_typing(contact);
        }
        let uptime = self.bridge.now.uptime;
        let Some(live) = self.lives.get_mut(&contact.login) else { return Ok(()) };
        live.typing.insert(contact.contact.clone(), Typing { since: uptime });
        self.show_typing(contact)
    }

    fn show_typing(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        let room = self.bridge.store.portal(contact)?.and_then(|portal| portal.room);
        if let (Some(room), Some(user)) = (room, self.bridge.ghost(contact)) {
            self.outputs.push(Output::Now(Ephemeral::Typing { room, user, timeout: Some(TYPING) }));
            self.timers.retain(|(_, timer)| !matches!(timer, Timer::Typing(typing) if typing == contact));
            self.set_timer(RENEW, Timer::Typing(contact.clone()));
        }
        Ok(())
    }

    pub(super) fn renew_typing(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        let uptime = self.bridge.now.uptime;
        let since = self
            .lives
            .get(&contact.login)
            .and_then(|live| live.typing.get(&contact.contact))
            .map(|typing| typing.since);
        match since {
            Some(since) if uptime.saturating_sub(since) < TYPING_ENDS => self.show_typing(contact),
            Some(_) => self.stop_typing(contact),
            None => Ok(()),
        }
    }

    pub(super) fn stop_all_typing(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let typing: Vec<BareJid> =
            self.lives.get(login).map(|live| live.typing.keys().cloned().collect()).unwrap_or_default();
        for contact in typing {
            self.stop_typing(&contact_of(login, &contact))?;
        }
        Ok(())
    }
}

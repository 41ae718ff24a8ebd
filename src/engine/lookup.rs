//! People on the other side, for who asks by the API or the bot: the contact list, a search in it, and who somebody is, with the
//! room of their chat.

use ruma::{OwnedRoomId, OwnedUserId, UserId};

use super::{Engine, process::refusal, request::NO_LOGIN, session::Phase};
use crate::{
    bridge::{ghost::contact_of, question::Question},
    domain::{
        BareJid, LoginId, Ticket,
        address::parse_ghost_localpart,
        effect::ContactKey,
        input::Cause,
        request::{Person, Refusal, RefusalCode, Response, Wish},
    },
    store::{StoreError, login::Login},
};

/// So many wait for a room, or for an answer of the network, at once. More are told to come again.
const WAITING: usize = 64;
/// The same of one login.
const OF_ONE: usize = 16;
/// Who asked so long ago has gone, in milliseconds.
const FORGOTTEN: u64 = 90_000;
/// So many people are told of at once, of one request.
const LISTED: usize = 5_000;
/// Longest text that is searched for, in bytes.
const LONGEST: usize = 1_024;

/// Those who wait for something to happen.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    since: u64,
    login: LoginId,
    until: Until,
}

#[derive(Debug, PartialEq, Eq)]
enum Until {
    /// The contact's chat has its room.
    Room(BareJid),
    /// The network says who has this e-mail address; then the chat is opened, or not.
    Email { email: String, open: bool },
}

impl Lookups {
    fn is_full(&self, login: &LoginId) -> bool {
        self.waiting.len() >= WAITING || self.waiting.iter().filter(|other| other.login == *login).count() >= OF_ONE
    }
}

/// What somebody turned out to be.
pub(super) enum Found {
    /// This contact of a login.
    Contact(Login, BareJid),
    /// An e-mail address that the network of the login has to look up.
    Email(Login, String),
    /// It is not clear which of the person's logins is meant.
    Several,
}

impl Engine {
    /// Answers [`Wish::Contacts`], [`Wish::Search`] and [`Wish::Resolve`]; the last may have to wait.
    pub(super) fn look_up(&mut self, ticket: Ticket, owner: &OwnedUserId, wish: Wish) -> Result<(), StoreError> {
        let response = match wish {
            Wish::Contacts { login } => self.people_of(owner, login.as_deref(), "")?,
            Wish::Search { login, text } if text.len() <= LONGEST => {
                self.people_of(owner, login.as_deref(), text.trim())?
            }
            Wish::Search { .. } => Err(refusal(RefusalCode::Unreadable, "That is too long to be searched for.")),
            Wish::Resolve { login, who, open } => match self.resolve(owner, login.as_deref(), &who)? {
                Err(refusal) => Err(refusal),
                Ok(found) => match self.find(ticket, found, open)? {
                    Some(response) => response,
                    None => return Ok(()),
                },
            },
            _ => return Ok(()),
        };
        self.answer_lookup(ticket, response);
        Ok(())
    }

    fn answer_lookup(&mut self, ticket: Ticket, response: Result<Response, Refusal>) {
        self.respond(ticket, response.unwrap_or_else(Response::Refused));
    }

    /// The contacts of a person's logins whose name or address holds the text, by their names.
    pub(super) fn contacts_like(&self, logins: &[Login], text: &str) -> Result<Vec<Person>, StoreError> {
        let wanted = text.to_lowercase();
        let mut found = Vec::new();
        for login in logins {
            for (contact, row) in self.bridge.store.contacts(&login.id)? {
                let key = contact_of(&login.id, &contact);
                let portal = self.bridge.store.portal(&key)?;
                if !row.on_roster && portal.is_none() {
                    continue;
                }
                let name = self.bridge.display_name(&key)?;
                if name.to_lowercase().contains(&wanted) || contact.as_str().contains(&wanted) {
                    found.push(self.person_of(&key, name, portal.and_then(|portal| portal.room))?);
                }
            }
        }
        found.sort_by_cached_key(|person| person.name.as_ref().map(|name| name.to_lowercase()));
        Ok(found)
    }

    fn people_of(
        &self,
        owner: &OwnedUserId,
        login: Option<&str>,
        text: &str,
    ) -> Result<Result<Response, Refusal>, StoreError> {
        let logins = match login {
            Some(name) => self.login_named(owner, name)?.into_iter().collect(),
            None => self.logins_of(owner)?,
        };
        if logins.is_empty() {
            let sentence = match login {
                Some(_) => NO_LOGIN,
                None => "You are not signed in to any account.",
            };
            return Ok(Err(refusal(RefusalCode::NoSuchLogin, sentence)));
        }
        let mut found = self.contacts_like(&logins, text)?;
        found.truncate(LISTED);
        Ok(Ok(Response::People(found)))
    }

    fn person_of(&self, key: &ContactKey, name: String, room: Option<OwnedRoomId>) -> Result<Person, StoreError> {
        Ok(Person {
            login: key.login.clone(),
            contact: key.contact.clone(),
            name: Some(name),
            avatar: self.bridge.store.look(key)?.photo.filter(|url| !url.is_empty()),
            ghost: self.bridge.ghost(key),
            room,
        })
    }

    /// Who is meant by an address, a ghost, or an e-mail address, and with which login.
    pub(super) fn resolve(
        &self,
        owner: &OwnedUserId,
        login: Option<&str>,
        who: &str,
    ) -> Result<Result<Found, Refusal>, StoreError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            Ok(Err(refusal(RefusalCode::NoSuchPerson, format!("That is not an address: {error}."))))
        };
        if who.starts_with('@') {
            return self.resolve_ghost(owner, login, who);
        }
        let who = ["xmpp:", "mailto:"].iter().find_map(|scheme| who.strip_prefix(scheme)).unwrap_or(who);
        let contact = match BareJid::parse(who) {
            Ok(contact) => contact,
            Err(error) => return unreadable(&error),
        };
        let login = match self.only_login(owner, login, Some(&contact))? {
            Ok(login) => login,
            Err(_) if login.is_none() && !self.logins_of(owner)?.is_empty() => return Ok(Ok(Found::Several)),
            Err(sentence) => return Ok(Err(refusal(RefusalCode::NoSuchLogin, sentence))),
        };
        if contact == login.account {
            return Ok(Err(refusal(RefusalCode::Unreadable, "That is your own address.")));
        }
        let looks_up = self.bridge.profile(&login.network).and_then(|profile| profile.jid_lookup).is_some();
        if looks_up && contact.domain() != login.account.domain() {
            return Ok(Ok(Found::Email(login, contact.to_string())));
        }
        Ok(Ok(Found::Contact(login, contact)))
    }

    fn resolve_ghost(
        &self,
        owner: &OwnedUserId,
        login: Option<&str>,
        who: &str,
    ) -> Result<Result<Found, Refusal>, StoreError> {
        let nobody = || Ok(Err(refusal(RefusalCode::NoSuchPerson, "None of your contacts is that.")));
        let Ok(user) = UserId::parse(who) else { return nobody() };
        let Some((id, _)) = parse_ghost_localpart(user.localpart()) else { return nobody() };
        // Another's ghost, and one that is not there, are the same.
        let Some(row) = self.bridge.store.login(&id)?.filter(|row| row.owner == *owner) else { return nobody() };
        if let Some(name) = login
            && self.login_named(owner, name)?.is_none_or(|named| named.id != row.id)
        {
            return nobody();
        }
        let contacts = self.bridge.store.contacts(&row.id)?.into_iter().map(|(contact, _)| contact);
        let mut contacts = contacts.filter(|contact| *contact != row.account);
        match contacts.find(|contact| self.bridge.ghost(&contact_of(&row.id, contact)).as_ref() == Some(&user)) {
            Some(contact) => Ok(Ok(Found::Contact(row, contact))),
            None => nobody(),
        }
    }

    /// Gives the answer, or `None` while it is awaited.
    fn find(
        &mut self,
        ticket: Ticket,
        found: Found,
        open: bool,
    ) -> Result<Option<Result<Response, Refusal>>, StoreError> {
        match found {
            Found::Contact(login, contact) => self.find_contact(ticket, &contact_of(&login.id, &contact), open),
            Found::Several => {
                let sentence = "You have several accounts: please say which one.";
                Ok(Some(Err(refusal(RefusalCode::Unreadable, sentence))))
            }
            Found::Email(login, email) => {
                if self.lookups.is_full(&login.id) {
                    let sentence = "Too many wait for an answer just now. Please try again in a moment.";
                    return Ok(Some(Err(refusal(RefusalCode::NotNow, sentence))));
                }
                if let Err(sentence) = self.ask_who_has(&login, &email)? {
                    return Ok(Some(Err(refusal(RefusalCode::NotNow, sentence))));
                }
                self.wait(ticket, login.id, Until::Email { email, open });
                Ok(None)
            }
        }
    }

    /// Asks the network who has an e-mail address, or gives the sentence why not.
    pub(super) fn ask_who_has(&mut self, login: &Login, email: &str) -> Result<Result<(), String>, StoreError> {
        if self.lives.get(&login.id).is_none_or(|live| live.phase != Phase::Up) {
            return Ok(Err(format!("{} is not connected just now; please try again later.", login.account)));
        }
        self.ask(&login.id, Question::JidLookup { email: email.to_owned() })?;
        Ok(Ok(()))
    }

    fn find_contact(
        &mut self,
        ticket: Ticket,
        key: &ContactKey,
        open: bool,
    ) -> Result<Option<Result<Response, Refusal>>, StoreError> {
        let room = self.bridge.store.portal(key)?.and_then(|portal| portal.room);
        if !open || room.is_some() {
            let name = self.bridge.display_name(key)?;
            return Ok(Some(Ok(Response::Resolved(Box::new(self.person_of(key, name, room)?)))));
        }
        if !self.hears_the_owner(key)? {
            let sentence = format!("{} is blocked by you.", key.contact);
            return Ok(Some(Err(refusal(RefusalCode::NotNow, sentence))));
        }
        if self.lookups.is_full(&key.login) {
            let sentence = "Too many chats are being opened just now. Please try again in a moment.";
            return Ok(Some(Err(refusal(RefusalCode::NotNow, sentence))));
        }
        self.open_chat_asking(key)?;
        self.wait(ticket, key.login.clone(), Until::Room(key.contact.clone()));
        Ok(None)
    }

    fn wait(&mut self, ticket: Ticket, login: LoginId, until: Until) {
        let since = self.bridge.now.uptime;
        self.lookups.waiting.push(Waiting { ticket, since, login, until });
    }

    /// The network has said whose an e-mail address is, or the question is lost. `true`: somebody waited for it here.
    pub(super) fn looked_up(
        &mut self,
        login: &LoginId,
        email: &str,
        found: Result<&[BareJid], String>,
    ) -> Result<bool, StoreError> {
        let is_it = |waiting: &Waiting| {
            waiting.login == *login && matches!(&waiting.until, Until::Email { email: of, .. } if of == email)
        };
        let Some(place) = self.lookups.waiting.iter().position(is_it) else { return Ok(false) };
        let Waiting { ticket, until, .. } = self.lookups.waiting.remove(place);
        let open = matches!(until, Until::Email { open: true, .. });
        let response = match found {
            Err(sentence) => Err(refusal(RefusalCode::NotNow, sentence)),
            Ok([contact]) => match self.find_contact(ticket, &contact_of(login, contact), open)? {
                Some(response) => response,
                None => return Ok(true),
            },
            Ok([]) => Err(refusal(RefusalCode::NoSuchPerson, format!("Nobody with the address {email} was found."))),
            Ok(several) => Err(refusal(RefusalCode::Unreadable, several_have(email, several) + ".")),
        };
        self.answer_lookup(ticket, response);
        Ok(true)
    }

    /// Answers those whose room is there by now, or will not be.
    pub(super) fn answer_lookups(&mut self) -> Result<(), StoreError> {
        if self.lookups.waiting.is_empty() {
            return Ok(());
        }
        let now = self.bridge.now.uptime;
        let mut left = Vec::new();
        for waiting in std::mem::take(&mut self.lookups.waiting) {
            let gone = self.bridge.store.login(&waiting.login)?.is_none();
            let response = match &waiting.until {
                _ if gone => Err(refusal(RefusalCode::NoSuchLogin, "You have signed out of that account meanwhile.")),
                _ if now.saturating_sub(waiting.since) > FORGOTTEN => {
                    Err(refusal(RefusalCode::NotNow, "This takes longer than usual. Please try again later."))
                }
                Until::Room(contact) => {
                    let key = contact_of(&waiting.login, contact);
                    match self.bridge.store.portal(&key)? {
                        None => Err(refusal(RefusalCode::NotNow, "The room was deleted meanwhile.")),
                        Some(portal) if portal.room.is_none() => {
                            left.push(waiting);
                            continue;
                        }
                        Some(portal) => {
                            let name = self.bridge.display_name(&key)?;
                            Ok(Response::Resolved(Box::new(self.person_of(&key, name, portal.room)?)))
                        }
                    }
                }
                Until::Email { .. } => {
                    left.push(waiting);
                    continue;
                }
            };
            self.answer_lookup(waiting.ticket, response);
        }
        self.lookups.waiting = left;
        Ok(())
    }

    /// The homeserver does not make a contact's room.
    pub(super) fn lookup_refused(&mut self, portal: &ContactKey, cause: &Cause) {
        let sentence = format!(
            "The room cannot be made: the homeserver says \u{201c}{}\u{201d}. I try again from time to time.",
            cause.sentence
        );
        let is_it = |waiting: &mut Waiting| {
            waiting.login == portal.login && waiting.until == Until::Room(portal.contact.clone())
        };
        for waiting in self.lookups.waiting.extract_if(.., is_it).collect::<Vec<_>>() {
            self.answer_lookup(waiting.ticket, Err(refusal(RefusalCode::NotNow, sentence.clone())));
        }
    }
}

/// Whom the person means only they know.
pub(super) fn several_have(email: &str, several: &[BareJid]) -> String {
    let all: Vec<&str> = several.iter().map(BareJid::as_str).collect();
    format!("Several people have the address {email}: {}. Please say which one", all.join(", "))
}

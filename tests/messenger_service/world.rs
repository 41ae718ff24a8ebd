//! The state of the service: accounts, sessions, and who hears what. No I/O happens here: what a client shall get is
//! put into its session's queue.
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tokio::sync::mpsc;

use super::archive::Line;
use super::chat::Stored;
use super::journal::{Event, Journal};
use super::presence::Presence;
use super::roster::Item;
use super::settings::{IqFrom, MAX_ACCOUNTS, MAX_SESSIONS, Redirect, Status, Switches};
use super::tokens::Tokens;
use super::wire::{Node, attr, bare, esc};

/// The resource from which a scripted contact writes.
pub const SCRIPTED: &str = "Messenger";

const STAMP: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// A time as XEP-0082 has it.
pub fn stamp(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC).format(&STAMP).unwrap_or_default()
}

/// Why an operation on the service failed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Neither an e-mail address nor a bare JID of an account.
    #[error("there is no account {0}")]
    NoAccount(String),
    /// The e-mail address is taken.
    #[error("there is already an account {0}")]
    Taken(String),
    /// A bound was reached.
    #[error("the service is full: {0}")]
    Full(&'static str),
    /// The certificate is not usable.
    #[error("TLS: {0}")]
    Tls(String),
    /// A socket or a file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A request on the control channel makes no sense.
    #[error("{0}")]
    Request(String),
}

/// An account as its owner knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// The bare JID, which the service chose.
    pub jid: String,
    /// The e-mail address for signing in.
    pub email: String,
    /// The display name.
    pub name: String,
    /// The password for signing in.
    pub password: String,
}

/// A chat state (XEP-0085).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChatState {
    /// Paying attention.
    Active,
    /// Typing.
    Composing,
    /// Stopped typing.
    Paused,
    /// Not paying attention.
    Inactive,
    /// Closed the conversation.
    Gone,
}

impl ChatState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Active, Self::Composing, Self::Paused, Self::Inactive, Self::Gone];

    /// The element's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Composing => "composing",
            Self::Paused => "paused",
            Self::Inactive => "inactive",
            Self::Gone => "gone",
        }
    }
}

/// How often things happened, for the service or for one account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// TCP connections (service only).
    pub connections: u64,
    /// TCP connections to the gateway (service only).
    pub gateway_connections: u64,
    /// `see-other-host` sent (service only).
    pub redirects: u64,
    /// `<auth/>` elements.
    pub auth_elements: u64,
    /// Sign-ins that were refused.
    pub refused: u64,
    /// Sign-ins that ended in a bound session.
    pub sign_ins: u64,
    /// Codes exchanged and refresh tokens used with success.
    pub codes_redeemed: u64,
    /// Refresh tokens used with success.
    pub refreshes: u64,
    /// Refresh tokens refused.
    pub refreshes_refused: u64,
    /// Presence broadcasts received from clients, unavailable included.
    pub presences: u64,
    /// Of these: unavailable.
    pub unavailable: u64,
    /// Directed presences received from clients.
    pub directed: u64,
    /// Presence probes received and dropped.
    pub probes: u64,
    /// Messages with a body received from clients.
    pub messages: u64,
    /// Chat states received from clients.
    pub chat_states: u64,
    /// Messages refused for their type.
    pub messages_refused: u64,
    /// Pings received.
    pub pings: u64,
    /// Rosters sent.
    pub roster_gets: u64,
    /// Roster changes asked for.
    pub roster_sets: u64,
    /// vCards asked for.
    pub vcard_gets: u64,
    /// Archive requests.
    pub archive_requests: u64,
    /// Clients cut for idleness.
    pub idle_cuts: u64,
    /// Streams ended for a stanza that was too large.
    pub stanza_cuts: u64,
}

/// What a vCard holds here.
#[derive(Debug, Clone, Default)]
pub struct Vcard {
    /// NICKNAME
    pub nickname: String,
    /// FN
    pub full_name: String,
    /// PHOTO
    pub photo: Option<Vec<u8>>,
}

/// An account and all that belongs to it.
pub struct Person {
    /// Address, name and password.
    pub account: Account,
    /// The vCard.
    pub vcard: Vcard,
    /// Contacts by bare JID.
    pub roster: BTreeMap<String, Item>,
    /// Who asked and waits for an answer.
    pub invitations: BTreeSet<String>,
    /// Whether a scripted contact accepts invitations by itself while it is not offline.
    pub welcoming: bool,
    /// The presence of the scripted contact.
    pub stage: Presence,
    /// Whether a client ever signed in: then it is no scripted contact any more.
    pub had_client: bool,
    /// Kept messages.
    pub offline: VecDeque<Stored>,
    /// The last lines of each conversation.
    pub archive: BTreeMap<String, VecDeque<Line>>,
    /// What happened to it.
    pub counters: Counters,
}

/// What a connection is told to do.
#[derive(Debug)]
pub enum Out {
    /// Write this stanza.
    Stanza(String),
    /// End the stream with this error.
    Error(&'static str),
    /// Drop the connection.
    Cut,
}

/// A bound client.
pub struct Session {
    /// The account.
    pub account: String,
    /// The full JID.
    pub jid: String,
    /// Its presence once it sent one.
    pub presence: Option<Presence>,
    /// Whether it asked for the roster.
    pub interested: bool,
    /// Whom it sent directed presence to.
    pub directed: BTreeSet<String>,
    out: mpsc::Sender<Out>,
}

/// Everything.
pub struct World {
    /// The domain.
    pub domain: String,
    /// Accounts by bare JID.
    pub people: BTreeMap<String, Person>,
    /// Bound clients.
    pub sessions: BTreeMap<u64, Session>,
    /// What OAuth handed out.
    pub tokens: Tokens,
    /// The service's counters.
    pub counters: Counters,
    /// How the service behaves.
    pub switches: Switches,
    /// What happened.
    pub journal: Arc<Journal>,
    redirected_once: bool,
    next_session: u64,
}

impl World {
    /// An empty one.
    pub fn new(domain: String, switches: Switches) -> Self {
        Self {
            domain,
            people: BTreeMap::new(),
            sessions: BTreeMap::new(),
            tokens: Tokens::default(),
            counters: Counters::default(),
            switches,
            journal: Arc::default(),
            redirected_once: false,
            next_session: 0,
        }
    }

    /// The bare JID of an account named by e-mail address or by JID.
    pub fn resolve(&self, name: &str) -> Result<String, ServiceError> {
        let jid = bare(name);
        if self.people.contains_key(&jid) {
            return Ok(jid);
        }
        self.people
            .values()
            .find(|person| person.account.email.eq_ignore_ascii_case(name))
            .map(|person| person.account.jid.clone())
            .ok_or_else(|| ServiceError::NoAccount(name.to_owned()))
    }

    /// The account of that name.
    pub fn person(&mut self, name: &str) -> Result<&mut Person, ServiceError> {
        let jid = self.resolve(name)?;
        self.people.get_mut(&jid).ok_or_else(|| ServiceError::NoAccount(name.to_owned()))
    }

    /// A new account. Its JID follows from the e-mail address: 16 hex digits at the domain.
    pub fn add_account(&mut self, email: &str, name: &str, password: &str) -> Result<Account, ServiceError> {
        if self.people.len() >= MAX_ACCOUNTS {
            return Err(ServiceError::Full("accounts"));
        }
        let digest = Sha256::digest(email.to_ascii_lowercase().as_bytes());
        let id = digest.iter().take(8).fold(0_u64, |id, byte| (id << 8) | u64::from(*byte));
        let jid = format!("{id:016x}@{}", self.domain);
        if self.people.contains_key(&jid) {
            return Err(ServiceError::Taken(email.to_owned()));
        }
        let account =
            Account { jid: jid.clone(), email: email.to_owned(), name: name.to_owned(), password: password.to_owned() };
        let vcard = Vcard { nickname: name.to_owned(), full_name: name.to_owned(), photo: None };
        self.people.insert(
            jid,
            Person {
                account: account.clone(),
                vcard,
                roster: BTreeMap::new(),
                invitations: BTreeSet::new(),
                welcoming: true,
                stage: Presence { status: Status::Offline, text: String::new() },
                had_client: false,
                offline: VecDeque::new(),
                archive: BTreeMap::new(),
                counters: Counters::default(),
            },
        );
        Ok(account)
    }

    /// Counts for the service and for the account.
    pub fn count(&mut self, account: &str, step: impl Fn(&mut Counters)) {
        step(&mut self.counters);
        if let Some(person) = self.people.get_mut(account) {
            step(&mut person.counters);
        }
    }

    /// Writes an event down if no client plays the account.
    pub fn tell_script(&mut self, account: &str, event: Event) {
        if self.people.get(account).is_some_and(|person| !person.had_client) {
            self.journal.write(event);
        }
    }

    /// Changes the switches. A new `redirect` begins afresh.
    pub fn set_switches(&mut self, switches: Switches) {
        if switches.redirect != self.switches.redirect {
            self.redirected_once = false;
        }
        self.switches = switches;
    }

    /// Where a connection is sent instead of being served, `gateway` being where the gateway listens.
    pub fn redirect(&mut self, at_gateway: bool, authenticated: bool, gateway: std::net::SocketAddr) -> Option<String> {
        let wanted = match self.switches.redirect {
            Redirect::Never => false,
            Redirect::Once => !authenticated && !self.redirected_once,
            Redirect::Always => !authenticated && !at_gateway,
            Redirect::Loop => !authenticated,
            Redirect::AfterAuth => authenticated && !at_gateway,
        };
        if !wanted {
            return None;
        }
        self.redirected_once = true;
        self.counters.redirects += 1;
        let address = match gateway.ip() {
            std::net::IpAddr::V4(v4) => v4.to_string(),
            std::net::IpAddr::V6(v6) => format!("[{v6}]"),
        };
        let mut host = self.switches.redirect_host.clone().unwrap_or(address);
        if self.switches.redirect_upper_case {
            host.make_ascii_uppercase();
        }
        Some(if self.switches.redirect_port { format!("{host}:{}", gateway.port()) } else { host })
    }

    /// A client that authenticated binds. An older one of the same full JID gives way.
    pub fn bind(
        &mut self,
        account: &str,
        resource: &str,
        out: mpsc::Sender<Out>,
    ) -> Result<(u64, String), ServiceError> {
        let jid = format!("{account}/{resource}");
        let older: Vec<u64> = self.sessions_where(|session| session.jid == jid);
        for id in older {
            self.end(id, Out::Error("conflict"));
        }
        if self.sessions_of(account).len() >= MAX_SESSIONS {
            return Err(ServiceError::Full("sessions"));
        }
        self.person(account)?.had_client = true;
        self.count(account, |counters| counters.sign_ins += 1);
        self.next_session += 1;
        self.sessions.insert(
            self.next_session,
            Session {
                account: account.to_owned(),
                jid: jid.clone(),
                presence: None,
                interested: false,
                directed: BTreeSet::new(),
                out,
            },
        );
        self.journal.write(Event::SignedIn { account: account.to_owned(), jid: jid.clone() });
        Ok((self.next_session, jid))
    }

    /// A connection is gone, or is told to go: its contacts see it leave.
    pub fn end(&mut self, id: u64, how: Out) {
        self.depart(id);
        if let Some(session) = self.sessions.remove(&id) {
            // A queue that is full or closed means that the connection ends anyway.
            let _ = session.out.try_send(how);
            self.journal.write(Event::SignedOut { account: session.account, jid: session.jid });
        }
    }

    fn sessions_where(&self, wanted: impl Fn(&Session) -> bool) -> Vec<u64> {
        self.sessions.iter().filter(|(_, session)| wanted(session)).map(|(id, _)| *id).collect()
    }

    /// The account's clients.
    pub fn sessions_of(&self, account: &str) -> Vec<u64> {
        self.sessions_where(|session| session.account == account)
    }

    /// The account's clients that sent initial presence.
    pub fn available_sessions(&self, account: &str) -> Vec<u64> {
        self.sessions_where(|session| session.account == account && session.presence.is_some())
    }

    /// Queues a stanza for one client. A client whose queue is full is cut.
    pub fn send(&mut self, id: u64, stanza: String) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.out.try_send(Out::Stanza(stanza)).is_err() {
            self.end(id, Out::Cut);
        }
    }

    /// `from`, `to` and `id` of the answer to a client's IQ.
    pub fn reply_attrs(&self, id: u64, request: &Node) -> String {
        let from = self.reply_from(id, request);
        let to = self.sessions.get(&id).map_or("", |session| session.jid.as_str());
        format!("{}{} to='{}'", attr("id", request.attr("id")), attr("from", from.as_deref()), esc(to))
    }

    /// Who answers: the addressee, or as the switch says when there is none.
    pub fn reply_from(&self, id: u64, request: &Node) -> Option<String> {
        match request.attr("to") {
            Some(to) if !to.is_empty() => Some(to.to_owned()),
            _ => match self.switches.iq_from {
                IqFrom::Domain => Some(self.domain.clone()),
                IqFrom::Bare => self.sessions.get(&id).map(|session| session.account.clone()),
                IqFrom::None => None,
            },
        }
    }
}

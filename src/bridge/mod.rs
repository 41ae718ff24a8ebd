//! What the rules work on: the store, the outbox, and what is wanted of the shells.
//!
//! The rules (`translate`, `engine`) change the store and owe effects through [`Bridge`]; nothing leaves before the
//! engine has committed.

pub mod ghost;
pub mod look;
pub mod management;
pub mod meter;
pub mod outbox;
pub mod page_link;
pub mod portal;
pub mod puppet;
pub mod question;
pub mod space;

use std::collections::BTreeMap;

use minidom::Element;
use ruma::{OwnedServerName, OwnedUserId, UserId};

use self::{meter::Meter, outbox::Outbox, puppet::Puppets, question::Question};
use crate::{
    domain::{
        BareJid, DebtId, LoginId, Now, Steady,
        address::GHOST_PREFIX,
        capability::Profile,
        effect::{ContactKey, Debt, Effect, Lane},
        file::LinkKey,
        output::{Ephemeral, MatrixWork},
        request::RoomsAfterLogout,
    },
    store::{Store, StoreError},
};

/// The homeserver and who we are on it.
#[derive(Clone, Debug)]
pub struct Homeserver {
    /// Its name: what stands after the colon of an MXID.
    pub name: OwnedServerName,
    /// The bot.
    pub bot: OwnedUserId,
    /// The bot's display name.
    pub bot_name: String,
}

/// What the operator allows and asks for; the part of the configuration that rules need.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The networks by their name in the configuration.
    pub networks: BTreeMap<String, Network>,
    /// Rooms are made for every contact, not only on the first message.
    pub rooms_for_contacts: bool,
    /// Milliseconds between the rooms that are made for contacts.
    pub room_pause: u64,
    /// How people who are no contacts are met when they write.
    pub strangers: Strangers,
    /// A space holds the rooms of each login.
    pub space: bool,
    /// How many archived messages a new room begins with at most.
    pub history_initial: u32,
    /// How many missed messages are fetched after a time away at most.
    pub history_catch_up: u32,
    /// Milliseconds after which a person is told of a message that still waits to be sent.
    pub warn_after: u64,
    /// Milliseconds after which a message that could not be sent is given up.
    pub expire: u64,
    /// Contacts' presence is shown.
    pub presence_to_matrix: bool,
    /// The person's presence is shown to contacts.
    pub presence_from_matrix: bool,
    /// What contacts see while the person is offline in Matrix.
    pub offline_as: OfflineAs,
    /// Who may do what: the most specific rule wins.
    pub permissions: Vec<(PermissionKey, Permission)>,
    /// The largest file that is carried over, in bytes.
    pub max_file: u64,
    /// Files are given by links of the bridge's own where a network takes none.
    pub public_media: Option<PublicMedia>,
    /// There is a page for signing in.
    pub page: Option<SignInPage>,
    /// So many logins a person may have.
    pub max_logins: usize,
    /// What becomes of a login's rooms when it is signed out, where nothing else is said.
    pub after_logout: RoomsAfterLogout,
    /// What of their connections people are told.
    pub status_notices: StatusNotices,
    /// The version of the program.
    pub version: &'static str,
    /// The operator has given a registration for double puppeting.
    pub double_puppet: bool,
}

/// What of their connections people are told by the bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusNotices {
    /// Nothing.
    None,
    /// What does not work, and that it works again.
    Errors,
    /// Every change.
    All,
}

/// How links to files are made.
#[derive(Clone, Debug)]
pub struct PublicMedia {
    /// The bridge's address as contacts reach it.
    pub address: String,
    /// How long a link lasts, in milliseconds.
    pub expires: u64,
    /// What links are signed with.
    pub key: LinkKey,
}

/// How links to the page for signing in are made.
#[derive(Clone, Debug)]
pub struct SignInPage {
    /// The bridge's address as people's browsers reach it.
    pub address: String,
    /// What links and sessions are made with.
    pub key: LinkKey,
}

/// A network as the operator configured it.
#[derive(Clone, Debug)]
pub struct Network {
    /// What it can do.
    pub profile: Profile,
    /// The stream's domain, where the network has only one.
    pub domain: Option<String>,
    /// The domains that people may sign in to; `None`: any.
    pub domains: Option<Vec<String>>,
    /// It has an OAuth provider.
    pub oauth: bool,
}

/// What contacts see while the person is offline in Matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineAs {
    /// `<show>away</show>`.
    Away,
    /// `<show>xa</show>`.
    ExtendedAway,
    /// Unavailable: messages are kept by the server until the person is back.
    Unavailable,
}

/// How people who are no contacts are met when they write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    /// They get a room, at the pace of rooms.
    Room,
    /// The owner is asked first.
    Request,
}

/// Whom a permission is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PermissionKey {
    /// Everyone.
    Anyone,
    /// All of a homeserver.
    Server(String),
    /// One person.
    User(OwnedUserId),
}

/// What someone may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Nothing.
    Block,
    /// Sign in and chat.
    User,
    /// That, and look after the bridge.
    Admin,
}

impl Settings {
    /// What a person may do.
    pub fn permission(&self, user: &UserId) -> Permission {
        let rank = |key: &PermissionKey| match key {
            PermissionKey::User(id) if id == user => Some(3),
            PermissionKey::Server(name) if user.server_name() == name.as_str() => Some(2),
            PermissionKey::Anyone => Some(1),
            PermissionKey::User(_) | PermissionKey::Server(_) => None,
        };
        let rules = self.permissions.iter().filter_map(|(key, permission)| Some((rank(key)?, *permission)));
        rules.max_by_key(|(rank, _)| *rank).map_or(Permission::Block, |(_, permission)| permission)
    }
}

/// Something wanted of a shell at once, not owed.
#[derive(Debug)]
pub enum Want {
    /// Send a stanza on the login's stream if it is up.
    Send(LoginId, Element),
    /// Ask something on the login's stream if it is up.
    Ask(LoginId, Question),
    /// Do something worth doing only now.
    Now(Ephemeral),
    /// A request to the homeserver whose outcome concerns a contact.
    Soft(ContactKey, MatrixWorkFor),
}

/// What a piece of work that is not a debt is for.
#[derive(Debug)]
pub enum MatrixWorkFor {
    /// Upload a contact's photo, whose SHA-1 is given.
    Photo {
        /// Lower-case hex SHA-1 of the bytes.
        hash: String,
        /// MIME type by content.
        mime: &'static str,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// Work with its purpose, as the engine keeps it until its outcome comes.
pub type SoftWork = (ContactKey, MatrixWork);

/// What the rules work on.
pub struct Bridge {
    /// What is known.
    pub store: Store,
    /// What is owed.
    pub outbox: Outbox,
    /// What is wanted now; the engine takes it after each input.
    pub wants: Vec<Want>,
    /// What the operator set.
    pub settings: Settings,
    /// Where we live.
    pub homeserver: Homeserver,
    /// The time of the input in hand.
    pub now: Now,
    /// The same, where a step of the clock must not show.
    pub steady: Steady,
    /// The store's instance id, part of ids that leave the bridge.
    pub instance: String,
    /// Whom the homeserver does not let us act for.
    pub puppets: Puppets,
    /// What was left out, by kind: silence shows here.
    pub ignored: BTreeMap<&'static str, u64>,
    /// What becomes of messages.
    pub meter: Meter,
}

impl Bridge {
    /// Over an open store.
    pub fn new(mut store: Store, settings: Settings, homeserver: Homeserver) -> Result<Self, StoreError> {
        let instance = store.instance()?;
        let outbox = Outbox::load(&store)?;
        store.read_standings()?;
        Ok(Self {
            store,
            outbox,
            wants: Vec::new(),
            settings,
            homeserver,
            now: Now::default(),
            steady: Steady::default(),
            instance,
            puppets: Puppets::default(),
            ignored: BTreeMap::new(),
            meter: Meter::default(),
        })
    }

    /// Owes an effect, at the end of a lane.
    pub fn owe(&mut self, lane: Lane, effect: Effect) -> Result<DebtId, StoreError> {
        self.owe_after(lane, effect, None)
    }

    /// Owes an effect that must wait for a debt of another lane.
    pub fn owe_after(&mut self, lane: Lane, effect: Effect, after: Option<DebtId>) -> Result<DebtId, StoreError> {
        let id = self.store.take_debt_id()?;
        let debt = Debt { id, lane, effect, after, made: self.now.wall, tried: false };
        self.store.put_debt(&debt)?;
        self.outbox.added(&debt);
        self.meter.accepted(&debt);
        Ok(id)
    }

    /// The first debt of a lane after the given one.
    pub fn next_debt(&self, lane: &Lane, after: Option<DebtId>) -> Result<Option<Debt>, StoreError> {
        match self.outbox.next(lane, after) {
            Some(id) => self.store.debt(lane, id),
            None => Ok(None),
        }
    }

    /// Counts something that was left out, by kind.
    pub fn ignore(&mut self, kind: &'static str) {
        *self.ignored.entry(kind).or_default() += 1;
    }

    /// The id that a debt's stanza carries, and the end of a debt's transaction id.
    pub fn wire_id(&self, debt: DebtId) -> String {
        format!("mb-{}-{}", self.instance, debt.0)
    }

    /// The debt behind an id that we made; `None` for anyone else's.
    pub fn debt_of_wire_id(&self, id: &str) -> Option<DebtId> {
        let number = id.strip_prefix("mb-")?.strip_prefix(self.instance.as_str())?.strip_prefix('-')?;
        // Only the spelling that we write: "+7" or "007" would be someone else's.
        number.parse().ok().map(DebtId).filter(|debt| debt.0.to_string() == number)
    }

    /// A contact's ghost.
    pub fn ghost(&self, contact: &ContactKey) -> Option<OwnedUserId> {
        ghost::ghost_user(contact, &self.homeserver.name)
    }

    /// What a person says to the bot to sign in to this account.
    pub fn sign_in_command(&self, network: &str, account: &BareJid) -> String {
        match self.profile(network) {
            Some(profile) if profile.token_decides_account => format!("login {network}"),
            _ => format!("login {network} {account}"),
        }
    }

    /// Is this user the bot or one of our ghosts?
    pub fn is_ours(&self, user: &UserId) -> bool {
        user == self.homeserver.bot
            || user.server_name() == self.homeserver.name && user.localpart().starts_with(GHOST_PREFIX)
    }

    /// The profile of the network that a login is on; `None` if the network is no longer configured.
    pub fn profile(&self, network: &str) -> Option<&Profile> {
        self.settings.networks.get(network).map(|network| &network.profile)
    }
}

//! What people ask for through the bridge's own doors (the HTTP API and the page for signing in), and what they are told. The bot
//! asks the engine the same in words.
//!
//! Signing in is one process, whichever door it is seen through: each shows the same [`LoginStep`] and gives the same
//! [`StepAnswer`]. Processes live in memory: a restart of the bridge ends them.

use std::{collections::BTreeMap, fmt, str::FromStr};

use ruma::{OwnedRoomId, OwnedUserId};

use super::{BareJid, LoginId, Timestamp, credentials::Secret};

/// Someone asks. Answered by [`super::Output::Respond`] with the same ticket.
#[derive(Debug)]
pub enum Request {
    /// A door that knows who asks (the HTTP API).
    Person {
        /// Who; the door has made sure of that.
        owner: OwnedUserId,
        /// What.
        wish: Wish,
    },
    /// The page for signing in, whose visitor is known by what they carry alone.
    Page(PageWish),
}

/// What a person can ask for.
#[derive(Debug)]
pub enum Wish {
    /// The person's logins and how they are. Gives [`Response::Overview`].
    Overview,
    /// The ways to sign in. Gives [`Response::Flows`].
    Flows,
    /// Begin to sign in. Gives [`Response::Step`].
    StartLogin {
        /// Which way: a [`Flow::id`].
        flow: String,
        /// Not a new login: this one (its id or address) signs in again.
        again: Option<String>,
    },
    /// Go on with it. Waits until there is something to do for the person again. Gives [`Response::Step`].
    ContinueLogin {
        /// Which.
        process: ProcessId,
        /// The step that is answered; another than the present one is refused.
        step: u32,
        /// With what.
        answer: StepAnswer,
    },
    /// Give it up. Gives [`Response::Done`].
    CancelLogin {
        /// Which.
        process: ProcessId,
    },
    /// Sign out. Gives [`Response::Done`].
    Logout {
        /// Which login, by its id or address; `None`: every one.
        login: Option<String>,
        /// What becomes of the rooms; `None`: as configured.
        rooms: Option<RoomsAfterLogout>,
    },
    /// The contact list. Gives [`Response::People`].
    Contacts {
        /// Of which login, by its id or address; `None`: of all.
        login: Option<String>,
    },
    /// Contacts whose name or address holds the text. Gives [`Response::People`].
    Search {
        /// Of which login; `None`: of all.
        login: Option<String>,
        /// The text.
        text: String,
    },
    /// Who is that? Gives [`Response::Resolved`].
    Resolve {
        /// Of which login; `None`: the one that fits.
        login: Option<String>,
        /// A JID, or an e-mail address where the network can look it up.
        who: String,
        /// Open the chat: the answer waits for its room.
        open: bool,
    },
}

/// What the visitor of the page for signing in can do.
#[derive(Debug)]
pub enum PageWish {
    /// Look at what a link leads to. Changes nothing, for programs open links too. Gives [`Response::Link`].
    See {
        /// The last part of the link's path.
        link: Secret,
    },
    /// Enter by the link, which is used up by it. Gives [`Response::Entered`].
    Enter {
        /// The last part of the link's path.
        link: Secret,
    },
    /// Where are we? Never waits. Gives [`Response::Step`].
    Look {
        /// From [`Response::Entered`].
        session: Secret,
    },
    /// As [`Wish::ContinueLogin`].
    Continue {
        /// From [`Response::Entered`].
        session: Secret,
        /// The step that is answered.
        step: u32,
        /// With what.
        answer: StepAnswer,
    },
    /// As [`Wish::CancelLogin`].
    Cancel {
        /// From [`Response::Entered`].
        session: Secret,
    },
}

/// One person's attempt to sign in. Scope: the process' life; ids of an earlier life are not known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// Counts from the start of the bridge.
    pub number: u64,
    /// When it was begun.
    pub made: Timestamp,
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.made.0)
    }
}

/// A text that is no [`ProcessId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a sign-in")]
pub struct NoProcessId;

impl FromStr for ProcessId {
    type Err = NoProcessId;

    fn from_str(text: &str) -> Result<Self, NoProcessId> {
        let (number, made) = text.split_once('-').ok_or(NoProcessId)?;
        let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !plain(number) || !plain(made) {
            return Err(NoProcessId);
        }
        let made = Timestamp(made.parse().map_err(|_| NoProcessId)?);
        Ok(Self { number: number.parse().map_err(|_| NoProcessId)?, made })
    }
}

/// What the person gives at a step.
#[derive(Debug)]
pub enum StepAnswer {
    /// What stands in the fields, exactly as typed.
    Fields(BTreeMap<FieldId, Secret>),
    /// Nothing: tell what comes next when it is there.
    Wait,
}

/// A way to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Names it: the network's name in the configuration, with `.token` behind it for a token instead of a password.
    pub id: String,
    /// For people, short.
    pub name: String,
    /// For people, one sentence.
    pub description: String,
}

/// Where a sign-in has got to.
#[derive(Clone, Debug)]
pub struct LoginStep {
    /// Which.
    pub process: ProcessId,
    /// Counts from 1; rises with every answer that was taken.
    pub number: u32,
    /// Whose it is.
    pub owner: OwnedUserId,
    /// The network's name in the configuration.
    pub network: String,
    /// Not a new login: this account signs in again.
    pub again: Option<BareJid>,
    /// The address of the page for it, where the bridge has one and the page was not entered yet.
    pub page: Option<Secret>,
    /// When it is given up.
    pub ends: Timestamp,
    /// What is to be done.
    pub step: Step,
}

/// What is to be done in a sign-in.
#[derive(Clone, Debug)]
pub enum Step {
    /// Fill in fields.
    Fields(Vec<Field>),
    /// Open the provider's page and sign in there.
    Link {
        /// The provider's page (RFC 6749 section 4.1.1).
        authorize: String,
        /// The provider sends the person back to the bridge's page. Otherwise the address that they end on is asked for
        /// ([`FieldId::Redirect`]).
        returns: bool,
        /// What was wrong with the last answer, one sentence.
        problem: Option<String>,
    },
    /// Nothing: it is being worked on.
    Wait,
    /// Signed in.
    Done {
        /// The login.
        login: LoginId,
        /// Its account.
        account: BareJid,
    },
    /// It did not work, and has ended.
    Failed {
        /// Why, with what the person can do.
        sentence: String,
    },
}

/// What is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FieldId {
    /// The account's address.
    Account,
    /// Its password.
    Password,
    /// A token instead.
    Token,
    /// The address of the page that the provider sent the person to (RFC 6749 section 4.1.2).
    Redirect,
}

impl FieldId {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Account, Self::Password, Self::Token, Self::Redirect];

    /// Its name in forms and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Password => "password",
            Self::Token => "token",
            Self::Redirect => "redirect",
        }
    }

    /// Is it never shown?
    pub fn is_secret(self) -> bool {
        !matches!(self, Self::Account)
    }
}

/// A field to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Which.
    pub id: FieldId,
    /// For people, such as `Password`.
    pub name: String,
    /// What belongs into it, one sentence.
    pub description: String,
    /// What it holds already.
    pub value: Option<String>,
    /// What was wrong with the last answer, one sentence.
    pub problem: Option<String>,
}

/// What becomes of a login's rooms when it is signed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomsAfterLogout {
    /// The bot and the ghosts leave; the person keeps the rooms and what was said in them.
    Leave,
    /// That, and the person is taken out of them too: nothing of the account is left in their list.
    Delete,
    /// They stay as they are, and signing in again goes on in them.
    Nothing,
}

/// What a door is told.
#[derive(Debug)]
pub enum Response {
    /// All is done.
    Done,
    /// The person and their logins.
    Overview(Overview),
    /// The ways to sign in.
    Flows(Vec<Flow>),
    /// Where a sign-in has got to.
    Step(Box<LoginStep>),
    /// People, in the order of their names.
    People(Vec<Person>),
    /// One of them.
    Resolved(Box<Person>),
    /// What a link of the page leads to.
    Link(Box<LoginStep>),
    /// The link is used up.
    Entered {
        /// Stands for the visitor from now on.
        session: Secret,
    },
    /// It is refused.
    Refused(Refusal),
}

/// Why something is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What a program goes by.
    pub code: RefusalCode,
    /// What a person is told.
    pub sentence: String,
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// The person may not use the bridge.
    NoPermission,
    /// No login of the person is called that.
    NoSuchLogin,
    /// There is no such way to sign in.
    NoSuchFlow,
    /// There is no such sign-in, or no longer.
    NoSuchProcess,
    /// Another step is due.
    WrongStep,
    /// No link of the page, or it has ended.
    WrongLink,
    /// The link of the page was used already.
    UsedLink,
    /// The person has as many logins, or sign-ins in hand, as they may have.
    TooMany,
    /// Nobody is called that.
    NoSuchPerson,
    /// What was given cannot be read.
    Unreadable,
    /// It cannot be done just now.
    NotNow,
}

/// A person, as far as the bridge knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// The room in which they talk with the bot.
    pub management: Option<OwnedRoomId>,
    /// They look after the bridge.
    pub admin: bool,
    /// Their logins.
    pub logins: Vec<LoginState>,
}

/// A login and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginState {
    /// Which.
    pub id: LoginId,
    /// The network's name in the configuration.
    pub network: String,
    /// Its account.
    pub account: BareJid,
    /// The name that the person gave themselves there.
    pub name: Option<String>,
    /// The space that holds its rooms.
    pub space: Option<OwnedRoomId>,
    /// How it is.
    pub connection: Connection,
    /// Since when, where that is known.
    pub since: Option<Timestamp>,
    /// Why, one sentence; of what does not work.
    pub reason: Option<String>,
}

/// How a login is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Connection {
    /// It connects.
    Connecting,
    /// It is connected, and fetches what it has missed.
    CatchingUp,
    /// It is on line.
    Connected,
    /// It is not, and goes on trying.
    Down,
    /// It is not, until the person signs in again.
    SignedOut,
}

impl Connection {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Connected, Self::CatchingUp, Self::Connecting, Self::Down, Self::SignedOut];

    /// The label in the metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connected => "online",
            Self::CatchingUp => "catching_up",
            Self::Connecting => "connecting",
            Self::Down => "offline",
            Self::SignedOut => "signed_out",
        }
    }

    /// The same for a person.
    pub fn words(self) -> &'static str {
        match self {
            Self::Connected => "online",
            Self::CatchingUp => "catching up",
            Self::Connecting => "connecting",
            Self::Down => "not connected",
            Self::SignedOut => "signed out",
        }
    }
}

/// Someone on the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Of which login.
    pub login: LoginId,
    /// Their address.
    pub contact: BareJid,
    /// Their name, where one is known.
    pub name: Option<String>,
    /// `mxc://` URI of their picture.
    pub avatar: Option<String>,
    /// Their ghost.
    pub ghost: Option<OwnedUserId>,
    /// The room of their chat.
    pub room: Option<OwnedRoomId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_sign_in_is_read_back_and_nothing_else_is() {
        let id = ProcessId { number: 7, made: Timestamp(1_774_000_000_000) };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "7", "-", "7-", "-7", "+7-1", "7-+1", "7-1-1", " 7-1", "99999999999999999999999-1", "7-x"] {
            assert_eq!(text.parse::<ProcessId>(), Err(NoProcessId), "{text}");
        }
    }

    #[test]
    fn fields_have_names_of_their_own_and_only_the_account_is_shown() {
        let names: std::collections::BTreeSet<_> = FieldId::ALL.iter().map(|field| field.as_str()).collect();
        assert_eq!(names.len(), FieldId::ALL.len());
        assert!(FieldId::ALL.iter().all(|field| field.is_secret() == (*field != FieldId::Account)));
    }
}

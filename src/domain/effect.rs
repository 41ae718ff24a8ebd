//! What is owed: effects are stored as debts, in lanes, until they are paid.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::{
    BareJid, DebtId, LoginId, Timestamp,
    choice::Notify,
    file::{IncomingFile, IncomingMedia, OutgoingFile, OutgoingMedia},
};

/// A contact of a login: names its ghost and its portal. The account itself is a contact too (its ghost says what the
/// person wrote elsewhere).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContactKey {
    /// Whose contact.
    pub login: LoginId,
    /// Who.
    pub contact: BareJid,
}

/// Debts in one lane are paid in order; lanes do not wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// Into the portal's room.
    ToMatrix(ContactKey),
    /// To the contact.
    ToXmpp(ContactKey),
    /// A ghost's account and profile.
    Ghost(ContactKey),
    /// A login's own affairs on its stream (subscriptions, roster).
    Login(LoginId),
    /// What the bot says to one person in their management room.
    Management(OwnedUserId),
    /// A login's space.
    Space(LoginId),
    /// What is set in a person's own name beside what they say: their account data, tags and push rules.
    Person(OwnedUserId),
}

/// Who acts in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sender {
    /// The bot.
    Bot,
    /// A ghost of the lane's login.
    Ghost(BareJid),
    /// The login's owner, by double puppeting; the ghost of the account where the homeserver does not let us.
    Owner,
}

/// A debt's content. Room and event ids are looked up when it is paid, not when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Register the ghost's account. Lane: ghost.
    RegisterGhost,
    /// Set the ghost's display name. Lane: ghost.
    NameGhost {
        /// The name.
        name: String,
    },
    /// Set the ghost's avatar to media already uploaded. Lane: ghost.
    PictureGhost {
        /// `mxc://` URI; empty removes it.
        url: String,
    },
    /// Make the portal's room. Lane: to Matrix, first in it.
    CreateRoom,
    /// Let a ghost join the portal's room. Lane: to Matrix.
    JoinRoom {
        /// Which ghost.
        ghost: BareJid,
    },
    /// Invite the owner (again). Lane: to Matrix.
    InviteOwner,
    /// Invite a ghost of the login to a room that was made without it. Lane: to Matrix.
    InviteGhost {
        /// Which.
        ghost: BareJid,
    },
    /// Set the room's name. Lane: to Matrix.
    NameRoom {
        /// The name.
        name: String,
    },
    /// Send an event into the portal's room. Lane: to Matrix.
    SendEvent {
        /// Who says it.
        sender: Sender,
        /// Type and content.
        event: MatrixEvent,
        /// When it was said, if not now (`?ts=`).
        at: Option<Timestamp>,
        /// The names of the stanza that it stands for, to be bound to the event.
        binds: Vec<String>,
    },
    /// Say something in the owner's management room. Lane: management.
    Say {
        /// What.
        notice: Notice,
        /// Edit the last notice with this key instead of sending another.
        replaces: Option<String>,
    },
    /// Redact an event that held a secret (lane: management), or a notice of the bot's (lane: to Matrix).
    Redact {
        /// Where.
        room: OwnedRoomId,
        /// What.
        event: OwnedEventId,
    },
    /// Answer in a room that is no portal (a command with the prefix). Lane: management.
    Reply {
        /// Where.
        room: OwnedRoomId,
        /// What.
        notice: Notice,
    },
    /// The bot joins a room it was invited to. Lane: management.
    JoinInvited {
        /// Which.
        room: OwnedRoomId,
    },
    /// The bot asks how many are in a room, to know whether it is a management room. Lane: management.
    CountMembers {
        /// Which.
        room: OwnedRoomId,
    },
    /// The bot or a ghost leaves a room, or declines an invitation. Lane: management.
    LeaveRoom {
        /// Which.
        room: OwnedRoomId,
        /// Who.
        user: OwnedUserId,
    },
    /// Send a message stanza to the contact. Lane: to XMPP.
    SendMessage(Outgoing),
    /// Send a presence of a subscription type, or change the roster. Lane: login.
    Subscribe {
        /// Whom.
        contact: BareJid,
        /// `subscribe`, `subscribed` or `unsubscribed` (RFC 6121 section 3).
        kind: Subscription,
    },
    /// Send an event that refers to another one. Lane: to Matrix.
    SendAbout {
        /// Who says it.
        sender: Sender,
        /// Type and content, without what it refers to.
        event: MatrixEvent,
        /// What it refers to.
        about: About,
        /// When it was said, if not now (`?ts=`).
        at: Option<Timestamp>,
        /// The names of the stanza that it stands for.
        binds: Vec<String>,
    },
    /// Take back the event that stands for a stanza. Lane: to Matrix.
    RedactNamed {
        /// Who sent it.
        sender: Sender,
        /// The name of the stanza.
        name: String,
    },
    /// A ghost has read up to the event that stands for a stanza. Lane: to Matrix.
    ReadUpTo {
        /// Which ghost.
        ghost: BareJid,
        /// The name of the stanza.
        name: String,
    },
    /// Send a message stanza that is more than a text to the contact. Lane: to XMPP.
    SendComposed(Composed),
    /// The bot sets a state event of the portal's room. Lane: to Matrix.
    SetRoomState {
        /// Its type.
        kind: String,
        /// Its state key.
        key: String,
        /// Its content, JSON.
        content: String,
    },
    /// Make the login's space. Lane: space, first in it.
    CreateSpace,
    /// A room is in the login's space, or no longer. Lane: space.
    ListRoom {
        /// Which room.
        room: OwnedRoomId,
        /// It is in the space.
        listed: bool,
    },
    /// The bot joins the room that is said to replace one of ours. Lane: management.
    FollowUpgrade {
        /// The new room.
        room: OwnedRoomId,
    },
    /// Read which room the new one replaces. Lane: management.
    CheckUpgrade {
        /// The new room.
        room: OwnedRoomId,
    },
    /// The bot invites a ghost to a room that is named, ahead of what the portal's own lane holds. Lane: management.
    InviteTo {
        /// Where.
        room: OwnedRoomId,
        /// Whom.
        user: OwnedUserId,
    },
    /// A ghost joins a room that is named. Lane: management.
    JoinAs {
        /// Where.
        room: OwnedRoomId,
        /// Who.
        user: OwnedUserId,
    },
    /// The bot takes someone out of a room that is of no more use to them. Lane: management.
    RemoveFrom {
        /// Where.
        room: OwnedRoomId,
        /// Whom.
        user: OwnedUserId,
    },
    /// Bring a file to where the contact can fetch it; then it is a [`Effect::SendComposed`] that says where. Lane: to XMPP.
    SendFile(OutgoingFile),
    /// Bring a file of the contact into the homeserver's media; then it is an event. Lane: to Matrix.
    ShowFile(IncomingFile),
    /// As [`Effect::SendFile`], which earlier versions owed.
    SendMedia(Box<OutgoingMedia>),
    /// As [`Effect::ShowFile`], which earlier versions owed.
    ShowMedia(Box<IncomingMedia>),
    /// The owner joins the portal's room, or the space, by double puppeting. Lane: to Matrix, or space.
    JoinOwner,
    /// The owner has read up to the event that stands for a stanza, on another device. Lane: to Matrix.
    ReadByOwner {
        /// The name of the stanza.
        name: String,
    },
    /// Set account data of the person, of a room or global. Lane: person.
    SetAccountData {
        /// The room; `None`: global.
        room: Option<OwnedRoomId>,
        /// The event type.
        kind: String,
        /// The content, JSON.
        content: String,
    },
    /// Put a tag on a room of the person's, or take it off. Lane: person.
    SetTag {
        /// The room.
        room: OwnedRoomId,
        /// The tag, such as `m.favourite`.
        tag: String,
        /// The content, JSON; `None` takes it off.
        content: Option<String>,
    },
    /// Set a global push rule of the person, or delete it. Lane: person.
    SetPushRule {
        /// `override`, `underride`, `sender`, `room` or `content`.
        kind: String,
        /// The rule's id.
        rule: String,
        /// `conditions`, `actions` and `pattern`, JSON; `None` deletes it.
        content: Option<String>,
    },
    /// A room is a direct chat with a ghost in the person's `m.direct`, or no longer. Lane: person.
    ListDirect {
        /// The room.
        room: OwnedRoomId,
        /// The ghost.
        ghost: OwnedUserId,
        /// It is.
        listed: bool,
    },
    /// Block someone, or no longer (XEP-0191). Lane: login.
    Block {
        /// Whom: an account, or a whole domain.
        contact: BareJid,
        /// They are blocked.
        blocked: bool,
        /// Where the person asked for it, to be told there.
        told_in: Option<OwnedRoomId>,
    },
    /// A ghost is in the list of those whom the person ignores, or no longer. Lane: person.
    Ignore {
        /// The ghost.
        ghost: OwnedUserId,
        /// It is.
        ignored: bool,
    },
    /// Keep what the person has chosen for a chat on the account's server (XEP-0223). Lane: login.
    KeepChat {
        /// With whom.
        contact: BareJid,
    },
    /// A room of the person's makes itself heard so. Lane: person.
    Silence {
        /// The room.
        room: OwnedRoomId,
        /// When it does.
        notify: Notify,
    },
    /// A message's time is over (XEP-0466): the bot takes it out of its room. Lane: to Matrix.
    Vanish {
        /// Where.
        room: OwnedRoomId,
        /// What.
        event: OwnedEventId,
    },
    /// Say how a login is in the owner's management room, for people and for programs. Lane: management.
    SayState {
        /// What.
        notice: Notice,
        /// The state ([`super::bridge_state`]), JSON.
        state: String,
    },
}

impl Effect {
    /// Of a message to a contact: its event, and when it was written.
    pub fn said(&self) -> Option<(&OwnedEventId, Timestamp)> {
        match self {
            Self::SendMessage(Outgoing { event, written, .. })
            | Self::SendComposed(Composed { event, written, .. })
            | Self::SendFile(OutgoingFile { event, written, .. }) => Some((event, *written)),
            Self::SendMedia(media) => Some((&media.file.event, media.file.written)),
            _ => None,
        }
    }
}

/// What an event refers to, by the name of a stanza: the event's id is looked up when the debt is paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The name.
    pub name: String,
    /// How.
    pub relation: Relation,
}

/// How an event refers to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// It answers it.
    Reply,
    /// It replaces it.
    Replace,
    /// It is a reaction to it.
    Reaction(String),
}

/// The subscription presences that a person can ask for (RFC 6121 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subscription {
    /// Ask to see the contact's presence.
    Subscribe,
    /// Let the contact see the account's.
    Subscribed,
    /// Do not, or no longer.
    Unsubscribed,
}

/// An event to be sent: type and content as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatrixEvent {
    /// Such as `m.room.message`.
    pub kind: String,
    /// The content, JSON.
    pub content: String,
}

/// What the bot says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Plain text.
    pub text: String,
    /// The same in HTML, where it has form.
    pub html: Option<String>,
}

/// A message on its way to a contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// The text of the `<body/>`, complete (with `/me ` where it is an action).
    pub body: String,
    /// The Matrix event that it stands for.
    pub event: OwnedEventId,
    /// When it was written.
    pub written: Timestamp,
}

/// A message on its way to a contact that is more than a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Composed {
    /// The text of the `<body/>`; empty where there is none.
    pub body: String,
    /// The other payloads, as XML.
    pub payloads: Vec<String>,
    /// The Matrix event that it stands for.
    pub event: OwnedEventId,
    /// When it was written.
    pub written: Timestamp,
    /// The event whose text is to stand before the body as a quotation, until it is there.
    pub quotes: Option<OwnedEventId>,
    /// Where the quotation is only for clients that do not know what it stands for: the namespace of that (XEP-0428).
    pub stands_for: Option<String>,
}

/// A stored debt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debt {
    /// Its id: order in the lane, and what its txnId or stanza id is derived from.
    pub id: DebtId,
    /// Where it stands in line.
    pub lane: Lane,
    /// What is owed.
    pub effect: Effect,
    /// A debt of another lane that must be paid first.
    pub after: Option<DebtId>,
    /// When it was made.
    pub made: Timestamp,
    /// It was handed to a shell at least once, so it may have happened already.
    pub tried: bool,
}

//! Everything that can happen to the bridge. One closed list: a newcomer reads it and knows everything.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, presence::PresenceState};
use serde_json::value::RawValue;

use super::{
    DebtId, StreamId, Ticket, Timestamp,
    credentials::Tokens,
    file::{LinkId, TransferOutcome},
    output::{AskId, WorkId},
    request::Request,
    stream::{StreamEnd, StreamReport},
};

/// Something happened.
#[derive(Debug)]
pub enum Input {
    /// The process has started and the shells are ready.
    Started,
    /// The homeserver pushed a transaction (Matrix AS API, `PUT /_matrix/app/v1/transactions/{txnId}`). It is answered
    /// through `ticket` once it is committed.
    Transaction {
        /// Whom to tell.
        ticket: Ticket,
        /// The homeserver's id of the transaction.
        txn_id: String,
        /// The room events, in order; broken ones have been left out and counted.
        events: Vec<RoomEvent>,
        /// Typing, receipts and presence; worth nothing later, so never stored.
        ephemeral: Vec<EphemeralEvent>,
        /// An earlier one did not reach the engine as far as its shell knows: this may have overtaken it.
        overtakes: bool,
    },
    /// A page of a room was read, as [`super::Output::ReadRoom`] asked.
    RoomRead {
        /// The room.
        room: OwnedRoomId,
        /// What it holds, or why it could not be read.
        page: Result<RoomPage, Failure>,
    },
    /// An XMPP stream reports.
    Stream {
        /// Which.
        stream: StreamId,
        /// What.
        report: StreamReport,
    },
    /// A piece of Matrix work is finished.
    Done {
        /// Which.
        work: WorkId,
        /// How it went.
        outcome: Outcome,
    },
    /// A transfer of a file has ended.
    Transferred {
        /// The debt that it helps to pay.
        debt: DebtId,
        /// How it went.
        outcome: TransferOutcome,
    },
    /// Someone came with a link of ours; is answered by [`super::Output::PublicFile`].
    PublicFileAsked {
        /// Whom to answer.
        ticket: Ticket,
        /// Which.
        link: LinkId,
    },
    /// Someone asks through a door of the bridge's own; is answered by [`super::Output::Respond`].
    Requested {
        /// Whom to answer.
        ticket: Ticket,
        /// What they ask.
        request: Request,
    },
    /// A question to the outside is answered.
    Answered {
        /// Which.
        ask: AskId,
        /// With what.
        answer: Answer,
    },
    /// What the homeserver turned out to be able to do.
    Homeserver {
        /// It keeps presence (`presence.enabled`).
        presence: bool,
        /// It knows the `busy` presence state (MSC3026).
        busy: bool,
    },
    /// A person's account data, which no transaction holds (Matrix CS API, "Client Config"): of a room, or global. Comes of
    /// their own sync, after [`super::Output::Follow`].
    AccountData {
        /// Whose.
        owner: OwnedUserId,
        /// Of which room; `None`: global.
        room: Option<OwnedRoomId>,
        /// The event type, such as `m.tag`.
        kind: String,
        /// The content, raw.
        content: Box<RawValue>,
    },
    /// A person has read privately (`m.read.private`), which no transaction tells.
    ReadPrivately {
        /// Who.
        owner: OwnedUserId,
        /// Where.
        room: OwnedRoomId,
        /// Up to where.
        event: OwnedEventId,
    },
    /// All that one answer to a person's sync held was given; what follows begins at `since`.
    Followed {
        /// Whose.
        owner: OwnedUserId,
        /// Where to go on after a start.
        since: String,
        /// It was the first, which holds all account data that there is.
        whole: bool,
    },
    /// What the process and its store take, as [`super::Output::Measure`] asked.
    Measured {
        /// Who asked.
        owner: OwnedUserId,
        /// Resident memory, in bytes; `None`: the system does not say.
        memory: Option<u64>,
        /// The store on disk, in bytes.
        store: Option<u64>,
    },
    /// Time has passed: timers that are due fire.
    Tick,
    /// The process is about to end: streams are suspended so that they can be resumed.
    Suspend,
}

/// A room event as the homeserver pushed it: what rules need, and the content as raw JSON for the concept that knows it.
#[derive(Clone, Debug)]
pub struct RoomEvent {
    /// The room.
    pub room: OwnedRoomId,
    /// The event.
    pub id: OwnedEventId,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its type, such as `m.room.message`.
    pub kind: String,
    /// Set for state events.
    pub state_key: Option<String>,
    /// `origin_server_ts`.
    pub at: Timestamp,
    /// `content`, raw.
    pub content: Box<RawValue>,
    /// `unsigned.prev_content`/`replaces_state` are not needed; `redacts` of a redaction is.
    pub redacts: Option<OwnedEventId>,
}

/// A part of a room as the homeserver has it (Matrix CS API, `GET /rooms/{room}/messages`).
#[derive(Clone, Debug, Default)]
pub struct RoomPage {
    /// Its events, oldest first; broken ones are left out.
    pub events: Vec<RoomEvent>,
    /// Where what came before begins; `None`: there is nothing before.
    pub earlier: Option<String>,
}

/// An ephemeral event (Matrix AS API, `ephemeral`).
#[derive(Clone, Debug)]
pub enum EphemeralEvent {
    /// `m.typing`: all who type in the room now.
    Typing {
        /// The room.
        room: OwnedRoomId,
        /// Who types.
        users: Vec<OwnedUserId>,
    },
    /// `m.receipt` of type `m.read`, one per user and event.
    Read {
        /// The room.
        room: OwnedRoomId,
        /// Who read.
        user: OwnedUserId,
        /// Up to where.
        event: OwnedEventId,
    },
    /// `m.presence`.
    Presence {
        /// Whose.
        user: OwnedUserId,
        /// The state.
        state: PresenceState,
        /// The status text.
        status: Option<String>,
        /// Milliseconds since they were last active; `None` where that is not told, or they are active now.
        last_active_ago: Option<u64>,
    },
}

/// How a piece of work went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done(Receipt),
    /// It is not.
    Failed(Failure),
}

/// What a finished piece of work gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Nothing to remember.
    Nothing,
    /// An event was sent.
    Event(OwnedEventId),
    /// A room was made (or found again).
    Room(OwnedRoomId),
    /// Media was uploaded: its `mxc://` URI.
    Media(String),
    /// So many are in the room.
    Members(u64),
    /// The content of an event, or a profile, JSON.
    Content(String),
    /// A small file.
    Bytes(Vec<u8>),
}

/// Every failure is one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Trying again will not help.
    Permanent(Cause),
    /// Worth trying again, not before `retry_after` milliseconds where the other side said so.
    Transient {
        /// What was wrong.
        cause: Cause,
        /// `retry_after_ms` of a 429.
        retry_after: Option<u64>,
    },
}

/// What was wrong: never holds a secret or message text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// A Matrix `errcode`, a stanza error condition, or a short name of our own (`timeout`, `connection`).
    pub code: String,
    /// What to tell a person.
    pub sentence: String,
}

/// Answers to [`super::output::Ask`].
#[derive(Debug)]
pub enum Answer {
    /// The OAuth flow has begun.
    OAuthBegun {
        /// What the person opens (RFC 6749 section 4.1.1).
        url: String,
        /// The `state` that must come back.
        state: String,
        /// The PKCE verifier (RFC 7636), needed to redeem the code.
        verifier: super::credentials::Secret,
    },
    /// The provider gave tokens.
    Tokens(Tokens),
    /// The provider refused, or could not be asked.
    OAuthFailed {
        /// The refusal is final: the person has to sign in again.
        refused: bool,
        /// What to tell the person.
        sentence: String,
    },
    /// The question could not be asked because the stream or the network is not there.
    Unavailable(StreamEnd),
}

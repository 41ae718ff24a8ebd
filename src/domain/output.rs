//! What the engine asks of the shells, given out only after what it rests on is committed.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, presence::PresenceState};

use super::{
    DebtId, StreamId, Ticket, Timestamp,
    bridge_state::BridgeState,
    choice::Notify,
    credentials::Secret,
    file::{PublicFile, Transfer},
    request::Response,
    stream::StreamOrder,
    verbosity::Verbosity,
};

/// One thing for a shell to do.
#[derive(Debug)]
pub enum Output {
    /// The input behind the ticket is durable: answer `200 {}`.
    Answer(Ticket),
    /// The input behind the ticket was not taken in: refuse it, so that the homeserver sends it again.
    Refuse(Ticket),
    /// Read a page of a room as the homeserver has it, newest events first; comes back as [`super::Input::RoomRead`]. Never two
    /// of one room at a time.
    ReadRoom {
        /// The room.
        room: OwnedRoomId,
        /// What comes before this place ([`super::input::RoomPage::earlier`]); `None`: the newest.
        from: Option<String>,
    },
    /// For an XMPP stream.
    Stream {
        /// Which.
        stream: StreamId,
        /// What.
        order: StreamOrder,
    },
    /// A request to the homeserver whose outcome must come back as [`super::Input::Done`].
    Matrix(MatrixWork),
    /// A file to be carried from one side to the other; comes back as [`super::Input::Transferred`].
    Transfer(Transfer),
    /// The file that a link leads to; `None`: it leads nowhere, or no longer.
    PublicFile {
        /// Whom to answer.
        ticket: Ticket,
        /// Which.
        file: Option<PublicFile>,
    },
    /// The answer to [`super::Input::Requested`].
    Respond {
        /// Whom to answer.
        ticket: Ticket,
        /// With what.
        response: Response,
    },
    /// Worth doing now or not at all.
    Now(Ephemeral),
    /// Follow a person's account data by a sync in their name; comes back as [`super::Input::AccountData`]. One that is
    /// followed already is followed on.
    Follow {
        /// Whose.
        owner: OwnedUserId,
        /// Where an earlier process had got to ([`super::Input::Followed`]).
        since: Option<String>,
    },
    /// Follow it no longer.
    Unfollow {
        /// Whose.
        owner: OwnedUserId,
    },
    /// A question to the outside whose answer comes back as [`super::Input::Answered`].
    Ask {
        /// Which.
        ask: AskId,
        /// What.
        question: Ask,
    },
    /// The bridge, or a login, is in another state than before.
    State(Box<BridgeState>),
    /// Let the log show so much from now on.
    SetLogLevel(Verbosity),
    /// Look what the process and its store take; comes back as [`super::Input::Measured`].
    Measure {
        /// Who asks.
        owner: OwnedUserId,
    },
}

/// A piece of work that a shell has in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkId {
    /// Pays this debt.
    Debt(DebtId),
    /// Not stored; if the process ends it is asked again for another reason.
    Soft(u64),
}

/// A question to the outside. Scope: the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AskId(pub u64);

/// A request to the homeserver. Calls of one lane are never given out together, so shells may run all at once.
#[derive(Clone, Debug)]
pub struct MatrixWork {
    /// Comes back with the outcome.
    pub id: WorkId,
    /// What to do.
    pub call: MatrixCall,
}

/// The calls that we make. Each is safe to repeat: doing it again changes nothing.
#[derive(Clone, Debug)]
pub enum MatrixCall {
    /// `POST /register` with `m.login.application_service` and `inhibit_login`. Already registered is success.
    Register {
        /// The localpart.
        localpart: String,
    },
    /// `PUT /profile/{user}/displayname`.
    SetDisplayName {
        /// Whose.
        user: OwnedUserId,
        /// The name.
        name: String,
    },
    /// `PUT /profile/{user}/avatar_url`.
    SetAvatar {
        /// Whose.
        user: OwnedUserId,
        /// `mxc://` URI, or empty.
        url: String,
    },
    /// Upload media, as the given user. Gives [`super::input::Receipt::Media`].
    Upload {
        /// As whom.
        user: OwnedUserId,
        /// MIME type.
        mime: &'static str,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Make a portal's room. Gives [`super::input::Receipt::Room`].
    CreateRoom(Box<CreateRoom>),
    /// Join as the user. Being in the room already is success.
    Join {
        /// Which room.
        room: OwnedRoomId,
        /// Who joins.
        user: OwnedUserId,
    },
    /// How many are in the room. Gives [`super::input::Receipt::Members`].
    CountMembers {
        /// Which room.
        room: OwnedRoomId,
        /// As whom.
        user: OwnedUserId,
    },
    /// Leave as the user. Not being in the room is success.
    Leave {
        /// Which room.
        room: OwnedRoomId,
        /// Who leaves.
        user: OwnedUserId,
    },
    /// Invite a user, as the bot. The user being in the room or invited already is success.
    Invite {
        /// Which room.
        room: OwnedRoomId,
        /// As whom.
        user: OwnedUserId,
        /// Whom.
        target: OwnedUserId,
    },
    /// `PUT /rooms/{room}/send/{kind}/{txn}?user_id=&ts=`. Gives [`super::input::Receipt::Event`].
    Send {
        /// Where.
        room: OwnedRoomId,
        /// As whom.
        user: OwnedUserId,
        /// Event type.
        kind: String,
        /// Transaction id, derived from the debt.
        txn: String,
        /// JSON content.
        content: String,
        /// Time to show, if not now.
        at: Option<Timestamp>,
        /// The call may have succeeded before with its answer lost, and a homeserver that was restarted since no longer
        /// knows the transaction id: first look among the user's newest events in the room for the one with this mark.
        look_first: Option<String>,
    },
    /// `PUT /rooms/{room}/state/{kind}/{key}`. Gives [`super::input::Receipt::Event`].
    SetState {
        /// Where.
        room: OwnedRoomId,
        /// As whom.
        user: OwnedUserId,
        /// Event type.
        kind: String,
        /// State key.
        key: String,
        /// JSON content.
        content: String,
    },
    /// `GET /rooms/{room}/state/{kind}/{key}` as the user. Gives [`super::input::Receipt::Content`].
    GetState {
        /// Where.
        room: OwnedRoomId,
        /// As whom.
        user: OwnedUserId,
        /// Event type.
        kind: String,
        /// State key.
        key: String,
    },
    /// `PUT /rooms/{room}/redact/{event}/{txn}`. Gives [`super::input::Receipt::Event`].
    Redact {
        /// Where.
        room: OwnedRoomId,
        /// As whom.
        user: OwnedUserId,
        /// What.
        event: OwnedEventId,
        /// Transaction id.
        txn: String,
        /// What is said beside it.
        reason: Option<&'static str>,
    },
    /// `POST /rooms/{room}/receipt/m.read/{event}` as the user.
    Read {
        /// Where.
        room: OwnedRoomId,
        /// Who read.
        user: OwnedUserId,
        /// Up to where.
        event: OwnedEventId,
    },
    /// `GET /rooms/{room}/event/{event}` as the user. Gives [`super::input::Receipt::Content`].
    GetEvent {
        /// Where.
        room: OwnedRoomId,
        /// As whom.
        user: OwnedUserId,
        /// Which.
        event: OwnedEventId,
    },
    /// `POST /rooms/{room}/read_markers` as the user: `m.fully_read` and `m.read.private`.
    ReadMarkers {
        /// Where.
        room: OwnedRoomId,
        /// Who read.
        user: OwnedUserId,
        /// Up to where.
        event: OwnedEventId,
    },
    /// `GET /user/{user}/account_data/{kind}`, or of a room. Gives [`super::input::Receipt::Content`], `{}` where there is none.
    GetAccountData {
        /// Whose.
        user: OwnedUserId,
        /// Of which room; `None`: global.
        room: Option<OwnedRoomId>,
        /// Event type.
        kind: String,
    },
    /// `PUT /user/{user}/account_data/{kind}`, or of a room.
    SetAccountData {
        /// Whose.
        user: OwnedUserId,
        /// Of which room; `None`: global.
        room: Option<OwnedRoomId>,
        /// Event type.
        kind: String,
        /// JSON content.
        content: String,
    },
    /// `PUT` or `DELETE /user/{user}/rooms/{room}/tags/{tag}`. Having no such tag is success.
    SetTag {
        /// Whose.
        user: OwnedUserId,
        /// On which room.
        room: OwnedRoomId,
        /// The tag.
        tag: String,
        /// JSON content; `None` deletes it.
        content: Option<String>,
    },
    /// `PUT` or `DELETE /pushrules/global/{kind}/{rule}`. Having no such rule is success.
    SetPushRule {
        /// Whose.
        user: OwnedUserId,
        /// Kind of rule.
        kind: String,
        /// Its id.
        rule: String,
        /// JSON content; `None` deletes it.
        content: Option<String>,
    },
    /// Puts a room into the person's `m.direct` for a ghost, or takes it out: read, changed and written.
    ListDirect {
        /// Whose.
        user: OwnedUserId,
        /// Which room.
        room: OwnedRoomId,
        /// With whom.
        ghost: OwnedUserId,
        /// In, or out.
        listed: bool,
    },
    /// Puts a ghost into the person's `m.ignored_user_list`, or takes it out: read, changed and written.
    Ignore {
        /// Whose.
        user: OwnedUserId,
        /// Whom.
        ghost: OwnedUserId,
        /// In, or out.
        ignored: bool,
    },
    /// Sets the push rules with the room's id that silence it, or takes them away. Another rule of the room stays.
    Silence {
        /// Whose.
        user: OwnedUserId,
        /// Which room.
        room: OwnedRoomId,
        /// When it makes itself heard.
        notify: Notify,
    },
    /// `GET /profile/{user}`. Gives [`super::input::Receipt::Content`].
    GetProfile {
        /// Whose.
        user: OwnedUserId,
    },
    /// A picture in the largest of a few small sizes that has at most so many bytes. Gives [`super::input::Receipt::Bytes`].
    GetPicture {
        /// Its `mxc://` URI.
        url: String,
        /// Bytes.
        most: usize,
    },
}

/// What is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomKind {
    /// A direct chat.
    Direct,
    /// A space (`m.space`), which holds rooms.
    Space,
}

/// A portal's room, or a login's space, to be made.
#[derive(Clone, Debug)]
pub struct CreateRoom {
    /// Which of the two.
    pub kind: RoomKind,
    /// Who makes it: the bot.
    pub creator: OwnedUserId,
    /// Who is invited: the owner, and to a direct chat the ghost, with `is_direct`.
    pub invite: Vec<OwnedUserId>,
    /// The room's name.
    pub name: String,
    /// Further initial state: (type, state key, JSON content). A portal's holds `m.bridge` and `uk.half-shot.bridge`.
    pub state: Vec<(String, String, String)>,
    /// `power_level_content_override`, JSON.
    pub power_levels: String,
    /// The call may have succeeded before with its answer lost (no transaction id exists for it): first look among the
    /// creator's joined rooms for one whose state event of this (type, state key) has exactly the content given in
    /// `state`, created by this bridge, and take that.
    pub look_first: Option<(String, String)>,
}

/// Worth doing now or not at all; never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ephemeral {
    /// `PUT /rooms/{room}/typing/{user}`.
    Typing {
        /// Where.
        room: OwnedRoomId,
        /// Who.
        user: OwnedUserId,
        /// For how many milliseconds; `None` ends it.
        timeout: Option<u64>,
    },
    /// A ghost's presence, kept up by the presence budget until it changes.
    Presence {
        /// Whose.
        ghost: OwnedUserId,
        /// For whom: the owner that would see it.
        owner: OwnedUserId,
        /// The state; `Offline` ends the refreshes.
        state: PresenceState,
        /// The status text.
        status: Option<String>,
    },
    /// An owner looks (is not offline in Matrix) or no longer does: their ghosts' presence is refreshed only meanwhile.
    Watching {
        /// Who.
        owner: OwnedUserId,
        /// Looks.
        watching: bool,
    },
}

/// Questions to the outside.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Make an authorize link with PKCE and `state` (RFC 6749 section 4.1.1, RFC 7636).
    BeginOAuth {
        /// The network in the configuration.
        network: String,
        /// Where the provider sends the person back to; `None`: as configured.
        redirect: Option<String>,
    },
    /// Redeem an authorization code (RFC 6749 section 4.1.3).
    RedeemCode {
        /// The network.
        network: String,
        /// As it was when the link was made: the provider compares them.
        redirect: Option<String>,
        /// The code.
        code: Secret,
        /// The PKCE verifier.
        verifier: Secret,
    },
    /// Get a new access token (RFC 6749 section 6).
    Refresh {
        /// The network.
        network: String,
        /// The refresh token.
        refresh: Secret,
    },
}

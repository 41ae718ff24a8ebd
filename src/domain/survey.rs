//! What the homeserver keeps of the rooms that the bot is in, from which a lost store is rebuilt.

use ruma::OwnedRoomId;

use super::input::RoomEvent;

/// A room that the bot is in.
#[derive(Clone, Debug)]
pub struct SurveyedRoom {
    /// The room.
    pub room: OwnedRoomId,
    /// Its state; broken events have been left out.
    pub state: Vec<RoomEvent>,
    /// Its latest messages, newest first; empty where nobody wanted them.
    pub said: Vec<RoomEvent>,
}

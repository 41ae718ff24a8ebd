//! A room as the homeserver has it: `GET /rooms/{room}/messages`, backwards, as the bot (Matrix CS API). `GET /sync` would be
//! one request for all rooms, but Synapse refuses it to an application service's own user.

use ruma::{
    OwnedUserId, RoomId, UInt,
    api::{Direction, client::message::get_message_events},
    serde::Raw,
};

use super::{client::Client, transaction};
use crate::domain::input::{Failure, RoomPage};

/// Events that are asked for at once.
const PAGE: u32 = 50;

/// Reads rooms as the bot.
#[derive(Clone, Debug)]
pub struct Record {
    client: Client,
    bot: OwnedUserId,
}

impl Record {
    /// Reads as `bot` with a client that carries the `as_token`.
    pub fn new(client: Client, bot: OwnedUserId) -> Self {
        Self { client, bot }
    }

    /// The newest events of a room, or those before the place that an earlier page ended with.
    ///
    /// # Errors
    /// Permanent where the bot may not read the room.
    pub async fn read(&self, room: &RoomId, from: Option<String>) -> Result<RoomPage, Failure> {
        let mut request = get_message_events::v3::Request::new(room.to_owned(), Direction::Backward);
        request.from = from;
        request.limit = UInt::from(PAGE);
        let page = self.client.call("messages", Some(&self.bot), request).await.map_err(|error| {
            tracing::debug!(%error, "a room cannot be read");
            error.into_failure()
        })?;
        let events = page.chunk.iter().rev().map(Raw::json).filter_map(|raw| transaction::event(raw, Some(room)));
        Ok(RoomPage { earlier: page.end.filter(|_| !page.chunk.is_empty()), events: events.collect() })
    }
}

//! Looks through the rooms that the bot is in, a few at a time.

use std::time::Duration;

use futures::{StreamExt, stream};
use ruma::{OwnedRoomId, UserId};

use super::client::{CallError, Client};
use crate::domain::{input::RoomEvent, survey::SurveyedRoom};

/// Rooms asked about at once.
const ROOMS_AT_ONCE: usize = 8;
/// Messages read of a room at most.
pub const MESSAGES: u32 = 100;
/// How often a request that may work later is made, and the first and the longest pause between.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Gives each room that the bot is in to `visit`, with how many were looked at and how many there are; with its latest
/// messages where `wanted` says so of its state. A room that may not be looked into, or whose state is larger than any that
/// the bridge makes, is passed over. `visit` ends the survey with `false`.
///
/// # Errors
/// What the homeserver said, after some tries: what it cannot tell is not the same as its not being there.
pub async fn survey(
    client: &Client,
    bot: &UserId,
    wanted: impl Fn(&[RoomEvent]) -> bool,
    mut visit: impl FnMut(SurveyedRoom, usize, usize) -> bool,
) -> Result<(), CallError> {
    let rooms = patiently(async || client.joined_rooms(bot).await).await?;
    let total = rooms.len();
    let wanted = &wanted;
    let mut answers =
        stream::iter(rooms).map(async |room| look(client, bot, room, wanted).await).buffer_unordered(ROOMS_AT_ONCE);
    let mut seen = 0;
    while let Some(answer) = answers.next().await {
        seen += 1;
        if let Some(room) = answer?
            && !visit(room, seen, total)
        {
            break;
        }
    }
    Ok(())
}

async fn look(
    client: &Client,
    bot: &UserId,
    room: OwnedRoomId,
    wanted: impl Fn(&[RoomEvent]) -> bool,
) -> Result<Option<SurveyedRoom>, CallError> {
    let state = match patiently(async || client.room_state(bot, &room).await).await {
        Ok(state) => state,
        Err(error) if is_none_of_ours(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut said = Vec::new();
    if wanted(&state) {
        said = match patiently(async || client.latest_messages(bot, &room, MESSAGES).await).await {
            Err(error) if is_none_of_ours(&error) => return Ok(None),
            other => other?,
        };
    }
    Ok(Some(SurveyedRoom { room, state, said }))
}

/// The bot was made to leave meanwhile, or it is a room of thousands.
fn is_none_of_ours(error: &CallError) -> bool {
    *error == CallError::TooLarge || matches!(error.status(), Some(403 | 404))
}

async fn patiently<T>(call: impl AsyncFn() -> Result<T, CallError>) -> Result<T, CallError> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match call().await {
            Err(error) if error.is_transient() && !matches!(error.status(), Some(401)) => {
                let asked = error.limited().flatten().map(Duration::from_millis);
                tokio::time::sleep(asked.unwrap_or(pause).min(LONGEST_PAUSE)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            other => return other,
        }
    }
    call().await
}

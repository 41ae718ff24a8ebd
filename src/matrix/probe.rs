//! What `check` asks the homeserver beside what [`super::start`] does. Nothing of it leaves anything behind: the bot's own presence
//! is the only thing that is set, and it ends offline.

use ruma::{
    UserId,
    api::client::{authenticated_media, media},
    presence::PresenceState,
};
use time::{PrimitiveDateTime, macros::format_description};

use super::client::{CallError, Client};

/// What the homeserver offers for files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// Authenticated media (Matrix 1.11).
    Authenticated,
    /// The endpoints of before alone.
    Old,
    /// Nothing.
    Absent,
}

/// Updates that are sent at once by [`is_limited`]: a person may send one every ten seconds (Synapse: `rc_presence`).
const SERIES: usize = 4;

/// What the homeserver takes the time for (HTTP's `Date`), in seconds since 1970. `None`: it does not say.
///
/// # Errors
/// What the homeserver said.
pub async fn clock(client: &Client) -> Result<Option<i64>, CallError> {
    let request = http::Request::builder()
        .uri(format!("{}/_matrix/client/versions", client.base()))
        .body(Vec::new())
        .map_err(|_| CallError::BadRequest("the homeserver's address is no URL".to_owned()))?;
    let answer = client.plain("versions", request).await?;
    Ok(answer.headers().get(http::header::DATE).and_then(|date| seconds(date.to_str().ok()?)))
}

/// Reads the one form that servers write (RFC 9110 section 5.6.7, IMF-fixdate).
fn seconds(date: &str) -> Option<i64> {
    let form =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    Some(PrimitiveDateTime::parse(date, form).ok()?.assume_utc().unix_timestamp())
}

/// Whether the homeserver's rate limits hold for us: the bot says in a quick series that it is offline, and it was before.
///
/// # Errors
/// What the homeserver said.
pub async fn is_limited(client: &Client, bot: &UserId) -> Result<bool, CallError> {
    for _ in 0..SERIES {
        match client.set_presence(bot, PresenceState::Offline, None).await {
            Err(error) if error.limited().is_some() => return Ok(true),
            other => other?,
        }
    }
    Ok(false)
}

/// What the homeserver offers for files.
///
/// # Errors
/// What the homeserver said.
pub async fn media(client: &Client) -> Result<Media, CallError> {
    let authenticated = authenticated_media::get_media_config::v1::Request::new();
    let found = client.call_considering("media config", None, authenticated, &super::media::versions()).await;
    if is_there(found.map(drop))? {
        return Ok(Media::Authenticated);
    }
    #[allow(deprecated, reason = "whether only this one is there is the question")]
    let before = media::get_media_config::v3::Request::new();
    let found = client.call("media config", None, before).await;
    Ok(if is_there(found.map(drop))? { Media::Old } else { Media::Absent })
}

/// Whether an endpoint is there, by its answer.
fn is_there(answer: Result<(), CallError>) -> Result<bool, CallError> {
    match answer {
        // A proxy's page, or the homeserver's own word for what it does not know.
        Err(CallError::Refused(refusal)) if matches!(refusal.status, 404 | 405) => Ok(false),
        Err(CallError::BadAnswer(_)) | Ok(()) => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_servers_write_them() {
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for wrong in ["", "1994-11-06", "Sun, 06 Nov 1994 08:49:37 CET", "Sunday, 06-Nov-94 08:49:37 GMT"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}

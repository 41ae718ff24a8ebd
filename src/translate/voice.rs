//! Voice messages: `org.matrix.msc3245.voice` (MSC3245) <-> recordings, known by the names that clients give them.
//!
//! No XEP tells a voice message from another file that is to be heard. What can be known is known by its name: Conversations and
//! its relatives call a recording `RECORDING_20260301_101112131.m4a`, Gajim `voice-message-20260301-101112.m4a`. A file without
//! a name that is to be played in its place (XEP-0447 `disposition='inline'`) is taken for one too.

use serde_json::{Value, json};

use crate::domain::Timestamp;

/// MSC3245, and MSC1767's part of it.
const VOICE: &str = "org.matrix.msc3245.voice";
const AUDIO: &str = "org.matrix.msc1767.audio";

/// Does the content of an `m.audio` say that it is a voice message?
pub fn from_matrix(content: &Value) -> bool {
    content[VOICE].is_object() || content["m.voice"].is_object()
}

/// What a voice message is called toward XMPP: as Gajim calls them, so that it is known for one by whoever goes by names.
pub fn to_xmpp(written: Timestamp) -> String {
    let digits: String = written.to_xmpp().chars().filter(char::is_ascii_digit).collect();
    let (date, time) = digits.split_at_checked(8).unwrap_or_default();
    format!("voice-message-{date}-{}", time.get(..6).unwrap_or_default())
}

/// Is this the name of a recording?
pub fn from_xmpp(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let digits = |text: &str, apart: char, lengths: [usize; 2]| {
        text.split_once(apart).is_some_and(|(date, time)| {
            [date, time]
                .iter()
                .zip(lengths)
                .all(|(part, length)| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit()))
        })
    };
    stem.strip_prefix("RECORDING_").is_some_and(|rest| digits(rest, '_', [8, 9]))
        || stem.strip_prefix("voice-message-").is_some_and(|rest| digits(rest, '-', [8, 6]))
}

/// Makes a voice message of the content of an `m.audio`. The length is said where it is known, in milliseconds; what the sound
/// looks like (`waveform`) no client of XMPP says.
pub fn to_matrix(content: &mut Value, duration: Option<u64>) {
    content[VOICE] = json!({});
    content[AUDIO] = duration.map_or_else(|| json!({}), |duration| json!({ "duration": duration }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_known_by_the_names_that_clients_give() {
        for name in [
            "RECORDING_20260301_101112131.m4a",
            "RECORDING_20260301_101112131.oga",
            "voice-message-20260301-101112.m4a",
        ] {
            assert!(from_xmpp(name), "{name}");
        }
        for name in [
            "RECORDING_1.m4a",
            "voice-message.ogg",
            "song.mp3",
            "RECORDING_20260301-101112131.m4a",
            "",
            "voice-message-2026030a-101112.m4a",
        ] {
            assert!(!from_xmpp(name), "{name}");
        }
    }

    #[test]
    fn what_we_call_one_is_known_again() {
        let name = to_xmpp(Timestamp::parse("2026-03-01T10:11:12.131Z").unwrap());
        assert_eq!(name, "voice-message-20260301-101112");
        assert!(from_xmpp(&format!("{name}.ogg")));
    }

    /// MSC3245, example.
    #[test]
    fn an_event_says_that_it_is_one() {
        let content = json!({
            "body": "Voice message.ogg", "msgtype": "m.audio", "url": "mxc://h/x", "org.matrix.msc3245.voice": {},
            "org.matrix.msc1767.audio": { "duration": 2140, "waveform": [100, 200] },
        });
        assert!(from_matrix(&content) && !from_matrix(&json!({ "msgtype": "m.audio" })));
        let mut made = json!({ "msgtype": "m.audio" });
        to_matrix(&mut made, Some(2140));
        assert!(from_matrix(&made));
        assert_eq!(made["org.matrix.msc1767.audio"], json!({ "duration": 2140 }));
        to_matrix(&mut made, None);
        assert_eq!(made["org.matrix.msc1767.audio"], json!({}));
    }
}

//! Files, places, nudges, and what the bridge cannot read.

use serde_json::json;

use super::stage::Stage;

pub const MOON: &[u8] = include_bytes!("pictures/moon.png");
pub const MORNING: &[u8] = include_bytes!("pictures/morning.png");
pub const ROSE: &[u8] = include_bytes!("pictures/rose.png");

pub fn cross(stage: &Stage<'_>) {
    stage.uses("files");
    stage.juliet_shares("balcony.png", "image/png", MOON);
    let caption = "It was the lark, the herald of the morn.";
    let picture = json!({
        "msgtype": "m.image", "filename": "morning.png", "body": caption, "info": {"w": 420, "h": 260},
    });
    stage.shares("morning.png", "image/png", MORNING, &picture);
    stage.juliet.expect("the picture", |event| event["oob"].as_str().is_some_and(|url| url.contains("morning.png")));
    stage.juliet.hears(&stage.romeo.jid, caption);
    stage.shares("rose.png", "image/png", ROSE, &json!({"body": "a rose", "info": {"w": 160, "h": 160}}));
    stage.juliet_gets("the sticker", &["jabber:x:oob", "rose"]);
    let song = chirps();
    stage.juliet_shares("nightingale.wav", "audio/wav", &song);
    let audio = json!({"msgtype": "m.audio", "body": "lark.wav", "info": {"duration": 1_200}});
    stage.shares("lark.wav", "audio/wav", &song, &audio);
    stage.juliet_gets("the recording", &["jabber:x:oob", "lark.wav"]);
    let letter = b"Come, gentle night; come, loving, black-brow'd night.\n";
    let file = json!({"msgtype": "m.file", "body": "letter.txt"});
    stage.shares("letter.txt", "text/plain", letter, &file);
    stage.juliet_gets("the letter", &["jabber:x:oob", "letter.txt"]);
    stage.picture("files", "letter.txt");

    stage.uses("location");
    let place = "<geoloc xmlns='http://jabber.org/protocol/geoloc'><lat>45.4420</lat><lon>10.9987</lon>\
                 <text>The orchard wall</text></geoloc>";
    stage.juliet_sends(Some("geo:45.4420,10.9987"), &[place]);
    stage.sees("the place", |event| {
        event["msgtype"] == "m.location" && event["content"]["geo_uri"] == "geo:45.4420,10.9987"
    });
    let cell = json!({"msgtype": "m.location", "body": "Friar Laurence’s cell", "geo_uri": "geo:45.4333,10.9833"});
    stage.sends(&cell);
    stage.juliet.hears(&stage.romeo.jid, "geo:45.4333,10.9833");

    stage.uses("nudge");
    stage.juliet_sends(None, &["<attention xmlns='urn:xmpp:attention:0'/>"]);
    stage.sees("the nudge", |event| event["msgtype"] == "m.emote" && event["body"] == "has sent you a nudge.");
    stage.person.say(&stage.portal.room, "!msgr nudge");
    stage.juliet_gets("the nudge", &["urn:xmpp:attention:0"]);

    stage.uses("encrypted message");
    let omemo = "<encryption xmlns='urn:xmpp:eme:0' namespace='eu.siacs.conversations.axolotl' name='OMEMO'/>";
    stage.juliet_sends(Some("I sent you an OMEMO encrypted message."), &[omemo]);
    stage.sees("word of what is encrypted", |event| {
        event["msgtype"] == "m.notice" && event["body"].as_str().is_some_and(|body| body.contains("OMEMO"))
    });
}

/// A recording of a bird, or near enough: 1.2 s of WAV, 8 kHz, 8 bits, mono.
pub fn chirps() -> Vec<u8> {
    let rate = 8_000_u32;
    let samples: Vec<u8> = (0..rate * 6 / 5)
        .map(|n| {
            let t = f64::from(n) / f64::from(rate);
            let within = (t * 5.0).fract();
            let wave = (2.0 * std::f64::consts::PI * (1_800.0 + 900.0 * within) * t).sin() * (1.0 - within);
            // Between 28 and 228.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let sample = (128.0 + 100.0 * wave) as u8;
            sample
        })
        .collect();
    let length = u32::try_from(samples.len()).expect("short");
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend([1_u16, 1].map(u16::to_le_bytes).concat());
    file.extend([rate, rate].map(u32::to_le_bytes).concat());
    file.extend([1_u16, 8].map(u16::to_le_bytes).concat());
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    file
}

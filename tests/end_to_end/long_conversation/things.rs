//! Files, places, nudges, and what the bridge cannot read.

use serde_json::json;

use super::stage::{Stage, base64};

pub const MOON: &[u8] = include_bytes!("pictures/moon.png");
pub const MORNING: &[u8] = include_bytes!("pictures/morning.png");
pub const ROSE: &[u8] = include_bytes!("pictures/rose.png");

pub fn cross(stage: &Stage<'_>) {
    pictures(stage);
    recordings_and_a_letter(stage);
    places_and_nudges(stage);
}

fn pictures(stage: &Stage<'_>) {
    stage.uses("file");
    stage.juliet_shares("balcony.png", "image/png", MOON);
    stage.uses("preview");
    let caption = "It was the lark, the herald of the morn.";
    let small = json!({"name": "small.png", "mime": "image/png", "content": {"base64": base64(ROSE)}});
    let small = stage.person.call("upload", small);
    let picture = json!({
        "msgtype": "m.image", "filename": "morning.png", "body": caption, "info": {
            "w": 420, "h": 260, "thumbnail_url": small["url"],
            "thumbnail_info": {"w": 160, "h": 160, "mimetype": "image/png", "size": small["size"]},
        },
    });
    stage.shares("morning.png", "image/png", MORNING, &picture);
    let told = stage.juliet_gets("the picture", &["jabber:x:oob", "morning.png", "urn:xmpp:thumbs:1"]);
    assert_eq!(told["oob"], told["body"], "{told}");
    stage.juliet.hears(&stage.romeo.jid, caption);

    stage.shares("rose.png", "image/png", ROSE, &json!({"body": "a rose", "info": {"w": 160, "h": 160}}));
    stage.juliet_gets("the sticker", &["jabber:x:oob", "rose"]);
    // A picture in a text, which her app keeps until somebody asks for it.
    stage.uses("bits");
    let kept = json!({"mime": "image/png", "content": {"base64": base64(ROSE)}});
    let name = stage.juliet.call("keep_bit", kept);
    let words = "That which we call a rose :rose: by any other word would smell as sweet.";
    let html = format!(
        "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'><p>That which we call a rose \
         <img alt=':rose:' src='cid:{}'/> by any other word would smell as sweet.</p></body></html>",
        name.as_str().expect("its name")
    );
    stage.juliet_sends(Some(words), &[&html]);
    stage.sees("the words around the picture", |event| event["body"] == words);
    stage.sees("the picture in the text", |event| {
        event["msgtype"] == "m.image" && event["content"]["info"]["size"] == ROSE.len()
    });
    stage.picture("pictures", "would smell as sweet");
}

fn recordings_and_a_letter(stage: &Stage<'_>) {
    let song = chirps();
    stage.juliet_shares("nightingale.wav", "audio/wav", &song);
    stage.uses("voice");
    let audio = json!({
        "msgtype": "m.audio", "body": "Voice message", "info": {"duration": 1_200}, "org.matrix.msc3245.voice": {},
        "org.matrix.msc1767.audio": {"duration": 1_200, "waveform": [0, 900, 100, 900, 100, 900, 0]},
    });
    stage.shares("lark.wav", "audio/wav", &song, &audio);
    stage.juliet_gets("the voice message", &["jabber:x:oob", "voice-message-20"]);
    let spoken = stage.juliet_shares("voice-message-20260301-223000.wav", "audio/wav", &song);
    assert!(spoken["content"]["org.matrix.msc3245.voice"].is_object(), "{spoken}");
    let letter = b"Come, gentle night; come, loving, black-brow'd night.\n";
    let file = json!({"msgtype": "m.file", "body": "letter.txt"});
    stage.shares("letter.txt", "text/plain", letter, &file);
    stage.juliet_gets("the letter", &["jabber:x:oob", "letter.txt"]);
    stage.picture("files", "letter.txt");
}

fn places_and_nudges(stage: &Stage<'_>) {
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

    stage.uses("attention");
    stage.juliet_sends(None, &["<attention xmlns='urn:xmpp:attention:0'/>"]);
    stage.sees("the nudge", |event| event["msgtype"] == "m.emote" && event["body"] == "has sent you a nudge.");
    stage.person.say(&stage.portal.room, "!msgr nudge");
    stage.juliet_gets("the nudge", &["urn:xmpp:attention:0"]);

    stage.uses("encrypted");
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

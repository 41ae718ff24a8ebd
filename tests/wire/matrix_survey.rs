//! Looking through the rooms that the bot is in.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use messenger_bridge::matrix::survey::survey;
use ruma::user_id;
use serde_json::{Value, json};

use super::matrix_homeserver::Homeserver;

fn event(room: &str, kind: &str, key: Option<&str>, content: &Value) -> Value {
    let mut event = json!({
        "room_id": room, "event_id": "$e", "sender": "@bot:h", "type": kind, "origin_server_ts": 5, "content": content,
    });
    if let Some(key) = key {
        event["state_key"] = json!(key);
    }
    event
}

fn rooms() -> Value {
    json!({ "joined_rooms": (0..20).map(|number| format!("!{number}:h")).collect::<Vec<_>>() })
}

/// The number of the room that a path is about.
fn number(path: &str) -> usize {
    let rest = path.split("/rooms/").nth(1).unwrap().trim_start_matches('!').trim_start_matches("%21");
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[tokio::test]
async fn rooms_that_may_not_or_cannot_be_looked_into_are_passed_over_and_a_busy_homeserver_is_waited_for() {
    let homeserver = Homeserver::start().await;
    let client = homeserver.client();
    let limited = AtomicUsize::new(0);
    let lines = homeserver.serve(move |asked| {
        if asked.path.ends_with("/joined_rooms") {
            return (200, rooms().to_string());
        }
        let number = number(&asked.path);
        let room = format!("!{number}:h");
        if asked.path.ends_with("/messages") {
            assert_eq!((asked.query("dir"), asked.query("limit")), (Some("b"), Some("100")));
            let said = event(&room, "m.room.message", None, &json!({ "msgtype": "m.text", "body": "hi" }));
            return (200, json!({ "start": "s", "chunk": [said, { "broken": true }] }).to_string());
        }
        match number {
            3 => (403, json!({ "errcode": "M_FORBIDDEN" }).to_string()),
            4 => (200, format!("[{}]", " ".repeat(11 << 20))),
            5 if limited.fetch_add(1, Ordering::Relaxed) < 2 => {
                (429, json!({ "errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 10 }).to_string())
            }
            _ => {
                let state = event(&room, "m.bridge", Some("k"), &json!({ "room": number }));
                (200, json!([state, { "type": "broken" }]).to_string())
            }
        }
    });
    let mut found = Vec::new();
    survey(
        &client,
        user_id!("@bot:h"),
        |state| state.len() == 1 && state[0].room.as_str() == "!7:h",
        |room, seen, total| {
            assert!(seen <= total && total == 20);
            found.push((number(&format!("/rooms/{}", room.room)), room.state.len(), room.said.len()));
            true
        },
    )
    .await
    .unwrap();
    found.sort_unstable();
    let wanted: Vec<_> = (0..20).filter(|n| *n != 3 && *n != 4).map(|n| (n, 1, usize::from(n == 7))).collect();
    assert_eq!(found, wanted);
    let lines = lines.lock().unwrap();
    assert_eq!(lines.iter().filter(|line| line.ends_with("/messages")).count(), 1);
}

#[tokio::test]
async fn what_cannot_be_known_is_an_error_and_who_has_seen_enough_may_end_it() {
    let homeserver = Homeserver::start().await;
    let client = homeserver.client();
    homeserver.serve(|asked| {
        if asked.path.ends_with("/joined_rooms") {
            return (200, rooms().to_string());
        }
        match number(&asked.path) {
            19 => (400, json!({ "errcode": "M_UNKNOWN" }).to_string()),
            _ => (200, "[]".to_owned()),
        }
    });
    let bot = user_id!("@bot:h");
    let mut seen = 0;
    let first = survey(
        &client,
        bot,
        |_| false,
        |_, _, _| {
            seen += 1;
            false
        },
    );
    first.await.unwrap();
    assert_eq!(seen, 1);
    let all = survey(&client, bot, |_| false, |_, _, _| true).await;
    assert_eq!(all.unwrap_err().status(), Some(400));
}

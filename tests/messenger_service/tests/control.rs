//! The control channel: every request, as a program in another language would make it.
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{SOON, Stage};
use crate::messenger_service::control;

struct Channel {
    lines: mpsc::Sender<String>,
    out: mpsc::Receiver<Value>,
    events: Vec<Value>,
    ids: u64,
}

impl Channel {
    fn open(stage: &Stage) -> Self {
        let (lines, read) = mpsc::channel(8);
        let (write, out) = mpsc::channel(8);
        let service = stage.service.weak();
        tokio::spawn(async move { control::run(&service, read, write).await });
        Self { lines, out, events: Vec::new(), ids: 0 }
    }

    async fn next(&mut self) -> Value {
        timeout(SOON, self.out.recv()).await.unwrap().unwrap()
    }

    async fn ask(&mut self, mut request: Value) -> Value {
        self.ids += 1;
        request["id"] = json!(self.ids);
        self.lines.send(request.to_string()).await.unwrap();
        loop {
            let value = self.next().await;
            if value.get("event").is_some() {
                self.events.push(value);
            } else {
                assert_eq!(value["id"], self.ids);
                return value;
            }
        }
    }

    async fn ok(&mut self, request: Value) -> Value {
        let answer = self.ask(request).await;
        assert!(answer.get("error").is_none(), "{answer}");
        answer["ok"].clone()
    }

    async fn event(&mut self, kind: &str) -> Value {
        loop {
            let event = if self.events.is_empty() { self.next().await } else { self.events.remove(0) };
            if event["event"] == kind {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn every_operation_has_its_line() {
    let stage = Stage::plain().await;
    let mut channel = Channel::open(&stage);
    let wren =
        channel.ok(json!({ "op": "add_account", "email": "wren@x.test", "name": "Wren", "password": "p" })).await;
    let wren = wren["jid"].as_str().unwrap().to_owned();
    let me = stage.me.email.clone();
    assert_eq!(channel.ok(json!({ "op": "accounts" })).await.as_array().unwrap().len(), 3);
    channel.ok(json!({ "op": "befriend", "owner": me, "contact": wren, "name": "Wren" })).await;
    let vcard = json!({ "op": "set_vcard", "account": wren, "nickname": "W", "full_name": "W W", "photo": "iVBORw0=" });
    channel.ok(vcard).await;
    channel.ok(json!({ "op": "presence", "account": wren, "status": "be-right-back", "text": "soon" })).await;
    let stamp = "2012-05-04T12:00:00Z";
    channel.ok(json!({ "op": "store_offline", "from": wren, "to": me, "text": "kept", "stamp": stamp })).await;
    let archived = json!({ "op": "store_archived", "owner": me, "contact": wren, "text": "old", "stamp": stamp,
                           "direction": "received" });
    channel.ok(archived).await;
    let token = channel.ok(json!({ "op": "access_token", "account": me })).await;
    assert!(token.as_str().unwrap().starts_with("EwA"));

    let mut client = stage.client().await;
    client.send("<presence/>").await;
    let seen = client.settle().await;
    assert!(seen.iter().any(|stanza| stanza.name == "message"));
    assert_eq!(channel.event("signed-in").await["jid"], client.jid.as_str());
    let event = loop {
        let event = channel.event("presence").await;
        if event["to"] == wren {
            break event;
        }
    };
    assert_eq!((&event["status"], &event["from"]), (&"online".into(), &client.jid.clone().into()));
    assert_eq!(channel.ok(json!({ "op": "say", "from": wren, "to": me, "text": "hi" })).await, "delivered");
    assert_eq!(super::client::body(&client.message().await), Some("hi"));
    channel.ok(json!({ "op": "chat_state", "from": wren, "to": me, "state": "composing" })).await;
    assert!(client.message().await.children.iter().any(|child| child.name == "composing"));
    client.send(&format!("<message type='chat' to='{wren}'><body>hello</body></message>")).await;
    let event = channel.event("message").await;
    assert_eq!((&event["text"], &event["to"]), (&"hello".into(), &wren.clone().into()));
    channel.ok(json!({ "op": "autoreply", "account": wren, "persona": "echo", "typing_ms": 1 })).await;
    client.send(&format!("<message type='chat' to='{wren}'><body>ho</body></message>")).await;
    client.wait(|stanza| super::client::body(stanza) == Some("You said: ho")).await;
    channel.ok(json!({ "op": "autoreply", "account": wren })).await;

    channel.ok(json!({ "op": "welcoming", "account": wren, "welcoming": false })).await;
    channel.ok(json!({ "op": "invite", "from": wren, "to": me })).await;
    channel.ok(json!({ "op": "answer", "account": wren, "asker": me, "accept": false })).await;
    channel.ok(json!({ "op": "refuse_next_sign_ins", "count": 1 })).await;
    channel.ok(json!({ "op": "refuse_refresh", "refuse": true })).await;
    let switches = channel.ok(json!({ "op": "set", "switches": { "era": "2011-12", "redirect": "loop" } })).await;
    assert_eq!((&switches["era"], &switches["redirect"]), (&"2011-12".into(), &"loop".into()));
    assert_eq!((&switches["refuse_sign_ins"], &switches["refuse_refresh"]), (&1.into(), &true.into()));
    assert_eq!(channel.ok(json!({ "op": "clients", "account": me })).await, json!([client.jid]));
    assert_eq!(channel.ok(json!({ "op": "cut", "account": me })).await, 1);
    assert_eq!(channel.ok(json!({ "op": "counters", "account": me })).await["sign_ins"], 1);
    assert_eq!(channel.ok(json!({ "op": "counters" })).await["messages"], 2);
    assert_eq!(
        channel.ok(json!({ "op": "add_contacts", "account": me, "count": 3 })).await.as_array().unwrap().len(),
        3
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_an_error_and_nothing_else() {
    let stage = Stage::plain().await;
    let mut channel = Channel::open(&stage);
    let before = stage.service.switches();
    for request in [
        json!({ "op": "sing" }),
        json!({ "op": "cut" }),
        json!({ "op": "cut", "account": "nobody" }),
        json!({ "op": "set", "switches": { "era": "1999" } }),
        json!({ "op": "set", "switches": { "typo": true } }),
        json!({ "op": "autoreply", "account": stage.heron.jid, "persona": "shy" }),
        json!({ "op": "store_offline", "from": stage.heron.jid, "to": stage.me.jid, "text": "x", "stamp": "today" }),
    ] {
        let answer = channel.ask(request.clone()).await;
        assert!(answer["error"].is_string(), "{request} got {answer}");
    }
    channel.lines.send("not json".into()).await.unwrap();
    assert!(channel.next().await["error"].is_string());
    assert_eq!(stage.service.switches(), before);
    channel.ok(json!({ "op": "quit" })).await;
    assert_eq!(timeout(SOON, channel.out.recv()).await.unwrap(), None);
}

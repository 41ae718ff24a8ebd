//! slixmpp still knows `X-MESSENGER-OAUTH2`: it signs in and chats, which proves that the service speaks as it did.
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{SOON, Stage};
use crate::messenger_service::{Event, Persona, Redirect, Status};

fn run(config: &Value) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".tools/venv/bin/python");
    assert!(python.exists(), "{} is missing: run script/setup, which installs slixmpp there", python.display());
    let proof = root.join("tests/messenger_service/slixmpp_proof.py");
    let output = Command::new(python).arg(proof).arg(config.to_string()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "slixmpp failed:\n{out}\n{err}");
    out.into_owned()
}

async fn proof(stage: &Stage, redirected: bool) {
    let (me, heron) = (&stage.me, &stage.heron);
    let persona = Persona::echo().showing(Status::BeRightBack, "among the reeds");
    stage.service.autoreply(&heron.jid, Some(persona)).unwrap();
    stage.service.store_offline(&heron.jid, &me.jid, "while you were away", time::OffsetDateTime::now_utc()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, stage.service.ca_pem()).unwrap();
    let config = serde_json::json!({
        "host": stage.service.xmpp_addr().ip().to_string(),
        "port": stage.service.xmpp_addr().port(),
        "ca": ca,
        "token": stage.service.access_token(&me.jid, SOON).unwrap(),
        "jid": me.jid,
        "contact": heron.jid,
        "roster_name": "The heron",
        "redirected": redirected,
    });
    let out = tokio::task::spawn_blocking(move || run(&config)).await.unwrap();
    assert!(out.contains("all seen"), "{out}");
    let mut inbox = stage.service.messages_to(&heron.jid).unwrap();
    assert_eq!(inbox.message(SOON).await.as_deref(), Ok("Hello, größe ☃"));
    let mut events = stage.service.messages_to(&heron.jid).unwrap();
    let typing = events
        .wait(SOON, |event| matches!(event, Event::ChatState { state, .. } if state == "composing").then_some(()));
    typing.await.unwrap();
    let mut events = stage.service.messages_to(&heron.jid).unwrap();
    let seen = events.wait(SOON, |event| match event {
        Event::Presence { status: Status::Away, text, .. } => Some(text.clone()),
        _ => None,
    });
    assert_eq!(seen.await.as_deref(), Ok("slixmpp is here"));
}

#[tokio::test]
async fn slixmpp_signs_in_and_chats() {
    let stage = Stage::plain().await;
    proof(&stage, false).await;
    assert_eq!(stage.service.counters_of(&stage.me.jid).unwrap().sign_ins, 1);
}

#[tokio::test]
async fn slixmpp_follows_a_redirect() {
    let stage = Stage::new(|settings| {
        settings.switches.redirect = Redirect::Always;
        settings.switches.redirect_host = Some("localhost".into());
    })
    .await;
    proof(&stage, true).await;
    assert_eq!(stage.service.counters().redirects, 1);
}

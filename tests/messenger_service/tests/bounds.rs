//! Nothing grows without end.
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::{SOON, Stage};
use crate::messenger_service::settings::{MAX_OFFLINE, MAX_QUEUED, MAX_SESSIONS, Switches};
use crate::messenger_service::world::{Out, World};
use crate::messenger_service::{Event, ServiceError, cast};

#[test]
fn a_client_that_does_not_read_is_cut() {
    let mut world = World::new("messenger.live.com".into(), Switches::default());
    let account = world.add_account("a@b.test", "A", "x").unwrap();
    let (out, mut queue) = mpsc::channel(MAX_QUEUED);
    let (id, _) = world.bind(&account.jid, "x", out).unwrap();
    for _ in 0..MAX_QUEUED {
        world.send(id, String::new());
    }
    assert!(world.sessions.contains_key(&id));
    world.send(id, String::new());
    assert!(world.sessions.is_empty());
    let mut waiting = 0;
    while let Ok(Out::Stanza(_)) = queue.try_recv() {
        waiting += 1;
    }
    assert_eq!(waiting, MAX_QUEUED);
    assert!(queue.is_closed(), "the connection ends when the queue is empty");
}

#[test]
fn an_account_has_a_limit_of_clients() {
    let mut world = World::new("messenger.live.com".into(), Switches::default());
    let account = world.add_account("a@b.test", "A", "x").unwrap();
    let (out, _queue) = mpsc::channel(1);
    for number in 0..MAX_SESSIONS {
        world.bind(&account.jid, &number.to_string(), out.clone()).unwrap();
    }
    assert!(matches!(world.bind(&account.jid, "more", out), Err(ServiceError::Full("sessions"))));
}

#[tokio::test]
async fn the_offline_store_has_an_end() {
    let stage = Stage::plain().await;
    let (me, heron) = (&stage.me.jid, &stage.heron.jid);
    let now = OffsetDateTime::now_utc();
    for _ in 0..MAX_OFFLINE {
        stage.service.store_offline(heron, me, "x", now).unwrap();
    }
    assert!(stage.service.store_offline(heron, me, "x", now).is_err());
}

#[tokio::test]
async fn a_cast_of_many_arrives_whole() {
    let stage = Stage::plain().await;
    let contacts = cast::contacts(&stage.service, &stage.me.jid, 500).unwrap();
    let mut client = stage.client().await;
    let roster = client.iq("get", None, "<query xmlns='jabber:iq:roster'/>").await;
    assert_eq!(roster.children[0].children.len(), 501);
    client.send("<presence/>").await;
    let seen = client.settle().await;
    assert_eq!(seen.iter().filter(|it| it.attr("from") != Some(client.jid.as_str())).count(), contacts.len());
}

#[tokio::test]
async fn the_service_ends_with_its_last_handle() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    let weak = stage.service.weak();
    drop(stage);
    assert_eq!(client.frame().await, None);
    tokio::time::timeout(SOON, weak.stopping().cancelled()).await.unwrap();
    let mut events = weak.events();
    let gone = events.wait(SOON, |event| matches!(event, Event::SignedOut { .. }).then_some(())).await;
    assert_eq!(gone, Ok(()));
    let silence = events.wait(Duration::from_millis(1), |_| Some(())).await;
    assert!(silence.is_err());
}

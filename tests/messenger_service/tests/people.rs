//! Roster, subscriptions, presence, vCards, look-up, service discovery.
use base64::Engine as _;

use super::client::{Client, DOMAIN, condition, stream_error};
use super::{SOON, Stage};
use crate::messenger_service::wire::{CLIENT, Node};
use crate::messenger_service::{Era, Event, Status};

const ROSTER: &str = "jabber:iq:roster";
const NICK: &str = "http://jabber.org/protocol/nick";
const LOOKUP: &str = "<getjid xmlns='http://messenger.live.com/xmpp/jidlookup'/>";

fn item(reply: &Node, jid: &str) -> Option<(String, String)> {
    let query = reply.child("query", ROSTER)?;
    let item = query.children.iter().find(|item| item.attr("jid") == Some(jid))?;
    Some((item.attr("name").unwrap_or_default().into(), item.attr("subscription").unwrap_or_default().into()))
}

async fn roster(client: &mut Client) -> Node {
    client.iq("get", None, "<query xmlns='jabber:iq:roster'/>").await
}

async fn add(client: &mut Client, attrs: &str) -> Node {
    client.iq("set", None, &format!("<query xmlns='jabber:iq:roster'><item {attrs}/></query>")).await
}

#[tokio::test]
async fn the_first_release_has_a_read_only_roster() {
    let stage = Stage::new(|settings| settings.switches.era = Era::December2011).await;
    let wren = stage.service.add_account("wren@messenger.example", "Wren", "x").unwrap();
    let mut client = stage.client().await;
    let both = Some(("The heron".to_owned(), "both".to_owned()));
    assert_eq!(item(&roster(&mut client).await, &stage.heron.jid), both);
    let reply = add(&mut client, &format!("jid='{}'", wren.jid)).await;
    assert_eq!(condition(&reply), "not-allowed");
    client.send(&format!("<presence type='subscribe' to='{}'/>", wren.jid)).await;
    let refusal = client.wait(|stanza| stanza.name == "presence").await;
    assert_eq!((refusal.attr("type"), condition(&refusal)), (Some("error"), "not-allowed"));
    let reply = client.iq("get", Some(&wren.email), LOOKUP).await;
    assert_eq!(condition(&reply), "service-unavailable");
    assert!(client.settle().await.is_empty(), "a refused change gets no push");
    assert_eq!(item(&roster(&mut client).await, &stage.heron.jid), both);
}

#[tokio::test]
async fn the_second_release_lets_a_client_add_and_nothing_else() {
    let stage = Stage::plain().await;
    let wren = stage.service.add_account("wren@messenger.example", "Wren", "x").unwrap();
    let mut client = stage.client().await;
    roster(&mut client).await;
    let reply = add(&mut client, &format!("jid='{}' name='My wren'", wren.jid)).await;
    assert_eq!(reply.attr("type"), Some("result"));
    let push = client.stanza().await;
    assert_eq!((push.attr("type"), push.attr("from")), (Some("set"), None));
    assert_eq!(item(&push, &wren.jid), Some(("My wren".into(), "none".into())));
    for (change, expected) in [
        (format!("jid='{}' name='Renamed'", wren.jid), "not-allowed"),
        (format!("jid='{}' subscription='remove'", wren.jid), "not-allowed"),
        ("jid='0000000000000000@messenger.live.com'".into(), "item-not-found"),
        ("jid='someone@elsewhere.test'".into(), "item-not-found"),
        ("name='nobody'".into(), "bad-request"),
    ] {
        assert_eq!(condition(&add(&mut client, &change).await), expected, "{change}");
    }
    assert_eq!(item(&roster(&mut client).await, &wren.jid), Some(("My wren".into(), "none".into())));
}

#[tokio::test]
async fn who_is_asked_accepts_and_asks_back() {
    let stage = Stage::plain().await;
    let wren = stage.service.add_account("wren@messenger.example", "Wren", "x").unwrap();
    stage.service.online(&wren.jid, "in the hedge").unwrap();
    let mut client = stage.available().await;
    roster(&mut client).await;
    client.send(&format!("<presence type='subscribe' to='{}'/>", wren.jid)).await;
    let is = |kind: &'static str| move |stanza: &Node| stanza.name == "presence" && stanza.attr("type") == Some(kind);
    client.wait(is("subscribed")).await;
    let seen = client.wait(|stanza| stanza.name == "presence" && stanza.attr("type").is_none()).await;
    assert_eq!(seen.child("status", CLIENT).unwrap().text, "in the hedge");
    let asks = client.wait(is("subscribe")).await;
    assert_eq!(asks.attr("from"), Some(wren.jid.as_str()));
    client.send(&format!("<presence type='subscribed' to='{}'/>", wren.jid)).await;
    client.settle().await;
    assert_eq!(item(&roster(&mut client).await, &wren.jid).unwrap().1, "both");
    let mut inbox = stage.service.messages_to(&wren.jid).unwrap();
    let kind = |event: &Event| match event {
        Event::Subscription { kind, .. } => Some(kind.clone()),
        _ => None,
    };
    assert_eq!(inbox.wait(SOON, kind).await.unwrap(), "subscribe");
    assert_eq!(inbox.wait(SOON, kind).await.unwrap(), "subscribed");
    let online = |event: &Event| matches!(event, Event::Presence { status: Status::Online, .. }).then_some(());
    inbox.wait(SOON, online).await.unwrap();
}

#[tokio::test]
async fn an_invitation_waits_for_its_answer_and_bears_a_nick() {
    let stage = Stage::plain().await;
    let wren = stage.service.add_account("wren@messenger.example", "Wren & Co", "x").unwrap();
    stage.service.welcoming(&wren.jid, false).unwrap();
    stage.service.invite(&wren.jid, &stage.me.jid).unwrap();
    for era in [Era::April2012, Era::December2011] {
        stage.service.set(|switches| switches.era = era);
        let mut client = stage.client().await;
        client.send("<presence/>").await;
        let seen = client.settle().await;
        let asks = seen.iter().find(|stanza| stanza.attr("type") == Some("subscribe")).unwrap();
        assert_eq!(asks.attr("from"), Some(wren.jid.as_str()));
        let nick = asks.child("nick", NICK).map(|nick| nick.text.as_str());
        assert_eq!(nick, (era == Era::April2012).then_some("Wren & Co"));
    }
    let mut client = stage.available().await;
    client.send(&format!("<presence type='unsubscribed' to='{}'/>", wren.jid)).await;
    client.settle().await;
    let mut inbox = stage.service.messages_to(&wren.jid).unwrap();
    let declined =
        |event: &Event| matches!(event, Event::Subscription { kind, .. } if kind == "unsubscribed").then_some(());
    inbox.wait(SOON, declined).await.unwrap();
    assert!(item(&roster(&mut client).await, &wren.jid).is_none());
    assert!(!stage.service.roster_item(&wren.jid, &stage.me.jid).unwrap().unwrap().asked);
}

#[tokio::test]
async fn contacts_are_seen_with_state_and_text_and_changes_follow() {
    let stage = Stage::plain().await;
    let heron = &stage.heron.jid;
    stage.service.presence(heron, Status::OutToLunch, "fishing <soon>").unwrap();
    let mut client = stage.client().await;
    client.send("<presence/>").await;
    let of_heron =
        |stanza: &Node| stanza.name == "presence" && stanza.attr("from").unwrap().starts_with(heron.as_str());
    let read = |stanza: &Node| {
        let text = |name| stanza.child(name, CLIENT).map(|child| child.text.clone()).unwrap_or_default();
        (stanza.attr("type").unwrap_or_default().to_owned(), text("show"), text("status"))
    };
    let expect = |kind: &str, show: &str, text: &str| (kind.to_owned(), show.to_owned(), text.to_owned());
    assert_eq!(read(&client.wait(of_heron).await), expect("", "away", "fishing <soon>"));
    for (status, kind, show) in [
        (Status::Busy, "", "dnd"),
        (Status::OnThePhone, "", "dnd"),
        (Status::Idle, "", "away"),
        (Status::BeRightBack, "", "away"),
        (Status::Online, "", ""),
        (Status::Offline, "unavailable", ""),
    ] {
        stage.service.presence(heron, status, "").unwrap();
        assert_eq!(read(&client.wait(of_heron).await), expect(kind, show, ""));
    }
}

#[tokio::test]
async fn a_client_s_presence_is_reduced_to_what_messenger_knows() {
    let stage = Stage::plain().await;
    let mut other = Client::signed_in(&stage.service, &stage.heron).await;
    other.send("<presence/>").await;
    other.settle().await;
    let mut client = stage.client().await;
    for (show, seen) in [("xa", "away"), ("chat", ""), ("dnd", "dnd"), ("away", "away")] {
        client
            .send(&format!(
                "<presence><show>{show}</show><status>at {show}</status><priority>5</priority>\
                 <c xmlns='http://jabber.org/protocol/caps' node='n' ver='v' hash='sha-1'/></presence>"
            ))
            .await;
        let presence = other.wait(|stanza| stanza.attr("from") == Some(client.jid.as_str())).await;
        let text = |name| presence.child(name, CLIENT).map(|child| child.text.clone()).unwrap_or_default();
        assert_eq!((text("show"), text("status")), (seen.to_owned(), format!("at {show}")));
        assert!(presence.children.iter().all(|child| child.ns == CLIENT && child.name != "priority"));
    }
    // Probes are dropped, whoever they are for.
    client.settle().await;
    client.send(&format!("<presence type='probe' to='{}'/>", stage.heron.jid)).await;
    let answers = client.settle().await;
    assert!(answers.is_empty(), "{answers:?}");
    stage.service.cut(&stage.me.jid).unwrap();
    let gone = other.wait(|stanza| stanza.attr("type") == Some("unavailable")).await;
    assert_eq!(gone.attr("from"), Some(client.jid.as_str()));
    let counters = stage.service.counters_of(&stage.me.jid).unwrap();
    assert_eq!((counters.presences, counters.unavailable, counters.probes), (4, 0, 1));
}

#[tokio::test]
async fn own_presence_is_reflected_if_switched() {
    let stage = Stage::plain().await;
    for reflect in [true, false] {
        stage.service.set(|switches| switches.reflect_presence = reflect);
        let mut client = stage.client().await;
        client.send("<presence/>").await;
        let seen = client.settle().await;
        let own = seen.iter().any(|stanza| stanza.attr("from") == Some(client.jid.as_str()));
        assert_eq!(own, reflect);
    }
}

#[tokio::test]
async fn directed_presence_reaches_a_stranger_and_ends_with_the_session() {
    let stage = Stage::plain().await;
    let wren = stage.service.add_account("wren@messenger.example", "Wren", "x").unwrap();
    let mut inbox = stage.service.messages_to(&wren.jid).unwrap();
    let mut client = stage.client().await;
    client.send(&format!("<presence to='{}'><show>dnd</show></presence>", wren.jid)).await;
    let status = |event: &Event| match event {
        Event::Presence { status, .. } => Some(*status),
        _ => None,
    };
    assert_eq!(inbox.wait(SOON, status).await, Ok(Status::Busy));
    client.send("</stream:stream>").await;
    assert_eq!(inbox.wait(SOON, status).await, Ok(Status::Offline));
}

#[tokio::test]
async fn vcards_can_be_fetched_and_a_photo_kills_the_stream() {
    let stage = Stage::plain().await;
    let photo = crate::messenger_service::cast::picture(3);
    stage.service.set_vcard(&stage.heron.jid, "Long legs", "Heron Grey", Some(photo.clone())).unwrap();
    let mut client = stage.client().await;
    let get = "<vCard xmlns='vcard-temp'/>";
    let reply = client.iq("get", Some(&stage.heron.jid), get).await;
    let vcard = reply.child("vCard", "vcard-temp").unwrap();
    assert_eq!(vcard.child("NICKNAME", "vcard-temp").unwrap().text, "Long legs");
    assert_eq!(vcard.child("FN", "vcard-temp").unwrap().text, "Heron Grey");
    let sent = &vcard.child("PHOTO", "vcard-temp").unwrap().child("BINVAL", "vcard-temp").unwrap().text;
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(sent).unwrap(), photo);
    let own = client.iq("get", None, get).await;
    assert_eq!(own.children[0].child("NICKNAME", "vcard-temp").unwrap().text, "Me");
    let nobody = client.iq("get", Some("nobody@messenger.live.com"), get).await;
    assert_eq!(condition(&nobody), "item-not-found");
    let refused = client.iq("set", None, "<vCard xmlns='vcard-temp'><FN>New</FN></vCard>").await;
    assert_eq!(condition(&refused), "not-allowed");
    client.send("<iq type='set' id='p'><vCard xmlns='vcard-temp'><PHOTO/></vCard></iq>").await;
    assert_eq!(stream_error(&client.stanza().await).0, "not-well-formed");
}

#[tokio::test]
async fn an_e_mail_address_is_looked_up() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    let reply = client.iq("get", Some("Heron@Marsh.example"), LOOKUP).await;
    assert_eq!(reply.attr("from"), Some("Heron@Marsh.example"));
    assert_eq!(reply.children[0].children[0].text, stage.heron.jid);
    let reply = client.iq("get", Some("nobody@messenger.example"), LOOKUP).await;
    assert_eq!(condition(&reply), "item-not-found");
}

#[tokio::test]
async fn discovery_names_what_the_release_has() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    let has = |reply: &Node, feature: &str| reply.children[0].children.iter().any(|it| it.attr("var") == Some(feature));
    let lookup = "http://messenger.live.com/xmpp/jidlookup";
    let reply = client.iq("get", Some(DOMAIN), info).await;
    assert!(has(&reply, lookup) && has(&reply, "urn:xmpp:archive") && has(&reply, "urn:xmpp:ping"));
    stage.service.set(|switches| switches.archive = false);
    let reply = client.iq("get", Some(DOMAIN), info).await;
    assert!(has(&reply, lookup) && !has(&reply, "urn:xmpp:archive"));
    stage.service.set(|switches| switches.era = Era::December2011);
    let reply = client.iq("get", Some(DOMAIN), info).await;
    assert!(!has(&reply, lookup) && has(&reply, "vcard-temp"));
    for (to, inside) in [
        (Some(DOMAIN), "<query xmlns='http://jabber.org/protocol/disco#items'/>"),
        (None, "<enable xmlns='urn:xmpp:carbons:2'/>"),
        (None, "<query xmlns='urn:xmpp:mam:2'/>"),
        (Some(stage.heron.jid.as_str()), info),
    ] {
        assert_eq!(condition(&client.iq("get", to, inside).await), "service-unavailable", "{inside}");
    }
}

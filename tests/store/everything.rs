//! A store with something in every table.

use messenger_bridge::{
    domain::{
        BareJid, DebtId, LoginId, StreamId, Timestamp,
        credentials::{Credentials, ScramHash, ScramKeys, Secret, Tokens},
        effect::{ContactKey, Debt, Effect, Lane, MatrixEvent, Notice, Outgoing, Sender, Subscription},
        stream,
    },
    store::{
        Backend, Store,
        contact::{Contact, GhostState, VCardState},
        held::Held,
        login::Login,
        management::Management,
        portal::{History, Membership, Portal, Room, Said, Source},
        presence::{Resource, Resources},
        recovered::Recovered,
        seal::{KeyFile, Seal},
        session::{Session, Unconfirmed},
    },
};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, owned_event_id, owned_room_id, owned_user_id};

/// The seal of these stores.
pub fn seal() -> Seal {
    let folder = tempfile::tempdir().unwrap();
    Seal::new(&KeyFile::load_or_create(&folder.path().join("key"), [7; 32]).unwrap())
}

pub fn open(backend: impl Backend + 'static) -> Store {
    Store::open(Box::new(backend), seal(), 0x0123_4567_89ab_cdef).unwrap()
}

fn owner() -> OwnedUserId {
    owned_user_id!("@romeo:h.test")
}

fn jid(text: &str) -> BareJid {
    BareJid::parse(text).unwrap()
}

/// Two accounts of one person, of both networks.
fn logins() -> [Login; 2] {
    let login = |network: &str, account: &str| Login {
        id: LoginId::derive(owner().as_str(), network, account),
        owner: owner(),
        network: network.to_owned(),
        account: jid(account),
        resource: "bridge-0badcafe".to_owned(),
        made: Timestamp(1_774_000_000_000),
        suspended: None,
        archive_after: Some("28482-98726-73623".to_owned()),
        roster_version: Some("ver14".to_owned()),
        own_name: Some("Romeo".to_owned()),
    };
    let messenger = Login {
        suspended: Some("the sign-in was refused".to_owned()),
        archive_after: None,
        ..login("messenger", "0123456789abcdef@messenger.live.com")
    };
    [login("xmpp", "romeo@montague.lit"), messenger]
}

fn all_credentials() -> [Credentials; 4] {
    [
        Credentials::Password(Secret::new("wherefore art thou")),
        Credentials::Scram(ScramKeys {
            hash: ScramHash::Sha256,
            salt: vec![1, 2, 3],
            iterations: 4096,
            client_key: vec![4; 32],
            server_key: vec![5; 32],
        }),
        Credentials::Token(Secret::new("a token")),
        Credentials::OAuth(Tokens {
            access: Secret::new("EwA"),
            refresh: Some(Secret::new("refresh")),
            expires_at: Some(Timestamp(1_774_000_003_600)),
        }),
    ]
}

fn juliet() -> ContactKey {
    ContactKey { login: logins()[0].id.clone(), contact: jid("juliet@capulet.lit") }
}

fn contact() -> Contact {
    Contact {
        on_roster: true,
        roster_name: Some("Juliet".to_owned()),
        sees: true,
        nickname: Some("Jule".to_owned()),
        full_name: Some("Juliet Capulet".to_owned()),
        vcard: VCardState::Fetched(Some("sha1".to_owned())),
        announced_photo: Some("sha1".to_owned()),
        ghost: GhostState::Registered,
        shown_name: Some("Juliet".to_owned()),
        shown_photo: Some("sha1".to_owned()),
        chat_states: true,
        asks: false,
    }
}

fn room() -> OwnedRoomId {
    owned_room_id!("!portal:h.test")
}

fn said() -> Said {
    Said { own: true, text: 0xfeed, at: Timestamp(1_774_000_000_100), from: Source::Matrix }
}

fn portal() -> Portal {
    Portal {
        room: Some(room()),
        creating: None,
        history: History::Done,
        owner: Membership::Joined,
        ghosts: vec![juliet().contact, logins()[0].account.clone()],
        name: Some("Juliet".to_owned()),
        recent: vec![said(), Said { own: false, from: Source::Offline, ..said() }],
    }
}

fn management() -> Management {
    Management {
        room: Some(owned_room_id!("!management:h.test")),
        notices: vec![("import".to_owned(), owned_event_id!("$notice"))],
        presence: Some(("online".to_owned(), Some("in love".to_owned()))),
    }
}

fn session() -> Session {
    Session {
        stream: StreamId(3),
        bound: StreamId(2),
        resource: "bridge-0badcafe".to_owned(),
        management: Some(stream::Management { id: Some("sm".to_owned()), location: Some("a.test:5222".to_owned()) }),
        inbound: 17,
        outbound: 4,
        max_bytes: Some(262_144),
        caught_up: true,
        archive: true,
    }
}

fn held() -> Held {
    Held {
        stanza: "<message xmlns='jabber:client'><body>held</body></message>".to_owned(),
        source: Source::Archive,
        at: Timestamp(1_774_000_000_200),
        archive_id: Some("held".to_owned()),
        bound: Some(StreamId(2)),
    }
}

fn resources() -> Resources {
    let client = Resource {
        name: "balcony".to_owned(),
        show: Some("away".to_owned()),
        status: Some("musing".to_owned()),
        priority: -1,
        caps: Some("http://client.test/#hash".to_owned()),
    };
    Resources { bound: StreamId(2), list: vec![client] }
}

fn recovered() -> Recovered {
    Recovered { until: Timestamp(1_774_000_000_300), said: vec![said()] }
}

/// One debt of every effect.
fn effects() -> Vec<(Lane, Effect)> {
    let (to_matrix, to_xmpp) = (Lane::ToMatrix(juliet()), Lane::ToXmpp(juliet()));
    let (ghost, own) = (Lane::Ghost(juliet()), Lane::Management(owner()));
    let contact = juliet().contact;
    let notice = Notice { text: "said".to_owned(), html: Some("<b>said</b>".to_owned()) };
    let event = MatrixEvent { kind: "m.room.message".to_owned(), content: "{\"msgtype\":\"m.text\"}".to_owned() };
    let outgoing =
        Outgoing { body: "art thou not Romeo?".to_owned(), event: owned_event_id!("$said"), written: Timestamp(1) };
    vec![
        (ghost.clone(), Effect::RegisterGhost),
        (ghost.clone(), Effect::NameGhost { name: "Juliet".to_owned() }),
        (ghost, Effect::PictureGhost { url: "mxc://h.test/photo".to_owned() }),
        (to_matrix.clone(), Effect::CreateRoom),
        (to_matrix.clone(), Effect::JoinRoom { ghost: contact.clone() }),
        (to_matrix.clone(), Effect::InviteOwner),
        (to_matrix.clone(), Effect::InviteGhost { ghost: contact.clone() }),
        (to_matrix.clone(), Effect::NameRoom { name: "Juliet".to_owned() }),
        (
            to_matrix,
            Effect::SendEvent {
                sender: Sender::Ghost(contact.clone()),
                event,
                at: Some(Timestamp(5)),
                binds: vec!["a:1".to_owned()],
            },
        ),
        (own.clone(), Effect::Say { notice: notice.clone(), replaces: Some("import".to_owned()) }),
        (own.clone(), Effect::Redact { room: room(), event: owned_event_id!("$secret") }),
        (own.clone(), Effect::Reply { room: room(), notice }),
        (own.clone(), Effect::JoinInvited { room: room() }),
        (own.clone(), Effect::CountMembers { room: room() }),
        (own, Effect::LeaveRoom { room: room(), user: owner() }),
        (to_xmpp, Effect::SendMessage(outgoing)),
        (Lane::Login(juliet().login), Effect::Subscribe { contact, kind: Subscription::Subscribed }),
    ]
}

fn debts() -> Vec<Debt> {
    let debt = |(number, (lane, effect)): (usize, (Lane, Effect))| {
        let id = DebtId(u64::try_from(number).unwrap() + 1);
        let after = (number > 0).then(|| DebtId(id.0 - 1));
        Debt { id, lane, effect, after, made: Timestamp(1_774_000_000_000), tried: number % 2 == 0 }
    };
    effects().into_iter().enumerate().map(debt).collect()
}

/// Writes something into every table; `names`: how many messages the portal knows beside.
pub fn fill(store: &mut Store, names: usize) {
    for login in logins() {
        store.put_login(&login).unwrap();
    }
    for (number, credentials) in all_credentials().iter().enumerate() {
        let login = LoginId::derive("@keys:h.test", "xmpp", &number.to_string());
        store.put_credentials(&login, credentials).unwrap();
    }
    let key = juliet();
    store.put_contact(&key, &contact()).unwrap();
    store.put_portal(&key, &portal()).unwrap();
    store.put_room(&room(), &Room::Portal(key.clone())).unwrap();
    store.put_management(&owner(), &management()).unwrap();
    store.put_room(management().room.as_deref().unwrap(), &Room::Management(owner())).unwrap();
    for debt in debts() {
        assert_eq!(store.take_debt_id().unwrap(), debt.id);
        store.put_debt(&debt).unwrap();
    }
    store.put_session(&key.login, &session()).unwrap();
    store.put_unconfirmed(&key.login, 4, &unconfirmed()).unwrap();
    store.hold(&key.login, &held()).unwrap();
    store.put_resources(&key, &resources()).unwrap();
    store.put_caps_chat_states("http://client.test/#hash", true).unwrap();
    store.bind(&key, "a:28482-98726-73623", Some(&owned_event_id!("$said"))).unwrap();
    store.bind(&key, "i:unbound", None).unwrap();
    assert!(store.note_event(ruma::event_id!("$t1")).unwrap());
    store.put_recovered(&key, &recovered()).unwrap();
    store.note_recovery(Timestamp(1_774_000_000_400)).unwrap();
    for number in 0..names {
        store.bind(&key, &format!("a:many {number}"), Some(&owned_event_id!("$many"))).unwrap();
    }
}

fn unconfirmed() -> Unconfirmed {
    Unconfirmed { lane: Lane::ToXmpp(juliet()), debt: DebtId(16), archive_after: Some("before".to_owned()) }
}

/// Asserts that what [`fill`] wrote is all there.
pub fn check(store: &Store) {
    assert_eq!(store.instance().unwrap(), "0123456789abcdef");
    let mut wanted = logins().to_vec();
    wanted.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(store.logins().unwrap(), wanted);
    for (number, credentials) in all_credentials().into_iter().enumerate() {
        let login = LoginId::derive("@keys:h.test", "xmpp", &number.to_string());
        assert!(store.credentials(&login).unwrap().unwrap() == credentials, "credentials {number}");
    }
    let key = juliet();
    assert_eq!(store.contact(&key).unwrap(), Some(contact()));
    assert_eq!(store.portal(&key).unwrap(), Some(portal()));
    assert_eq!(store.room(&room()).unwrap(), Some(Room::Portal(key.clone())));
    assert_eq!(store.management(&owner()).unwrap(), management());
    let of = |room: &RoomId| store.room(room).unwrap();
    assert_eq!(of(management().room.as_deref().unwrap()), Some(Room::Management(owner())));
    let mut stored = store.debts().unwrap();
    stored.sort_by_key(|debt| debt.id);
    assert_eq!(stored, debts());
    assert_eq!(store.session(&key.login).unwrap(), Some(session()));
    assert_eq!(store.unconfirmed(&key.login).unwrap(), [(4, unconfirmed())]);
    let held_rows = store.held(&key.login).unwrap();
    assert_eq!(held_rows.iter().map(|(_, row)| row.clone()).collect::<Vec<_>>(), [held()]);
    assert_eq!(store.resources(&key).unwrap(), Some(resources()));
    assert_eq!(store.caps_chat_states("http://client.test/#hash").unwrap(), Some(true));
    assert_eq!(store.event_of(&key, "a:28482-98726-73623").unwrap(), Some(owned_event_id!("$said")));
    assert_eq!(store.stanza_of(&key, &owned_event_id!("$said")).unwrap().as_deref(), Some("a:28482-98726-73623"));
    assert!(store.is_seen(&key, "i:unbound").unwrap() && !store.is_seen(&key, "i:other").unwrap());
    assert_eq!(store.recovered(&key).unwrap(), Some(recovered()));
    assert!(!store.is_blank().unwrap());
}

//! The numbers that the engine gives out, held against what happened.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use messenger_bridge::{
    bridge::{
        meter::{Direction, Fate, What},
        outbox::Kind,
    },
    domain::{
        BareJid, LoginId, Timestamp,
        effect::{ContactKey, Debt, Effect, Lane, Outgoing},
        output::MatrixCall,
        request::Connection,
    },
    engine::Engine,
    store::{
        Backend, Batch, Store, StoreError,
        backend::Record,
        login::Login,
        memory::MemoryBackend,
        seal::{KeyFile, Seal},
    },
};

use super::stage::{OWNER, Stage, TODAY, homeserver};

const JULIET: &str = "juliet@capulet.lit";

fn stage() -> Stage {
    Stage::xmpp("<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>")
}

fn count(stage: &Stage, direction: Direction, fate: Fate) -> u64 {
    stage.engine.numbers().messages.iter().find(|(way, _)| *way == direction).unwrap().1.of(fate)
}

fn waiting(stage: &Stage, kind: Kind) -> usize {
    stage.engine.numbers().waiting.iter().find(|(other, ..)| *other == kind).unwrap().1
}

/// Whatever was accepted has come to an end, or waits.
fn assert_sound(stage: &Stage) {
    for (direction, kind) in [(Direction::ToMatrix, Kind::ToMatrix), (Direction::ToXmpp, Kind::ToXmpp)] {
        let [accepted, ended @ .., _bounced] = Fate::ALL.map(|fate| count(stage, direction, fate));
        let waits = accepted - ended.iter().sum::<u64>();
        assert!(waits <= waiting(stage, kind) as u64, "{direction:?}: {accepted} {ended:?}");
    }
    let all: usize = Kind::ALL.iter().map(|kind| waiting(stage, *kind)).sum();
    assert_eq!(all, stage.engine.debts());
}

fn logins(stage: &Stage) -> Vec<(String, Connection)> {
    let numbers = stage.engine.numbers();
    numbers.logins.into_iter().filter(|(_, count)| *count > 0).map(|(whose, _)| whose).collect()
}

#[test]
fn logins_are_counted_by_network_and_state_and_networks_without_any_are_zero() {
    let mut stage = stage();
    assert_eq!(logins(&stage), [("xmpp".to_owned(), Connection::Connected)]);
    assert_eq!(stage.engine.numbers().logins[&("messenger".to_owned(), Connection::Connected)], 0);
    stage.unreachable(2);
    stage.hush();
    assert_eq!(logins(&stage), [("xmpp".to_owned(), Connection::Down)]);
    stage.pass(60_000);
    assert_eq!(logins(&stage), [("xmpp".to_owned(), Connection::Connected)]);
    stage.crash();
    assert_eq!(logins(&stage), [("xmpp".to_owned(), Connection::Connected)]);
    let login = stage.login();
    let mut settings = Stage::settings();
    settings.networks.remove("xmpp");
    stage.change(settings);
    stage.crash();
    assert_eq!(logins(&stage), [("unconfigured".to_owned(), Connection::SignedOut)]);
    stage.command(&format!("logout {login}"));
    assert_eq!(logins(&stage), []);
}

#[test]
fn messages_are_counted_by_what_becomes_of_them() {
    let mut stage = stage();
    stage.phone_sends("juliet@capulet.lit/b", "hello");
    let room = stage.room(JULIET);
    stage.says(&room, "good night");
    stage.pass(1_000);
    assert_eq!(count(&stage, Direction::ToMatrix, Fate::Delivered), 1);
    assert_eq!(count(&stage, Direction::ToXmpp, Fate::Delivered), 1);
    assert_sound(&stage);

    // An error that comes back is beside what became of it before.
    let id = stage.messages_to(JULIET)[0].attr("id").unwrap().to_owned();
    stage.server_sends(&format!(
        "<message from='juliet@capulet.lit' type='error' id='{id}'><error type='cancel'>\
         <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
    ));
    assert_eq!(count(&stage, Direction::ToXmpp, Fate::Bounced), 1);
    assert_sound(&stage);

    // Refused for good: a reaction is not worth holding up a chat for.
    stage.refuses = Some(|call| matches!(call, MatrixCall::Send { kind, .. } if kind == "m.reaction"));
    stage.server_sends("<message from='juliet@capulet.lit/b' type='chat' id='h1'><body>again</body></message>");
    stage.server_sends(
        "<message from='juliet@capulet.lit/b' type='chat' id='r1'><reactions xmlns='urn:xmpp:reactions:0' id='h1'>\
         <reaction>\u{1f44b}</reaction></reactions></message>",
    );
    stage.pass(1_000);
    assert_eq!(count(&stage, Direction::ToMatrix, Fate::Refused), 1);
    assert_sound(&stage);

    // Given up, and dropped at the end of the login.
    stage.unreachable(10_000);
    stage.hush();
    stage.says(&room, "too late");
    assert_eq!(waiting(&stage, Kind::ToXmpp), 1);
    stage.pass(8 * 86_400_000);
    assert_eq!((count(&stage, Direction::ToXmpp, Fate::Expired), waiting(&stage, Kind::ToXmpp)), (1, 0));
    assert_sound(&stage);
    stage.says(&room, "never");
    let login = stage.login();
    stage.command(&format!("logout {login}"));
    assert_eq!(count(&stage, Direction::ToXmpp, Fate::Dropped), 1);
    assert_sound(&stage);
    stage.pass(10_000);
    assert_eq!(stage.engine.debts(), 0);
}

#[test]
fn what_waited_over_a_restart_counts_with_all_its_time() {
    let mut stage = stage();
    let room = stage.room(JULIET);
    stage.unreachable(20);
    stage.hush();
    stage.says(&room, "are you there?");
    stage.pass(100_000);
    let oldest = stage.engine.numbers().waiting[Kind::ToXmpp as usize].2;
    assert!(oldest.is_some());
    stage.sign_ins.clear();
    stage.crash();
    stage.pass(10_000);
    assert_eq!(stage.texts_to(JULIET), ["are you there?"]);
    let numbers = stage.engine.numbers();
    let took = numbers.messages[Direction::ToXmpp as usize].1.took;
    assert_eq!((took.count(), took.sum >= 100_000), (1, true), "{took:?}");
    assert_eq!(numbers.waiting[Kind::ToXmpp as usize].2, None);
}

#[test]
fn the_steps_of_a_message_name_ids_and_nothing_that_was_said() {
    let mut stage = stage();
    stage.engine.watch_messages(true);
    let room = stage.room(JULIET);
    stage.says(&room, "good night");
    let event = stage.last_event();
    stage.pass(1_000);
    let (steps, missed) = stage.engine.take_steps();
    let what: Vec<&What> = steps.iter().map(|step| &step.what).collect();
    assert!(
        matches!(what.as_slice(), [What::Accepted(Some(id)), What::Sent(_), What::Ended(Fate::Delivered, _)] if *id == event),
        "{what:?}"
    );
    // An id that says something is left out, and so is what was said.
    stage.server_sends(
        "<message from='juliet@capulet.lit/b' type='chat' id='juliet@capulet.lit loves you'><body>hello</body></message>",
    );
    stage.pass(1_000);
    let (steps, _) = stage.engine.take_steps();
    assert!(matches!(steps[0].what, What::Accepted(None)), "{steps:?}");
    let text = format!("{steps:?}");
    assert!(!text.contains("hello") && !text.contains("juliet") && missed == 0, "{text}");
    assert!(steps.iter().all(|step| step.login == stage.login()));
}

/// A disk that counts how often it is read.
struct Counted(MemoryBackend, Arc<AtomicUsize>);

impl Backend for Counted {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(key)
    }
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.scan(prefix, after, limit)
    }
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.0.commit(batch)
    }
    fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.0.size_on_disk()
    }
}

#[test]
fn the_numbers_are_known_without_a_look_at_the_store_however_much_is_owed() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyFile::load_or_create(&folder.path().join("key"), [7; 32]).unwrap();
    let reads = Arc::new(AtomicUsize::new(0));
    let disk = Counted(MemoryBackend::new(), Arc::clone(&reads));
    let mut store = Store::open(Box::new(disk), Seal::new(&key), 1).unwrap();
    for number in 0..100_u64 {
        let account = BareJid::parse(&format!("a{number}@x.lit")).unwrap();
        let login = LoginId::derive(OWNER, "xmpp", account.as_str());
        store
            .put_login(&Login {
                id: login.clone(),
                owner: OWNER.try_into().unwrap(),
                network: "xmpp".to_owned(),
                account: account.clone(),
                resource: "r".to_owned(),
                made: Timestamp(TODAY),
                suspended: (number % 2 == 0).then(|| "refused".to_owned()),
                archive_after: None,
                roster_version: None,
                own_name: None,
            })
            .unwrap();
        for debt in 0..50 {
            let lane = Lane::ToXmpp(ContactKey { login: login.clone(), contact: account.clone() });
            let event = ruma::EventId::parse(format!("$e{debt}")).unwrap();
            let effect = Effect::SendMessage(Outgoing { body: "hi".to_owned(), event, written: Timestamp(TODAY) });
            let (id, made) = (store.take_debt_id().unwrap(), Timestamp(TODAY + debt));
            store.put_debt(&Debt { id, lane, effect, after: None, made, tried: false }).unwrap();
        }
    }
    store.commit().unwrap();
    let engine = Engine::new(store, Stage::settings(), homeserver()).unwrap();
    let before = reads.load(Ordering::Relaxed);
    assert!(before > 0);
    let numbers = engine.numbers();
    assert_eq!(reads.load(Ordering::Relaxed), before);
    assert_eq!(numbers.waiting[Kind::ToXmpp as usize], (Kind::ToXmpp, 5_000, Some(Timestamp(TODAY))));
    let logins = |state| numbers.logins[&("xmpp".to_owned(), state)];
    assert_eq!((logins(Connection::SignedOut), logins(Connection::Connecting)), (50, 50));
}

//! The world: one queue of events in virtual time, and a driver that treats the engine as the program does.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::OnceLock,
};

use messenger_bridge::{
    bridge::{Homeserver as Home, Network, OfflineAs, Permission, PermissionKey, Settings},
    domain::{
        Input, Now, Output, StreamId, Ticket, Timestamp,
        capability::{MESSENGER, XMPP},
        credentials::{Secret, Tokens},
        input::{Answer, Cause, Failure, Outcome},
        output::{Ask, MatrixCall, MatrixWork},
        stream::{ConnectOrder, StreamEnd, StreamOrder, StreamReport},
    },
    engine::Engine,
    store::{
        Store, StoreError,
        memory::MemoryBackend,
        seal::{KeyFile, Seal},
    },
};
use minidom::Element;
use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde_json::json;

use super::{
    config::{Config, Plant},
    homeserver::Homeserver,
    random::Random,
    server::{ACCOUNT, Contact, Server},
};

/// A connection, by the number of its stream.
pub type Conn = u64;

/// Wall-clock time of a moment of the simulation.
pub fn wall(at: u64) -> Timestamp {
    Timestamp(1_774_000_000_000 + i64::try_from(at).unwrap())
}

const BOT: &str = "@bot:h";
const OWNER: &str = "@me:h";
/// Steps of one world at most: a world that is not quiet by then never will be.
const MOST_STEPS: u64 = 60_000;

enum Event {
    /// The engine gets what waits, as one batch.
    Run,
    /// The engine's own time has come.
    Tick,
    /// Something reaches the bridge's process, if it is still that one.
    Arrive(u64, Box<Input>),
    /// A commit that failed is tried again.
    CommitAgain,
    /// The homeserver pushes a transaction, or the one that was not answered again.
    Push,
    /// The bridge's 200 reaches the homeserver.
    Answered(String),
    /// A request reaches the homeserver.
    Call(u64, Box<MatrixWork>),
    /// A connection attempt, a stanza or an acknowledgement reaches the XMPP server.
    Dial(Conn, Box<ConnectOrder>),
    Stanza(Conn, Box<Element>),
    Ack(Conn, u32),
    /// The XMPP server notices that a connection is gone; gives up a session.
    Notice(Conn),
    Expire(usize, u32),
    /// The process starts again.
    Restart,
    /// Something is said, or breaks.
    Script(Script),
}

#[derive(Clone, Copy, Debug)]
enum Script {
    Owner(usize),
    Contact(usize),
    Device(usize),
    Presence(usize, u64),
    Cut,
    Crash,
    FailCommit,
    RepeatTransaction,
    Heal,
}

pub struct World {
    seed: u64,
    config: Config,
    plant: Plant,
    random: Random,
    now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    engine: Option<Engine>,
    backend: MemoryBackend,
    process: u64,
    born: u64,
    mailbox: VecDeque<Input>,
    running: bool,
    uncommitted: bool,
    tick_at: Option<u64>,
    pushing: bool,
    homeserver: Homeserver,
    last_transaction: Option<(String, Vec<messenger_bridge::domain::input::RoomEvent>)>,
    tickets: HashMap<u64, String>,
    next_ticket: u64,
    server: Server,
    open: BTreeSet<Conn>,
    faulty: bool,
    faults: u32,
    fresh: u64,
    management: Option<OwnedRoomId>,
    by_owner: Vec<Vec<String>>,
    by_contact: Vec<Vec<String>>,
    by_device: Vec<Vec<String>>,
    log: VecDeque<String>,
}

fn seal() -> Seal {
    static KEY: OnceLock<KeyFile> = OnceLock::new();
    Seal::new(KEY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        KeyFile::load_or_create(&folder.path().join("key"), [9; 32]).unwrap()
    }))
}

fn user(id: &str) -> OwnedUserId {
    UserId::parse(id).unwrap()
}

impl World {
    pub fn new(seed: u64, config: Config, plant: Plant) -> Self {
        let mut random = Random::new(seed);
        let contacts = (0..random.between(1, 3))
            .map(|n| Contact { jid: format!("c{n}@x.test"), on_roster: n < 2, got: Vec::new(), show: 0 })
            .collect::<Vec<_>>();
        let nobody = vec![Vec::new(); contacts.len()];
        Self {
            seed,
            config,
            plant,
            random,
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            engine: None,
            backend: MemoryBackend::new(),
            process: 0,
            born: 0,
            mailbox: VecDeque::new(),
            running: false,
            uncommitted: false,
            tick_at: None,
            pushing: false,
            homeserver: Homeserver::default(),
            last_transaction: None,
            tickets: HashMap::new(),
            next_ticket: 0,
            server: Server::new(config, contacts),
            open: BTreeSet::new(),
            faulty: false,
            faults: 0,
            fresh: 0,
            management: None,
            by_owner: nobody.clone(),
            by_contact: nobody.clone(),
            by_device: nobody,
            log: VecDeque::new(),
        }
    }

    /// Plays the world to its end; says what went wrong.
    pub fn play(mut self) -> Result<(), String> {
        self.start();
        self.sign_in()?;
        self.write_script();
        let played = self.run_until_quiet();
        played.and_then(|()| self.check()).map_err(|why| {
            let log: Vec<String> = self.log.iter().cloned().collect();
            format!(
                "{why}\n{:?}, seed {}, {} faults; the end of what happened:\n{}",
                self.config,
                self.seed,
                self.faults,
                log.join("\n")
            )
        })
    }

    fn at(&mut self, after: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    fn note(&mut self, what: String) {
        if self.log.len() >= 80 {
            self.log.pop_front();
        }
        self.log.push_back(format!("{:>8} {what}", self.now));
    }

    // ---- the process

    fn start(&mut self) {
        let network = |profile, domain: Option<&str>| Network {
            profile,
            domain: domain.map(str::to_owned),
            domains: None,
            oauth: false,
        };
        let settings = Settings {
            networks: BTreeMap::from([if self.config.messenger {
                ("net".to_owned(), network(MESSENGER, Some("x.test")))
            } else {
                ("net".to_owned(), network(XMPP, None))
            }]),
            rooms_for_contacts: true,
            room_pause: 200,
            history_initial: 20,
            history_catch_up: 500,
            presence_to_matrix: true,
            presence_from_matrix: true,
            offline_as: OfflineAs::Away,
            permissions: vec![(PermissionKey::Server("h".to_owned()), Permission::User)],
            version: "0",
        };
        self.process += 1;
        self.born = self.now;
        self.backend = self.backend.reopen();
        let store = Store::open(Box::new(self.backend.reopen()), seal(), 7).unwrap();
        let home = Home { name: ruma::ServerName::parse("h").unwrap(), bot: user(BOT), bot_name: "Bot".to_owned() };
        self.engine = Some(Engine::new(store, settings, home).unwrap());
        self.mailbox.clear();
        self.running = false;
        self.uncommitted = false;
        self.tick_at = None;
        self.give(Input::Homeserver { presence: true, busy: false });
        self.give(Input::Started);
        // A ping of the new process ends the homeserver's waiting.
        self.push();
        self.note(format!("process {} starts", self.process));
    }

    fn crash(&mut self) {
        if self.engine.take().is_none() {
            return;
        }
        self.note("crash".to_owned());
        self.mailbox.clear();
        self.running = false;
        self.uncommitted = false;
        for conn in std::mem::take(&mut self.open) {
            let after = self.random.between(0, 8_000);
            self.at(after, Event::Notice(conn));
        }
        let after = self.random.between(10, 15_000);
        self.at(after, Event::Restart);
    }

    fn give(&mut self, input: Input) {
        if self.engine.is_none() {
            return;
        }
        self.mailbox.push_back(input);
        if !std::mem::replace(&mut self.running, true) {
            let after = self.random.between(0, 4);
            self.at(after, Event::Run);
        }
    }

    fn run_batch(&mut self) {
        self.running = false;
        if self.uncommitted {
            return;
        }
        let now = Now { wall: wall(self.now), uptime: self.now - self.born };
        let size = self.random.between(1, 8) as usize;
        for _ in 0..size {
            let (Some(input), Some(engine)) = (self.mailbox.pop_front(), self.engine.as_mut()) else { break };
            engine.handle(now, input).unwrap();
        }
        if !self.mailbox.is_empty() {
            self.running = true;
            self.at(1, Event::Run);
        }
        self.commit();
    }

    fn commit(&mut self) {
        if self.faulty && self.random.chance(1) {
            self.faults += 1;
            return self.crash();
        }
        let Some(engine) = self.engine.as_mut() else { return };
        match engine.commit() {
            Ok(outputs) => {
                self.uncommitted = false;
                let cut_short = self.faulty && self.random.chance(1);
                let most =
                    if cut_short { self.random.between(0, outputs.len() as u64) as usize } else { outputs.len() };
                for output in outputs.into_iter().take(most) {
                    self.carry_out(output);
                }
                if cut_short {
                    self.faults += 1;
                    return self.crash();
                }
                let wake = self.engine.as_ref().and_then(Engine::next_wake).map(|at| at + self.born);
                if let Some(at) = wake.filter(|at| self.tick_at.is_none_or(|tick| tick > *at || tick <= self.now)) {
                    self.tick_at = Some(at);
                    let after = at.saturating_sub(self.now).max(1);
                    self.at(after, Event::Tick);
                }
            }
            Err(StoreError::Io { .. }) => {
                self.uncommitted = true;
                self.at(100, Event::CommitAgain);
            }
            Err(error) => panic!("seed {}: {error}", self.seed),
        }
    }

    fn carry_out(&mut self, output: Output) {
        let process = self.process;
        match output {
            Output::Answer(Ticket(ticket)) => {
                if let Some(txn) = self.tickets.remove(&ticket) {
                    if self.faulty && self.random.chance(5) {
                        self.faults += 1;
                        return;
                    }
                    self.at(3, Event::Answered(txn));
                }
            }
            Output::Matrix(work) => {
                let after = self.random.between(1, 40);
                self.at(after, Event::Call(process, Box::new(work)));
            }
            Output::Now(_) => {}
            Output::Ask { ask, question } => {
                let answer = match question {
                    Ask::BeginOAuth { .. } => Answer::OAuthBegun {
                        url: "https://x.test/?state=s".to_owned(),
                        state: "s".to_owned(),
                        verifier: Secret::new("v"),
                    },
                    Ask::RedeemCode { .. } | Ask::Refresh { .. } => Answer::Tokens(Tokens {
                        access: Secret::new("t"),
                        refresh: Some(Secret::new("r")),
                        expires_at: None,
                    }),
                };
                self.at(5, Event::Arrive(process, Box::new(Input::Answered { ask, answer })));
            }
            Output::Stream { stream: StreamId(conn), order } => match order {
                StreamOrder::Connect(order) => {
                    self.open.insert(conn);
                    let after = order.delay + 20;
                    self.at(after, Event::Dial(conn, order));
                }
                StreamOrder::Send(stanzas) => {
                    for stanza in stanzas {
                        self.at(7, Event::Stanza(conn, Box::new(stanza)));
                    }
                }
                StreamOrder::Ack(h) => self.at(7, Event::Ack(conn, h)),
                StreamOrder::Close | StreamOrder::Suspend => self.cut(conn),
            },
        }
    }

    // ---- the network

    /// A connection breaks: what is under way on it is lost, both ends learn of it in their own time.
    fn cut(&mut self, conn: Conn) {
        if !self.open.remove(&conn) {
            return;
        }
        self.note(format!("connection {conn} is cut"));
        let (there, here) = (self.random.between(0, 8_000), self.random.between(0, 8_000));
        self.at(there, Event::Notice(conn));
        let report = StreamReport::Down(StreamEnd::Lost { detail: "cut".to_owned() });
        let process = self.process;
        self.at(here, Event::Arrive(process, Box::new(Input::Stream { stream: StreamId(conn), report })));
    }

    /// What the server has to say goes out.
    fn flush(&mut self) {
        for (conn, report) in std::mem::take(&mut self.server.out) {
            if self.open.contains(&conn) {
                let process = self.process;
                self.at(5, Event::Arrive(process, Box::new(Input::Stream { stream: StreamId(conn), report })));
            }
        }
    }

    fn call(&mut self, process: u64, work: MatrixWork) {
        let MatrixWork { id, mut call } = work;
        if self.plant == Plant::FreshTxn
            && let MatrixCall::Send { txn, .. } = &mut call
        {
            self.fresh += 1;
            txn.push_str(&self.fresh.to_string());
        }
        let lost = |sentence: &str| {
            Outcome::Failed(Failure::Transient {
                cause: Cause { code: "x".to_owned(), sentence: sentence.to_owned() },
                retry_after: None,
            })
        };
        let fate = if self.faulty { self.random.between(0, 99) } else { 99 };
        let outcome = match fate {
            0..=3 => lost("never arrived"),
            4..=7 => {
                self.homeserver.call(&call, wall(self.now));
                lost("the answer was lost")
            }
            _ => self.homeserver.call(&call, wall(self.now)),
        };
        self.faults += u32::from(fate < 8);
        let after = self.random.between(1, 40);
        self.at(after, Event::Arrive(process, Box::new(Input::Done { work: id, outcome })));
        self.join_invited();
        self.push();
    }

    /// The owner accepts every invitation.
    fn join_invited(&mut self) {
        let owner = user(OWNER);
        let rooms: Vec<OwnedRoomId> =
            self.homeserver.rooms.iter().filter(|room| room.is(&owner, "invite")).map(|room| room.id.clone()).collect();
        for room in rooms {
            self.homeserver.member(&room, &owner, &owner, "join", wall(self.now));
        }
    }

    fn push(&mut self) {
        if !self.homeserver.queue.is_empty() && !std::mem::replace(&mut self.pushing, true) {
            self.at(2, Event::Push);
        }
    }

    fn push_transaction(&mut self) {
        self.pushing = false;
        let most = self.random.between(1, 6);
        let Some((txn, events)) = self.homeserver.transaction(most) else { return };
        self.deliver_transaction(&txn, events);
        // Not answered by then, it comes again.
        let after = self.random.between(1_000, 4_000);
        self.pushing = true;
        self.at(after, Event::Push);
    }

    fn deliver_transaction(&mut self, txn: &str, events: Vec<messenger_bridge::domain::input::RoomEvent>) {
        if self.engine.is_none() {
            return;
        }
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, txn.to_owned());
        if self.plant == Plant::AnswerBeforeCommit {
            self.at(1, Event::Answered(txn.to_owned()));
        }
        let txn_id = if self.plant == Plant::IdsInMemory { format!("{txn}-{}", self.process) } else { txn.to_owned() };
        self.last_transaction = Some((txn.to_owned(), events.clone()));
        self.give(Input::Transaction { ticket: Ticket(self.next_ticket), txn_id, events, ephemeral: Vec::new() });
    }

    fn answered(&mut self, txn: &str) {
        if self.homeserver.in_flight.as_ref().is_some_and(|(waiting, _)| waiting == txn) {
            self.homeserver.in_flight = None;
            self.queue.retain(|_, event| !matches!(event, Event::Push));
            self.pushing = false;
            self.push();
        }
    }

    // ---- what happens

    fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        self.now = at;
        match event {
            Event::Run => self.run_batch(),
            Event::Tick => {
                self.tick_at = None;
                self.give(Input::Tick);
            }
            Event::CommitAgain => {
                if self.uncommitted {
                    self.commit();
                    if !self.uncommitted && !self.mailbox.is_empty() && !std::mem::replace(&mut self.running, true) {
                        self.at(1, Event::Run);
                    }
                }
            }
            Event::Arrive(process, input) => {
                if process == self.process && self.engine.is_some() {
                    if let Input::Stream { stream, report } = &*input {
                        let down = matches!(report, StreamReport::Down(_));
                        if !down && !self.open.contains(&stream.0) {
                            return true;
                        }
                        if self.plant == Plant::AckBeforeCommit && matches!(report, StreamReport::Stanza(_)) {
                            self.server.acknowledge_all(stream.0);
                        }
                    }
                    self.give(*input);
                }
            }
            Event::Push => self.push_transaction(),
            Event::Answered(txn) => self.answered(&txn),
            Event::Call(process, work) => {
                // A request that has left the process arrives, whatever becomes of the process.
                self.call(process, *work);
            }
            Event::Dial(conn, order) => {
                if self.open.contains(&conn) {
                    self.server.dial(conn, &order, self.now);
                }
            }
            Event::Stanza(conn, stanza) => {
                if self.open.contains(&conn) {
                    self.server.receive(conn, &stanza, self.now);
                    if let (true, Some(at)) = (self.config.sm, self.server.session_of(conn)) {
                        let h = self.server.sessions[at].handled;
                        self.server.out.push((conn, StreamReport::Acked(h)));
                    }
                }
            }
            Event::Ack(conn, h) => {
                if self.open.contains(&conn) {
                    self.server.acknowledged(conn, h);
                }
            }
            Event::Notice(conn) => {
                if let Some(session) = self.server.noticed(conn, self.now) {
                    let detached = self.server.sessions[session].detached;
                    let after = self.random.between(2_000, 60_000);
                    self.at(after, Event::Expire(session, detached));
                }
            }
            Event::Expire(session, detached) => {
                let found = &self.server.sessions[session];
                if found.conn.is_none() && found.detached == detached && !found.dead {
                    self.server.end(session, self.now);
                }
            }
            Event::Restart => {
                if self.engine.is_none() {
                    self.start();
                }
            }
            Event::Script(script) => self.play_script(script),
        }
        self.flush();
        true
    }

    fn play_script(&mut self, script: Script) {
        self.note(format!("{script:?}"));
        let breaks = matches!(script, Script::Cut | Script::Crash | Script::FailCommit | Script::RepeatTransaction);
        self.faults += u32::from(breaks);
        match script {
            Script::Owner(contact) => {
                let (owner, jid) = (user(OWNER), self.server.contacts[contact].jid.clone());
                let room = self
                    .homeserver
                    .rooms
                    .iter()
                    .find(|room| room.channel().as_deref() == Some(&jid) && room.is(&owner, "join"));
                let Some(room) = room.map(|room| room.id.clone()) else { return };
                let body = format!("out {contact} {}", self.by_owner[contact].len());
                self.by_owner[contact].push(body.clone());
                let content = json!({ "msgtype": "m.text", "body": body });
                self.homeserver.event(&room, &owner, "m.room.message", None, &content, (wall(self.now), None));
                self.push();
            }
            Script::Contact(contact) => {
                let body = format!("in {contact} {}", self.by_contact[contact].len());
                self.by_contact[contact].push(body.clone());
                self.server.contact_says(contact, &body, self.now);
            }
            Script::Device(contact) => {
                let body = format!("device {contact} {}", self.by_device[contact].len());
                self.by_device[contact].push(body.clone());
                self.server.device_says(contact, &body, self.now);
            }
            Script::Presence(contact, show) => self.server.contact_changes(contact, show),
            Script::Cut => {
                if let Some(conn) = self.open.last().copied() {
                    self.cut(conn);
                }
            }
            Script::Crash => self.crash(),
            Script::FailCommit => self.backend.fail_commits(1),
            Script::RepeatTransaction => {
                if let Some((txn, events)) = self.last_transaction.clone() {
                    self.deliver_transaction(&txn, events);
                }
            }
            Script::Heal => self.faulty = false,
        }
    }

    fn sign_in(&mut self) -> Result<(), String> {
        let (owner, bot) = (user(OWNER), user(BOT));
        let room = self.homeserver.make_room(&owner, Vec::new(), wall(0));
        self.homeserver.member(&room, &owner, &bot, "invite", wall(0));
        self.management = Some(room.clone());
        self.push();
        self.settle(5_000);
        let words: &[&str] = if self.config.messenger {
            &["login net", "https://x.test/?code=c&state=s"]
        } else {
            &["login net me@x.test pw"]
        };
        for text in words {
            let content = json!({ "msgtype": "m.text", "body": text });
            self.homeserver.event(&room, &owner, "m.room.message", None, &content, (wall(self.now), None));
            self.push();
            self.settle(5_000);
        }
        let rooms = self.homeserver.rooms.iter().filter(|room| room.channel().is_some()).count();
        let wanted = self.server.contacts.iter().filter(|contact| contact.on_roster).count();
        if rooms == wanted {
            Ok(())
        } else {
            Err(format!("{rooms} rooms for {wanted} contacts after signing in to {ACCOUNT}"))
        }
    }

    fn settle(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.step();
        }
        self.now = end;
    }

    fn write_script(&mut self) {
        self.faulty = true;
        let contacts = self.server.contacts.len() as u64;
        let mut after = 0;
        for _ in 0..self.random.between(10, 40) {
            after += self.random.between(0, 3_000);
            let contact = self.random.between(0, contacts - 1) as usize;
            let script = match self.random.between(0, 99) {
                0..=31 => Script::Owner(contact),
                32..=63 => Script::Contact(contact),
                64..=71 => Script::Device(contact),
                72..=77 => Script::Presence(contact, self.random.next()),
                78..=85 => Script::Cut,
                86..=91 => Script::Crash,
                92..=95 => Script::FailCommit,
                _ => Script::RepeatTransaction,
            };
            self.at(after, Event::Script(script));
        }
        self.at(after + 1, Event::Script(Script::Heal));
    }

    fn run_until_quiet(&mut self) -> Result<(), String> {
        for _ in 0..MOST_STEPS {
            if !self.step() {
                let debts = self.engine.as_ref().map_or(0, Engine::debts);
                return if debts == 0 && self.engine.is_some() {
                    Ok(())
                } else {
                    Err(format!("quiet with {debts} debts unpaid"))
                };
            }
        }
        Err(format!("not quiet after {MOST_STEPS} steps"))
    }

    // ---- what must hold

    fn check(&self) -> Result<(), String> {
        if let Some(violation) = self.homeserver.violations.iter().chain(&self.server.violations).next() {
            return Err(violation.clone());
        }
        for (at, contact) in self.server.contacts.iter().enumerate() {
            let rooms: Vec<_> =
                self.homeserver.rooms.iter().filter(|room| room.channel().as_deref() == Some(&contact.jid)).collect();
            if rooms.len() > 1 {
                return Err(format!("{} rooms for {}", rooms.len(), contact.jid));
            }
            let said = rooms.first().map(|room| room.said.as_slice()).unwrap_or_default();
            let bodies = |start: &str| -> Vec<String> {
                said.iter()
                    .filter_map(|said| said.content["body"].as_str())
                    .filter(|body| body.starts_with(start))
                    .map(str::to_owned)
                    .collect()
            };
            let heard = bodies("in ");
            let own: BTreeSet<String> = self.by_device[at].iter().cloned().collect();
            let device = bodies("device ");
            let got: Vec<String> = contact.got.iter().map(|got| got.body.clone()).collect();
            if device.iter().collect::<BTreeSet<_>>().len() != device.len() {
                return Err(format!("{}: said twice on the device: {device:?}", contact.jid));
            }
            if self.config.exact() {
                same(&format!("from {}", contact.jid), &self.by_contact[at], &heard)?;
                same(&format!("to {}", contact.jid), &self.by_owner[at], &got)?;
            } else {
                in_order(&format!("from {}", contact.jid), &self.by_contact[at], &heard)?;
                let mut once = got.clone();
                let mut seen = BTreeSet::new();
                once.retain(|body| seen.insert(body.clone()));
                same(&format!("to {}, repeats aside", contact.jid), &self.by_owner[at], &once)?;
                if self.faults == 0 {
                    same(&format!("to {}", contact.jid), &self.by_owner[at], &got)?;
                    same(&format!("from {}", contact.jid), &self.by_contact[at], &heard)?;
                }
            }
            if self.config.archive && own.len() != device.len() {
                return Err(format!("{}: of {own:?} said on the device {device:?} are in the room", contact.jid));
            }
            // What the person said through Matrix is never said again by their ghost.
            let echoed = said
                .iter()
                .filter(|said| said.sender != OWNER)
                .filter(|said| said.content["body"].as_str().is_some_and(|body| body.starts_with("out ")))
                .count();
            if echoed > 0 {
                return Err(format!("{}: {echoed} messages of the person came back", contact.jid));
            }
        }
        Ok(())
    }
}

fn same(what: &str, said: &[String], heard: &[String]) -> Result<(), String> {
    if said == heard { Ok(()) } else { Err(format!("{what}:\n  said  {said:?}\n  heard {heard:?}")) }
}

/// Nothing twice, nothing out of order; something may be missing.
fn in_order(what: &str, said: &[String], heard: &[String]) -> Result<(), String> {
    let mut rest = said.iter();
    if heard.iter().all(|body| rest.any(|said| said == body)) {
        Ok(())
    } else {
        Err(format!("{what}:\n  said  {said:?}\n  heard {heard:?}"))
    }
}

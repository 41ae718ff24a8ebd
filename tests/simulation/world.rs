//! The world: a clock of its own, a queue of what happens next, and the shells that drive the engine as the program
//! does: a batch of inputs, a commit, and only then the outputs. Faults come by the seed.

use std::collections::{BTreeMap, VecDeque};

use messenger_bridge::{
    bridge::{Homeserver as Hosts, Network, OfflineAs, Permission, PermissionKey, Settings, StatusNotices},
    domain::{
        DebtId, Input, Now, Output, StreamId, Ticket, Timestamp,
        capability::{MESSENGER, XMPP},
        credentials::Secret,
        file::{Job, Side, Stored, Transfer, TransferOutcome},
        input::{Answer, Cause, Failure, Outcome, RoomEvent, RoomPage},
        output::{Ask, Ephemeral, MatrixCall, MatrixWork, WorkId},
        request::RoomsAfterLogout,
        stream::{ConnectOrder, StreamEnd, StreamOrder, StreamReport},
    },
    engine::Engine,
    store::{
        Store,
        backend::{Backend, Batch},
        key::{Key, Table},
        memory::MemoryBackend,
        seal::{KeyFile, Seal},
    },
    translate::bridge_info::PUPPET,
};
use minidom::Element;
use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde_json::json;

use super::{
    config::{Config, Planted},
    homeserver::Homeserver,
    random::Random,
    server::{Contact, FILES, Server},
};

pub const OWNER: &str = "@me:h";
pub const BOT: &str = "@bot:h";
/// When the bridge starts; what was said before is history.
const START: u64 = 20_000;
/// When faults end and nobody writes any more, in milliseconds.
const HEALED: u64 = START + 60_000;
/// When a homeserver that has not installed double puppeting from the beginning does so.
const PUPPETS: u64 = START + 20_000;
/// A world that is not quiet by then never will be.
const LATEST: u64 = HEALED + 3_600_000;
const STEPS: u64 = 200_000;
/// By then the bridge has read every room once more.
const REVIEWED: u64 = HEALED + 360_000;
/// How many of the last events a failure shows, if nothing else is asked for.
const SHOWN: usize = 60;

/// A connection: of which run of the bridge, and which stream of it.
pub type Conn = (u32, StreamId);

pub fn wall(now: u64) -> Timestamp {
    Timestamp(1_774_000_000_000 + i64::try_from(now).unwrap())
}

pub fn user(text: &str) -> OwnedUserId {
    UserId::parse(text).unwrap()
}

enum Event {
    Step(u32),
    Wake(u32),
    Boot,
    Call(u32, MatrixWork),
    Result(u32, WorkId, Outcome),
    Transferred(u32, DebtId, TransferOutcome),
    Push,
    Pushed(String, Vec<RoomEvent>),
    PushTimeout(String),
    Answered(String),
    Dial(Conn, Box<ConnectOrder>),
    ToServer(Conn, Element),
    AckToServer(Conn, u32),
    ServerAck(Conn),
    ToEngine(Conn, StreamReport),
    Noticed(Conn, bool),
    Expire(usize, u32),
    Cut,
    Phone(usize),
    Contact(usize),
    Device(usize),
    Presence(usize),
    Leave(usize),
    OwnerJoins(OwnedRoomId),
    ReadRoom(u32, OwnedRoomId, Option<String>),
    RoomRead(u32, OwnedRoomId, Result<RoomPage, Failure>),
    Asked(u32, messenger_bridge::domain::output::AskId, Ask),
}

pub struct World {
    pub config: Config,
    planted: Planted,
    random: Random,
    pub now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    next: u64,
    pub hs: Homeserver,
    pub server: Server,
    disk: MemoryBackend,
    pub engine: Option<Engine>,
    run: u32,
    booted: u64,
    wake: Option<u64>,
    stepping: bool,
    uncommitted: bool,
    inbox: VecDeque<Input>,
    tickets: BTreeMap<Ticket, String>,
    next_ticket: u64,
    /// Connections that live, and when the last thing on its way to the server and to the engine arrives.
    conns: BTreeMap<Conn, (u64, u64)>,
    /// Texts of stanzas that the engine took in, and of those what it committed.
    taken: Vec<String>,
    pub committed: Vec<String>,
    pub phone_said: Vec<Vec<String>>,
    pub contact_said: Vec<Vec<String>>,
    pub device_said: Vec<Vec<String>>,
    pub shown: BTreeMap<OwnedUserId, String>,
    counters: Option<Vec<u8>>,
    /// The bot has said hello, so the person signs in.
    /// Transfers, and how they ended.
    pub carried: Vec<String>,
    /// How often a transfer of a debt has failed.
    struck: BTreeMap<DebtId, u32>,
    welcomed: bool,
    trace: Option<VecDeque<String>>,
    lines: usize,
}

fn lost(what: &str) -> Outcome {
    let cause = Cause { code: what.to_owned(), sentence: what.to_owned() };
    Outcome::Failed(Failure::Transient { cause, retry_after: None })
}

fn settings(config: Config, random: &mut Random) -> Settings {
    let network = Network {
        profile: if config.messenger { MESSENGER } else { XMPP },
        domain: config.messenger.then(|| "x.test".to_owned()),
        domains: None,
        oauth: config.messenger,
    };
    Settings {
        networks: BTreeMap::from([("net".to_owned(), network)]),
        rooms_for_contacts: config.rooms,
        room_pause: random.between(200, 1_000),
        strangers: messenger_bridge::bridge::Strangers::Room,
        space: true,
        history_initial: 50,
        history_catch_up: 500,
        // So short that much waits longer, and nothing is ever given up.
        warn_after: random.between(500, 5_000),
        expire: 7 * 86_400_000,
        presence_to_matrix: true,
        presence_from_matrix: true,
        offline_as: OfflineAs::Away,
        permissions: vec![(PermissionKey::Anyone, Permission::User)],
        max_file: 1_000_000,
        public_media: None,
        page: None,
        max_logins: 10,
        after_logout: RoomsAfterLogout::Leave,
        status_notices: StatusNotices::Errors,
        version: "0",
        double_puppet: config.puppets,
    }
}

impl World {
    pub fn new(seed: u64, planted: Planted, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let config = Config::of(seed, &mut random);
        let contacts: Vec<Contact> = (0..random.between(1, 3))
            .map(|n| Contact {
                jid: format!("c{n}@x.test"),
                on_roster: n == 0 || random.chance(70),
                got: Vec::new(),
                show: random.next() % 4,
            })
            .collect();
        let count = contacts.len();
        let mut world = Self {
            config,
            planted,
            random,
            now: 0,
            queue: BTreeMap::new(),
            next: 0,
            hs: Homeserver::default(),
            server: Server::new(config, contacts),
            disk: MemoryBackend::new(),
            engine: None,
            run: 0,
            booted: 0,
            wake: None,
            stepping: false,
            uncommitted: false,
            inbox: VecDeque::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            conns: BTreeMap::new(),
            taken: Vec::new(),
            committed: Vec::new(),
            phone_said: vec![Vec::new(); count],
            contact_said: vec![Vec::new(); count],
            device_said: vec![Vec::new(); count],
            shown: BTreeMap::new(),
            carried: Vec::new(),
            struck: BTreeMap::new(),
            counters: None,
            welcomed: false,
            trace: trace.then(VecDeque::new),
            lines: std::env::var("SIM_LINES").ok().and_then(|lines| lines.parse().ok()).unwrap_or(SHOWN),
        };
        world.begin();
        world
    }

    fn at(&mut self, at: u64, event: Event) {
        self.next += 1;
        self.queue.insert((at, self.next), event);
    }

    fn soon(&mut self, low: u64, high: u64, event: Event) {
        let at = self.now + self.random.between(low, high);
        self.at(at, event);
    }

    fn log(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            if trace.len() >= self.lines {
                trace.pop_front();
            }
            trace.push_back(format!("{now:>8} {}", line()));
        }
    }

    pub fn story(&self) -> String {
        self.trace.iter().flatten().map(|line| format!("{line}\n")).collect()
    }

    fn healed(&self) -> bool {
        self.now >= HEALED
    }

    /// Does a fault strike? None does before the account is there, and none after all is healed.
    fn strikes(&mut self, percent: u64) -> bool {
        !self.healed() && self.signed_in() && self.random.chance(percent)
    }

    fn signed_in(&self) -> bool {
        self.counters.is_some()
    }

    /// The person's first steps, and what everyone will do when.
    fn begin(&mut self) {
        for contact in 0..self.server.contacts.len() {
            for _ in 0..self.random.between(0, 3) {
                self.now += self.random.between(500, 2_000);
                self.contact_says(contact);
            }
        }
        self.now = START;
        let room = self.hs.make_room(&user(OWNER), Vec::new(), wall(START));
        self.hs.member(&room, &user(OWNER), &user(BOT), "invite", wall(START));
        self.at(START, Event::Boot);
        self.at(START + 1, Event::Push);
        for _ in 0..self.random.between(1, 8) {
            let at = self.random.between(START + 3_000, HEALED);
            self.at(at, Event::Cut);
        }
        for contact in 0..self.server.contacts.len() {
            for _ in 0..self.random.between(2, 14) {
                let at = self.random.between(START + 4_000, HEALED);
                self.at(at, Event::Phone(contact));
            }
            for _ in 0..self.random.between(2, 14) {
                let at = self.random.between(START + 4_000, HEALED);
                self.at(at, Event::Contact(contact));
            }
            for _ in 0..self.random.between(0, 6) {
                let at = self.random.between(START + 4_000, HEALED);
                self.at(at, Event::Device(contact));
            }
            for _ in 0..self.random.between(0, 4) {
                let at = self.random.between(START + 4_000, HEALED);
                self.at(at, Event::Presence(contact));
            }
            if self.random.chance(20) {
                let at = self.random.between(START + 8_000, HEALED);
                self.at(at, Event::Leave(contact));
            }
        }
    }

    /// Runs until nothing is left to do.
    pub fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            let Some(((at, _), event)) = self.queue.pop_first() else {
                return Err("the world stands still".to_owned());
            };
            self.now = self.now.max(at);
            if self.now > LATEST {
                return Err(format!("not quiet: {}", self.unrest()));
            }
            self.happen(event);
            if self.healed() && self.quiet() {
                return Ok(());
            }
        }
        Err(format!("too many steps: {}", self.unrest()))
    }

    fn unrest(&self) -> String {
        let Some(engine) = &self.engine else { return "the bridge is down".to_owned() };
        let logins = engine.store().logins().unwrap();
        let session = logins.first().and_then(|login| engine.store().session(&login.id).unwrap());
        let held = logins.first().map_or(0, |login| engine.store().held(&login.id).unwrap().len());
        format!("{} debts, {held} held, {session:?}", engine.debts())
    }

    fn quiet(&self) -> bool {
        let Some(engine) = &self.engine else { return false };
        if !self.inbox.is_empty() || self.uncommitted || engine.debts() > 0 || !self.hs.queue.is_empty() {
            return false;
        }
        if !self.hs.late.is_empty() || (self.hs.stuck > 0 && self.now < REVIEWED && engine.next_wake().is_some()) {
            return false;
        }
        if self.hs.in_flight.is_some() || self.queue.values().any(|event| !matches!(event, Event::Wake(_))) {
            return false;
        }
        let Ok(logins) = engine.store().logins() else { return false };
        let [login] = logins.as_slice() else { return false };
        let caught_up = engine.store().session(&login.id).unwrap().is_some_and(|session| session.caught_up);
        // Rooms for contacts come one by one; the last of them has to be there.
        let imported = !self.config.rooms
            || self
                .server
                .contacts
                .iter()
                .filter(|c| c.on_roster)
                .all(|c| self.hs.rooms.iter().any(|room| room.channel().as_deref() == Some(&c.jid)));
        caught_up && imported && !self.conns.is_empty() && engine.store().held(&login.id).unwrap().is_empty()
    }

    fn contact_says(&mut self, contact: usize) {
        let body = self.words('c', contact, self.contact_said[contact].len());
        self.log(|| format!("contact: {body}"));
        self.server.contact_says(contact, &body, self.now);
        self.contact_said[contact].push(body);
    }

    fn portal(&self, contact: usize) -> Option<OwnedRoomId> {
        let jid = &self.server.contacts[contact].jid;
        self.hs.rooms.iter().find(|room| room.channel().as_ref() == Some(jid)).map(|room| room.id.clone())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Boot => self.boot(),
            Event::Step(run) if run == self.run && self.engine.is_some() => self.step(),
            Event::Wake(run) if run == self.run && self.engine.is_some() => {
                self.wake = None;
                self.inbox.push_back(Input::Tick);
                self.step();
            }
            Event::Step(_) | Event::Wake(_) => {}
            Event::Call(run, work) => self.call(run, &work),
            Event::Result(run, work, outcome) => self.input(run, Input::Done { work, outcome }),
            Event::Push => self.push(),
            Event::Pushed(txn, events) => self.pushed(txn, events),
            Event::PushTimeout(txn) => {
                if self.hs.in_flight.as_ref().is_some_and(|(waiting, _)| *waiting == txn) {
                    if self.strikes(30) && !self.hs.queue.is_empty() {
                        let stuck = self.random.chance(30);
                        self.log(|| format!("transaction {txn} is overtaken, stuck: {stuck}"));
                        self.hs.overtake(stuck);
                    }
                    self.push();
                }
            }
            Event::Answered(txn) => self.answered(&txn),
            Event::Dial(conn, order) => {
                if self.conns.contains_key(&conn) {
                    if self.strikes(15) {
                        let end = StreamEnd::Unreachable { host: "x.test".to_owned(), detail: "refused".to_owned() };
                        self.soon(0, 100, Event::ToEngine(conn, StreamReport::Down(end)));
                    } else {
                        self.log(|| format!("dial {conn:?} resume {:?}", order.resume));
                        self.server.dial(conn, &order, self.now);
                    }
                }
            }
            Event::ToServer(conn, stanza) => {
                if self.conns.contains_key(&conn) {
                    self.log(|| format!("server reads {}", String::from(&stanza)));
                    self.server.receive(conn, &stanza, self.now);
                    self.soon(0, 300, Event::ServerAck(conn));
                }
            }
            Event::AckToServer(conn, h) => {
                if self.conns.contains_key(&conn) {
                    self.server.acknowledged(conn, h);
                }
            }
            Event::ServerAck(conn) => {
                if let Some(at) = self.server.session_of(conn).filter(|_| self.config.sm) {
                    let handled = self.server.sessions[at].handled;
                    self.server.out.push((conn, StreamReport::Acked(handled)));
                }
            }
            Event::ToEngine(conn, report) => {
                if self.conns.contains_key(&conn) {
                    if matches!(report, StreamReport::Down(_)) {
                        self.conns.remove(&conn);
                    }
                    self.input(conn.0, Input::Stream { stream: conn.1, report });
                }
            }
            Event::Noticed(conn, ends) => {
                let session = self.server.noticed(conn, self.now);
                if let Some(at) = session {
                    let detached = self.server.sessions[at].detached;
                    if ends {
                        self.server.end(at, self.now);
                    } else {
                        self.soon(5_000, 60_000, Event::Expire(at, detached));
                    }
                }
            }
            Event::Expire(at, detached) => {
                let session = &self.server.sessions[at];
                if session.conn.is_none() && session.detached == detached && !session.dead {
                    self.log(|| "the session expires".to_owned());
                    self.server.end(at, self.now);
                }
            }
            Event::Cut => {
                if self.signed_in()
                    && let Some(conn) = self.conns.keys().next_back().copied()
                {
                    self.cut(conn);
                }
            }
            Event::Phone(contact) => self.phone(contact),
            Event::Contact(contact) => {
                self.contact_says(contact);
                // People press enter twice, and clocks are coarse.
                for _ in 0..self.random.between(0, 30) / 29 {
                    self.contact_says(contact);
                }
            }
            Event::Device(contact) => {
                if self.signed_in() {
                    let body = self.words('d', contact, self.device_said[contact].len());
                    self.log(|| format!("device: {body}"));
                    self.server.device_says(contact, &body, self.now);
                    self.device_said[contact].push(body);
                }
            }
            Event::Presence(contact) => {
                let show = self.random.next() % 4;
                self.server.contact_changes(contact, show);
            }
            Event::Leave(contact) => {
                if let Some(room) = self.portal(contact)
                    && self.hs.room(&room).is_some_and(|room| room.is(&user(OWNER), "join"))
                {
                    self.hs.member(&room, &user(OWNER), &user(OWNER), "leave", wall(self.now));
                }
            }
            Event::OwnerJoins(room) => {
                if self.hs.room(&room).is_some_and(|room| room.is(&user(OWNER), "invite")) {
                    self.hs.member(&room, &user(OWNER), &user(OWNER), "join", wall(self.now));
                }
            }
            Event::ReadRoom(run, room, from) => {
                let page = if self.planted == Planted::NoReview {
                    let cause = Cause { code: "M_UNRECOGNIZED".to_owned(), sentence: "not here".to_owned() };
                    Err(Failure::Permanent(cause))
                } else if self.strikes(5) {
                    let cause = Cause { code: "connection".to_owned(), sentence: "lost".to_owned() };
                    Err(Failure::Transient { cause, retry_after: None })
                } else {
                    Ok(self.hs.page(&room, from.as_deref()))
                };
                self.soon(1, 150, Event::RoomRead(run, room, page));
            }
            Event::RoomRead(run, room, page) => self.input(run, Input::RoomRead { room, page }),
            Event::Transferred(run, debt, outcome) => self.input(run, Input::Transferred { debt, outcome }),
            Event::Asked(run, ask, question) => self.asked(run, ask, &question),
        }
        self.carry();
    }

    /// What the server said goes on its way; new events are pushed; the owner follows invitations.
    fn carry(&mut self) {
        for (conn, report) in std::mem::take(&mut self.server.out) {
            // Now and then a connection is frozen for a while, and all that was said meanwhile comes at once.
            let late = self.now
                + if self.strikes(1) { self.random.between(1_000, 15_000) } else { self.random.between(1, 200) };
            if let Some((_, last)) = self.conns.get_mut(&conn) {
                *last = late.max(*last);
                let at = *last;
                self.at(at, Event::ToEngine(conn, report));
            }
        }
        if !self.welcomed && !self.hs.rooms[0].said.is_empty() {
            self.welcomed = true;
            let login = if self.config.messenger { "login net" } else { "login net me@x.test secret" };
            let room = self.hs.rooms[0].id.clone();
            let text = json!({ "msgtype": "m.text", "body": login });
            self.hs.event(&room, &user(OWNER), "m.room.message", None, &text, (wall(self.now), None));
        }
        if self.hs.in_flight.is_none()
            && !(self.hs.queue.is_empty() && self.hs.late.is_empty())
            && self.engine.is_some()
        {
            self.push();
        }
    }

    fn push(&mut self) {
        let most = self.random.between(1, 5);
        let late_first = self.random.chance(50);
        let Some((txn, events)) = self.hs.transaction(most, late_first) else { return };
        for event in &events {
            let invited = event.kind == "m.room.member"
                && event.state_key.as_deref() == Some(OWNER)
                && event.content.get().contains("\"invite\"");
            if invited {
                self.soon(100, 3_000, Event::OwnerJoins(event.room.clone()));
            }
        }
        self.soon(1, 100, Event::Pushed(txn.clone(), events));
        self.soon(4_000, 6_000, Event::PushTimeout(txn));
    }

    fn pushed(&mut self, txn: String, events: Vec<RoomEvent>) {
        if self.engine.is_none() || self.strikes(5) {
            return;
        }
        self.log(|| format!("transaction {txn} of {}", events.iter().map(|e| e.content.get()).collect::<String>()));
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tickets.insert(ticket, txn.clone());
        self.input(
            self.run,
            Input::Transaction { ticket, txn_id: txn, events, ephemeral: Vec::new(), overtakes: false },
        );
    }

    fn answered(&mut self, txn: &str) {
        if self.strikes(10) {
            return;
        }
        if let Some((_, events)) = self.hs.in_flight.take_if(|(waiting, _)| waiting == txn) {
            if self.strikes(5) {
                // Pushed again although it was answered: the homeserver did not note it in time.
                self.soon(1, 500, Event::Pushed(txn.to_owned(), events));
            }
            self.push();
        }
    }

    fn phone(&mut self, contact: usize) {
        let Some(room) = self.portal(contact) else { return };
        if !self.hs.room(&room).is_some_and(|room| room.is(&user(OWNER), "join")) {
            return;
        }
        let body = self.words('m', contact, self.phone_said[contact].len());
        self.log(|| format!("phone: {body}"));
        let forwards = self.random.chance(30);
        let content = match body.strip_prefix(FILES) {
            // A client that forwards, or answers with, all that an event in the person's name holds.
            None if forwards && self.hs.said_as(&room, OWNER).is_some() => {
                let mut content = self.hs.said_as(&room, OWNER).unwrap();
                content["msgtype"] = json!("m.text");
                content["body"] = json!(body);
                content
            }
            None => json!({ "msgtype": "m.text", "body": body }),
            // What an event says of its size may be wrong, or nothing.
            Some(name) => {
                let said = self.random.between(4, 7);
                let mut info = if said == 7 { json!({}) } else { json!({ "size": said }) };
                if self.random.chance(30) {
                    info["thumbnail_url"] = json!("mxc://h/small");
                    info["thumbnail_info"] =
                        json!({ "mimetype": "image/png", "size": self.random.between(SMALL, SMALL + 1) });
                }
                json!({ "msgtype": "m.image", "body": name, "url": format!("mxc://h/{name}"), "info": info })
            }
        };
        self.hs.event(&room, &user(OWNER), "m.room.message", None, &content, (wall(self.now), None));
        self.phone_said[contact].push(body);
    }

    fn asked(&mut self, run: u32, ask: messenger_bridge::domain::output::AskId, question: &Ask) {
        let answer = match question {
            Ask::BeginOAuth { .. } => Answer::OAuthBegun {
                url: "https://x.test/authorize".to_owned(),
                state: "s".to_owned(),
                verifier: Secret::new("v"),
            },
            Ask::RedeemCode { .. } | Ask::Refresh { .. } => {
                Answer::OAuthFailed { refused: true, sentence: "not here".to_owned() }
            }
        };
        self.input(run, Input::Answered { ask, answer });
        // The person pastes a token.
        let room = self.hs.rooms[0].id.clone();
        let content = json!({ "msgtype": "m.text", "body": "EwAIA61DBAAUG3bhj2oWUXhI0kCQJPR2" });
        self.hs.event(&room, &user(OWNER), "m.room.message", None, &content, (wall(self.now), None));
    }
}

mod files;
use files::SMALL;
mod process;

//! Inputs per second through the engine on the real store, every batch durable: one JSON object a line.

#![allow(clippy::expect_used, clippy::cast_precision_loss, dead_code, reason = "a bench")]

#[path = "../fill.rs"]
mod fill;

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    time::Instant,
};

use messenger_bridge::{
    bridge::{Homeserver, Network, OfflineAs, Permission, PermissionKey, Settings, StatusNotices, Strangers},
    domain::{
        Input, Now, Output, StreamId, Timestamp,
        capability::XMPP,
        input::{Outcome, Receipt},
        output::MatrixCall,
        request::RoomsAfterLogout,
        stream::{Management, StreamOrder, StreamReport, StreamUp},
    },
    engine::Engine,
};
use minidom::Element;
use ruma::UserId;
use serde_json::json;

use self::fill::{DOMAIN, fill};

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    for logins in [1, 100] {
        for batch in [1, 8, 32, 128] {
            let rounds = if quick { 40 } else { 400 };
            run(logins, batch, rounds);
        }
    }
}

/// So many messages at a time, each of another contact, on the streams in turn.
fn run(logins: usize, batch: usize, rounds: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bench = Bench::new(folder.path(), logins);
    // The first message of each contact makes its room.
    for place in 0..logins.max(batch) {
        bench.hear(place, "first");
        bench.settle();
    }
    let (mut handling, mut committing) = (0.0, 0.0);
    let began = Instant::now();
    for _ in 0..rounds {
        let start = Instant::now();
        for place in 0..batch {
            bench.hear(place, "Art thou not Romeo, and a Montague?");
        }
        handling += start.elapsed().as_secs_f64();
        let start = Instant::now();
        let outputs = bench.engine.commit().expect("the store");
        committing += start.elapsed().as_secs_f64();
        bench.answer(outputs);
        bench.settle();
    }
    let took = began.elapsed().as_secs_f64();
    let messages = (batch * rounds) as f64;
    println!(
        "{}",
        json!({
            "scenario": "engine", "logins": logins, "batch": batch, "messages": messages,
            "handle_us": handling * 1e6 / messages, "commit_us_per_batch": committing * 1e6 / rounds as f64,
            "inputs_per_second": messages / (handling + committing), "with_answers_per_second": messages / took,
        })
    );
}

struct Bench {
    engine: Engine,
    began: Instant,
    /// Each login's stream and account.
    streams: BTreeMap<StreamId, String>,
    lines: Vec<(StreamId, String)>,
    inputs: VecDeque<Input>,
    next: u64,
}

impl Bench {
    fn new(folder: &Path, logins: usize) -> Self {
        let store = fill(folder, u32::try_from(logins).expect("few"));
        let homeserver = Homeserver {
            name: ruma::ServerName::parse("hs.bench").expect("a name"),
            bot: UserId::parse("@messengerbot:hs.bench").expect("an MXID"),
            bot_name: "Messenger bridge".to_owned(),
        };
        let engine = Engine::new(store, settings(), homeserver).expect("an engine");
        let mut bench = Self {
            engine,
            began: Instant::now(),
            streams: BTreeMap::new(),
            lines: Vec::new(),
            inputs: VecDeque::new(),
            next: 0,
        };
        bench.inputs.push_back(Input::Homeserver { presence: false, busy: false });
        bench.inputs.push_back(Input::Started);
        bench.settle();
        while bench.lines.len() < logins {
            // Starts are spread over time.
            std::thread::sleep(std::time::Duration::from_millis(5));
            bench.inputs.push_back(Input::Tick);
            bench.settle();
        }
        bench
    }

    fn now(&self) -> Now {
        let uptime = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { wall: Timestamp(1_774_000_000_000 + i64::try_from(uptime).unwrap_or(0)), uptime }
    }

    /// A message of a contact arrives; it is handled, not committed.
    fn hear(&mut self, place: usize, body: &str) {
        let (stream, account) = &self.lines[place % self.lines.len()];
        self.next += 1;
        let stanza = format!(
            "<message xmlns='jabber:client' from='c{place}@{DOMAIN}/app' to='{account}' type='chat' id='m{}'><body>{body}</body></message>",
            self.next
        );
        let stanza: Element = stanza.parse().expect("a stanza");
        let input = Input::Stream { stream: *stream, report: StreamReport::Stanza(Box::new(stanza)) };
        let now = self.now();
        self.engine.handle(now, input).expect("the store");
    }

    /// Plays all that is there, and what follows from it, in batches of 128 as the program does.
    fn settle(&mut self) {
        loop {
            let now = self.now();
            for input in self.inputs.drain(..self.inputs.len().min(128)) {
                self.engine.handle(now, input).expect("the store");
            }
            let outputs = self.engine.commit().expect("the store");
            self.answer(outputs);
            if self.inputs.is_empty() {
                return;
            }
        }
    }

    fn answer(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Matrix(work) => {
                    self.next += 1;
                    let receipt = match work.call {
                        MatrixCall::CreateRoom(_) => {
                            Receipt::Room(ruma::RoomId::parse(format!("!r{}:hs.bench", self.next)).expect("a room id"))
                        }
                        MatrixCall::Send { .. } | MatrixCall::SetState { .. } | MatrixCall::Redact { .. } => {
                            Receipt::Event(ruma::EventId::parse(format!("$e{}", self.next)).expect("an event id"))
                        }
                        MatrixCall::CountMembers { .. } => Receipt::Members(2),
                        MatrixCall::GetState { .. } | MatrixCall::GetProfile { .. } => {
                            Receipt::Content("{}".to_owned())
                        }
                        _ => Receipt::Nothing,
                    };
                    self.inputs.push_back(Input::Done { work: work.id, outcome: Outcome::Done(receipt) });
                }
                Output::Stream { stream, order: StreamOrder::Connect(order) } => {
                    let account = order.account.expect("it has one");
                    self.streams.insert(stream, account.to_string());
                    let up = StreamUp {
                        account,
                        resource: "bridge".to_owned(),
                        resumed: None,
                        failed_h: None,
                        management: Some(Management { id: Some(format!("s{}", stream.0)), location: None }),
                        max_bytes: None,
                        roster_versioning: false,
                        csi: false,
                        keep: None,
                        mechanism: "PLAIN".to_owned(),
                    };
                    self.inputs.push_back(Input::Stream { stream, report: StreamReport::Up(Box::new(up)) });
                }
                Output::Stream { stream, order: StreamOrder::Send(stanzas) } => {
                    for stanza in stanzas {
                        self.read(stream, &stanza);
                    }
                }
                _ => {}
            }
        }
    }

    /// The server reads a stanza.
    fn read(&mut self, stream: StreamId, stanza: &Element) {
        if stanza.name() == "presence" && stanza.attr("to").is_none() {
            self.lines.push((stream, self.streams[&stream].clone()));
        }
        let (Some(id), "iq") = (stanza.attr("id"), stanza.name()) else { return };
        let namespace = stanza.children().next().map(Element::ns).unwrap_or_default();
        let inner = if namespace == "jabber:iq:roster" { "<query xmlns='jabber:iq:roster'/>" } else { "" };
        let answer = format!("<iq xmlns='jabber:client' type='result' id='{id}'>{inner}</iq>");
        let answer = answer.parse().expect("a stanza");
        self.inputs.push_back(Input::Stream { stream, report: StreamReport::Stanza(Box::new(answer)) });
    }
}

fn settings() -> Settings {
    let network = Network { profile: XMPP, domain: None, domains: None, oauth: false };
    Settings {
        networks: BTreeMap::from([("xmpp".to_owned(), network)]),
        rooms_for_contacts: false,
        room_pause: 10,
        strangers: Strangers::Room,
        space: false,
        history_initial: 0,
        history_catch_up: 500,
        warn_after: 30_000,
        expire: 7 * 24 * 3_600_000,
        presence_to_matrix: false,
        presence_from_matrix: false,
        offline_as: OfflineAs::Away,
        permissions: vec![(PermissionKey::Anyone, Permission::User)],
        max_file: 1024 * 1024,
        public_media: None,
        page: None,
        max_logins: 10,
        after_logout: RoomsAfterLogout::Leave,
        status_notices: StatusNotices::Errors,
        version: "0",
        double_puppet: false,
    }
}

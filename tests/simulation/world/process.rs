//! The bridge's process in the world: it boots, takes batches, commits, gives out, and dies anywhere between.

use super::*;

impl World {
    pub(super) fn boot(&mut self) {
        self.run += 1;
        self.booted = self.now;
        self.log(|| "the bridge boots".to_owned());
        let hosts = Hosts { name: ruma::owned_server_name!("h"), bot: user(BOT), bot_name: "Bridge".to_owned() };
        // The same settings at every start.
        let settings = settings(self.config, &mut Random::new(u64::from(self.config.rooms)));
        let store = Store::open(Box::new(self.disk.reopen()), Seal::new(&key_file()), 7).unwrap();
        self.engine = Some(Engine::new(store, settings, hosts).unwrap());
        self.wake = None;
        self.stepping = false;
        self.uncommitted = false;
        self.inbox.clear();
        self.taken.clear();
        self.tickets.clear();
        self.inbox.push_back(Input::Started);
        self.inbox.push_back(Input::Homeserver { presence: true, busy: false });
        self.step();
    }

    pub(super) fn input(&mut self, run: u32, input: Input) {
        if run != self.run || self.engine.is_none() {
            return;
        }
        self.inbox.push_back(input);
        if !self.stepping {
            self.stepping = true;
            self.soon(0, 40, Event::Step(run));
        }
    }

    /// One batch.
    pub(super) fn step(&mut self) {
        self.stepping = false;
        if self.engine.is_none() {
            return;
        }
        let batch = self.random.between(1, 8);
        let clock = Now { wall: wall(self.now), uptime: self.now - self.booted };
        for _ in 0..batch {
            let Some(input) = self.inbox.pop_front() else { break };
            self.note(&input);
            self.early(&input);
            self.engine.as_mut().unwrap().handle(clock, input).unwrap();
        }
        if self.strikes(2) {
            return self.crash("before its commit");
        }
        if self.strikes(2) {
            self.disk.fail_commits(1);
        }
        match self.engine.as_mut().unwrap().commit() {
            Err(error) => {
                self.log(|| format!("commit fails: {error}"));
                self.disk.fail_commits(0);
                if self.random.chance(50) {
                    return self.crash("at a failed commit");
                }
                self.uncommitted = true;
                self.soon(10, 500, Event::Step(self.run));
                self.stepping = true;
            }
            Ok(outputs) => {
                self.uncommitted = false;
                self.committed.append(&mut self.taken);
                if self.counters.is_none() && !self.engine.as_ref().unwrap().store().logins().unwrap().is_empty() {
                    self.counters = self.disk.get(&counters_key()).unwrap();
                }
                self.give_out(outputs);
            }
        }
        let Some(next_wake) = self.engine.as_ref().map(Engine::next_wake) else { return };
        if !self.inbox.is_empty() && !self.stepping {
            self.stepping = true;
            self.soon(0, 40, Event::Step(self.run));
        }
        if let Some(wake) = next_wake.map(|wake| self.booted + wake)
            && self.wake.is_none_or(|known| wake < known)
        {
            self.wake = Some(wake);
            let at = wake.max(self.now + 1);
            self.at(at, Event::Wake(self.run));
        }
    }

    /// Remembers which messages the engine has taken in.
    fn note(&mut self, input: &Input) {
        if let Input::Stream { report: StreamReport::Stanza(stanza), .. } = input {
            self.log(|| format!("engine reads {}", String::from(&**stanza)));
            bodies(stanza, &mut self.taken);
        } else {
            self.log(|| {
                let text = format!("{input:?}");
                format!("engine takes {}", text.chars().take(200).collect::<String>())
            });
        }
    }

    /// What a shell with a planted fault does too early.
    fn early(&mut self, input: &Input) {
        match (self.planted, input) {
            (Planted::AnswerBeforeCommit, Input::Transaction { txn_id, .. }) => {
                let txn = txn_id.clone();
                self.soon(1, 5, Event::Answered(txn));
            }
            (Planted::AckBeforeCommit, Input::Stream { stream, report: StreamReport::Stanza(_) }) => {
                let conn = (self.run, *stream);
                if let Some(at) = self.server.session_of(conn)
                    && let Some((number, _)) = self.server.sessions[at].unacked.front()
                {
                    let number = *number;
                    self.server.acknowledged(conn, number);
                }
            }
            _ => {}
        }
    }

    fn give_out(&mut self, outputs: Vec<Output>) {
        let survives = if self.strikes(2) {
            let most = outputs.len() as u64;
            Some(self.random.between(0, most))
        } else {
            None
        };
        for (place, output) in outputs.into_iter().enumerate() {
            if survives == Some(place as u64) {
                return self.crash("after its commit");
            }
            match output {
                Output::Answer(ticket) => {
                    if let Some(txn) = self.tickets.remove(&ticket) {
                        self.soon(1, 100, Event::Answered(txn));
                    }
                }
                Output::Refuse(ticket) => {
                    if let Some(txn) = self.tickets.remove(&ticket) {
                        self.soon(1, 100, Event::PushTimeout(txn));
                    }
                }
                Output::ReadRoom { room, from } => self.soon(1, 150, Event::ReadRoom(self.run, room, from)),
                Output::Matrix(work) => self.soon(1, 150, Event::Call(self.run, work)),
                Output::Ask { ask, question } => self.soon(1, 100, Event::Asked(self.run, ask, question)),
                Output::Now(Ephemeral::Presence { ghost, state, .. }) => {
                    self.shown.insert(ghost, state.to_string());
                }
                Output::Transfer(transfer) => self.transfer(self.run, &transfer),
                Output::Now(_)
                | Output::PublicFile { .. }
                | Output::Respond { .. }
                | Output::State(_)
                | Output::Follow { .. }
                | Output::Unfollow { .. }
                | Output::SetLogLevel(_)
                | Output::Measure { .. } => {}
                Output::Stream { stream, order } => self.order((self.run, stream), order),
            }
        }
    }

    fn order(&mut self, conn: Conn, order: StreamOrder) {
        match order {
            StreamOrder::Connect(order) => {
                self.conns.insert(conn, (self.now, self.now));
                self.soon(1, 300, Event::Dial(conn, order));
            }
            StreamOrder::Send(stanzas) => {
                for stanza in stanzas {
                    self.send_to_server(conn, Event::ToServer(conn, stanza));
                }
            }
            // The server holds nothing back.
            StreamOrder::Activity { .. } => {}
            StreamOrder::Ack(h) => self.send_to_server(conn, Event::AckToServer(conn, h)),
            StreamOrder::Close | StreamOrder::Suspend => {
                let ends = matches!(order, StreamOrder::Close);
                self.conns.remove(&conn);
                self.soon(1, 50, Event::Noticed(conn, ends));
            }
        }
    }

    fn send_to_server(&mut self, conn: Conn, event: Event) {
        let late = self.now + self.random.between(1, 150);
        if let Some((last, _)) = self.conns.get_mut(&conn) {
            *last = late.max(*last);
            let at = *last;
            self.at(at, event);
        }
    }

    /// A connection breaks: what is on its way on it is lost. Each side sees it in its own time.
    pub(super) fn cut(&mut self, conn: Conn) {
        self.log(|| format!("cut {conn:?}"));
        self.conns.remove(&conn);
        self.soon(1, 8_000, Event::Noticed(conn, false));
        if conn.0 == self.run {
            let report = StreamReport::Down(StreamEnd::Lost { detail: "cut".to_owned() });
            self.input(conn.0, Input::Stream { stream: conn.1, report });
        }
    }

    pub(super) fn crash(&mut self, when: &str) {
        self.log(|| format!("the bridge crashes {when}"));
        self.engine = None;
        self.inbox.clear();
        // Nobody refreshes the ghosts' presence now, and the homeserver forgets it.
        self.shown.clear();
        for conn in self.conns.keys().copied().collect::<Vec<_>>() {
            self.cut(conn);
        }
        if self.planted == Planted::IdsOnlyInMemory {
            self.forget_ids();
        }
        self.soon(100, 10_000, Event::Boot);
        // The homeserver goes on trying.
        self.soon(4_000, 12_000, Event::Push);
    }

    fn forget_ids(&mut self) {
        let mut batch = Batch::new();
        if let Some(counters) = &self.counters {
            batch.put(counters_key(), counters.clone());
        }
        for (key, _) in self.disk.scan(&Key::of(Table::Transaction).done(), None, 10_000).unwrap() {
            batch.remove(key);
        }
        self.disk.reopen().commit(&batch).unwrap();
    }

    /// A request reaches the homeserver, or does not, and its answer comes back, or does not.
    pub(super) fn call(&mut self, run: u32, work: &MatrixWork) {
        let outcome = if self.strikes(4) {
            lost("connection")
        } else if self.strikes(3) {
            let cause = Cause { code: "M_LIMIT_EXCEEDED".to_owned(), sentence: "slow down".to_owned() };
            Outcome::Failed(Failure::Transient { cause, retry_after: Some(700) })
        } else {
            let mut call = work.call.clone();
            self.hs.no_puppets = self.config.puppets_late && self.now < PUPPETS;
            if let MatrixCall::Send { txn, look_first, content, .. } = &mut call {
                if self.planted == Planted::NoProof {
                    *content = content.replace(PUPPET, "org.example.nothing");
                }
                if self.planted == Planted::FreshTransactionId {
                    self.next += 1;
                    txn.push_str(&format!("-{}", self.next));
                }
                if matches!(self.planted, Planted::FreshTransactionId | Planted::NoLook) {
                    *look_first = None;
                }
            }
            if self.strikes(2) {
                self.log(|| "homeserver restarts".to_owned());
                self.hs.restart();
            }
            self.log(|| format!("homeserver does {call:?}").chars().take(300).collect());
            let outcome = self.hs.call(&call, wall(self.now));
            if self.strikes(5) { lost("timeout") } else { outcome }
        };
        self.soon(1, 150, Event::Result(run, work.id, outcome));
    }
}

fn bodies(element: &Element, into: &mut Vec<String>) {
    if element.name() == "body" {
        into.push(element.text());
    }
    for child in element.children() {
        bodies(child, into);
    }
}

fn counters_key() -> Vec<u8> {
    Key::of(Table::Meta).text("counters").done()
}

/// One key for every store; making it touches the disk only once.
fn key_file() -> KeyFile {
    static PATH: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let dir = PATH.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        KeyFile::load_or_create(&dir.path().join("key"), [7; 32]).unwrap();
        dir
    });
    KeyFile::load(&dir.path().join("key")).unwrap()
}

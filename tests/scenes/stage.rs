//! The stage: an engine over a store in memory, a homeserver that does all that is asked, and an XMPP server that answers
//! what the scene has put into its mouth.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use messenger_bridge::{
    bridge::{Homeserver, Network, OfflineAs, Permission, PermissionKey, Settings, StatusNotices},
    domain::{
        BareJid, Input, LoginId, Now, Output, StreamId, Ticket, Timestamp,
        bridge_state::BridgeState,
        capability::{MESSENGER, XMPP},
        credentials::{Credentials, Secret, Tokens},
        file::{Job, PublicFile, Stored, Transfer, TransferOutcome},
        input::{Answer, Cause, EphemeralEvent, Failure, Outcome, Receipt, RoomEvent, RoomPage},
        output::{Ask, Ephemeral, MatrixCall, RoomKind},
        request::{Request, Response, RoomsAfterLogout},
        stream::{ConnectOrder, Management, StreamEnd, StreamOrder, StreamReport, StreamUp},
        verbosity::Verbosity,
    },
    engine::Engine,
    store::{
        Backend, Batch, Store,
        memory::MemoryBackend,
        seal::{KeyFile, Seal},
    },
};
use minidom::Element;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId, presence::PresenceState};
use serde_json::{Value, json};

pub const OWNER: &str = "@romeo:h.test";
pub const BOT: &str = "@messengerbot:h.test";
/// A Monday in 2026.
pub const TODAY: i64 = 1_774_000_000_000;

/// Something that a person would see in a room.
#[derive(Clone, Debug)]
pub struct Said {
    pub room: String,
    pub sender: String,
    pub content: Value,
    pub at: Option<i64>,
}

impl Said {
    pub fn body(&self) -> &str {
        self.content["body"].as_str().unwrap_or_default()
    }
}

pub struct Stage {
    pub engine: Engine,
    pub now: Now,
    /// Every call to the homeserver.
    pub calls: Vec<MatrixCall>,
    /// When each was made.
    pub called: Vec<Timestamp>,
    /// What people said and did in rooms.
    pub people: Vec<RoomEvent>,
    pub ephemerals: Vec<Ephemeral>,
    /// What the log was told to show.
    pub levels: Vec<Verbosity>,
    /// Whose account data is followed, and from where on.
    pub followed: BTreeMap<OwnedUserId, Option<String>>,
    /// Every transfer, and how the next ones end; well where nothing is put here. `held`: none ends by itself.
    pub transfers: Vec<Transfer>,
    pub transferred: VecDeque<TransferOutcome>,
    pub held: bool,
    /// What links led to.
    pub linked: Vec<Option<PublicFile>>,
    /// What doors were answered, and not looked at yet.
    pub responses: HashMap<Ticket, Response>,
    /// Every state of the bridge and its logins that was told.
    pub bridge_states: Vec<BridgeState>,
    /// Every question to the outside.
    pub asked: Vec<Ask>,
    /// Every stanza to the XMPP server, oldest first.
    pub sent: Vec<Element>,
    pub connects: Vec<ConnectOrder>,
    pub answered: Vec<Ticket>,
    pub refused: Vec<Ticket>,
    /// So many requests to the homeserver find nobody there.
    pub away: usize,
    /// The content of rooms' `m.room.create`; empty where nothing is put here.
    pub creates: HashMap<OwnedRoomId, String>,
    /// What the homeserver refuses for good.
    pub refuses: Option<fn(&MatrixCall) -> bool>,
    /// With which `errcode`.
    pub refusal: &'static str,
    /// What the homeserver does without its answer coming back.
    pub unanswered: Option<fn(&MatrixCall) -> bool>,
    /// The person's profile, JSON, and their picture.
    pub profile: String,
    pub picture: Vec<u8>,
    /// How many are in a room.
    pub members: u64,
    /// What stands in rooms, by event id.
    pub contents: HashMap<String, String>,
    /// Rooms that were read, and what the next ones hold; nothing where nothing is put here.
    pub read: Vec<OwnedRoomId>,
    pub pages: VecDeque<Result<RoomPage, Failure>>,
    pub acknowledged: Option<u32>,
    /// What the server was told of whether the person looks, on all streams.
    pub activity: Vec<bool>,
    /// The answers of the XMPP server, by a word of the question: the children of the `result`.
    pub answers: HashMap<&'static str, String>,
    /// Questions of these namespaces stay without an answer.
    pub silent: Vec<&'static str>,
    /// The archive: (contact or "", messages as (id, stamp, xml)).
    pub archive: Vec<(String, String, String)>,
    /// What the server kept, sent after the next initial presence.
    pub offline: Vec<String>,
    pub managed: bool,
    /// The XMPP server reads, and neither answers nor acknowledges.
    pub mute: bool,
    /// It goes mute when it reads a message.
    pub mute_at_message: bool,
    /// At a resumption it claims to have read so many more than were sent.
    pub claims: u32,
    /// How sign-ins end; in order, then well.
    pub sign_ins: VecDeque<StreamEnd>,
    pub oauth: VecDeque<Answer>,
    pub account: &'static str,
    pub stream: Option<StreamId>,
    /// What the server lets be kept in place of the password.
    pub keep: Option<Credentials>,
    backend: MemoryBackend,
    settings: Settings,
    next: u64,
    bind: bool,
}

impl Stage {
    pub fn settings() -> Settings {
        let network = |profile, domain: Option<&str>| Network {
            profile,
            domain: domain.map(str::to_owned),
            domains: None,
            oauth: domain.is_some(),
        };
        Settings {
            networks: BTreeMap::from([
                ("messenger".to_owned(), network(MESSENGER, Some("messenger.live.com"))),
                ("xmpp".to_owned(), network(XMPP, None)),
            ]),
            rooms_for_contacts: true,
            room_pause: 500,
            strangers: messenger_bridge::bridge::Strangers::Room,
            space: true,
            history_initial: 50,
            history_catch_up: 500,
            warn_after: 30_000,
            expire: 7 * 86_400_000,
            presence_to_matrix: true,
            presence_from_matrix: true,
            offline_as: OfflineAs::Away,
            permissions: vec![(PermissionKey::Server("h.test".to_owned()), Permission::User)],
            max_file: 1_000_000,
            public_media: None,
            page: None,
            max_logins: 10,
            after_logout: RoomsAfterLogout::Leave,
            status_notices: StatusNotices::Errors,
            version: "9.9",
            double_puppet: false,
        }
    }

    pub fn with(settings: Settings) -> Self {
        let backend = MemoryBackend::new();
        let engine = open(&backend, &settings);
        let now = Now { wall: Timestamp(TODAY), uptime: 1_000 };
        let mut stage = Self {
            engine,
            now,
            calls: Vec::new(),
            called: Vec::new(),
            people: Vec::new(),
            ephemerals: Vec::new(),
            levels: Vec::new(),
            followed: BTreeMap::new(),
            transfers: Vec::new(),
            transferred: VecDeque::new(),
            held: false,
            linked: Vec::new(),
            responses: HashMap::new(),
            bridge_states: Vec::new(),
            asked: Vec::new(),
            sent: Vec::new(),
            connects: Vec::new(),
            answered: Vec::new(),
            refused: Vec::new(),
            away: 0,
            creates: HashMap::new(),
            refuses: None,
            refusal: "M_FORBIDDEN",
            unanswered: None,
            profile: "{}".to_owned(),
            picture: Vec::new(),
            members: 2,
            contents: HashMap::new(),
            read: Vec::new(),
            pages: VecDeque::new(),
            acknowledged: None,
            activity: Vec::new(),
            answers: HashMap::new(),
            silent: Vec::new(),
            archive: Vec::new(),
            offline: Vec::new(),
            managed: true,
            mute: false,
            mute_at_message: false,
            claims: 0,
            sign_ins: VecDeque::new(),
            oauth: VecDeque::new(),
            account: "romeo@montague.lit",
            stream: None,
            keep: None,
            backend,
            settings,
            next: 0,
            bind: true,
        };
        stage.play(Input::Homeserver { presence: true, busy: false });
        stage.play(Input::Started);
        stage
    }

    /// The person has a management room, and is signed in to an account with these roster items.
    pub fn xmpp(roster: &str) -> Self {
        let mut stage = Self::with(Self::settings());
        stage.sign_in(roster);
        stage
    }

    pub fn sign_in(&mut self, roster: &str) {
        self.answers.insert("jabber:iq:roster", format!("<query xmlns='jabber:iq:roster'>{roster}</query>"));
        self.management(OWNER);
        let account = self.account;
        self.command(&format!("login xmpp {account} secret"));
        self.pass(10_000);
    }

    /// The same on the Messenger service.
    pub fn messenger(roster: &str) -> Self {
        let mut stage = Self::with(Self::settings());
        stage.account = "0123456789abcdef@messenger.live.com";
        stage.managed = false;
        stage.answers.insert("jabber:iq:roster", format!("<query xmlns='jabber:iq:roster'>{roster}</query>"));
        stage.management(OWNER);
        stage.command("login messenger");
        stage.command("https://login.live.com/oauth20_desktop.srf?code=c&state=s");
        stage.pass(10_000);
        stage
    }

    pub fn login(&self) -> LoginId {
        self.engine.store().logins().unwrap().first().unwrap().id.clone()
    }

    pub fn ghost(&self, jid: &str) -> OwnedUserId {
        let localpart =
            messenger_bridge::domain::address::ghost_localpart(&self.login(), &BareJid::parse(jid).unwrap(), "h.test");
        UserId::parse(format!("@{localpart}:h.test")).unwrap()
    }

    /// The room of a contact: rooms are named after the ghost that was invited.
    pub fn room(&self, jid: &str) -> OwnedRoomId {
        room_for(self.ghost(jid).as_str())
    }

    /// The process dies and starts again over what was committed; the XMPP server keeps its session.
    pub fn crash(&mut self) {
        self.backend = self.backend.reopen();
        self.engine = open(&self.backend, &self.settings);
        self.stream = None;
        self.bind = false;
        self.now.uptime = 1_000;
        self.play(Input::Homeserver { presence: true, busy: false });
        self.play(Input::Started);
        self.pass(1_000);
        self.bind = true;
    }

    /// The process starts over a store that is empty but for what `prepare` writes into it.
    pub fn lose_store(&mut self, prepare: impl FnOnce(Store)) {
        self.replace_store(&[], prepare);
    }

    /// The process starts over a store of these records and what `prepare` writes into it.
    pub fn replace_store(&mut self, records: &[(Vec<u8>, Vec<u8>)], prepare: impl FnOnce(Store)) {
        self.backend = MemoryBackend::new();
        let mut batch = Batch::new();
        for (key, value) in records {
            batch.put(key.clone(), value.clone());
        }
        self.backend.reopen().commit(&batch).unwrap();
        // Ids of transactions that the records know already would be repetitions.
        self.next += 1_000_000;
        self.stream = None;
        self.now.uptime = 1_000;
        prepare(open_store(&self.backend));
        self.engine = open(&self.backend, &self.settings);
        self.play(Input::Homeserver { presence: true, busy: false });
        self.play(Input::Started);
        self.pass(1_000);
    }

    /// The store's records.
    pub fn records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.backend.scan(b"", None, usize::MAX).unwrap()
    }

    /// The disk below the store.
    pub fn disk(&self) -> MemoryBackend {
        self.backend.reopen()
    }

    /// The store, opened beside the engine.
    pub fn store_again(&self) -> Store {
        open_store(&self.backend)
    }

    /// The operator changes the configuration; it counts from the next start.
    pub fn change(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// The connection is lost; `resume`: the server still knows the session.
    pub fn cut(&mut self, resume: bool) {
        self.bind = !resume;
        let stream = self.stream.take().unwrap();
        self.play(Input::Stream { stream, report: StreamReport::Down(StreamEnd::Lost { detail: "cut".to_owned() }) });
        self.pass(10_000);
        self.bind = true;
    }

    /// The connection is lost, and no time has passed to make a new one.
    pub fn hush(&mut self) {
        let stream = self.stream.take().unwrap();
        self.play(Input::Stream { stream, report: StreamReport::Down(StreamEnd::Lost { detail: "cut".to_owned() }) });
    }

    /// Plays one input, and all that follows from it at once.
    pub fn play(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.engine.handle(self.now, input).unwrap();
            for output in self.engine.commit().unwrap() {
                self.carry_out(output, &mut inputs);
            }
        }
    }

    /// Carries out what was asked for elsewhere, and plays all that follows from it.
    #[allow(dead_code, reason = "the benches play some inputs themselves")]
    pub fn give(&mut self, output: Output) {
        let mut inputs = VecDeque::new();
        self.carry_out(output, &mut inputs);
        for input in inputs {
            self.play(input);
        }
    }

    /// A door asks; what it is told, unless it has to wait.
    pub fn ask(&mut self, request: Request) -> (Ticket, Option<Response>) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let ticket = Ticket(NEXT.fetch_add(1, Ordering::Relaxed));
        self.play(Input::Requested { ticket, request });
        (ticket, self.responses.remove(&ticket))
    }

    /// Time passes, with every timer that is due.
    pub fn pass(&mut self, millis: u64) {
        let end = self.now.uptime + millis;
        while let Some(at) = self.engine.next_wake().filter(|at| *at <= end) {
            let step = at.saturating_sub(self.now.uptime).max(1);
            self.now.uptime += step;
            self.now.wall.0 += i64::try_from(step).unwrap();
            self.play(Input::Tick);
        }
        let rest = end.saturating_sub(self.now.uptime);
        self.now.uptime += rest;
        self.now.wall.0 += i64::try_from(rest).unwrap();
        self.play(Input::Tick);
    }

    fn carry_out(&mut self, output: Output, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Answer(ticket) => self.answered.push(ticket),
            Output::Refuse(ticket) => self.refused.push(ticket),
            Output::ReadRoom { room, .. } => {
                self.read.push(room.clone());
                let page = self.pages.pop_front().unwrap_or_else(|| Ok(RoomPage::default()));
                inputs.push_back(Input::RoomRead { room, page });
            }
            Output::Transfer(transfer) => {
                let well = match &transfer.job {
                    Job::Measure { .. } => TransferOutcome::Size(17),
                    Job::Put { .. } => TransferOutcome::Uploaded,
                    Job::Take { .. } | Job::Keep { .. } => TransferOutcome::Stored(Stored {
                        url: format!("mxc://h.test/{}", self.transfers.len()),
                        mime: "image/png".to_owned(),
                        size: 70,
                        dimensions: Some((2, 1)),
                        preview: None,
                    }),
                };
                let debt = transfer.debt;
                self.transfers.push(transfer);
                if !self.held {
                    let outcome = self.transferred.pop_front().unwrap_or(well);
                    inputs.push_back(Input::Transferred { debt, outcome });
                }
            }
            Output::PublicFile { file, .. } => self.linked.push(file),
            Output::State(state) => self.bridge_states.push(*state),
            Output::Respond { ticket, response } => drop(self.responses.insert(ticket, response)),
            Output::Now(ephemeral) => self.ephemerals.push(ephemeral),
            Output::SetLogLevel(level) => self.levels.push(level),
            Output::Measure { owner } => {
                inputs.push_back(Input::Measured { owner, memory: Some(35_460_000), store: None });
            }
            Output::Follow { owner, since } => drop(self.followed.insert(owner, since)),
            Output::Unfollow { owner } => drop(self.followed.remove(&owner)),
            Output::Matrix(work) if self.away > 0 => {
                self.away -= 1;
                let cause = Cause { code: "connection".to_owned(), sentence: "It broke.".to_owned() };
                let outcome = Outcome::Failed(Failure::Transient { cause, retry_after: None });
                inputs.push_back(Input::Done { work: work.id, outcome });
            }
            Output::Matrix(work) => {
                self.next += 1;
                let receipt = match &work.call {
                    MatrixCall::CreateRoom(room) if room.kind == RoomKind::Space => Receipt::Room(room_for("space")),
                    MatrixCall::CreateRoom(room) => Receipt::Room(room_for(room.invite.last().unwrap().as_str())),
                    MatrixCall::GetState { room, .. } => {
                        Receipt::Content(self.creates.get(room).cloned().unwrap_or_else(|| "{}".to_owned()))
                    }
                    MatrixCall::Upload { .. } => Receipt::Media(format!("mxc://h.test/{}", self.next)),
                    MatrixCall::CountMembers { .. } => Receipt::Members(self.members),
                    MatrixCall::Send { .. } | MatrixCall::SetState { .. } | MatrixCall::Redact { .. } => {
                        if let MatrixCall::Send { content, .. } = &work.call {
                            self.contents.insert(format!("$e{}", self.next), content.clone());
                        }
                        Receipt::Event(ruma::EventId::parse(format!("$e{}", self.next)).unwrap())
                    }
                    MatrixCall::GetEvent { event, .. } => {
                        Receipt::Content(self.contents.get(event.as_str()).cloned().unwrap_or_else(|| "{}".to_owned()))
                    }
                    MatrixCall::GetProfile { .. } => Receipt::Content(self.profile.clone()),
                    MatrixCall::GetPicture { .. } => Receipt::Bytes(self.picture.clone()),
                    _ => Receipt::Nothing,
                };
                let refused = self.refuses.is_some_and(|refuses| refuses(&work.call));
                let cause = || Cause { code: self.refusal.to_owned(), sentence: "You may not.".to_owned() };
                let outcome =
                    if refused { Outcome::Failed(Failure::Permanent(cause())) } else { Outcome::Done(receipt) };
                let unanswered = self.unanswered.is_some_and(|is| is(&work.call));
                if !refused {
                    self.calls.push(work.call);
                    self.called.push(self.now.wall);
                }
                if unanswered {
                    return;
                }
                inputs.push_back(Input::Done { work: work.id, outcome });
            }
            Output::Ask { ask, question } => {
                self.asked.push(question.clone());
                let answer = self.oauth.pop_front().unwrap_or_else(|| match question {
                    Ask::BeginOAuth { .. } => Answer::OAuthBegun {
                        url: "https://login.live.com/?state=s".to_owned(),
                        state: "s".to_owned(),
                        verifier: Secret::new("v"),
                    },
                    Ask::RedeemCode { .. } | Ask::Refresh { .. } => Answer::Tokens(Tokens {
                        access: Secret::new("EwA"),
                        refresh: Some(Secret::new("r")),
                        expires_at: None,
                    }),
                });
                inputs.push_back(Input::Answered { ask, answer });
            }
            Output::Stream { stream, order } => match order {
                StreamOrder::Connect(order) => {
                    self.connects.push((*order).clone());
                    let report = if let Some(end) = self.sign_ins.pop_front() {
                        StreamReport::Down(end)
                    } else {
                        self.stream = Some(stream);
                        StreamReport::Up(Box::new(self.up(&order)))
                    };
                    inputs.push_back(Input::Stream { stream, report });
                }
                StreamOrder::Send(stanzas) => {
                    let count = stanzas.len();
                    for stanza in stanzas {
                        let here = stanza.name() == "presence" && stanza.attr("to").is_none();
                        let kept = if here { std::mem::take(&mut self.offline) } else { Vec::new() };
                        self.mute |= self.mute_at_message && stanza.name() == "message";
                        if self.mute {
                            self.sent.push(stanza);
                            continue;
                        }
                        for answer in kept.iter().map(|kept| xml(kept)).chain(self.answer(&stanza)) {
                            inputs.push_back(Input::Stream { stream, report: StreamReport::Stanza(Box::new(answer)) });
                        }
                        self.sent.push(stanza);
                    }
                    if self.managed && !self.mute && count > 0 {
                        let h = u32::try_from(self.sent.len()).unwrap();
                        inputs.push_back(Input::Stream { stream, report: StreamReport::Acked(h) });
                    }
                }
                StreamOrder::Ack(h) => self.acknowledged = Some(h),
                StreamOrder::Activity { active } => self.activity.push(active),
                StreamOrder::Close | StreamOrder::Suspend => {
                    self.stream = None;
                    inputs.push_back(Input::Stream { stream, report: StreamReport::Down(StreamEnd::Closed) });
                }
            },
        }
    }

    fn up(&mut self, order: &ConnectOrder) -> StreamUp {
        let resumed = order.resume.is_some() && !self.bind;
        if !resumed {
            self.sent.clear();
        }
        StreamUp {
            account: BareJid::parse(order.account.as_ref().map_or(self.account, BareJid::as_str)).unwrap(),
            resource: order.resource.clone(),
            resumed: resumed.then(|| u32::try_from(self.sent.len()).unwrap() + self.claims),
            failed_h: None,
            management: self.managed.then(|| Management { id: Some("sm".to_owned()), location: None }),
            max_bytes: None,
            roster_versioning: false,
            csi: true,
            keep: self.keep.clone(),
            mechanism: "SCRAM-SHA-1".to_owned(),
        }
    }

    /// What the XMPP server says to a stanza of ours.
    fn answer(&self, stanza: &Element) -> Vec<Element> {
        let (Some(kind @ ("get" | "set")), Some(id)) = (stanza.attr("type"), stanza.attr("id")) else {
            return Vec::new();
        };
        let Some(payload) = stanza.children().next().filter(|_| stanza.name() == "iq") else { return Vec::new() };
        if self.silent.iter().any(|silent| payload.ns() == **silent) {
            return Vec::new();
        }
        let to = stanza.attr("to").unwrap_or_default();
        let from = if to.is_empty() { String::new() } else { format!(" from='{to}'") };
        let result = |inner: &str| xml(&format!("<iq type='result' id='{id}'{from}>{inner}</iq>"));
        if kind == "set" && payload.ns() == "urn:xmpp:mam:2" {
            let query = payload.attr("queryid").unwrap();
            let asked = String::from(payload);
            let with = asked
                .split("var=\"with\"")
                .nth(1)
                .or_else(|| asked.split("var='with'").nth(1))
                .map(|rest| rest.split("<value>").nth(1).unwrap().split('<').next().unwrap().to_owned());
            let after =
                payload.children().find_map(|set| set.children().find(|c| c.name() == "after").map(Element::text));
            let newest = payload.children().any(|set| set.children().any(|c| c.name() == "before"));
            let max: usize = payload
                .children()
                .find_map(|set| set.children().find(|c| c.name() == "max").map(Element::text))
                .unwrap()
                .parse()
                .unwrap();
            let mut all: Vec<_> = self
                .archive
                .iter()
                .filter(|(_, _, message)| with.as_ref().is_none_or(|with| message.contains(with.as_str())))
                .collect();
            if let Some(after) = after {
                let at = all.iter().position(|(id, _, _)| *id == after).map_or(0, |at| at + 1);
                all.drain(..at);
            }
            let complete = all.len() <= max;
            if newest {
                all.drain(..all.len().saturating_sub(max));
            } else {
                all.truncate(max);
            }
            let mut out: Vec<Element> = all
                .iter()
                .map(|(id, stamp, message)| {
                    xml(&format!(
                        "<message from='{}' to='x'><result xmlns='urn:xmpp:mam:2' queryid='{query}' id='{id}'><forwarded xmlns='urn:xmpp:forward:0'>\
                         <delay xmlns='urn:xmpp:delay' stamp='{stamp}'/>{}</forwarded></result></message>",
                        self.account,
                        message.replacen("<message", "<message xmlns='jabber:client'", 1)
                    ))
                })
                .collect();
            let last = all.last().map(|(id, _, _)| format!("<last>{id}</last>")).unwrap_or_default();
            out.push(result(&format!("<fin xmlns='urn:xmpp:mam:2' complete='{complete}'><set xmlns='http://jabber.org/protocol/rsm'>{last}</set></fin>")));
            return out;
        }
        let ns = payload.ns();
        let scripted = self
            .answers
            .iter()
            .find(|(word, _)| ns == **word || format!("{ns} {to}").ends_with(**word))
            .map(|(_, inner)| inner.clone());
        match scripted {
            Some(inner) => vec![result(&inner)],
            None if ns == "urn:xmpp:ping" || ns == "urn:xmpp:carbons:2" => vec![result("")],
            None => vec![xml(&format!(
                "<iq type='error' id='{id}'{from}><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
            ))],
        }
    }

    // ---- what the other side does

    /// A stanza arrives on the stream.
    pub fn server_sends(&mut self, stanza: &str) {
        let stream = self.stream.unwrap();
        self.play(Input::Stream { stream, report: StreamReport::Stanza(Box::new(xml(stanza))) });
    }

    pub fn phone_sends(&mut self, from: &str, body: &str) {
        self.server_sends(&format!("<message from='{from}' type='chat'><body>{body}</body></message>"));
    }

    // ---- what the person does

    pub fn matrix(&mut self, room: &RoomId, sender: &str, kind: &str, state_key: Option<&str>, content: &Value) {
        self.raw_event(room, sender, kind, state_key, serde_json::value::to_raw_value(content).unwrap());
    }

    /// The same with content that need not be a value.
    pub fn raw_event(
        &mut self,
        room: &RoomId,
        sender: &str,
        kind: &str,
        state_key: Option<&str>,
        content: Box<serde_json::value::RawValue>,
    ) {
        let event = self.event_of(room, sender, kind, state_key, content);
        self.transaction(vec![event], Vec::new());
    }

    /// An event that was not handed over yet.
    pub fn event(
        &mut self,
        room: &RoomId,
        sender: &str,
        kind: &str,
        state_key: Option<&str>,
        content: &Value,
    ) -> RoomEvent {
        self.event_of(room, sender, kind, state_key, serde_json::value::to_raw_value(content).unwrap())
    }

    fn event_of(
        &mut self,
        room: &RoomId,
        sender: &str,
        kind: &str,
        state_key: Option<&str>,
        content: Box<serde_json::value::RawValue>,
    ) -> RoomEvent {
        self.next += 1;
        self.contents.insert(format!("$p{}", self.next), content.to_string());
        let event = RoomEvent {
            room: room.to_owned(),
            id: ruma::EventId::parse(format!("$p{}", self.next)).unwrap(),
            sender: UserId::parse(sender).unwrap(),
            kind: kind.to_owned(),
            state_key: state_key.map(str::to_owned),
            at: self.now.wall,
            redacts: redacts_of(&content),
            content,
        };
        self.people.push(event.clone());
        event
    }

    /// The event that the person sent last.
    pub fn last_event(&self) -> String {
        let number = |id: &str| id.strip_prefix("$p").and_then(|number| number.parse::<u64>().ok());
        let newest = self.contents.keys().filter_map(|id| number(id)).max().unwrap();
        format!("$p{newest}")
    }

    /// The event that says this in a room, as the bridge sent it.
    pub fn event_saying(&self, body: &str) -> String {
        let says = |content: &str| {
            serde_json::from_str::<Value>(content).is_ok_and(|content| content["body"].as_str() == Some(body))
        };
        self.contents.iter().find(|(id, content)| id.starts_with("$e") && says(content)).unwrap().0.clone()
    }

    pub fn transaction(&mut self, events: Vec<RoomEvent>, ephemeral: Vec<EphemeralEvent>) {
        self.next += 1;
        self.transaction_named(&format!("t{}", self.next), events, ephemeral);
    }

    pub fn transaction_named(&mut self, txn_id: &str, events: Vec<RoomEvent>, ephemeral: Vec<EphemeralEvent>) {
        self.next += 1;
        self.play(Input::Transaction {
            ticket: Ticket(self.next),
            txn_id: txn_id.to_owned(),
            events,
            ephemeral,
            overtakes: false,
        });
    }

    pub fn management(&mut self, owner: &str) {
        let room = room_for(&format!("management {owner}"));
        self.matrix(&room, owner, "m.room.member", Some(BOT), &json!({ "membership": "invite", "is_direct": true }));
    }

    /// The owner says something to the bot.
    pub fn command(&mut self, text: &str) {
        self.says(&room_for(&format!("management {OWNER}")), text);
    }

    pub fn says(&mut self, room: &RoomId, text: &str) {
        self.matrix(room, OWNER, "m.room.message", None, &json!({ "msgtype": "m.text", "body": text }));
    }

    pub fn types(&mut self, room: &RoomId, typing: bool) {
        let users = if typing { vec![UserId::parse(OWNER).unwrap()] } else { Vec::new() };
        self.transaction(Vec::new(), vec![EphemeralEvent::Typing { room: room.to_owned(), users }]);
    }

    pub fn is(&mut self, state: PresenceState, status: Option<&str>) {
        self.was_active(state, status, None);
    }

    /// The same with when they were last active, in milliseconds before now.
    pub fn was_active(&mut self, state: PresenceState, status: Option<&str>, last_active_ago: Option<u64>) {
        let user = UserId::parse(OWNER).unwrap();
        let status = status.map(str::to_owned);
        self.transaction(Vec::new(), vec![EphemeralEvent::Presence { user, state, status, last_active_ago }]);
    }

    // ---- what was seen

    /// Everything that was said in any room, oldest first.
    pub fn said(&self) -> Vec<Said> {
        self.calls
            .iter()
            .filter_map(|call| match call {
                MatrixCall::Send { room, user, kind, content, at, .. } if kind == "m.room.message" => Some(Said {
                    room: room.to_string(),
                    sender: user.to_string(),
                    content: serde_json::from_str(content).unwrap(),
                    at: at.map(|at| at.0),
                }),
                _ => None,
            })
            .collect()
    }

    /// What was said in a contact's room.
    pub fn heard(&self, jid: &str) -> Vec<Said> {
        let room = self.room(jid);
        self.said().into_iter().filter(|said| said.room == room.as_str()).collect()
    }

    pub fn bodies(&self, jid: &str) -> Vec<String> {
        self.heard(jid).iter().map(|said| said.body().to_owned()).collect()
    }

    /// The statuses in a contact's room, oldest first.
    pub fn statuses(&self, jid: &str) -> Vec<Value> {
        let here = self.room(jid);
        let statuses = self.calls.iter().filter_map(|call| match call {
            MatrixCall::Send { room, user, kind, content, .. }
                if *room == here && kind == "com.beeper.message_send_status" =>
            {
                assert_eq!(user, BOT);
                Some(serde_json::from_str(content).unwrap())
            }
            _ => None,
        });
        statuses.collect()
    }

    /// The same in short, each by its event and its state.
    pub fn states(&self, jid: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let statuses = self.statuses(jid);
        statuses.iter().map(|status| (text(&status["m.relates_to"]["event_id"]), text(&status["status"]))).collect()
    }

    /// How much was taken away again in a contact's room.
    pub fn redactions(&self, jid: &str) -> usize {
        let here = self.room(jid);
        self.calls.iter().filter(|call| matches!(call, MatrixCall::Redact { room, .. } if *room == here)).count()
    }

    /// The XMPP server cannot be reached, so many times.
    pub fn unreachable(&mut self, times: usize) {
        let end = StreamEnd::Unreachable { host: "montague.lit".to_owned(), detail: "connection refused".to_owned() };
        self.sign_ins.extend(vec![end; times]);
    }

    /// What the bot said to the owner.
    pub fn bot_said(&self) -> Vec<String> {
        let room = room_for(&format!("management {OWNER}"));
        self.said().into_iter().filter(|said| said.room == room.as_str()).map(|said| said.body().to_owned()).collect()
    }

    pub fn last_word(&self) -> String {
        self.bot_said().pop().unwrap_or_default()
    }

    /// The messages that went to a contact.
    pub fn messages_to(&self, jid: &str) -> Vec<Element> {
        self.sent
            .iter()
            .filter(|stanza| stanza.name() == "message" && stanza.attr("to") == Some(jid))
            .cloned()
            .collect()
    }

    pub fn texts_to(&self, jid: &str) -> Vec<String> {
        self.messages_to(jid)
            .iter()
            .filter_map(|message| message.get_child("body", "jabber:client").map(Element::text))
            .collect()
    }

    /// The presences that were broadcast.
    pub fn shown(&self) -> Vec<Element> {
        self.sent.iter().filter(|stanza| stanza.name() == "presence" && stanza.attr("to").is_none()).cloned().collect()
    }

    pub fn ignored(&self, kind: &str) -> u64 {
        self.engine.ignored().get(kind).copied().unwrap_or_default()
    }
}

fn open(backend: &MemoryBackend, settings: &Settings) -> Engine {
    Engine::new(open_store(backend), settings.clone(), homeserver()).unwrap()
}

fn open_store(backend: &MemoryBackend) -> Store {
    static KEY: OnceLock<KeyFile> = OnceLock::new();
    // Each store is another: what one of them called its debts means nothing to the next.
    static STORES: AtomicU64 = AtomicU64::new(42);
    let key = KEY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        KeyFile::load_or_create(&folder.path().join("key"), [7; 32]).unwrap()
    });
    let instance = STORES.fetch_add(1, Ordering::Relaxed);
    Store::open(Box::new(backend.reopen()), Seal::new(key), instance).unwrap()
}

pub fn homeserver() -> Homeserver {
    Homeserver {
        name: ruma::ServerName::parse("h.test").unwrap(),
        bot: UserId::parse(BOT).unwrap(),
        bot_name: "Messenger bridge".to_owned(),
    }
}

/// A room whose id tells whose it is.
pub fn room_for(whom: &str) -> OwnedRoomId {
    let name: String = whom.bytes().map(|byte| format!("{byte:02x}")).collect();
    RoomId::parse(format!("!{name}")).unwrap()
}

/// A stanza in the namespace of client streams.
pub fn xml(text: &str) -> Element {
    let name = text[1..].split([' ', '>', '/']).next().unwrap();
    text.replacen(name, &format!("{name} xmlns='jabber:client'"), 1)
        .parse()
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn redacts_of(content: &serde_json::value::RawValue) -> Option<ruma::OwnedEventId> {
    let content: Value = serde_json::from_str(content.get()).ok()?;
    ruma::EventId::parse(content["redacts"].as_str()?).ok()
}

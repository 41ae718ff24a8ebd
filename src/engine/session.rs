//! A login's life on its stream: connect, come up fresh or resumed, catch up, go down, come back.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use minidom::Element;

use super::{Carrier, Engine, Timer};
use crate::{
    bridge::{outbox::scatter, question::Question},
    domain::{
        BareJid, LoginId, Output, StreamId, Timestamp,
        capability::Profile,
        credentials::Credentials,
        effect::Lane,
        stream::{ConnectOrder, Refusal, StreamEnd, StreamOrder, StreamReport, StreamUp},
    },
    store::{StoreError, session::Session, trouble::Suspended},
    translate::history::Archived,
};

/// Stanzas with debts that may be on their way on one stream.
pub(super) const WINDOW: usize = 128;
/// Milliseconds that a stream has to have been up for the next failure to count as the first.
const STEADY: u64 = 60_000;
/// How much a server's clock may be behind ours, in milliseconds.
pub(super) const CLOCKS_DIFFER: i64 = 60_000;
const FIRST_PAUSE: u64 = 1_000;
const LONGEST_PAUSE: u64 = 5 * 60_000;

/// What a login's stream is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between two connections.
    #[default]
    Down,
    /// Connecting or signing in.
    Connecting,
    /// Up.
    Up,
}

/// A question that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub question: Question,
    pub to: Option<String>,
    pub deadline: u64,
    /// What an archive has given so far.
    pub results: Vec<Archived>,
}

/// What is known of a login beside the store. It can be lost at any time.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub phase: Phase,
    pub stream: Option<StreamId>,
    pub account: Option<BareJid>,
    pub session: Option<Session>,
    pub session_changed: bool,
    /// The session was resumed, and the server has confirmed nothing since.
    pub unheard: bool,
    pub questions: HashMap<String, Pending>,
    pub next_question: u64,
    pub up_since: u64,
    pub failures: u32,
    pub last_end: Option<StreamEnd>,
    /// Since when there is no stream, as far as this process saw.
    pub down_since: Option<Timestamp>,
    /// The owner was told of the trouble that lasts.
    pub told: bool,
    /// The token was renewed because of a refusal; the next refusal is final.
    pub renewed: bool,
    pub unconfirmed: BTreeMap<u32, (Lane, crate::domain::DebtId)>,
    pub window_full: bool,
    /// How many messages are held, and how long they are together, in bytes.
    pub held: (usize, usize),
    pub newcomers: super::newcomer::Newcomers,
    /// When the next room may be made, as uptime.
    pub room_due: u64,
    pub vcards: VecDeque<(BareJid, Option<String>)>,
    /// When each contact's vCard was last asked for on this stream, as uptime.
    pub vcards_asked: HashMap<BareJid, u64>,
    /// A timer is set for those that rest.
    pub vcards_rest: bool,
    /// What contacts have announced and is to be asked for.
    pub wishes: super::profile::Wishes,
    pub publishing: super::publish::Publishing,
    pub histories: VecDeque<BareJid>,
    pub import: super::import::Import,
    pub fetching: super::progress::Fetching,
    /// Contacts whose rooms are to be put into the space.
    pub unlisted: VecDeque<BareJid>,
    pub typing: BTreeMap<BareJid, super::upkeep::Typing>,
    pub own_typing: HashSet<BareJid>,
    /// Messages of contacts that want to be told when they are read, oldest first.
    pub markable: BTreeMap<BareJid, VecDeque<String>>,
    /// Up to where chats were read.
    pub read: super::read_state::ReadState,
    /// A mark of what the contacts see of the person; `None`: not known.
    pub shown: Option<String>,
    /// Where the server takes files.
    pub upload: super::files::Upload,
    /// Pictures in texts that are in the homeserver's media.
    pub kept: super::fetch::Kept,
    /// Clients that did not say in time whether they have one.
    pub deaf: super::fetch::Deaf,
    /// The node of what the person has chosen for chats was made by itself, for the server does not make it as it has to be.
    pub chats_made: bool,
    /// Initial presence was sent on this stream, so what the server kept is on its way.
    pub hello: bool,
    /// The server wants to know whether the person looks (XEP-0352), and what it was told last.
    pub csi: bool,
    pub active: bool,
    /// What rooms were told of what can be said in them was looked at in this process.
    pub looked_at_rooms: bool,
}

impl Live {
    pub(super) fn caught_up(&self) -> bool {
        self.phase == Phase::Up && self.session.as_ref().is_some_and(|session| session.caught_up)
    }
}

impl Engine {
    pub(super) fn profile_of(&self, login: &LoginId) -> Result<Option<Profile>, StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(None) };
        Ok(self.bridge.profile(&row.network).cloned())
    }

    pub(super) fn connect_in(&mut self, login: &LoginId, after: u64) -> Result<(), StoreError> {
        self.lives.entry(login.clone()).or_default();
        if after == 0 {
            return self.connect(login);
        }
        self.set_timer(after, Timer::Connect(login.clone()));
        Ok(())
    }

    /// Opens a stream for a login that has none, unless it is suspended.
    pub(super) fn connect(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(()) };
        let live = self.lives.entry(login.clone()).or_default();
        if row.suspended.is_some() || live.phase != Phase::Down {
            return Ok(());
        }
        let Some(network) = self.bridge.settings.networks.get(&row.network) else {
            return self.suspend_login(
                login,
                format!("the network \u{201c}{}\u{201d} is no longer configured on this bridge", row.network),
            );
        };
        let Some(credentials) = self.bridge.store.credentials(login)? else {
            return self.suspend_login(login, "its credentials are missing".to_owned());
        };
        let domain = network.domain.clone().unwrap_or_else(|| row.account.domain().to_owned());
        let account = (!network.profile.token_decides_account).then(|| row.account.clone());
        if self.renew_if_due(login, &row, &credentials)? {
            return Ok(());
        }
        let session = self.bridge.store.session(login)?;
        let unconfirmed = self.bridge.store.unconfirmed(login)?;
        let held = self.bridge.store.held_size(login)?;
        let shown = self.bridge.store.shown(login)?;
        let order = ConnectOrder {
            network: row.network,
            account,
            domain,
            resource: row.resource,
            credentials,
            // What is kept after SCRAM cannot sign in by anything else.
            scram_only: false,
            resume: session.as_ref().and_then(Session::resume),
            delay: 0,
        };
        let stream = self.bridge.store.take_stream_id()?;
        let live = self.lives.entry(login.clone()).or_default();
        live.phase = Phase::Connecting;
        live.stream = Some(stream);
        live.account = Some(row.account);
        live.session = session;
        live.unconfirmed = unconfirmed.into_iter().map(|(number, what)| (number, (what.lane, what.debt))).collect();
        live.held = held;
        // Where the session is resumed, contacts still see it.
        live.shown = shown;
        self.states.note(login);
        self.load_newcomers(login)?;
        self.streams.insert(stream, Carrier::Login(login.clone()));
        self.order(stream, StreamOrder::Connect(Box::new(order)));
        Ok(())
    }

    pub(super) fn on_report(&mut self, stream: StreamId, report: StreamReport) -> Result<(), StoreError> {
        match self.streams.get(&stream) {
            None => Ok(()),
            Some(Carrier::Candidate(_)) => self.on_candidate(stream, report),
            Some(Carrier::Login(login)) => {
                let login = login.clone();
                match report {
                    StreamReport::Up(up) => self.on_up(&login, stream, &up),
                    StreamReport::Stanza(stanza) => self.on_stanza(&login, &stanza),
                    StreamReport::Acked(h) => {
                        if let Some(live) = self.lives.get_mut(&login) {
                            live.unheard = false;
                        }
                        self.on_acked(&login, h)
                    }
                    StreamReport::Down(end) => self.on_down(&login, stream, &end),
                }
            }
        }
    }

    fn on_up(&mut self, login: &LoginId, stream: StreamId, up: &StreamUp) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(()) };
        if up.account != row.account {
            self.order(stream, StreamOrder::Close);
            self.streams.remove(&stream);
            return self
                .suspend_login(login, format!("the server signed it in as {} instead of {}", up.account, row.account));
        }
        if let Some(keep) = &up.keep {
            self.bridge.store.put_credentials(login, keep)?;
        }
        self.come_up(login, stream, up)
    }

    /// A stream is up for a login: take the session up again, or begin a new one.
    pub(super) fn come_up(&mut self, login: &LoginId, stream: StreamId, up: &StreamUp) -> Result<(), StoreError> {
        let uptime = self.bridge.now.uptime;
        self.states.note(login);
        let live = self.lives.entry(login.clone()).or_default();
        live.phase = Phase::Up;
        live.stream = Some(stream);
        live.account = Some(up.account.clone());
        live.up_since = uptime;
        live.last_end = None;
        live.down_since = None;
        live.told = false;
        live.renewed = false;
        live.questions.clear();
        live.vcards.clear();
        live.vcards_asked.clear();
        live.wishes = super::profile::Wishes::default();
        live.histories.clear();
        live.own_typing.clear();
        live.hello = false;
        live.deaf = super::fetch::Deaf::default();
        // Every stream begins as active, a resumed one too (XEP-0352 section 5.2).
        (live.csi, live.active) = (up.csi, true);
        live.upload = super::files::Upload::Unasked;
        let resumed = match (up.resumed, &mut live.session) {
            (Some(h), Some(session)) => {
                session.stream = stream;
                live.session_changed = true;
                Some(h)
            }
            _ => None,
        };
        live.unheard = resumed.is_some();
        if let Some(h) = resumed {
            self.on_acked(login, h)?;
            self.doubt_unconfirmed(login, Some(h))?;
            self.take_back_unconfirmed(login);
            if let Some(live) = self.lives.get_mut(login)
                && let Some(session) = &mut live.session
            {
                if session.outbound != h {
                    live.shown = None;
                }
                session.outbound = h;
            }
            if self.lives.get(login).is_some_and(Live::caught_up) {
                return self.settle_in(login);
            }
            return self.begin_catch_up(login, up.roster_versioning);
        }
        if let Some(h) = up.failed_h {
            self.on_acked(login, h)?;
        }
        self.read_archive_again(login)?;
        self.doubt_unconfirmed(login, up.failed_h)?;
        self.take_back_unconfirmed(login);
        let live = self.lives.entry(login.clone()).or_default();
        live.shown = None;
        live.read.supported = None;
        live.read.few = false;
        live.session = Some(Session {
            stream,
            bound: stream,
            resource: up.resource.clone(),
            management: up.management.clone(),
            inbound: 0,
            outbound: 0,
            max_bytes: up.max_bytes,
            caught_up: false,
            archive: false,
        });
        live.session_changed = true;
        self.begin_catch_up(login, up.roster_versioning)
    }

    /// Asks for all that must be known before anything is said: roster, abilities, archive, what the server kept.
    fn begin_catch_up(&mut self, login: &LoginId, versioning: bool) -> Result<(), StoreError> {
        let Some(profile) = self.profile_of(login)? else { return Ok(()) };
        if !versioning && let Some(mut row) = self.bridge.store.login(login)? {
            row.roster_version = None;
            self.bridge.store.put_login(&row)?;
        }
        self.ask(login, Question::Roster)?;
        if profile.discovers {
            self.ask(login, Question::ServerFeatures)?;
            self.ask(login, Question::AccountFeatures)?;
        }
        Ok(())
    }

    /// A question of the catch-up was answered: what follows from that, and whether it was the last.
    pub(super) fn after_answer(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(live) = self.lives.get(login) else { return Ok(()) };
        if live.phase != Phase::Up || live.caught_up() || live.session.is_none() {
            return Ok(());
        }
        let waiting = |wanted: fn(&Question) -> bool| live.questions.values().any(|pending| wanted(&pending.question));
        if waiting(|q| {
            matches!(q, Question::Roster | Question::ServerFeatures | Question::AccountFeatures | Question::BlockList)
        }) {
            return Ok(());
        }
        if !live.hello {
            // Who is there is said once the roster is known (RFC 6121 section 4.2). The server now sends what it kept; the
            // answer to a ping sent after it says that all has come.
            if let Some(live) = self.lives.get_mut(login) {
                live.hello = true;
                live.shown = None;
            }
            self.show_presence(login)?;
            let archive =
                self.lives.get(login).and_then(|live| live.session.as_ref()).is_some_and(|session| session.archive);
            if archive {
                self.begin_archive(login)?;
            }
            return self.ask(login, Question::Barrier);
        }
        if waiting(|q| matches!(q, Question::Barrier | Question::CatchUp { .. })) {
            return Ok(());
        }
        if let Some(session) = self.lives.get_mut(login).and_then(|live| {
            live.session_changed = true;
            live.session.as_mut()
        }) {
            session.caught_up = true;
        }
        self.states.note(login);
        self.forget_stale_presence(login)?;
        // Rooms whose history is asked for again hold what came live a little longer.
        self.settle_in(login)?;
        self.release_held(login)?;
        self.forget_recovered(login)
    }

    fn begin_archive(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(()) };
        // Where nothing was read yet, all since the sign-in is missed; the server's clock may be another than ours.
        let since = Timestamp(row.made.0.saturating_sub(CLOCKS_DIFFER));
        self.ask(login, Question::CatchUp { after: row.archive_after, since, fetched: 0, newest: false })?;
        self.fetched(login, |_| {})
    }

    /// The stream is up and caught up: pay what is owed, and go on with what takes time.
    fn settle_in(&mut self, login: &LoginId) -> Result<(), StoreError> {
        // It may have changed since; whether the server read what was cut off is not known.
        self.show_presence(login)?;
        self.show_all_presence(login)?;
        self.queue_import(login)?;
        self.queue_histories(login)?;
        self.queue_wishes(login)?;
        self.say_activity(login)?;
        self.resume_publishing(login)?;
        self.run_newcomers(login);
        self.queue_listing(login)?;
        self.join_rooms(login)?;
        self.ask_displayed(login)?;
        self.look_at_rooms(login)?;
        self.bridge.outbox.wake_stream(login);
        Ok(())
    }

    fn on_down(&mut self, login: &LoginId, stream: StreamId, end: &StreamEnd) -> Result<(), StoreError> {
        self.streams.remove(&stream);
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        if live.stream != Some(stream) {
            return Ok(());
        }
        self.states.note(login);
        let was_up = live.phase == Phase::Up;
        let steady = was_up && self.bridge.now.uptime.saturating_sub(live.up_since) >= STEADY;
        live.phase = Phase::Down;
        live.stream = None;
        self.wake_bits(login);
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        let mut emails = Vec::new();
        for (id, pending) in live.questions.drain() {
            self.timers.remove(&(pending.deadline, Timer::Question(login.clone(), id)));
            if let Question::JidLookup { email } = pending.question {
                emails.push(email);
            }
        }
        live.own_typing.clear();
        // Prosody 0.12 reads a resumed session on from the half of a stanza at which its connection broke: it takes all that follows
        // for the rest of that stanza, as often as it is resumed.
        if was_up
            && live.unheard
            && matches!(end, StreamEnd::TimedOut { .. })
            && let Some(management) = live.session.as_mut().and_then(|session| session.management.as_mut())
        {
            management.id = None;
            live.session_changed = true;
        }
        live.failures = if steady { 1 } else { live.failures.saturating_add(1) };
        live.last_end = Some(end.clone());
        live.down_since.get_or_insert(self.bridge.now.wall);
        let failures = live.failures;
        self.fetching_breaks(login);
        self.stop_all_typing(login)?;
        self.lookups_lost(login, &emails)?;
        // What is on its way is taken back when the next stream says what arrived.
        match end {
            StreamEnd::Closed => return Ok(()),
            StreamEnd::Refused(Refusal::Temporary) => {}
            StreamEnd::Refused(_) => return self.on_refused(login, end),
            StreamEnd::KeysOutdated | StreamEnd::NoCommonMechanism { .. } => {
                return self.suspend_login(login, end.to_string());
            }
            StreamEnd::Certificate { .. }
            | StreamEnd::ServerNotVerified { .. }
            | StreamEnd::Downgraded { .. }
            | StreamEnd::Tampered { .. }
            | StreamEnd::NotXmpp { .. }
            | StreamEnd::UnknownHost { .. }
            | StreamEnd::Unreachable { .. }
            | StreamEnd::Tls { .. }
            | StreamEnd::BindRefused { .. }
            | StreamEnd::TooManyRedirects
            | StreamEnd::StreamError { .. }
            | StreamEnd::TimedOut { .. }
            | StreamEnd::Lost { .. } => {}
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_PAUSE);
        let conflict = matches!(end, StreamEnd::StreamError { condition, .. } if condition == "conflict");
        let pause = if conflict { pause.max(60_000) } else { pause };
        let spread = scatter(stream.0 ^ self.bridge.now.uptime) % (pause / 2).max(1);
        self.connect_in(login, pause / 2 + spread)
    }

    fn on_refused(&mut self, login: &LoginId, end: &StreamEnd) -> Result<(), StoreError> {
        let renewed = self.lives.get(login).is_some_and(|live| live.renewed);
        if let Some(Credentials::OAuth(tokens)) = self.bridge.store.credentials(login)?
            && let Some(refresh) = tokens.refresh
            && !renewed
        {
            if let Some(live) = self.lives.get_mut(login) {
                live.renewed = true;
            }
            return self.renew(login, refresh);
        }
        self.suspend_login(login, end.to_string())
    }

    /// Ends a login's connecting until its owner signs in again, and tells them why.
    pub(super) fn suspend_login(&mut self, login: &LoginId, why: String) -> Result<(), StoreError> {
        let Some(mut row) = self.bridge.store.login(login)? else { return Ok(()) };
        let command = self.bridge.sign_in_command(&row.network, &row.account);
        let text = format!(
            "{} is signed out: {why}. Please sign in again with `{command}`; what you write meanwhile waits.",
            row.account
        );
        let rejected = self
            .lives
            .get(login)
            .is_some_and(|live| live.phase == Phase::Down && matches!(live.last_end, Some(StreamEnd::Refused(_))));
        self.bridge.store.put_suspended(login, &Suspended { since: self.bridge.now.wall, rejected })?;
        row.suspended = Some(why);
        self.bridge.store.put_login(&row)?;
        self.states.note(login);
        self.say_login_state(login, text)
    }

    /// Sends a stanza on a login's stream, counted. `None` if the stream is not up.
    pub(super) fn send(&mut self, login: &LoginId, stanza: Element) -> Option<u32> {
        let live = self.lives.get_mut(login)?;
        if live.phase != Phase::Up {
            return None;
        }
        let (stream, session) = (live.stream?, live.session.as_mut()?);
        session.outbound = session.outbound.wrapping_add(1);
        live.session_changed = true;
        let number = session.outbound;
        if let Some(Output::Stream { stream: last, order: StreamOrder::Send(batch) }) = self.outputs.last_mut()
            && *last == stream
        {
            batch.push(stanza);
        } else {
            self.order(stream, StreamOrder::Send(vec![stanza]));
        }
        Some(number)
    }

    /// The sessions that changed, into the store; their counts of handled stanzas may be acknowledged after the commit.
    pub(super) fn write_sessions(&mut self) -> Result<(), StoreError> {
        for (login, live) in &mut self.lives {
            if !std::mem::take(&mut live.session_changed) {
                continue;
            }
            if let Some(session) = &live.session {
                self.bridge.store.put_session(login, session)?;
                if session.management.is_some()
                    && live.phase == Phase::Up
                    && let Some(stream) = live.stream
                {
                    self.outputs.push(Output::Stream { stream, order: StreamOrder::Ack(session.inbound) });
                }
            }
        }
        Ok(())
    }

    /// The process ends: streams stay resumable where they can be resumed, and are closed where not.
    pub(super) fn suspend(&mut self) {
        let streams: Vec<(StreamId, bool)> = self
            .lives
            .values()
            .filter_map(|live| {
                Some((live.stream?, live.session.as_ref().is_some_and(|session| session.resume().is_some())))
            })
            .collect();
        for (stream, resumable) in streams {
            self.order(stream, if resumable { StreamOrder::Suspend } else { StreamOrder::Close });
        }
        self.timers.clear();
    }

    /// What is on its way and was never confirmed is looked for in the archive before it is sent again, so the archive is
    /// read from where it was when the oldest of them was sent.
    fn read_archive_again(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some((_, oldest)) = self.bridge.store.unconfirmed(login)?.into_iter().next() else { return Ok(()) };
        if let Some(mut row) = self.bridge.store.login(login)? {
            row.archive_after = oldest.archive_after;
            self.bridge.store.put_login(&row)?;
        }
        Ok(())
    }

    fn take_back_unconfirmed(&mut self, login: &LoginId) {
        let Some(live) = self.lives.get_mut(login) else { return };
        live.window_full = false;
        for (number, (lane, _)) in std::mem::take(&mut live.unconfirmed) {
            self.bridge.store.erase_unconfirmed(login, number);
            self.bridge.outbox.take_back(&lane);
        }
    }
}

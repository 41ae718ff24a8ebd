//! The engine: a synchronous state machine. It takes [`Input`]s, changes the store, and after a commit gives
//! [`Output`]s. It does no I/O, reads no clock and draws no random number, so every run can be played again.
//!
//! A shell calls [`Engine::handle`] for each input that waits (up to a bound), then [`Engine::commit`] once, and carries
//! out what that returns. Nothing is answered, acknowledged or sent before the commit that it rests on.

mod account_data;
mod admin;
mod archive;
mod blocking;
mod broadcast;
mod chats;
mod command;
mod delivery;
mod done;
mod features;
mod fetch;
mod files;
mod ignored;
mod import;
mod iq;
mod links;
mod login_talk;
mod logins;
mod logout;
mod lookup;
mod matrix;
mod newcomer;
pub mod numbers;
mod pay;
mod people;
mod process;
mod profile;
mod progress;
mod publish;
mod puppet;
mod read_state;
pub mod recovery;
mod redirect;
mod request;
mod review;
mod rooms;
mod session;
mod signin;
mod space;
mod states;
mod talk;
mod upgrade;
mod upkeep;
mod vanish;
mod xmpp;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ruma::{OwnedRoomId, OwnedUserId};

use self::{files::Transfers, people::Person, process::Processes, review::Review, session::Live, signin::Candidate};
use crate::{
    bridge::{Bridge, Homeserver, MatrixWorkFor, Settings, Want, question::Question},
    domain::{
        DebtId, Input, LoginId, Now, Output, StreamId,
        effect::{ContactKey, Lane},
        output::{AskId, MatrixCall},
        stream::StreamOrder,
    },
    store::{Store, StoreError},
};

pub use self::files::TRANSFERS;

/// Milliseconds between the starts of two logins: a hundred a second sign in or resume.
const STARTS: u64 = 10;

/// How many requests to the homeserver a shell has in hand. More than it has on the way at once, so that the next need not wait for the
/// commit of an answer.
const REQUESTS: usize = 128;

/// Whom a stream is for.
enum Carrier {
    /// A login.
    Login(LoginId),
    /// Someone who is signing in; there is no login yet.
    Candidate(Box<Candidate>),
}

/// What is done when a time has come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Connect the login again.
    Connect(LoginId),
    /// A question was not answered in time.
    Question(LoginId, String),
    /// The next contact of the login gets its ghost and room.
    Import(LoginId),
    /// The next person without a room gets theirs.
    Newcomer(LoginId),
    /// vCards that were asked for just now may be again.
    VCards(LoginId),
    /// The same for what contacts publish.
    Wishes(LoginId),
    /// The roster is looked through again.
    Roster(LoginId),
    /// A ghost that types is shown typing again, or no longer.
    Typing(ContactKey),
    /// The next room of the login that was made before there was a space is put into it.
    List(LoginId),
    /// The bot or a ghost may still not be in the room that replaces one of ours.
    Invitation(OwnedRoomId),
    /// The next portal's room is held against what transactions brought.
    Sweep,
    /// What waits to be sent to a contact is looked after.
    Delivery(ContactKey),
    /// The next message of a chat disappears.
    Vanish(ContactKey),
    /// A login's connection may be lost for long.
    State(LoginId),
    /// What can be said in a room may have changed.
    Features(ContactKey),
    /// A sign-in has taken too long.
    SignIn(u64),
    /// The next person gets what an administrator says to everybody.
    Broadcast,
    /// A person is told how far long work is.
    Progress(OwnedUserId),
}

/// What a request to the homeserver is for that is not a debt.
enum Soft {
    /// A photo of this hash for this contact.
    Photo(ContactKey, String),
    /// The profile of a person; `again`: there was news meanwhile.
    Profile { owner: OwnedUserId, again: bool },
    /// The person's own picture (`mxc://` URI), for their account.
    Own(LoginId, String),
}

/// The state machine.
pub struct Engine {
    bridge: Bridge,
    streams: HashMap<StreamId, Carrier>,
    lives: BTreeMap<LoginId, Live>,
    people: HashMap<OwnedUserId, Person>,
    processes: Processes,
    asks: HashMap<AskId, signin::Asked>,
    /// Debts that a shell has in hand as a request to the homeserver.
    requests: HashMap<DebtId, Lane>,
    /// Work in hand that is not a debt.
    soft: HashMap<u64, Soft>,
    next_soft: u64,
    transfers: Transfers,
    timers: BTreeSet<(u64, Timer)>,
    review: Review,
    /// The portals that have a [`Timer::Delivery`], and when it is due.
    watched: BTreeMap<ContactKey, u64>,
    states: states::States,
    lookups: lookup::Lookups,
    noted: features::Noted,
    tellers: HashMap<OwnedUserId, progress::Teller>,
    outputs: Vec<Output>,
    /// The homeserver keeps presence; knows `busy`.
    presence: bool,
    busy: bool,
    started: bool,
}

impl Engine {
    /// Over an open store.
    pub fn new(store: Store, settings: Settings, homeserver: Homeserver) -> Result<Self, StoreError> {
        Ok(Self {
            bridge: Bridge::new(store, settings, homeserver)?,
            streams: HashMap::new(),
            lives: BTreeMap::new(),
            people: HashMap::new(),
            processes: Processes::default(),
            asks: HashMap::new(),
            requests: HashMap::new(),
            soft: HashMap::new(),
            next_soft: 0,
            transfers: Transfers::default(),
            timers: BTreeSet::new(),
            review: Review::default(),
            watched: BTreeMap::new(),
            states: states::States::default(),
            lookups: lookup::Lookups::default(),
            noted: features::Noted::default(),
            tellers: HashMap::new(),
            outputs: Vec::new(),
            presence: true,
            busy: false,
            started: false,
        })
    }

    /// Takes in what happened. An error is the store's: the process cannot go on with it.
    pub fn handle(&mut self, now: Now, input: Input) -> Result<(), StoreError> {
        self.bridge.now = now;
        self.bridge.steady.look(now);
        match input {
            Input::Started => self.start()?,
            Input::Transaction { ticket, txn_id, events, ephemeral, overtakes } => {
                self.on_transaction(ticket, txn_id, events, ephemeral, overtakes)?;
            }
            Input::RoomRead { room, page } => self.on_room_read(&room, page)?,
            Input::Stream { stream, report } => self.on_report(stream, report)?,
            Input::Done { work, outcome } => self.on_done(work, outcome)?,
            Input::PublicFileAsked { ticket, link } => self.on_link(ticket, &link)?,
            Input::Transferred { debt, outcome } => self.on_transferred(debt, outcome)?,
            Input::Requested { ticket, request } => self.on_requested(ticket, request)?,
            Input::Answered { ask, answer } => self.on_answer(ask, answer)?,
            Input::Homeserver { presence, busy } => self.on_homeserver(presence, busy)?,
            Input::AccountData { owner, room, kind, content } => {
                self.on_account_data(&owner, room.as_ref(), &kind, &content)?;
            }
            Input::ReadPrivately { owner, room, event } => self.on_read_privately(&owner, &room, &event)?,
            Input::Followed { owner, since, whole } => {
                self.bridge.store.put_followed(&owner, &since)?;
                if whole {
                    self.account_data_is_whole(&owner)?;
                }
            }
            Input::Measured { owner, memory, store } => self.on_measured(&owner, memory, store)?,
            Input::Tick => {}
            Input::Suspend => self.suspend(),
        }
        self.tick()?;
        self.take_wants()
    }

    /// Makes what was taken in durable and gives out what is now to be done. After an error nothing is given out; the
    /// writes wait for the next try.
    pub fn commit(&mut self) -> Result<Vec<Output>, StoreError> {
        self.tell_states()?;
        self.answer_lookups()?;
        self.pay()?;
        // Each round gives up at least one file, so the rounds end.
        while std::mem::take(&mut self.transfers.gave_up) {
            self.pay()?;
        }
        self.take_wants()?;
        self.write_sessions()?;
        self.bridge.store.commit()?;
        Ok(std::mem::take(&mut self.outputs))
    }

    /// When time alone will change something, as uptime in milliseconds.
    pub fn next_wake(&self) -> Option<u64> {
        let own = self.timers.first().map(|(at, _)| *at);
        [own, self.bridge.outbox.next_wake()].into_iter().flatten().min()
    }

    /// How many debts are unpaid.
    pub fn debts(&self) -> usize {
        self.bridge.outbox.len()
    }

    /// What was left out since the start, by kind.
    pub fn ignored(&self) -> &BTreeMap<&'static str, u64> {
        &self.bridge.ignored
    }

    /// The store, to be looked at.
    pub fn store(&self) -> &Store {
        &self.bridge.store
    }

    fn start(&mut self) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.started, true) {
            return Ok(());
        }
        self.begin_review()?;
        for room in self.bridge.store.successors()? {
            self.follow(&room)?;
        }
        // Starts are spread, so that a thousand logins do not arrive at one server at once.
        let logins = self.bridge.store.logins()?;
        for login in &logins {
            self.watch_vanishing(&login.id)?;
            self.states.note(&login.id);
        }
        for (place, login) in logins.iter().filter(|login| login.suspended.is_none()).enumerate() {
            self.wake_person(&login.owner)?;
            self.connect_in(&login.id, u64::try_from(place).unwrap_or(u64::MAX).saturating_mul(STARTS))?;
        }
        self.watch_all();
        self.resume_broadcast()
    }

    fn set_timer(&mut self, after: u64, timer: Timer) {
        self.timers.insert((self.bridge.now.uptime.saturating_add(after), timer));
    }

    fn tick(&mut self) -> Result<(), StoreError> {
        let now = self.bridge.now.uptime;
        self.bridge.outbox.tick(now);
        let mut checks = 0;
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            let Some((_, timer)) = self.timers.pop_first() else { break };
            match timer {
                Timer::Connect(login) => self.connect(&login)?,
                Timer::Question(login, id) => self.question_timed_out(&login, &id)?,
                Timer::Import(login) => self.import_next(&login)?,
                Timer::Newcomer(login) => self.next_newcomer(&login)?,
                Timer::VCards(login) => self.vcards_rested(&login)?,
                Timer::Wishes(login) => self.wishes_rested(&login)?,
                Timer::Roster(login) => self.queue_import(&login)?,
                Timer::Typing(contact) => self.renew_typing(&contact)?,
                Timer::List(login) => self.list_next(&login)?,
                Timer::Invitation(room) => self.ask_for_invitation(&room)?,
                Timer::Sweep => self.sweep()?,
                Timer::Vanish(portal) => self.next_to_vanish(&portal)?,
                Timer::State(login) => self.disconnect_lasts(&login)?,
                Timer::Features(portal) => self.renew_features(&portal)?,
                Timer::SignIn(process) => self.process_expired(process)?,
                Timer::Broadcast => self.next_of_broadcast()?,
                Timer::Progress(owner) => self.tell_progress(&owner)?,
                Timer::Delivery(portal) if checks < delivery::CHECKS => {
                    checks += 1;
                    self.check_delivery(&portal)?;
                }
                Timer::Delivery(portal) => {
                    self.watched.remove(&portal);
                    self.watch(&portal, delivery::NEXT_CHECKS);
                }
            }
        }
        Ok(())
    }

    /// Turns what the rules wanted into outputs. Carrying one out may want more.
    fn take_wants(&mut self) -> Result<(), StoreError> {
        while !self.bridge.wants.is_empty() {
            for want in std::mem::take(&mut self.bridge.wants) {
                match want {
                    Want::Send(login, stanza) => {
                        self.send(&login, stanza);
                    }
                    Want::Ask(login, Question::History { contact } | Question::Recent { contact }) => {
                        self.queue_history(&login, contact)?;
                    }
                    Want::Ask(login, question) => self.ask(&login, question)?,
                    Want::Now(ephemeral) => self.outputs.push(Output::Now(ephemeral)),
                    // The same picture may be announced twice, by its vCard and by XEP-0084.
                    Want::Soft(contact, MatrixWorkFor::Photo { hash, .. })
                        if self.soft.values().any(
                            |soft| matches!(soft, Soft::Photo(whose, which) if *whose == contact && *which == hash),
                        ) => {}
                    Want::Soft(contact, MatrixWorkFor::Photo { hash, mime, bytes }) => {
                        // As the bot: the ghost's account may not exist yet.
                        let user = self.bridge.homeserver.bot.clone();
                        self.soft_work(Soft::Photo(contact, hash), MatrixCall::Upload { user, mime, bytes });
                    }
                }
            }
        }
        Ok(())
    }

    fn order(&mut self, stream: StreamId, order: StreamOrder) {
        self.outputs.push(Output::Stream { stream, order });
    }

    /// The login that a portal or ghost belongs to is this person's.
    fn owner_of(&self, login: &LoginId) -> Result<Option<OwnedUserId>, StoreError> {
        Ok(self.bridge.store.login(login)?.map(|login| login.owner))
    }
}

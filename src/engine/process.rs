//! Signing in as one state machine, whichever door it is seen through: the bot, the HTTP API or the page. A process lives in memory,
//! for [`LASTS`] at most; there are [`AT_ONCE`] of one person at most.

use std::collections::{BTreeMap, VecDeque};

use ruma::OwnedUserId;

use super::{Engine, Timer};
use crate::{
    bridge::{Network, page_link},
    domain::{
        BareJid, LoginId, StreamId, Ticket, Timestamp,
        credentials::{Credentials, Secret},
        output::AskId,
        request::{Field, FieldId, LoginStep, ProcessId, Refusal, RefusalCode, Response, Step},
        stream::{StreamEnd, StreamOrder},
    },
    store::StoreError,
};

/// How long a sign-in may take, in milliseconds.
const LASTS: u64 = 15 * 60 * 1_000;
/// Sign-ins of one person at once.
const AT_ONCE: usize = 4;
/// How often one may go wrong on the page before it has to be begun anew.
const TRIES: u32 = 5;
/// Requests that wait for one sign-in; the oldest is told how it is when another comes.
const WAITING: usize = 4;
/// The longest answer to a field, in bytes.
const LONGEST: usize = 16 * 1024;

/// Through which door something came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Bot,
    Page,
    Api,
}

/// Someone who is signing in.
pub(super) struct Process {
    pub id: ProcessId,
    pub owner: OwnedUserId,
    pub network: String,
    /// It is a token that is asked for, not a password.
    token: bool,
    /// The login that signs in again, and its account.
    pub again: Option<(LoginId, BareJid)>,
    pub account: Option<BareJid>,
    begun: Door,
    pub answered: Door,
    entered: bool,
    number: u32,
    failures: u32,
    problem: Option<(FieldId, String)>,
    ends: Timestamp,
    pub state: State,
    /// Requests that wait, and whether they wait for the person to come back from a link, too.
    waiting: VecDeque<(Ticket, bool)>,
}

/// Where a sign-in is.
pub(super) enum State {
    /// Fields are to be filled in.
    Fields,
    /// The authorize link is being made.
    Linking(AskId),
    /// The person is at the provider's page.
    Link {
        authorize: String,
        state: String,
        verifier: Secret,
    },
    /// The code is being redeemed.
    Redeeming(AskId),
    /// The account is signing in.
    SigningIn(StreamId),
    Done {
        login: LoginId,
        account: BareJid,
    },
    Failed {
        sentence: String,
    },
}

impl Process {
    fn works(&self) -> bool {
        matches!(self.state, State::Linking(_) | State::Redeeming(_) | State::SigningIn(_))
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Done { .. } | State::Failed { .. })
    }

    /// Somebody has come in by its link.
    pub(super) fn was_entered(&self) -> bool {
        self.entered
    }

    pub(super) fn secret(&self) -> FieldId {
        if self.token { FieldId::Token } else { FieldId::Password }
    }

    /// What the person is called in a sentence that says what did not work.
    fn whom(&self) -> String {
        self.account.as_ref().map_or_else(|| self.network.clone(), ToString::to_string)
    }
}

/// The sign-ins in hand.
#[derive(Default)]
pub(super) struct Processes {
    pub all: BTreeMap<u64, Process>,
    next: u64,
}

impl Processes {
    pub(super) fn get(&self, number: u64) -> Option<&Process> {
        self.all.get(&number)
    }
}

/// What a sign-in begins with.
pub(super) struct Beginning {
    pub network: String,
    pub token: bool,
    pub again: Option<(LoginId, BareJid)>,
    pub account: Option<BareJid>,
    pub door: Door,
}

pub(super) fn refusal(code: RefusalCode, sentence: impl Into<String>) -> Refusal {
    Refusal { code, sentence: sentence.into() }
}

impl Engine {
    /// Begins a sign-in. The refusal says why not.
    pub(super) fn begin_process(
        &mut self,
        owner: &OwnedUserId,
        beginning: Beginning,
    ) -> Result<Result<u64, Refusal>, StoreError> {
        let Beginning { network, token, again, account, door } = beginning;
        let Some(settings) = self.bridge.settings.networks.get(&network).cloned() else {
            return Ok(Err(refusal(
                RefusalCode::NoSuchFlow,
                format!("There is no network \u{201c}{network}\u{201d}."),
            )));
        };
        if let Some(account) = &account
            && let Err(refusal) = self.may_sign_in(owner, &network, &settings, account)?
        {
            return Ok(Err(refusal));
        }
        let theirs: Vec<u64> = self
            .processes
            .all
            .iter()
            .filter(|(_, process)| process.owner == *owner)
            .map(|(number, _)| *number)
            .collect();
        if theirs.len() >= AT_ONCE {
            let Some(over) = theirs.into_iter().find(|number| self.processes.all[number].has_ended()) else {
                let sentence = "You have begun several sign-ins. Finish or cancel one of them, or wait 15 minutes.";
                return Ok(Err(refusal(RefusalCode::TooMany, sentence)));
            };
            self.processes.all.remove(&over);
        }
        self.processes.next += 1;
        let number = self.processes.next;
        let now = self.bridge.now.wall;
        let oauth = settings.profile.token_decides_account;
        let process = Process {
            id: ProcessId { number, made: now },
            owner: owner.clone(),
            network,
            token,
            again,
            account,
            begun: door,
            answered: door,
            entered: false,
            number: 1,
            failures: 0,
            problem: None,
            ends: now.after(LASTS),
            state: State::Fields,
            waiting: VecDeque::new(),
        };
        self.processes.all.insert(number, process);
        self.set_timer(LASTS, Timer::SignIn(number));
        if oauth {
            self.begin_link(number);
        }
        Ok(Ok(number))
    }

    /// May the person sign in to this account here?
    fn may_sign_in(
        &self,
        owner: &OwnedUserId,
        network: &str,
        settings: &Network,
        account: &BareJid,
    ) -> Result<Result<(), Refusal>, StoreError> {
        if settings.domains.as_ref().is_some_and(|domains| !domains.iter().any(|domain| domain == account.domain())) {
            let sentence = format!("This bridge does not connect to {}.", account.domain());
            return Ok(Err(refusal(RefusalCode::Unreadable, sentence)));
        }
        self.has_room_for(owner, network, account)
    }

    /// Is another login within what the person may have?
    pub(super) fn has_room_for(
        &self,
        owner: &OwnedUserId,
        network: &str,
        account: &BareJid,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let most = self.bridge.settings.max_logins;
        let id = LoginId::derive(owner.as_str(), network, account.as_str());
        let logins = self.logins_of(owner)?;
        if logins.len() < most || logins.iter().any(|login| login.id == id) {
            return Ok(Ok(()));
        }
        let accounts = if most == 1 { "one account" } else { &format!("{most} accounts") };
        let sentence = format!("You may be signed in to {accounts} at most. Sign out of one first, with `logout`.");
        Ok(Err(refusal(RefusalCode::TooMany, sentence)))
    }

    /// What the process looks like from outside.
    pub(super) fn step_of(&self, process: &Process) -> LoginStep {
        let returns = self.bridge.settings.page.is_some();
        let problem_of = |id: FieldId| {
            process.problem.as_ref().filter(|(field, _)| *field == id).map(|(_, sentence)| sentence.clone())
        };
        let step = match &process.state {
            State::Fields => {
                let account = Field {
                    id: FieldId::Account,
                    name: "Address".to_owned(),
                    description: "The address of your account, such as you@example.org.".to_owned(),
                    value: process.account.as_ref().map(ToString::to_string),
                    problem: problem_of(FieldId::Account),
                };
                let (name, description) = if process.token {
                    ("Token", "An OAuth token that your server takes in place of the password.")
                } else {
                    ("Password", "The password of your account, exactly as you use it elsewhere.")
                };
                let id = process.secret();
                let secret = Field {
                    id,
                    name: name.to_owned(),
                    description: description.to_owned(),
                    value: None,
                    problem: problem_of(id),
                };
                Step::Fields(vec![account, secret])
            }
            State::Link { authorize, .. } => {
                Step::Link { authorize: authorize.clone(), returns, problem: problem_of(FieldId::Redirect) }
            }
            State::Linking(_) | State::Redeeming(_) | State::SigningIn(_) => Step::Wait,
            State::Done { login, account } => Step::Done { login: login.clone(), account: account.clone() },
            State::Failed { sentence } => Step::Failed { sentence: sentence.clone() },
        };
        let page = self.bridge.settings.page.as_ref().filter(|_| !process.entered);
        LoginStep {
            process: process.id,
            number: process.number,
            owner: process.owner.clone(),
            network: process.network.clone(),
            again: process.again.as_ref().map(|(_, account)| account.clone()),
            page: page.map(|page| page_link::link(page, process.id)),
            ends: process.ends,
            step,
        }
    }

    /// The process of this id, if it is still there.
    pub(super) fn process_of(&self, id: ProcessId) -> Option<&Process> {
        self.processes.get(id.number).filter(|process| process.id == id)
    }

    /// The page is entered: its link is used up.
    pub(super) fn enter(&mut self, number: u64) {
        if let Some(process) = self.processes.all.get_mut(&number) {
            process.entered = true;
        }
    }

    /// Something else is to be done now: whoever waits for that is told, and the bot speaks where it led so far.
    pub(super) fn process_changed(&mut self, number: u64) -> Result<(), StoreError> {
        let Some(process) = self.processes.all.get_mut(&number) else { return Ok(()) };
        if process.works() {
            return Ok(());
        }
        let link = matches!(process.state, State::Link { .. });
        let waiting = std::mem::take(&mut process.waiting);
        let (stay, go): (VecDeque<_>, VecDeque<_>) = waiting.into_iter().partition(|(_, back)| link && *back);
        process.waiting = stay;
        let Some(process) = self.processes.get(number) else { return Ok(()) };
        let step = self.step_of(process);
        for (ticket, _) in go {
            self.respond(ticket, Response::Step(Box::new(step.clone())));
        }
        self.tell_of_process(number)
    }

    /// Answers with where the process is, now or once there is something to do. `back`: a link that is shown is not enough; the person
    /// has to be back from it.
    pub(super) fn wait_for(&mut self, ticket: Ticket, number: u64, back: bool) {
        let Some(process) = self.processes.get(number) else { return };
        let away = back && matches!(process.state, State::Link { .. });
        if !process.works() && !away {
            let step = self.step_of(process);
            return self.respond(ticket, Response::Step(Box::new(step)));
        }
        let Some(process) = self.processes.all.get_mut(&number) else { return };
        process.waiting.push_back((ticket, back));
        let oldest = if process.waiting.len() > WAITING { process.waiting.pop_front() } else { None };
        if let (Some((ticket, _)), Some(process)) = (oldest, self.processes.get(number)) {
            let step = self.step_of(process);
            self.respond(ticket, Response::Step(Box::new(step)));
        }
    }

    /// Takes what the person gave. The refusal: another step is due.
    pub(super) fn answer_process(
        &mut self,
        number: u64,
        step: Option<u32>,
        mut fields: BTreeMap<FieldId, Secret>,
        door: Door,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let Some(process) = self.processes.all.get_mut(&number) else {
            return Ok(Err(refusal(RefusalCode::NoSuchProcess, GONE)));
        };
        if step.is_some_and(|step| step != process.number) || process.works() || process.has_ended() {
            return Ok(Err(refusal(RefusalCode::WrongStep, "This step is over. Please look at the next one.")));
        }
        process.number += 1;
        process.answered = door;
        process.problem = None;
        let long = fields.iter().find(|(_, value)| value.expose().len() > LONGEST).map(|(field, _)| *field);
        if let Some(field) = long {
            self.complain(number, field, "This is too long.")?;
            return Ok(Ok(()));
        }
        match process.state {
            State::Link { .. } => match fields.remove(&FieldId::Redirect) {
                Some(pasted) => self.on_redirect(number, pasted.expose().trim())?,
                None => self.complain(number, FieldId::Redirect, "Please paste the address.")?,
            },
            _ => self.on_fields(number, fields)?,
        }
        Ok(Ok(()))
    }

    /// Something is wrong with what was given: the person may try again.
    pub(super) fn complain(
        &mut self,
        number: u64,
        field: FieldId,
        sentence: impl Into<String>,
    ) -> Result<(), StoreError> {
        if let Some(process) = self.processes.all.get_mut(&number) {
            process.problem = Some((field, sentence.into()));
        }
        self.process_changed(number)
    }

    fn on_fields(&mut self, number: u64, mut fields: BTreeMap<FieldId, Secret>) -> Result<(), StoreError> {
        let Some(process) = self.processes.get(number) else { return Ok(()) };
        let (owner, network, secret) = (process.owner.clone(), process.network.clone(), process.secret());
        let Some(settings) = self.bridge.settings.networks.get(&network).cloned() else { return Ok(()) };
        let given = fields.remove(&FieldId::Account).filter(|given| !given.expose().trim().is_empty());
        let account = match (given, &process.account) {
            (Some(given), _) => match read_account(given.expose().trim()) {
                Ok(account) => account,
                Err(sentence) => return self.complain(number, FieldId::Account, sentence),
            },
            (None, Some(account)) => account.clone(),
            (None, None) => return self.complain(number, FieldId::Account, "Please give the address of your account."),
        };
        if let Some((_, again)) = &process.again
            && *again != account
        {
            let sentence = format!("Here {again} signs in again. For another account begin with `login`.");
            return self.complain(number, FieldId::Account, sentence);
        }
        if let Some(process) = self.processes.all.get_mut(&number) {
            process.account = Some(account.clone());
        }
        if let Err(refusal) = self.may_sign_in(&owner, &network, &settings, &account)? {
            return self.complain(number, FieldId::Account, refusal.sentence);
        }
        let Some(given) = fields.remove(&secret).filter(|given| !given.expose().is_empty()) else {
            let sentence =
                if secret == FieldId::Token { "Please give the token." } else { "Please give the password." };
            return self.complain(number, secret, sentence);
        };
        let credentials = match secret {
            FieldId::Token => Credentials::Token(Secret::new(given.expose().trim())),
            _ => Credentials::Password(given),
        };
        self.sign_in(number, Some(account), credentials)
    }

    /// It did not work: on the page the person may try again, some times.
    pub(super) fn process_refused(
        &mut self,
        number: u64,
        sentence: &str,
        end: Option<&StreamEnd>,
    ) -> Result<(), StoreError> {
        let Some(process) = self.processes.all.get_mut(&number) else { return Ok(()) };
        process.failures += 1;
        let oauth = matches!(process.state, State::Redeeming(_)) || process.account.is_none();
        if process.answered != Door::Page || process.failures >= TRIES {
            let whom = process.whom();
            return self.fail_process(number, format!("Could not sign in to {whom}: {sentence}."));
        }
        let mut capital = sentence.to_owned();
        if let Some(first) = capital.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        capital.push('.');
        if oauth {
            process.problem = Some((FieldId::Redirect, capital));
            self.begin_link(number);
            return Ok(());
        }
        let field = match end {
            Some(StreamEnd::Refused(_)) => process.secret(),
            _ => FieldId::Account,
        };
        process.state = State::Fields;
        self.complain(number, field, capital)
    }

    /// It did not work, and has ended.
    pub(super) fn fail_process(&mut self, number: u64, sentence: String) -> Result<(), StoreError> {
        if let Some(process) = self.processes.all.get_mut(&number) {
            process.state = State::Failed { sentence };
        }
        self.process_changed(number)
    }

    pub(super) fn set_process(&mut self, number: u64, state: State) {
        if let Some(process) = self.processes.all.get_mut(&number) {
            process.state = state;
        }
    }

    /// Given up by the person. `false`: it has ended already.
    pub(super) fn cancel_process(&mut self, number: u64) -> bool {
        self.let_go_of_process(number);
        let Some(process) = self.processes.all.remove(&number) else { return false };
        for (ticket, _) in &process.waiting {
            let refused = refusal(RefusalCode::NoSuchProcess, "This sign-in was cancelled.");
            self.respond(*ticket, Response::Refused(refused));
        }
        !process.has_ended()
    }

    /// What is under way for a process ends.
    fn let_go_of_process(&mut self, number: u64) {
        match self.processes.get(number).map(|process| &process.state) {
            Some(State::SigningIn(stream)) => {
                let stream = *stream;
                self.streams.remove(&stream);
                self.order(stream, StreamOrder::Close);
            }
            Some(State::Linking(ask) | State::Redeeming(ask)) => {
                let ask = *ask;
                self.asks.remove(&ask);
            }
            Some(State::Fields | State::Link { .. } | State::Done { .. } | State::Failed { .. }) | None => {}
        }
    }

    /// Its time is over.
    pub(super) fn process_expired(&mut self, number: u64) -> Result<(), StoreError> {
        let Some(process) = self.processes.get(number) else { return Ok(()) };
        if !process.has_ended() {
            self.let_go_of_process(number);
            let text = "The sign-in was given up: it took longer than 15 minutes. `login` begins a new one.";
            self.fail_process(number, text.to_owned())?;
        }
        self.processes.all.remove(&number);
        Ok(())
    }

    /// The bot speaks of a process that was begun with it, unless the person is on the page by now.
    fn tell_of_process(&mut self, number: u64) -> Result<(), StoreError> {
        let Some(process) = self.processes.get(number) else { return Ok(()) };
        let (owner, ended) = (process.owner.clone(), process.has_ended());
        if ended {
            self.conversation_ended(&owner, number);
        }
        let Some(process) = self.processes.get(number) else { return Ok(()) };
        if process.begun != Door::Bot || process.answered != Door::Bot {
            return Ok(());
        }
        let says = match (&process.state, &process.problem) {
            (State::Failed { sentence }, _) => sentence.clone(),
            (State::Fields | State::Link { .. }, Some((_, problem))) => problem.clone(),
            (State::Fields | State::Link { .. }, None) => return self.ask_for_step(number),
            (State::Linking(_) | State::Redeeming(_) | State::SigningIn(_) | State::Done { .. }, _) => return Ok(()),
        };
        self.bridge.say(&owner, says)
    }
}

/// What is said of a process that is not there.
pub(super) const GONE: &str = "There is no such sign-in, or no longer. Please begin a new one.";

/// Reads the address of an account.
pub(super) fn read_account(text: &str) -> Result<BareJid, String> {
    match BareJid::parse(text) {
        Ok(account) if account.localpart().is_some() => Ok(account),
        Ok(_) => Err("An account looks like you@example.org: a name, an @ and a server.".to_owned()),
        Err(error) => Err(format!("That is not an address: {error}.")),
    }
}

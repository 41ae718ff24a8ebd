//! A stand-in for the engine behind the page for signing in: it knows the sign-ins that a test gives it, and says of each what the
//! test wants said. Links, sessions and steps are as the engine keeps them.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use messenger_bridge::{
    desk::Desk,
    domain::{
        BareJid, Input, LoginId, Ticket, Timestamp,
        credentials::Secret,
        request::{
            Field, FieldId, LoginStep, PageWish, ProcessId, Refusal, RefusalCode, Request, Response, Step, StepAnswer,
        },
    },
    page::{Page, Patience},
};
use ruma::OwnedUserId;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

/// What was answered to a step.
pub type Given = (u32, BTreeMap<FieldId, String>);

struct SignIn {
    name: &'static str,
    used: bool,
    ended: bool,
    now: LoginStep,
    next: VecDeque<Result<Step, Refusal>>,
    given: Vec<Given>,
    waiting: Vec<Ticket>,
}

/// The page and what answers behind it.
pub struct PageStage {
    /// Where the page listens.
    pub url: String,
    sign_ins: Arc<Mutex<Vec<SignIn>>>,
    desk: Arc<Desk>,
    engine: JoinHandle<()>,
}

impl PageStage {
    /// Serves the page at a port of its own; `public`: the address that it is configured with, if not that.
    pub async fn start(host: &str, public: Option<&str>, patience: Patience) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (mailbox, mut inputs) = mpsc::channel(64);
        let desk = Desk::new(mailbox);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{host}:{}", listener.local_addr().unwrap().port());
        let page = Page::new(Arc::clone(&desk), public.unwrap_or(&url), "Messenger bridge", patience);
        let router = page.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let sign_ins = Arc::new(Mutex::new(Vec::new()));
        let engine = tokio::spawn({
            let (sign_ins, desk) = (Arc::clone(&sign_ins), Arc::clone(&desk));
            async move {
                while let Some(input) = inputs.recv().await {
                    let Input::Requested { ticket, request: Request::Page(wish) } = input else { panic!("{input:?}") };
                    if let Some(response) = respond(&mut sign_ins.lock().unwrap(), ticket, wish) {
                        desk.answer(ticket, response);
                    }
                }
            }
        });
        Self { url, sign_ins, desk, engine }
    }

    /// Begins a sign-in; its link ends in `link-<name>.x`, its session is `session-<name>.x`.
    pub fn begin(&self, name: &'static str, step: Step) {
        let mut sign_ins = self.sign_ins.lock().unwrap();
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        let now = LoginStep {
            process: ProcessId { number: sign_ins.len() as u64 + 1, made: Timestamp(now) },
            number: 1,
            owner: OwnedUserId::try_from("@alice:example.org").unwrap(),
            network: "xmpp".to_owned(),
            again: None,
            page: None,
            ends: Timestamp(now + 15 * 60_000 - 1_000),
            step,
        };
        let (next, given, waiting) = (VecDeque::new(), Vec::new(), Vec::new());
        sign_ins.push(SignIn { name, used: false, ended: false, now, next, given, waiting });
    }

    fn change<T>(&self, name: &str, change: impl FnOnce(&mut SignIn) -> T) -> T {
        change(self.sign_ins.lock().unwrap().iter_mut().find(|one| one.name == name).unwrap())
    }

    /// Changes what is known of it.
    pub fn mend(&self, name: &str, change: impl FnOnce(&mut LoginStep)) {
        self.change(name, |one| change(&mut one.now));
    }

    /// What comes after its next answer.
    pub fn then(&self, name: &str, step: Step) {
        self.change(name, |one| one.next.push_back(Ok(step)));
    }

    /// Its next answer is refused.
    pub fn refuse(&self, name: &str, code: RefusalCode, sentence: &str) {
        let refusal = Refusal { code, sentence: sentence.to_owned() };
        self.change(name, |one| one.next.push_back(Err(refusal)));
    }

    /// What was waited for has come.
    pub fn advance(&self, name: &str, step: Step) {
        let (waiting, now) = self.change(name, |one| {
            one.now.step = step;
            one.now.number += 1;
            (std::mem::take(&mut one.waiting), one.now.clone())
        });
        for ticket in waiting {
            self.desk.answer(ticket, Response::Step(Box::new(now.clone())));
        }
    }

    /// It takes too long.
    pub fn end(&self, name: &str) {
        self.change(name, |one| one.ended = true);
    }

    /// The answers that were given.
    pub fn given(&self, name: &str) -> Vec<Given> {
        self.change(name, |one| one.given.clone())
    }

    /// Was it entered?
    pub fn is_used(&self, name: &str) -> bool {
        self.change(name, |one| one.used)
    }

    /// Who waits for news of it.
    pub fn waiting(&self, name: &str) -> usize {
        self.change(name, |one| one.waiting.len())
    }

    /// The engine is gone.
    pub async fn stop(&self) {
        self.engine.abort();
        while !self.engine.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// The same for whoever is not in the runtime.
    pub fn stop_now(&self) {
        self.engine.abort();
        while !self.engine.is_finished() {
            std::thread::yield_now();
        }
    }
}

fn respond(sign_ins: &mut [SignIn], ticket: Ticket, wish: PageWish) -> Option<Response> {
    let refused = |code, sentence: &str| Some(Response::Refused(Refusal { code, sentence: sentence.to_owned() }));
    let (kind, text) = match &wish {
        PageWish::See { link } | PageWish::Enter { link } => ("link", link),
        PageWish::Look { session } | PageWish::Continue { session, .. } | PageWish::Cancel { session } => {
            ("session", session)
        }
    };
    let one = sign_ins.iter_mut().find(|one| format!("{kind}-{}.x", one.name) == text.expose());
    let Some(one) = one.filter(|one| !one.ended) else {
        return match kind {
            "link" => refused(RefusalCode::WrongLink, "No link, or no longer."),
            _ => refused(RefusalCode::NoSuchProcess, "This sign-in has ended."),
        };
    };
    match wish {
        PageWish::See { .. } | PageWish::Enter { .. } if one.used => refused(RefusalCode::UsedLink, "Used already."),
        PageWish::See { .. } => Some(Response::Link(Box::new(one.now.clone()))),
        PageWish::Enter { .. } => {
            one.used = true;
            Some(Response::Entered { session: Secret::new(format!("session-{}.x", one.name)) })
        }
        PageWish::Look { .. } => Some(Response::Step(Box::new(one.now.clone()))),
        PageWish::Cancel { .. } => {
            one.ended = true;
            Some(Response::Done)
        }
        PageWish::Continue { step, .. } if step != one.now.number => {
            refused(RefusalCode::WrongStep, "Another step is due.")
        }
        PageWish::Continue { step, answer, .. } => {
            if let StepAnswer::Fields(fields) = answer {
                let fields = fields.into_iter().map(|(id, value)| (id, value.expose().to_owned()));
                one.given.push((step, fields.collect()));
                match one.next.pop_front() {
                    Some(Ok(next)) => {
                        one.now.step = next;
                        one.now.number += 1;
                    }
                    Some(Err(refusal)) => return Some(Response::Refused(refusal)),
                    None => {}
                }
            }
            if matches!(one.now.step, Step::Wait) {
                one.waiting.push(ticket);
                return None;
            }
            Some(Response::Step(Box::new(one.now.clone())))
        }
    }
}

/// The fields of an account with its password.
pub fn account_and_password() -> Step {
    Step::Fields(vec![
        Field {
            id: FieldId::Account,
            name: "Address".to_owned(),
            description: "The address of your account, such as you@example.org.".to_owned(),
            value: None,
            problem: None,
        },
        Field {
            id: FieldId::Password,
            name: "Password".to_owned(),
            description: "The password of your account, exactly as you use it elsewhere.".to_owned(),
            value: None,
            problem: None,
        },
    ])
}

/// A provider's page, and what was wrong with the last way back.
pub fn provider(returns: bool, problem: Option<&str>) -> Step {
    let authorize = "https://login.example.com/authorize?client_id=1&state=st%2Fate&code_challenge=c".to_owned();
    Step::Link { authorize, returns, problem: problem.map(str::to_owned) }
}

/// The same with the account filled in, and what was wrong with the password.
pub fn wrong_password(problem: &str) -> Step {
    let Step::Fields(mut fields) = account_and_password() else { unreachable!() };
    fields[0].value = Some("juliet@capulet.example".to_owned());
    fields[1].problem = Some(problem.to_owned());
    Step::Fields(fields)
}

/// Signed in.
pub fn done() -> Step {
    let account = BareJid::parse("juliet@capulet.example").unwrap();
    Step::Done { login: LoginId::derive("@alice:example.org", "xmpp", account.as_str()), account }
}

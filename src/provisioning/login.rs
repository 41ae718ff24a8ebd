//! Signing in and out.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use ruma::OwnedUserId;
use serde_json::json;
use tokio::time::Instant;

use super::{
    Api, Caller, PATIENCE, Parts, Provisioning, Who, query,
    reply::{Problem, answer},
    step::{self, Kind},
    texts,
};
use crate::domain::request::{
    FieldId, LoginStep, ProcessId, Refusal, RefusalCode, Request as Asked, Response as Told, Step, StepAnswer, Wish,
};

/// How long a request waits for an account to be signed in to.
const SIGN_IN: Duration = Duration::from_mins(2);
/// How long a request waits for the person to have done what they do elsewhere. A proxy may end it before.
const ELSEWHERE: Duration = Duration::from_mins(10);
/// So many wait for that at a time, of all people together.
pub(super) const WAITS: usize = 32;
/// The pause before it is asked again what comes of a step that is still being worked on.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest value of a field, in bytes.
const VALUE: usize = 16 * 1024;

impl Provisioning {
    /// Asks until there is something for the person to do.
    async fn go_on(
        &self,
        owner: &OwnedUserId,
        mut wish: Wish,
        patience: Duration,
    ) -> Result<Result<Box<LoginStep>, Refusal>, Problem> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let step = match self.desk.ask(Asked::Person { owner: owner.clone(), wish }, left).await? {
                Told::Step(step) => step,
                Told::Refused(refusal) => return Ok(Err(refusal)),
                _ => return Err(Problem::unexpected()),
            };
            if !matches!(step.step, Step::Wait) {
                return Ok(Ok(step));
            }
            wish = Wish::ContinueLogin { process: step.process, step: step.number, answer: StepAnswer::Wait };
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Answers a step; what came of it is told again if it was answered already, for the answer may have been lost.
    async fn answer_step(
        &self,
        owner: &OwnedUserId,
        (process, number): (ProcessId, u32),
        given: StepAnswer,
        patience: Duration,
    ) -> Result<Response, Problem> {
        let wish = Wish::ContinueLogin { process, step: number, answer: given };
        let step = match self.go_on(owner, wish, patience).await? {
            Ok(step) => step,
            Err(refusal) if refusal.code == RefusalCode::WrongStep => {
                let next = number.saturating_add(1);
                let wish = Wish::ContinueLogin { process, step: next, answer: StepAnswer::Wait };
                let step = self.go_on(owner, wish, patience).await?.map_err(Problem::from)?;
                // Only of the step before the present one: anything else was not that answer's doing.
                if step.number != next {
                    return Err(refusal.into());
                }
                step
            }
            Err(refusal) => return Err(refusal.into()),
        };
        Ok(answer(StatusCode::OK, &step::write(&step)?))
    }

    async fn done(&self, owner: &OwnedUserId, wish: Wish) -> Result<Response, Problem> {
        match self.ask(owner, wish, PATIENCE).await? {
            Told::Done => Ok(answer(StatusCode::OK, &json!({}))),
            _ => Err(Problem::unexpected()),
        }
    }
}

fn process(text: &str) -> Result<ProcessId, Problem> {
    text.parse().map_err(|_| Problem::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", "There is no such sign-in."))
}

pub(super) async fn start(
    State(api): Api,
    Extension(Caller(owner)): Who,
    Parts(flow): Parts<String>,
    request: Request,
) -> Result<Response, Problem> {
    let wish = Wish::StartLogin { flow, again: query(&request, "login_id") };
    let step = api.go_on(&owner, wish, PATIENCE).await?.map_err(Problem::from)?;
    Ok(answer(StatusCode::OK, &step::write(&step)?))
}

pub(super) async fn user_input(
    State(api): Api,
    Extension(Caller(owner)): Who,
    Parts((id, step)): Parts<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let id = process(&id)?;
    let number = step::read(id, &step, query(&request, "txn_id").as_deref(), Kind::Fields)?;
    let mut fields = BTreeMap::new();
    for (name, value) in texts(request).await? {
        let Some(field) = FieldId::ALL.into_iter().find(|field| field.as_str() == name) else {
            return Err(Problem::bad("M_BAD_JSON", "There is no such field."));
        };
        if value.expose().len() > VALUE {
            return Err(Problem::bad("M_BAD_JSON", "A field holds too much."));
        }
        fields.insert(field, value);
    }
    api.answer_step(&owner, (id, number), StepAnswer::Fields(fields), SIGN_IN).await
}

pub(super) async fn display_and_wait(
    State(api): Api,
    Extension(Caller(owner)): Who,
    Parts((id, step)): Parts<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let id = process(&id)?;
    let number = step::read(id, &step, query(&request, "txn_id").as_deref(), Kind::Link)?;
    let Ok(_place) = api.waits.try_acquire() else { return Err(crate::desk::NoAnswer::Busy.into()) };
    api.answer_step(&owner, (id, number), StepAnswer::Wait, ELSEWHERE).await
}

pub(super) async fn cancel(
    State(api): Api,
    Extension(Caller(owner)): Who,
    Parts(id): Parts<String>,
) -> Result<Response, Problem> {
    api.done(&owner, Wish::CancelLogin { process: process(&id)? }).await
}

pub(super) async fn logout(
    State(api): Api,
    Extension(Caller(owner)): Who,
    Parts(login): Parts<String>,
) -> Result<Response, Problem> {
    let login = Some(login).filter(|login| login != "all");
    api.done(&owner, Wish::Logout { login, rooms: None }).await
}

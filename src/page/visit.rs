//! What happens when a browser comes.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::Response,
};
use tokio::time::{Instant, sleep_until};

use super::{LONGEST_RETURN, Page, form::Form, steps};
use crate::{
    bridge::page_link::{PATH, RETURN},
    desk::NoAnswer,
    domain::{
        credentials::Secret,
        request::{self, FieldId, LoginStep, PageWish, Refusal, RefusalCode, Request, Step, StepAnswer},
    },
};

/// Where one is told that a sign-in was begun in another browser.
pub(super) const ELSEWHERE: &str = "/login/elsewhere";

type Visited = State<Arc<Page>>;

/// What the engine said, or else the page that says what it did not.
type Told<T> = Result<T, Box<Response>>;

/// `GET /login/<link>`.
pub(super) async fn see(State(page): Visited, Path(link): Path<String>, headers: HeaderMap) -> Response {
    match page.see(Secret::new(link), &headers).await {
        Ok(step) => page.show(StatusCode::OK, &steps::entrance(&step)),
        Err(other) => *other,
    }
}

/// `POST /login/<link>`.
pub(super) async fn enter(State(page): Visited, Path(link): Path<String>, headers: HeaderMap) -> Response {
    if let Err(why) = page.is_from_here(&headers) {
        return page.foreign_form(why);
    }
    match page.enter(Secret::new(link), &headers).await {
        Ok(response) | Err(response) => *response,
    }
}

/// `GET /login`.
pub(super) async fn look(State(page): Visited, headers: HeaderMap) -> Response {
    let Some(session) = page.session(&headers) else { return page.no_visitor() };
    match page.step(&session).await {
        Ok(step) => page.present(StatusCode::OK, &step, &session, None),
        Err(other) => *other,
    }
}

/// `POST /login`.
pub(super) async fn answer(State(page): Visited, headers: HeaderMap, body: Body) -> Response {
    let (session, form) = match page.own_form(&headers, body).await {
        Ok(own) => own,
        Err(other) => return *other,
    };
    let Some(step) = form.step else { return page.no_form(super::form::NoForm::Broken) };
    page.go_on(&session, step, StepAnswer::Fields(form.fields)).await
}

/// `POST /login/cancel`.
pub(super) async fn cancel(State(page): Visited, headers: HeaderMap, body: Body) -> Response {
    let session = match page.own_form(&headers, body).await {
        Ok((session, _)) => session,
        Err(other) => return *other,
    };
    match page.ask(PageWish::Cancel { session }, page.patience.engine).await {
        Ok(Ok(request::Response::Done)) => page.cancelled(),
        Ok(Ok(_)) => page.fault(),
        Ok(Err(refusal)) => page.declined(&refusal),
        Err(why) => page.no_answer(why),
    }
}

/// `GET /login/wait`.
pub(super) async fn wait(State(page): Visited, headers: HeaderMap) -> Response {
    let Some(session) = page.session(&headers) else { return page.no_visitor() };
    let soonest = Instant::now() + page.patience.pause;
    let step = match page.step(&session).await {
        Ok(step) => step,
        Err(other) => return *other,
    };
    if !matches!(step.step, Step::Wait) {
        return Page::go(PATH);
    }
    let wish = PageWish::Continue { session, step: step.number, answer: StepAnswer::Wait };
    let told = page.ask(wish, page.patience.wait).await;
    if !matches!(&told, Ok(Ok(request::Response::Step(next))) if !matches!(next.step, Step::Wait)) {
        // Whatever it is, a browser does not come for it more often than this.
        sleep_until(soonest).await;
    }
    match told {
        Err(why @ (NoAnswer::Busy | NoAnswer::Stopping)) => page.no_answer(why),
        // What it is by now, the page itself finds out.
        Ok(_) | Err(NoAnswer::Late) => Page::go(PATH),
    }
}

/// `GET /login/return`: with a code and the state of the sign-in, or with an error. Whose they are the session says, and that
/// they are of this sign-in the engine makes sure of.
pub(super) async fn come_back(State(page): Visited, headers: HeaderMap, uri: Uri) -> Response {
    let Some(session) = page.session(&headers) else { return Page::go(ELSEWHERE) };
    let query = uri.query().unwrap_or_default();
    if query.len() > LONGEST_RETURN {
        return page.long_return();
    }
    let look = page.ask(PageWish::Look { session: session.clone() }, page.patience.engine).await;
    let number = match look {
        Ok(Ok(request::Response::Step(step))) if matches!(step.step, Step::Link { .. }) => step.number,
        Ok(_) => return Page::go(PATH),
        // Loaded again, it may well work.
        Err(why) => return page.no_answer(why),
    };
    let address = Secret::new(format!("{}{RETURN}?{query}", page.address));
    let answer = StepAnswer::Fields([(FieldId::Redirect, address)].into());
    let wish = PageWish::Continue { session, step: number, answer };
    match page.ask(wish, page.patience.step).await {
        // The page shows what became of it.
        Ok(_) | Err(NoAnswer::Late) => Page::go(PATH),
        Err(why @ (NoAnswer::Busy | NoAnswer::Stopping)) => page.no_answer(why),
    }
}

/// `GET /login/elsewhere`: someone came back from the provider who has not entered with this browser. A page of its own, so that
/// the code does not stay in the address bar.
pub(super) async fn elsewhere(State(page): Visited) -> Response {
    page.other_browser()
}

/// The present step is the page that is meant.
pub(super) async fn home() -> Response {
    Page::go(PATH)
}

/// Nothing is there.
pub(super) async fn nowhere(State(page): Visited) -> Response {
    page.no_page()
}

/// A method that is not meant.
pub(super) async fn other_method(State(page): Visited) -> Response {
    page.no_method()
}

impl Page {
    async fn see(&self, link: Secret, headers: &HeaderMap) -> Told<LoginStep> {
        match self.ask(PageWish::See { link }, self.patience.engine).await {
            Ok(Ok(request::Response::Link(step))) => match step.step {
                Step::Done { .. } | Step::Failed { .. } => Err(Box::new(self.no_link(RefusalCode::WrongLink, false))),
                Step::Fields(_) | Step::Link { .. } | Step::Wait => Ok(*step),
            },
            Ok(Ok(_)) => Err(Box::new(self.fault())),
            Ok(Err(refusal)) => Err(Box::new(self.no_entrance(&refusal, headers).await)),
            Err(why) => Err(Box::new(self.no_answer(why))),
        }
    }

    async fn enter(&self, link: Secret, headers: &HeaderMap) -> Told<Box<Response>> {
        match self.ask(PageWish::Enter { link }, self.patience.engine).await {
            Ok(Ok(request::Response::Entered { session })) => {
                let Some(cookie) = self.remember(&session) else { return Err(Box::new(self.fault())) };
                let mut response = Self::go(PATH);
                response.headers_mut().insert(header::SET_COOKIE, cookie);
                Ok(Box::new(response))
            }
            Ok(Ok(_)) => Err(Box::new(self.fault())),
            Ok(Err(refusal)) => Err(Box::new(self.no_entrance(&refusal, headers).await)),
            Err(why) => Err(Box::new(self.no_answer(why))),
        }
    }

    async fn no_entrance(&self, refusal: &Refusal, headers: &HeaderMap) -> Response {
        match refusal.code {
            RefusalCode::UsedLink | RefusalCode::WrongLink | RefusalCode::NoSuchProcess => {
                let here = match self.session(headers) {
                    Some(session) => self.step(&session).await.is_ok(),
                    None => false,
                };
                self.no_link(refusal.code, here)
            }
            _ => self.refused(refusal),
        }
    }

    /// The present step of the visitor.
    async fn step(&self, session: &Secret) -> Told<LoginStep> {
        match self.ask(PageWish::Look { session: session.clone() }, self.patience.engine).await {
            Ok(Ok(request::Response::Step(step))) => Ok(*step),
            Ok(Ok(_)) => Err(Box::new(self.fault())),
            Ok(Err(refusal)) => Err(Box::new(self.declined(&refusal))),
            Err(why) => Err(Box::new(self.no_answer(why))),
        }
    }

    /// The session and the form of whoever has sent one that is their own.
    async fn own_form(&self, headers: &HeaderMap, body: Body) -> Told<(Secret, Form)> {
        self.is_from_here(headers).map_err(|why| Box::new(self.foreign_form(why)))?;
        let form = self.read(headers, body).await.map_err(|why| Box::new(self.no_form(why)))?;
        let session = self.session(headers).ok_or_else(|| Box::new(self.no_visitor()))?;
        if !self.is_own(&form, &session) {
            return Err(Box::new(self.other_form()));
        }
        Ok((session, form))
    }

    /// Answers a step, waits a little for what comes of it, and has the browser fetch that.
    async fn go_on(&self, session: &Secret, step: u32, answer: StepAnswer) -> Response {
        let wish = PageWish::Continue { session: session.clone(), step, answer };
        match self.ask(wish, self.patience.step).await {
            Ok(Ok(request::Response::Step(_))) => Self::go(PATH),
            Ok(Ok(_)) => self.fault(),
            // It is being worked on, or was answered before: the page shows what is due.
            Err(NoAnswer::Late) => Self::go(PATH),
            Ok(Err(Refusal { code: RefusalCode::WrongStep, .. })) => Self::go(PATH),
            Ok(Err(refusal)) if refusal.code == RefusalCode::Unreadable => match self.step(session).await {
                Ok(step) => self.present(StatusCode::UNPROCESSABLE_ENTITY, &step, session, Some(&refusal.sentence)),
                Err(other) => *other,
            },
            Ok(Err(refusal)) => self.declined(&refusal),
            Err(why @ (NoAnswer::Busy | NoAnswer::Stopping)) => self.no_answer(why),
        }
    }

    fn declined(&self, refusal: &Refusal) -> Response {
        match refusal.code {
            RefusalCode::NoSuchProcess => self.ended(),
            _ => self.refused(refusal),
        }
    }

    fn present(&self, status: StatusCode, step: &LoginStep, session: &Secret, said: Option<&str>) -> Response {
        self.show(status, &steps::present(step, &self.mark(session), said))
    }

    async fn ask(&self, wish: PageWish, patience: Duration) -> Result<Result<request::Response, Refusal>, NoAnswer> {
        Ok(match self.desk.ask(Request::Page(wish), patience).await? {
            request::Response::Refused(refusal) => Err(refusal),
            response => Ok(response),
        })
    }
}

//! Where the bridge's own doors (the HTTP API, the page for signing in) hand in a [`Request`] and wait for what the engine says.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use crate::domain::{
    Input, Ticket,
    request::{Request, Response},
};

/// Requests that wait at once, of all people together. Whoever comes then is told to come again.
pub const PLACES: usize = 64;

/// Hands requests to the engine.
#[derive(Debug)]
pub struct Desk {
    mailbox: mpsc::Sender<Input>,
    next: AtomicU64,
    waiting: Mutex<HashMap<Ticket, oneshot::Sender<Response>>>,
    places: Semaphore,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Too many wait.
    #[error("The bridge is busy. Please try again in a moment.")]
    Busy,
    /// The engine has not answered in the time given. What was asked may still be done.
    #[error("This takes longer than usual. Please try again in a moment.")]
    Late,
    /// The bridge is ending.
    #[error("The bridge is stopping. Please try again in a moment.")]
    Stopping,
}

impl Desk {
    /// `mailbox` is the engine's, bounded.
    pub fn new(mailbox: mpsc::Sender<Input>) -> Arc<Self> {
        Arc::new(Self {
            mailbox,
            next: AtomicU64::default(),
            waiting: Mutex::default(),
            places: Semaphore::new(PLACES),
        })
    }

    /// Asks, and waits so long for the answer.
    ///
    /// # Errors
    /// There is none.
    pub async fn ask(&self, request: Request, patience: Duration) -> Result<Response, NoAnswer> {
        let Ok(_place) = self.places.try_acquire() else { return Err(NoAnswer::Busy) };
        let waiting = self.draw();
        let Waiting { ticket, .. } = waiting;
        let answer = async {
            self.mailbox.send(Input::Requested { ticket, request }).await.map_err(|_| NoAnswer::Stopping)?;
            waiting.answer().await.ok_or(NoAnswer::Stopping)
        };
        tokio::select! {
            answer = timeout(patience, answer) => answer.unwrap_or(Err(NoAnswer::Late)),
            () = self.mailbox.closed() => Err(NoAnswer::Stopping),
        }
    }

    /// The engine has answered ([`crate::domain::Output::Respond`]). Whoever asked may have gone away.
    pub fn answer(&self, ticket: Ticket, response: Response) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
        if let Some(tell) = waiting {
            // The other end may have gone away in this instant.
            let _ = tell.send(response);
        }
    }

    fn draw(&self) -> Waiting<'_> {
        let ticket = Ticket(self.next.fetch_add(1, Ordering::Relaxed));
        let (tell, told) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(ticket, tell);
        Waiting { desk: self, ticket, told: Some(told) }
    }
}

/// A drawn ticket; given back when it is dropped.
struct Waiting<'a> {
    desk: &'a Desk,
    ticket: Ticket,
    told: Option<oneshot::Receiver<Response>>,
}

impl Waiting<'_> {
    async fn answer(mut self) -> Option<Response> {
        self.told.take()?.await.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.desk.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::request::Wish;

    fn request() -> Request {
        Request::Person { owner: ruma::owned_user_id!("@romeo:h.test"), wish: Wish::Flows }
    }

    #[tokio::test]
    async fn each_gets_its_own_answer_and_nothing_stays_behind() {
        let (mailbox, mut inputs) = mpsc::channel(4);
        let desk = Desk::new(mailbox);
        let second = Arc::clone(&desk);
        let asked = tokio::spawn(async move {
            let Some(Input::Requested { ticket, .. }) = inputs.recv().await else { panic!() };
            second.answer(Ticket(ticket.0 + 1), Response::Done);
            second.answer(ticket, Response::Flows(Vec::new()));
            inputs
        });
        let answer = desk.ask(request(), Duration::from_mins(1)).await;
        assert!(matches!(answer, Ok(Response::Flows(_))), "{answer:?}");
        let inputs = asked.await.unwrap();
        assert_eq!(desk.ask(request(), Duration::ZERO).await.unwrap_err(), NoAnswer::Late);
        drop(inputs);
        assert_eq!(desk.ask(request(), Duration::from_mins(1)).await.unwrap_err(), NoAnswer::Stopping);
        assert!(desk.waiting.lock().unwrap().is_empty());
        assert_eq!(desk.places.available_permits(), PLACES);
    }

    #[tokio::test]
    async fn beyond_the_places_nobody_waits() {
        let (mailbox, _inputs) = mpsc::channel(PLACES);
        let desk = Desk::new(mailbox);
        let crowd: Vec<_> = (0..PLACES).map(|_| desk.places.try_acquire().unwrap()).collect();
        assert_eq!(desk.ask(request(), Duration::from_mins(1)).await.unwrap_err(), NoAnswer::Busy);
        drop(crowd);
    }
}

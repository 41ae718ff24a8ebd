//! Who waits for which input to become durable.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::oneshot;

use crate::domain::Ticket;

/// Requests that wait until the engine has committed what they brought. The number waiting is bounded by
/// [`super::appservice::TRANSACTIONS_AT_ONCE`].
#[derive(Debug, Default)]
pub struct Tickets {
    next: AtomicU64,
    waiting: Mutex<HashMap<Ticket, oneshot::Sender<()>>>,
}

impl Tickets {
    /// Draws a ticket. The place in the queue is given up when the returned value is dropped.
    pub fn draw(&self) -> Waiting<'_> {
        let ticket = Ticket(self.next.fetch_add(1, Ordering::Relaxed));
        let (tell, told) = oneshot::channel();
        self.lock().insert(ticket, tell);
        Waiting { tickets: self, ticket, told }
    }

    /// The input behind the ticket is durable ([`crate::domain::Output::Answer`]). A ticket whose request has gone away
    /// is ignored: the homeserver repeats the transaction.
    pub fn answer(&self, ticket: Ticket) {
        if let Some(tell) = self.lock().remove(&ticket) {
            // The other end may have gone away in this instant.
            let _ = tell.send(());
        }
    }

    /// The input behind the ticket was not taken in ([`crate::domain::Output::Refuse`]).
    pub fn refuse(&self, ticket: Ticket) {
        drop(self.lock().remove(&ticket));
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ticket, oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A drawn ticket.
#[derive(Debug)]
pub struct Waiting<'a> {
    tickets: &'a Tickets,
    ticket: Ticket,
    told: oneshot::Receiver<()>,
}

impl Waiting<'_> {
    /// Its number, which goes to the engine with the input.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Resolves to true once [`Tickets::answer`] was called, to false after [`Tickets::refuse`].
    pub async fn answered(&mut self) -> bool {
        (&mut self.told).await.is_ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.tickets.lock().remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ticket_is_answered_once_and_gives_up_its_place() {
        let tickets = Tickets::default();
        let mut first = tickets.draw();
        let second = tickets.draw();
        assert_ne!(first.ticket(), second.ticket());
        assert_eq!(tickets.waiting(), 2);
        tickets.answer(first.ticket());
        assert!(first.answered().await);
        drop(second);
        assert_eq!(tickets.waiting(), 0);
        let mut third = tickets.draw();
        tickets.refuse(third.ticket());
        assert!(!third.answered().await);
        tickets.answer(Ticket(99));
    }
}

//! What happened, to be awaited by tests and told on the control channel.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::settings::{MAX_JOURNAL, Status};

/// Something that a scripted contact received, or a client's coming and going.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A message for a scripted contact.
    Message {
        /// The contact's bare JID.
        to: String,
        /// The sender's full JID.
        from: String,
        /// The stanza's id.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// The body.
        text: String,
        /// The stamp of a `<delay/>` that the sender put in.
        #[serde(skip_serializing_if = "Option::is_none")]
        stamp: Option<String>,
        /// Whether the contact was offline: the message went to the offline store.
        stored: bool,
    },
    /// A chat state for a scripted contact, with or without a body.
    ChatState {
        /// The contact's bare JID.
        to: String,
        /// The sender's full JID.
        from: String,
        /// The state's element name (XEP-0085).
        state: String,
    },
    /// A scripted contact sees someone's presence.
    Presence {
        /// The contact's bare JID.
        to: String,
        /// The full JID of who is seen.
        from: String,
        /// What they are.
        status: Status,
        /// Their personal message.
        text: String,
    },
    /// A scripted contact is asked, answered or left.
    Subscription {
        /// The contact's bare JID.
        to: String,
        /// The other's bare JID.
        from: String,
        /// `subscribe`, `subscribed`, `unsubscribe` or `unsubscribed`.
        kind: String,
    },
    /// A client signed in and is bound.
    SignedIn {
        /// The account's bare JID.
        account: String,
        /// The client's full JID.
        jid: String,
    },
    /// A client is gone.
    SignedOut {
        /// The account's bare JID.
        account: String,
        /// The client's full JID.
        jid: String,
    },
    /// A sign-in was refused.
    Refused {
        /// The account's bare JID, where the token names one.
        #[serde(skip_serializing_if = "Option::is_none")]
        account: Option<String>,
    },
}

impl Event {
    /// The account that it concerns.
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::Message { to, .. }
            | Self::ChatState { to, .. }
            | Self::Presence { to, .. }
            | Self::Subscription { to, .. } => Some(to),
            Self::SignedIn { account, .. } | Self::SignedOut { account, .. } => Some(account),
            Self::Refused { account } => account.as_deref(),
        }
    }

    /// The text of a message.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Message { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// The last [`MAX_JOURNAL`] events, numbered.
pub struct Journal {
    kept: Mutex<VecDeque<Event>>,
    written: watch::Sender<u64>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { kept: Mutex::default(), written: watch::Sender::new(0) }
    }
}

impl Journal {
    /// Writes an event down and wakes who waits.
    pub fn write(&self, event: Event) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == MAX_JOURNAL {
            kept.pop_front();
        }
        kept.push_back(event);
        self.written.send_modify(|count| *count += 1);
    }

    /// How many events were written.
    pub fn len(&self) -> u64 {
        *self.written.borrow()
    }

    fn read(&self, number: u64) -> Result<Option<Event>, JournalError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.len().saturating_sub(kept.len() as u64);
        let index = number.checked_sub(first).ok_or(JournalError::Lost)?;
        Ok(usize::try_from(index).ok().and_then(|index| kept.get(index)).cloned())
    }
}

/// Why no event comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It was too long ago.
    #[error("the journal no longer holds the event to be read next")]
    Lost,
    /// It did not come in time.
    #[error("the awaited event did not come in time")]
    TimedOut,
    /// The service is gone.
    #[error("the service has ended")]
    Ended,
}

/// Reads the journal in order, for one account or for all.
pub struct Inbox {
    journal: Arc<Journal>,
    written: watch::Receiver<u64>,
    account: Option<String>,
    next: u64,
}

impl Inbox {
    /// From event number `next` on.
    pub fn new(journal: Arc<Journal>, account: Option<String>, next: u64) -> Self {
        let written = journal.written.subscribe();
        Self { journal, written, account, next }
    }

    /// The next event, when it comes.
    pub async fn next(&mut self) -> Result<Event, JournalError> {
        loop {
            while let Some(event) = self.journal.read(self.next)? {
                self.next += 1;
                if self.account.is_none() || self.account.as_deref() == event.account() {
                    return Ok(event);
                }
            }
            let next = self.next;
            self.written.wait_for(|count| *count > next).await.map_err(|_| JournalError::Ended)?;
        }
    }

    /// The next event that `wanted` picks something from; the others are passed over.
    pub async fn wait<T>(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(&Event) -> Option<T>,
    ) -> Result<T, JournalError> {
        let search = async {
            loop {
                if let Some(found) = wanted(&self.next().await?) {
                    return Ok(found);
                }
            }
        };
        tokio::time::timeout(limit, search).await.map_err(|_| JournalError::TimedOut)?
    }

    /// The text of the next message.
    pub async fn message(&mut self, limit: Duration) -> Result<String, JournalError> {
        self.wait(limit, |event| event.text().map(str::to_owned)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_reads_too_late_is_told_so() {
        let journal = Arc::new(Journal::default());
        let mut inbox = Inbox::new(Arc::clone(&journal), None, 0);
        for number in 0..=MAX_JOURNAL {
            journal.write(Event::Refused { account: Some(number.to_string()) });
        }
        assert_eq!(inbox.next().await, Err(JournalError::Lost));
        let mut inbox = Inbox::new(journal, Some("7".into()), 1);
        assert_eq!(inbox.next().await, Ok(Event::Refused { account: Some("7".into()) }));
    }
}

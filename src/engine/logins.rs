//! How a person's logins are: what `list-logins` and `ping` say.

use std::fmt::Write as _;

use ruma::{OwnedEventId, OwnedUserId};

use super::{Engine, session::Phase};
use crate::{
    domain::{
        LoginId, Timestamp,
        effect::{Effect, Notice, Sender},
        request::{Connection, LoginState},
    },
    store::{StoreError, login::Login, portal::Source},
};

/// How many messages wait in one direction, and since when the oldest does.
#[derive(Debug, Default)]
struct Queue {
    count: usize,
    oldest: Option<Timestamp>,
}

impl Queue {
    fn add(&mut self, since: Option<Timestamp>) {
        self.count += 1;
        self.oldest = [self.oldest, since].into_iter().flatten().min();
    }

    /// Says it behind the rest of a line; nothing, where nothing waits.
    fn tell(&self, line: &mut String, one: &str, more: &str) {
        if self.count == 0 {
            return;
        }
        let what = if self.count == 1 { one } else { more };
        let _ = write!(line, "; {} {what}", self.count);
        if let Some(oldest) = self.oldest {
            let whose = if self.count == 1 { "" } else { "the oldest " };
            let _ = write!(line, ", {whose}since {}", oldest.to_person());
        }
    }
}

impl Engine {
    pub(super) fn list_logins(&self, owner: &OwnedUserId) -> Result<Notice, StoreError> {
        let logins = self.logins_of(owner)?;
        if logins.is_empty() {
            return Ok(Notice::plain("You are not signed in to any account. Use `login` to begin."));
        }
        let mut text = "Your accounts:".to_owned();
        for login in logins {
            let _ = write!(text, "\n- {} ({}): {}", login.account, login.network, self.state_of(&login)?);
            self.to_contacts(&login.id)?.tell(
                &mut text,
                "of your messages waits to be sent",
                "of your messages wait to be sent",
            );
            self.to_rooms(&login.id)?.tell(
                &mut text,
                "message for you waits to come into its room",
                "messages for you wait to come into their rooms",
            );
        }
        if self.bridge.puppeted(owner) {
            text.push_str("\nDouble puppeting is on: what you write in other apps appears here as yours.");
        } else if self.bridge.settings.double_puppet {
            text.push_str(
                "\nDouble puppeting does not work for you: what you write in other apps appears from a ghost.",
            );
        }
        Ok(Notice::plain(text))
    }

    fn state_of(&self, login: &Login) -> Result<String, StoreError> {
        if let Some(why) = &login.suspended {
            let row = self.bridge.store.suspended(&login.id)?;
            let since = row.map(|row| format!(" since {}", row.since.to_person())).unwrap_or_default();
            let how = if row.is_some_and(|row| row.rejected) { "rejected" } else { "suspended" };
            return Ok(format!("signed out{since}, {how} because {why}"));
        }
        let Some(live) = self.lives.get(&login.id) else { return Ok("not connected".to_owned()) };
        let since = live.down_since.map(|since| format!(" since {}", since.to_person())).unwrap_or_default();
        Ok(match (&live.phase, &live.last_end) {
            (Phase::Up, _) if live.caught_up() => "online".to_owned(),
            (Phase::Up, _) => "catching up".to_owned(),
            (Phase::Connecting, None) => "connecting".to_owned(),
            (Phase::Connecting, Some(end)) => format!("connecting again, not connected{since}: {end}"),
            (Phase::Down, Some(end)) => format!("not connected{since}: {end}; I go on trying"),
            (Phase::Down, None) => "not connected yet".to_owned(),
        })
    }

    /// The same for a program.
    pub(super) fn login_state(&self, login: &Login) -> Result<LoginState, StoreError> {
        let live = self.lives.get(&login.id);
        let suspended = self.bridge.store.suspended(&login.id)?;
        let connection = self.connection_of(&login.id, login.suspended.is_some());
        let since = match connection {
            Connection::SignedOut => suspended.map(|row| row.since),
            Connection::Connected | Connection::CatchingUp => None,
            Connection::Down | Connection::Connecting => live.and_then(|live| live.down_since),
        };
        let reason = login.suspended.clone().or_else(|| {
            let end = live.filter(|_| connection == Connection::Down)?.last_end.as_ref()?;
            Some(end.to_string())
        });
        Ok(LoginState {
            id: login.id.clone(),
            network: login.network.clone(),
            account: login.account.clone(),
            name: login.own_name.clone(),
            space: self.bridge.store.space(&login.id)?.and_then(|space| space.room),
            connection,
            since,
            reason,
        })
    }

    /// What the person said that is not known to be at the server. A long text in several stanzas is one message.
    fn to_contacts(&self, login: &LoginId) -> Result<Queue, StoreError> {
        let mut queue = Queue::default();
        let mut last: Option<OwnedEventId> = None;
        for debt in self.bridge.store.debts_to_contacts(login)? {
            let Effect::SendMessage(outgoing) = debt.effect else { continue };
            if last.as_ref() != Some(&outgoing.event) {
                queue.add(Some(debt.made));
                last = Some(outgoing.event);
            }
        }
        Ok(queue)
    }

    /// What was said to the person, or by them elsewhere, that is not in its room.
    fn to_rooms(&self, login: &LoginId) -> Result<Queue, StoreError> {
        let mut queue = Queue::default();
        for debt in self.bridge.store.debts_to_rooms(login)? {
            if matches!(debt.effect, Effect::SendEvent { sender: Sender::Ghost(_) | Sender::Owner, .. }) {
                queue.add(Some(debt.made));
            }
        }
        for (_, held) in self.bridge.store.held(login)? {
            // Only what came as it was said waits since then.
            queue.add((held.source == Source::Live).then_some(held.at));
        }
        Ok(queue)
    }
}

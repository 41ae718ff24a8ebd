//! Messages: `chat` is the only type; chat states with and without a body; the offline store (XEP-0085, XEP-0203).
use time::OffsetDateTime;

use super::archive::Direction;
use super::journal::Event;
use super::settings::{MAX_OFFLINE, Status};
use super::wire::{CLIENT, Node, attr, bare, error_reply, esc, resource};
use super::world::{ChatState, SCRIPTED, ServiceError, World, stamp};

const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
const DELAY: &str = "urn:xmpp:delay";

/// A message kept for someone who is offline.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The sender's full JID.
    pub from: String,
    /// The stanza's id.
    pub id: Option<String>,
    /// The body.
    pub text: String,
    /// When it was sent.
    pub stamp: OffsetDateTime,
}

/// A message on its way: what Messenger understands of it, the rest is lost.
#[derive(Debug, Clone, Default)]
pub struct Chat {
    /// The sender's full JID.
    pub from: String,
    /// The addressee, bare or full.
    pub to: String,
    /// The stanza's id.
    pub id: Option<String>,
    /// The body.
    pub body: Option<String>,
    /// The chat state.
    pub state: Option<ChatState>,
    /// The stamp of a `<delay/>`.
    pub stamp: Option<String>,
}

impl Chat {
    fn to_xml(&self, to: &str) -> String {
        let state = self.state.map(|state| format!("<{} xmlns='{CHAT_STATES}'/>", state.name())).unwrap_or_default();
        let delay = self.stamp.as_deref().map(|it| format!("<delay xmlns='{DELAY}'{}/>", attr("stamp", Some(it))));
        format!(
            "<message type='chat' from='{}' to='{}'{}>{}{state}{}</message>",
            esc(&self.from),
            esc(to),
            attr("id", self.id.as_deref()),
            self.body.as_deref().map(|body| format!("<body>{}</body>", esc(body))).unwrap_or_default(),
            delay.unwrap_or_default()
        )
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A client or a scripted contact has it.
    Delivered,
    /// It waits for its addressee.
    Stored,
    /// A chat state for someone who is not there.
    Dropped,
    /// Nobody there, nothing kept.
    Refused,
}

impl World {
    /// A client's message stanza.
    pub fn message(&mut self, id: u64, stanza: &Node) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (account, from) = (session.account.clone(), session.jid.clone());
        let to = stanza.attr("to").unwrap_or_default().to_owned();
        match stanza.attr("type") {
            Some("chat") => {}
            // An error is never answered.
            Some("error") => return,
            _ => {
                self.count(&account, |counters| counters.messages_refused += 1);
                self.bounce(id, stanza, &to, &from);
                return;
            }
        }
        let child = |name, ns| stanza.child(name, ns);
        let chat = Chat {
            to: to.clone(),
            id: stanza.attr("id").map(str::to_owned),
            body: child("body", CLIENT).map(|body| body.text.clone()),
            state: ChatState::ALL.into_iter().find(|state| child(state.name(), CHAT_STATES).is_some()),
            stamp: child("delay", DELAY).and_then(|delay| delay.attr("stamp")).map(str::to_owned),
            from: from.clone(),
        };
        if chat.body.is_none() && chat.state.is_none() {
            return;
        }
        self.count(&account, |counters| {
            counters.messages += u64::from(chat.body.is_some());
            counters.chat_states += u64::from(chat.state.is_some());
        });
        if self.deliver(&account, &chat) == Fate::Refused {
            self.bounce(id, stanza, &to, &from);
        }
    }

    fn bounce(&mut self, id: u64, stanza: &Node, to: &str, from: &str) {
        let addressee = if to.is_empty() { self.domain.clone() } else { to.to_owned() };
        let reply = error_reply(stanza, Some(&addressee), from, "cancel", "service-unavailable");
        self.send(id, reply);
    }

    /// A scripted contact writes.
    pub fn say(
        &mut self,
        from: &str,
        to: &str,
        body: Option<&str>,
        state: Option<ChatState>,
    ) -> Result<Fate, ServiceError> {
        let from = self.resolve(from)?;
        let to = self.resolve(to)?;
        let number = self.journal.len();
        let chat = Chat {
            from: format!("{from}/{SCRIPTED}"),
            id: body.map(|_| format!("scripted-{number}-{}", rand::random::<u32>())),
            to,
            body: body.map(str::to_owned),
            state,
            stamp: None,
        };
        Ok(self.deliver(&from, &chat))
    }

    fn deliver(&mut self, sender: &str, chat: &Chat) -> Fate {
        let to = bare(&chat.to);
        let Some(person) = self.people.get(&to) else { return Fate::Refused };
        let scripted = !person.had_client;
        let on_stage = person.stage.status != Status::Offline;
        let now = OffsetDateTime::now_utc();
        let mut clients = self.available_sessions(&to);
        if let Some(wanted) = resource(&chat.to) {
            let full = format!("{to}/{wanted}");
            let exact = |id: &u64| self.sessions.get(id).is_some_and(|session| session.jid == full);
            if let Some(one) = clients.iter().copied().find(exact) {
                clients = vec![one];
            }
        }
        for &id in &clients {
            if let Some(session) = self.sessions.get(&id) {
                let stanza = chat.to_xml(&session.jid);
                self.send(id, stanza);
            }
        }
        let there = !clients.is_empty() || (scripted && on_stage);
        let fate = match &chat.body {
            _ if there => Fate::Delivered,
            None => Fate::Dropped,
            Some(text) => {
                let stored = Stored { from: chat.from.clone(), id: chat.id.clone(), text: text.clone(), stamp: now };
                if self.switches.offline_store && self.store(&to, stored) { Fate::Stored } else { Fate::Refused }
            }
        };
        if let (Some(text), true) = (&chat.body, fate != Fate::Refused) {
            self.archive_line(sender, &to, text, now, Direction::Sent);
            self.archive_line(&to, sender, text, now, Direction::Received);
            let event = Event::Message {
                to: to.clone(),
                from: chat.from.clone(),
                id: chat.id.clone(),
                text: text.clone(),
                stamp: chat.stamp.clone(),
                stored: fate == Fate::Stored,
            };
            self.tell_script(&to, event);
        }
        if let (Some(state), Fate::Delivered) = (chat.state, fate) {
            let state = state.name().to_owned();
            self.tell_script(&to, Event::ChatState { to: to.clone(), from: chat.from.clone(), state });
        }
        fate
    }

    /// Keeps a message; false when the store is full.
    pub fn store(&mut self, to: &str, message: Stored) -> bool {
        let Some(person) = self.people.get_mut(to) else { return false };
        let room = person.offline.len() < MAX_OFFLINE;
        if room {
            person.offline.push_back(message);
        }
        room
    }

    /// Delivers what was kept, oldest first, each with its stamp.
    pub fn deliver_offline(&mut self, id: u64, account: &str) {
        let Some(person) = self.people.get_mut(account) else { return };
        let mut kept: Vec<Stored> = std::mem::take(&mut person.offline).into();
        kept.sort_by_key(|message| message.stamp);
        let Some(jid) = self.sessions.get(&id).map(|session| session.jid.clone()) else { return };
        for message in kept {
            let chat = Chat {
                from: message.from,
                id: message.id,
                body: Some(message.text),
                stamp: Some(stamp(message.stamp)),
                ..Chat::default()
            };
            self.send(id, chat.to_xml(&jid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_body_stays_a_body() {
        let chat = Chat { body: Some(String::new()), ..Chat::default() };
        assert!(chat.to_xml("a").contains("<body></body>"));
    }
}

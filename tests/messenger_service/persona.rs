//! Scripted contacts that answer by themselves: they show presence, type for a while, then answer.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::journal::Event;
use super::service::Service;
use super::settings::Status;
use super::world::ChatState;

type Reply = dyn Fn(&str) -> Option<String> + Send + Sync;

/// How a scripted contact behaves.
#[derive(Clone)]
pub struct Persona {
    /// The state that it shows.
    pub status: Status,
    /// Its personal message.
    pub text: String,
    /// How long it types.
    pub typing: Duration,
    reply: Arc<Reply>,
}

impl Persona {
    /// One that answers as the closure says, or not when that gives nothing.
    pub fn new(reply: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { status: Status::Online, text: String::new(), typing: Duration::from_millis(600), reply: Arc::new(reply) }
    }

    /// One that repeats what it hears.
    pub fn echo() -> Self {
        Self { text: "Repeats what you say".into(), ..Self::new(|said| Some(format!("You said: {said}"))) }
    }

    /// One that makes small talk.
    pub fn friendly() -> Self {
        Self { text: "Glad to chat".into(), ..Self::new(|said| Some(small_talk(said))) }
    }

    /// One that has no time.
    pub fn busy() -> Self {
        let reply = |_: &str| Some("I am busy now, let us talk later.".to_owned());
        Self { status: Status::Busy, text: "In a meeting".into(), ..Self::new(reply) }
    }

    /// One of the above by its name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "echo" => Some(Self::echo()),
            "friendly" => Some(Self::friendly()),
            "busy" => Some(Self::busy()),
            _ => None,
        }
    }

    /// The same, showing that state and personal message.
    #[must_use]
    pub fn showing(self, status: Status, text: &str) -> Self {
        Self { status, text: text.to_owned(), ..self }
    }

    /// The same, typing that long.
    #[must_use]
    pub fn typing(self, typing: Duration) -> Self {
        Self { typing, ..self }
    }
}

fn small_talk(said: &str) -> String {
    let said = said.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["hello", "hi ", "good morning", "good evening"]) || said == "hi" {
        "Hello! How nice to hear from you.".into()
    } else if has(&["how are you", "how is it going"]) {
        "Very well, thank you. And you?".into()
    } else if has(&["bye", "good night", "see you"]) {
        "See you soon!".into()
    } else if said.ends_with('?') {
        "Good question. I would have to think about it.".into()
    } else {
        "I see. Tell me more.".into()
    }
}

/// Who is being played.
#[derive(Default)]
pub struct Personas {
    playing: Mutex<HashMap<String, AbortHandle>>,
}

impl Personas {
    /// Begins to play an account, or ends that. `service` must not keep the service alive.
    pub fn play(&self, service: &Service, account: String, persona: Option<Persona>) {
        let mut playing = self.playing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = playing.remove(&account) {
            before.abort();
        }
        let Some(persona) = persona else { return };
        let Ok(mut inbox) = service.messages_from_now(&account) else { return };
        let (service, contact) = (service.clone(), account.clone());
        let stop = service.stopping();
        let act = async move {
            while let Ok(event) = inbox.next().await {
                let Event::Message { from, text, stored: false, .. } = event else { continue };
                let Some(answer) = (persona.reply)(&text) else { continue };
                // The accounts exist for as long as the service does.
                let _ = service.chat_state(&contact, &from, ChatState::Composing);
                tokio::time::sleep(persona.typing).await;
                let _ = service.say_with_state(&contact, &from, &answer, ChatState::Active);
            }
        };
        let task = tokio::spawn(async move {
            tokio::select! {
                () = act => {}
                () = stop.cancelled() => {}
            }
        });
        playing.insert(account, task.abort_handle());
    }
}

//! The other side of the bridge: contacts on Prosody, or on the loopback Messenger service.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::load::{Toward, Way};
use crate::end_to_end::clients::Contact;
use crate::end_to_end::servers::{Account, Prosody};
use crate::messenger_service::{self, Event, Service};

/// Contacts that talk with one account.
pub trait Network: Sync {
    /// A contact says something; its server has it when this returns.
    fn say(&self, contact: usize, text: &str);

    /// The texts that a contact was sent by the account so far, in order. `at_last`: as its server has them in the end.
    fn heard(&self, contact: usize, at_last: bool) -> Vec<String>;

    /// Whether the server lost a text of this way itself: one that went to the network and that it had taken from the
    /// bridge, or one that went to Matrix and that it never had for the bridge.
    fn lost_itself(&self, way: Way, text: &str) -> bool;
}

/// slixmpp on Prosody.
pub struct OnProsody {
    pub server: Prosody,
    pub account: Account,
    pub contacts: Vec<Contact>,
}

impl Network for OnProsody {
    fn say(&self, contact: usize, text: &str) {
        self.contacts[contact].say_surely(&self.account.jid, text, &format!("load-{}", text.replace(' ', "-")));
    }

    fn heard(&self, contact: usize, at_last: bool) -> Vec<String> {
        let contact = &self.contacts[contact];
        // What came to a client that was just losing its connection is only in the archive.
        if at_last { contact.archived(&self.account.jid) } else { contact.heard(&self.account.jid) }
    }

    fn lost_itself(&self, way: Way, text: &str) -> bool {
        // The server writes first to the sender's archive, and can be killed before it has written to the receiver's.
        let own = Contact::connect(&self.account);
        let contact = &self.contacts[way.room].jid;
        let had = own.archive_with(contact).iter().any(|message| message["body"] == text);
        own.leave();
        had == (way.toward == Toward::Network)
    }
}

/// A text, and when it was heard.
type Heard = (Instant, String);

/// Scripted contacts of the Messenger service.
pub struct OnMessenger {
    pub service: Service,
    pub account: messenger_service::Account,
    pub contacts: Vec<messenger_service::Account>,
    heard: Vec<Arc<Mutex<Vec<Heard>>>>,
}

impl OnMessenger {
    /// Listens to what the contacts are sent from now on. Must be called within the service's runtime.
    pub fn new(
        service: Service,
        account: messenger_service::Account,
        contacts: Vec<messenger_service::Account>,
    ) -> Self {
        let listen = |contact: &messenger_service::Account| {
            let mut inbox = service.messages_from_now(&contact.jid).expect("the contact's messages");
            let heard = Arc::new(Mutex::new(Vec::new()));
            let told = Arc::clone(&heard);
            tokio::spawn(async move {
                while let Ok(event) = inbox.next().await {
                    if let Event::Message { text, .. } = event {
                        told.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), text));
                    }
                }
            });
            heard
        };
        let heard = contacts.iter().map(listen).collect();
        Self { service, account, contacts, heard }
    }

    /// When a contact heard a text, each time that it did.
    pub fn heard_at(&self, contact: usize, text: &str) -> Vec<Instant> {
        let heard = self.heard[contact].lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|(_, heard)| heard == text).map(|(at, _)| *at).collect()
    }
}

impl Network for OnMessenger {
    fn say(&self, contact: usize, text: &str) {
        self.service.say(&self.contacts[contact].jid, &self.account.jid, text).expect("said");
    }

    fn heard(&self, contact: usize, _at_last: bool) -> Vec<String> {
        let heard = self.heard[contact].lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().map(|(_, text)| text.clone()).collect()
    }

    fn lost_itself(&self, _way: Way, _text: &str) -> bool {
        // The service hands on what it takes in one step.
        false
    }
}

//! The loopback Messenger service: what Windows Live Messenger's XMPP service was between December 2011 and
//! October 2013, as far as it is known, on loopback, for the demo and the tests.
//!
//! It is a server of its own and shares no code with the bridge: whatever the bridge misunderstands about the
//! protocol, it cannot misunderstand here in the same way. Two programs include these files: the test binary and
//! `examples/messenger-service.rs`.
//!
//! | file | what it holds |
//! |---|---|
//! | [`settings`] | addresses, certificates and every switch of the service's behaviour |
//! | [`service`] | [`Service`]: start it, drive its scripted contacts, ask what it saw |
//! | [`world`] | the state: accounts, sessions, who hears what |
//! | [`journal`] | what happened to scripted contacts, to be awaited |
//! | [`session`] | one connection, from STARTTLS to its end |
//! | [`wire`], [`tls`] | bytes to stanzas and back; certificates |
//! | [`iq`], [`roster`], [`presence`], [`chat`], [`archive`] | the supported extensions, a file each |
//! | [`oauth`], [`tokens`] | the OAuth 2.0 endpoints and what they hand out |
//! | [`persona`], [`cast`] | contacts that answer by themselves; a ready cast of them |
//! | [`control`] | the same operations as JSON lines |
//!
//! Where nothing is recorded about the old service, this one assumes:
//! - a JID's localpart is 16 hex digits, which follow from the e-mail address;
//! - of a message, body, chat state and `<delay/>` pass, of a presence state and text; anything else is lost;
//! - messages to people who are no contacts pass; invitations wait until they are answered;
//! - a roster change beyond adding is `not-allowed`, adding someone unknown is `item-not-found`; pushes have no `from`;
//! - a cut, for idleness or on request, comes without a word; a full queue is cut as well;
//! - a vCard set with a photo breaks the parser as a large stanza does;
//! - the archive's empty reply is an empty `<chat/>` or `<list/>`, and the archive holds what is said live, too;
//! - a refresh token stays good when it has been used, and a new one is handed out each time.
#![allow(dead_code, unused_imports, reason = "two programs include this module and each uses a part of it")]

pub mod archive;
pub mod cast;
pub mod chat;
pub mod control;
pub mod iq;
pub mod journal;
pub mod oauth;
pub mod persona;
pub mod presence;
pub mod roster;
pub mod service;
pub mod session;
pub mod settings;
pub mod tls;
pub mod tokens;
pub mod wire;
pub mod world;

#[cfg(test)]
mod tests;

pub use archive::Direction;
pub use journal::{Event, Inbox, JournalError};
pub use persona::Persona;
pub use service::Service;
pub use settings::{Certificate, Era, IqFrom, Redirect, Refusal, Settings, Status, Switches};
pub use tls::MISMATCHED_NAME;
pub use world::{Account, ChatState, Counters, ServiceError};

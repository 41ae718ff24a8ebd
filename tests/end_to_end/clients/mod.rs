//! Clients that we did not write, each in a process of its own that speaks JSON lines: slixmpp as the contact
//! ([`Contact`]) and matrix-nio as the person ([`Person`]).

mod contact;
mod driver;
mod person;

pub use contact::{Contact, PHOTO, Tls, is_presence};
pub use driver::{Driver, Mark};
pub use person::Person;

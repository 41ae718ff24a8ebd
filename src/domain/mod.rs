//! The vocabulary that every layer speaks: identifiers, addresses, what can happen ([`Input`]), what is owed
//! ([`Effect`](effect::Effect)) and what the shells are asked to do ([`Output`]).
//!
//! Nothing here does I/O, reads a clock or draws a random number.

pub mod address;
pub mod bridge_state;
pub mod capability;
pub mod choice;
pub mod credentials;
pub mod effect;
pub mod feature;
pub mod file;
pub mod id;
pub mod input;
pub mod output;
pub mod pace;
pub mod request;
pub mod stream;
pub mod survey;
pub mod text;
pub mod time;
pub mod verbosity;

pub use address::{Address, BareJid};
pub use id::{DebtId, LoginId, StreamId, Ticket};
pub use input::Input;
pub use output::Output;
pub use time::{Now, Steady, Timestamp, in_words};

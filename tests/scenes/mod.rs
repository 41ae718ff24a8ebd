//! Bilingual plays against the engine alone: the phone sends `<message…>`, the room receives `{…}`. The stage is a
//! homeserver and an XMPP server that never fail; what they are told is written down.

#![allow(clippy::unwrap_used)]

mod doors;
mod history;
mod people;
mod recovery;
mod signing_in;
pub(crate) mod stage;
mod talk;

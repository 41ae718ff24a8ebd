//! Bilingual plays against the engine alone: the phone sends `<message…>`, the room receives `{…}`. The stage is a
//! homeserver and an XMPP server that never fail; what they are told is written down.

#![allow(clippy::unwrap_used)]

mod about;
mod doors;
mod files;
mod history;
mod people;
mod review;
mod signing_in;
mod stage;
mod talk;

//! Bilingual plays against the engine alone: the phone sends `<message…>`, the room receives `{…}`. The stage is a
//! homeserver and an XMPP server that never fail; what they are told is written down.

#![allow(clippy::unwrap_used)]

mod about;
mod admin;
mod blocking;
mod chats;
mod disappearing;
mod doors;
mod failure;
mod files;
mod floods;
mod forged;
mod formatting;
mod history;
mod ignored;
mod long_work;
mod lookup;
mod media;
mod newcomers;
mod numbers;
mod others;
mod people;
mod profiles;
mod puppet;
mod read_state;
mod recovery;
mod review;
mod room_features;
mod rooms;
mod sign_in_doors;
mod signing_in;
mod signing_out;
pub(crate) mod stage;
mod states;
mod talk;

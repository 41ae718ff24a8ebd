//! The Matrix shell: what the homeserver asks of us ([`appservice`]), what we ask of it ([`client`], [`sender`]), and what
//! is worth doing now or not at all ([`typing`], [`presence`]). It moves bytes and holds no rules.

pub mod account_data;
pub mod appservice;
mod calls;
pub mod client;
pub mod counters;
pub mod lists;
pub mod media;
mod named;
pub mod presence;
pub mod presence_task;
pub mod probe;
mod puppet;
pub mod record;
pub mod sender;
pub mod start;
pub mod survey;
pub mod tally;
pub mod tickets;
pub mod transaction;
pub mod typing;

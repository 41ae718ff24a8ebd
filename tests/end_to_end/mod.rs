//! End to end: real servers and clients that we did not write. Needs what `script/setup` installs.
//!
//! Every wait ends at one deadline ([`ground::deadline`], multiplied by the environment's `E2E_PATIENCE`). Each
//! instance's files and logs are in `target/end_to_end/<process id>/` until the next run.

#![allow(clippy::expect_used, reason = "in a test, that is how one says what must hold")]

mod about;
mod bridge;
mod certificates;
mod clients;
mod conversation;
mod doctor;
mod doors;
mod durability;
mod faults;
mod files;
mod formatting;
mod ground;
mod hostile;
mod http;
mod isolation;
mod lists;
mod logins;
mod long_conversation;
mod long_work;
mod media;
mod messenger;
mod newcomer;
mod observing;
mod process;
mod profiles;
mod program;
mod provisioning;
mod puppet;
mod recipes;
mod recovery;
mod refusals;
mod restart;
mod rooms;
mod scripted;
mod servers;
mod side_by_side;
mod sign_in;
mod smoke;
mod start;
mod terminal;
mod waiting;

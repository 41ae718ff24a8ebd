//! messenger-bridge: a Matrix application service that bridges Messenger and every standards-following XMPP server.
//!
//! The layers, each of which imports only from below (`tests/layers.rs` holds it):
//!
//! ```text
//! app                                          wires everything
//! engine | matrix | page | provisioning | web | xmpp
//!                                              the state machine | the async shells
//! translate                                    one file per translated concept
//! bridge | bot | desk                          login, portal, ghost, outbox | text <-> command | requests of the doors
//! store                                        sled, one file per table
//! domain                                       the vocabulary
//! ```
#![forbid(unsafe_code)]

pub mod app;
pub mod bot;
pub mod bridge;
pub mod config;
pub mod desk;
pub mod domain;
pub mod engine;
pub mod matrix;
pub mod page;
pub mod provisioning;
pub mod registration;
pub mod store;
pub mod translate;
pub mod web;
pub mod xmpp;

//! The shells against servers in this process, over real sockets.
mod files;
mod matrix;
mod matrix_appservice;
mod matrix_homeserver;
mod matrix_survey;
mod media;
mod page;
pub mod page_engine;
mod provisioning;
mod xmpp;

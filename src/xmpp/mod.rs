//! The XMPP shell.
pub mod connect;
pub mod frames;
pub mod guard;
pub mod tls;
pub mod sasl;

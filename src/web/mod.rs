//! The web shell: fetches files that contacts link to, and puts files where their servers say. Whatever it is given was
//! chosen by strangers, so it goes to public addresses alone, by TLS, within bounds.
//!
//! ```text
//! address   which addresses are public
//! request   requests, each hop checked
//! sniff     what kind of file the bytes are
//! ```

pub mod address;
pub mod request;
pub mod sniff;

pub use request::{Allowed, Limits, Lookup, Source, SystemLookup, Web, WebError};

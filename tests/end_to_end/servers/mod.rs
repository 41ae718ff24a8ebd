//! Private instances of real servers, each in a folder of its own, on ports of its own, with logs beside its files.

pub mod ejabberd;
pub mod prosody;
pub mod synapse;

use std::sync::atomic::{AtomicUsize, Ordering};

pub use ejabberd::Ejabberd;
pub use prosody::Prosody;
pub use synapse::Synapse;

/// The password of every account of the tests.
pub const PASSWORD: &str = "correct horse";

/// Where an XMPP server is reached. Its certificate is issued by [`super::certificates::Authority::trusted`].
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    pub domain: &'static str,
    pub starttls: u16,
    pub direct_tls: u16,
}

/// An account on an XMPP server.
#[derive(Debug, Clone)]
pub struct Account {
    pub jid: String,
    pub reach: Reach,
}

impl Account {
    pub fn localpart(&self) -> &str {
        self.jid.split_once('@').map_or("", |(local, _)| local)
    }
}

/// A name that no other test of this process uses.
pub fn unique(stem: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    format!("{stem}{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

//! What kind of XMPP server a world has.

/// The abilities of the server, which decide what can be promised.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// It keeps an archive with ids (XEP-0313).
    pub archive: bool,
    /// It has stream management (XEP-0198).
    pub sm: bool,
    /// It is the Messenger service: an archive of ten without ids, no stream management.
    pub messenger: bool,
    /// It keeps messages for people who are away.
    pub keeps_offline: bool,
    /// A refused resumption says how many stanzas were handled.
    pub says_h: bool,
    /// Carbons carry the archive's id.
    pub carbon_ids: bool,
}

impl Config {
    /// The worlds that seeds go through in turn.
    pub const ALL: [Self; 5] = [
        Self { archive: true, sm: true, messenger: false, keeps_offline: true, says_h: false, carbon_ids: true },
        Self { archive: true, sm: false, messenger: false, keeps_offline: true, says_h: false, carbon_ids: false },
        Self { archive: false, sm: true, messenger: false, keeps_offline: true, says_h: true, carbon_ids: false },
        Self { archive: true, sm: true, messenger: false, keeps_offline: false, says_h: true, carbon_ids: false },
        Self { archive: false, sm: false, messenger: true, keeps_offline: true, says_h: false, carbon_ids: false },
    ];

    /// Can every message be promised exactly once?
    pub fn exact(self) -> bool {
        self.archive || self.sm
    }
}

/// A mistake of the driver's that the simulation has to find: what a bridge without the design would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// None.
    Nothing,
    /// Which transactions were handled is forgotten in a crash.
    IdsInMemory,
    /// A transaction is answered before its commit.
    AnswerBeforeCommit,
    /// Stanzas are acknowledged before their commit.
    AckBeforeCommit,
    /// A request that is tried again has another transaction id.
    FreshTxn,
}

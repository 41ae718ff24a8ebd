//! What kind of world a seed makes.

use super::random::Random;

#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// XEP-0313, with stable ids.
    pub archive: bool,
    /// XEP-0198.
    pub sm: bool,
    /// The Messenger service: an archive of the last ten messages without ids, nothing else.
    pub messenger: bool,
    /// A failed resumption says how much the server had handled.
    pub says_h: bool,
    /// Messages for an absent account are kept, with their stamp.
    pub keeps_offline: bool,
    /// Carbons of what the account sent carry the archive's id.
    pub carbon_ids: bool,
    /// Rooms are made for every contact.
    pub rooms: bool,
    /// Double puppeting.
    pub puppets: bool,
    /// The homeserver has not yet installed it in the beginning.
    pub puppets_late: bool,
}

impl Config {
    /// Five kinds of network in turn, the rest by chance.
    pub fn of(seed: u64, random: &mut Random) -> Self {
        let (archive, sm, messenger) = match seed % 5 {
            0 => (true, true, false),
            1 => (true, false, false),
            2 => (false, true, false),
            3 => (false, false, false),
            _ => (false, false, true),
        };
        Self {
            archive,
            sm,
            messenger,
            says_h: random.chance(70),
            keeps_offline: !archive || random.chance(50),
            carbon_ids: random.chance(50),
            rooms: random.chance(70),
            puppets: !(seed / 5).is_multiple_of(3),
            puppets_late: seed / 5 % 3 == 2,
        }
    }
}

/// A fault that is built into the world's shells, to show that the checks would see it in the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    None,
    /// The numbers that ids are made of, and the transactions that were handled, are forgotten at a crash.
    IdsOnlyInMemory,
    /// The homeserver's transaction is answered before the commit.
    AnswerBeforeCommit,
    /// The stanza is acknowledged before the commit.
    AckBeforeCommit,
    /// Each try of a request has a transaction id of its own, and nothing is looked for.
    FreshTransactionId,
    /// Rooms are never read: transactions are believed to come in order.
    NoReview,
    /// What may have been sent before is not looked for.
    NoLook,
    /// What is said in the person's name proves nothing.
    NoProof,
}

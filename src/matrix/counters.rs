//! What the Matrix shell left out, counted by kind, so that silence shows in the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// A kind of thing that was left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Count {
            $($(#[$doc])* $name,)*
        }

        impl Count {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The label in the metrics.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }
    };
}

counts! {
    /// A part of a transaction (`events`, `ephemeral`) that is not a list.
    ListBroken = "list_broken",
    /// A room event that lacks what every event has.
    EventBroken = "event_broken",
    /// An ephemeral event that could not be read, in whole or in part.
    EphemeralBroken = "ephemeral_broken",
    /// An ephemeral event of a type that we do not know.
    EphemeralUnknown = "ephemeral_unknown",
    /// A receipt of another type than `m.read`.
    ReceiptOther = "receipt_other",
    /// A request with a missing token.
    TokenMissing = "token_missing",
    /// A request with a wrong token.
    TokenWrong = "token_wrong",
    /// A transaction that could not be given to the engine; the homeserver repeats it.
    TransactionRefused = "transaction_refused",
    /// A typing notification that found no free place.
    TypingDropped = "typing_dropped",
    /// A typing notification that the homeserver refused.
    TypingFailed = "typing_failed",
    /// A presence update that failed; it is tried again.
    PresenceFailed = "presence_failed",
    /// A ghost beyond the number whose presence is kept in mind.
    PresenceForgotten = "presence_forgotten",
    /// A call to the homeserver that failed and is worth trying again.
    CallTransient = "call_transient",
    /// A call to the homeserver that was refused for good.
    CallPermanent = "call_permanent",
}

/// Counters that only rise; read by the metrics.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Count::ALL.len()]);

impl Counters {
    /// Counts one.
    pub fn add(&self, count: Count) {
        self.0[count as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_place_and_label() {
        let counters = Counters::default();
        for (index, count) in Count::ALL.iter().enumerate() {
            assert_eq!(*count as usize, index);
            counters.add(*count);
            assert_eq!(counters.get(*count), 1);
        }
        let labels: std::collections::BTreeSet<_> = Count::ALL.iter().map(|c| c.label()).collect();
        assert_eq!(labels.len(), Count::ALL.len());
    }
}

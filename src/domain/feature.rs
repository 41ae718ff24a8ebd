//! What a contact's clients can do, as far as rules ask for it.

use serde::{Deserialize, Serialize};

/// A set of abilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features(u32);

/// One ability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Feature {
    /// XEP-0308.
    Edits,
    /// XEP-0424.
    Retractions,
    /// XEP-0444.
    Reactions,
    /// XEP-0461.
    Replies,
    /// XEP-0184.
    Receipts,
    /// XEP-0333.
    Markers,
    /// XEP-0071.
    Xhtml,
    /// XEP-0224.
    Attention,
    /// XEP-0466.
    Ephemeral,
}

impl Features {
    /// Everything.
    pub const ALL: Self = Self(u32::MAX);

    /// With one more.
    #[must_use]
    pub fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u8)
    }

    /// With all of another set.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Is it among them?
    pub fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u8 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abilities_are_told_apart() {
        let features = Features::default().with(Feature::Edits).and(Features::default().with(Feature::Attention));
        assert!(features.has(Feature::Edits) && features.has(Feature::Attention) && !features.has(Feature::Replies));
    }
}

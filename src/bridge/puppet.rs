//! Double puppeting: what people do elsewhere is done in Matrix in their own name.

use std::collections::BTreeMap;

use ruma::{OwnedUserId, UserId};

use super::Bridge;
use crate::{
    domain::effect::{Effect, Lane},
    store::StoreError,
};

/// How long a person is not acted for after the homeserver refused our token for them, in milliseconds.
const REFUSED_FOR: u64 = 10 * 60 * 1_000;

/// Whom the homeserver does not let us act for, until which uptime. One row a person who has a login.
#[derive(Debug, Default)]
pub struct Puppets {
    refused: BTreeMap<OwnedUserId, u64>,
}

impl Bridge {
    /// May we act in this person's name? Only for users of our own homeserver, where the operator has set it up, and the
    /// homeserver has not just refused it.
    pub fn puppeted(&self, owner: &UserId) -> bool {
        self.settings.double_puppet
            && owner.server_name() == self.homeserver.name
            && !self.is_ours(owner)
            && self.puppets.refused.get(owner).is_none_or(|until| *until <= self.now.uptime)
    }

    /// Owes something that is done in a person's own name beside speaking, where we may act for them.
    pub fn owe_person(&mut self, owner: &UserId, effect: Effect) -> Result<(), StoreError> {
        if self.puppeted(owner) {
            self.owe(Lane::Person(owner.to_owned()), effect)?;
        }
        Ok(())
    }

    /// The homeserver has refused our token for this person: it is not tried again for a while.
    pub fn puppet_refused(&mut self, owner: &UserId) {
        self.puppets.refused.insert(owner.to_owned(), self.now.uptime.saturating_add(REFUSED_FOR));
    }
}

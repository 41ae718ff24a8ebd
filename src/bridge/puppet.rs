//! Double puppeting: what people do elsewhere is done in Matrix in their own name.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, RoomId, UserId};

use super::Bridge;
use crate::{
    domain::{
        Timestamp,
        effect::{ContactKey, Effect, Lane, Sender},
    },
    store::{StoreError, portal::Membership},
};

/// How long a person is not acted for after the homeserver refused our token for them, in milliseconds.
const REFUSED_FOR: u64 = 10 * 60 * 1_000;

/// Whom the homeserver does not let us act for, until which uptime. One row a person who has a login.
#[derive(Debug, Default)]
pub struct Puppets {
    refused: BTreeMap<OwnedUserId, u64>,
    /// Portals that their owner is owed to join, as far as this process knows: they are not owed it twice.
    joining: BTreeSet<ContactKey>,
    /// The homeserver gives events the time that we ask for (`?ts=`): without our proof it is not our event.
    pub keeps_times: bool,
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

    /// May we act for the owner of the login that a portal is of?
    pub fn puppets_owner(&self, portal: &ContactKey) -> Result<bool, StoreError> {
        Ok(self.store.login(&portal.login)?.is_some_and(|login| self.puppeted(&login.owner)))
    }

    /// Who says what the account said on another device: its owner, else its ghost.
    pub fn own_voice(&self, portal: &ContactKey) -> Result<Option<Sender>, StoreError> {
        let Some(login) = self.store.login(&portal.login)? else { return Ok(None) };
        Ok(Some(if self.puppeted(&login.owner) { Sender::Owner } else { Sender::Ghost(login.account) }))
    }

    /// Lets the owner join their portal by themselves, where they are not in it and we may.
    pub fn join_owner(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        let there = self.store.portal(portal)?.is_none_or(|row| row.owner == Membership::Joined);
        if !there && self.puppets_owner(portal)? && self.puppets.joining.insert(portal.clone()) {
            self.owe(Lane::ToMatrix(portal.clone()), Effect::JoinOwner)?;
        }
        Ok(())
    }

    /// The owner has joined, or could not.
    pub fn owner_join_tried(&mut self, portal: &ContactKey) {
        self.puppets.joining.remove(portal);
    }

    /// What proves that an event in a person's name is ours: nobody else can make it, and in another room or at another time it
    /// is none.
    pub fn puppet_mark(&self, room: &RoomId, sender: &UserId, at: Timestamp, wire_id: &str) -> String {
        self.store.mark(&["puppet", room.as_str(), sender.as_str(), &at.0.to_string(), wire_id])
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

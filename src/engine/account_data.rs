//! What people set in their clients beside what they say: account data and private receipts, by their own sync.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde_json::value::RawValue;

use super::{Engine, pay::Due};
use crate::{
    domain::{
        Output,
        effect::{ContactKey, Effect},
        output::MatrixCall,
    },
    store::{StoreError, portal::Room},
    translate::{blocking, favourite, notify},
};

impl Engine {
    /// The portal of this person that a room is.
    pub(super) fn portal_of_person(
        &self,
        owner: &OwnedUserId,
        room: &OwnedRoomId,
    ) -> Result<Option<ContactKey>, StoreError> {
        match self.bridge.store.room(room)? {
            Some(Room::Portal(portal)) if self.owner_of(&portal.login)?.as_ref() == Some(owner) => Ok(Some(portal)),
            _ => Ok(None),
        }
    }

    /// Account data of a person: of a room, or global. What is of no room of ours is passed over.
    pub(super) fn on_account_data(
        &mut self,
        owner: &OwnedUserId,
        room: Option<&OwnedRoomId>,
        kind: &str,
        content: &RawValue,
    ) -> Result<(), StoreError> {
        let portal = match room {
            Some(room) => match self.portal_of_person(owner, room)? {
                Some(portal) => Some(portal),
                None => return Ok(()),
            },
            None => None,
        };
        match (portal, kind) {
            // Where one has read up to is told by receipts; this one moves later.
            (Some(_), "m.fully_read") => {}
            (Some(portal), favourite::TAGS) => self.on_tags(owner, &portal, room, content)?,
            (None, notify::RULES) => self.on_push_rules(owner, content)?,
            (None, blocking::IGNORED) => self.on_ignored_list(owner, content)?,
            _ => self.bridge.ignore("account data that is not translated"),
        }
        Ok(())
    }

    /// A person has read privately: their own devices may know, the contact not.
    pub(super) fn on_read_privately(
        &mut self,
        owner: &OwnedUserId,
        room: &OwnedRoomId,
        event: &OwnedEventId,
    ) -> Result<(), StoreError> {
        match self.portal_of_person(owner, room)? {
            Some(portal) => {
                self.read_vanishing(&portal, Some(event))?;
                self.publish_displayed(&portal, event)
            }
            None => Ok(()),
        }
    }

    /// A login of this person is there: what they set in their clients is followed.
    pub(super) fn follow_person(&mut self, owner: &OwnedUserId) -> Result<(), StoreError> {
        if self.bridge.puppeted(owner) {
            let since = self.bridge.store.followed(owner)?;
            self.outputs.push(Output::Follow { owner: owner.clone(), since });
        }
        Ok(())
    }

    /// The last login of this person is gone.
    pub(super) fn unfollow_person(&mut self, owner: &OwnedUserId) -> Result<(), StoreError> {
        if self.bridge.store.logins_of(owner)?.is_empty() {
            self.bridge.store.erase_followed(owner);
            self.outputs.push(Output::Unfollow { owner: owner.clone() });
        }
        Ok(())
    }

    /// What a debt of a person's lane asks of the homeserver; nothing, where we may not act for them.
    pub(super) fn due_of_person(&self, owner: &OwnedUserId, effect: &Effect) -> Due {
        if !self.bridge.puppeted(owner) {
            return Due::Moot;
        }
        let user = owner.clone();
        match effect.clone() {
            Effect::SetAccountData { room, kind, content } => {
                Due::Call(MatrixCall::SetAccountData { user, room, kind, content })
            }
            Effect::SetTag { room, tag, content } => Due::Call(MatrixCall::SetTag { user, room, tag, content }),
            Effect::SetPushRule { kind, rule, content } => {
                Due::Call(MatrixCall::SetPushRule { user, kind, rule, content })
            }
            Effect::Silence { room, notify } => Due::Call(MatrixCall::Silence { user, room, notify }),
            Effect::Ignore { ghost, ignored } => Due::Call(MatrixCall::Ignore { user, ghost, ignored }),
            Effect::ListDirect { room, ghost, listed } => {
                Due::Call(MatrixCall::ListDirect { user, room, ghost, listed })
            }
            _ => Due::Moot,
        }
    }
}

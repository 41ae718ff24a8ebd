//! Spaces: what holds the rooms of a login together.

use super::Bridge;
use crate::{
    domain::{
        LoginId,
        effect::{ContactKey, Effect, Lane},
    },
    store::{StoreError, space::Space},
};

impl Bridge {
    /// Makes sure that the login has a space, owed if there is none. `false` where the operator wants none.
    fn ensure_space(&mut self, login: &LoginId) -> Result<bool, StoreError> {
        if !self.settings.space {
            return Ok(false);
        }
        let row = self.store.space(login)?.unwrap_or_default();
        if row.room.is_none() && row.creating.is_none() {
            let creating = self.owe(Lane::Space(login.clone()), Effect::CreateSpace)?;
            self.store.put_space(login, &Space { creating: Some(creating), ..row })?;
        }
        Ok(true)
    }

    /// Is the portal's room to be put into the login's space?
    pub fn is_unlisted(&self, portal: &ContactKey) -> Result<bool, StoreError> {
        let room = self.store.portal(portal)?.and_then(|row| row.room);
        Ok(self.settings.space && room.is_some() && self.store.look(portal)?.listed != room)
    }

    /// Puts a portal's room into the login's space, in the place of the one that stood there.
    pub fn list_room(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        if !self.is_unlisted(portal)? || !self.ensure_space(&portal.login)? {
            return Ok(());
        }
        self.unlist_room(portal)?;
        let mut look = self.store.look(portal)?;
        look.listed = self.store.portal(portal)?.and_then(|row| row.room);
        self.store.put_look(portal, &look)?;
        if let Some(room) = look.listed {
            self.owe(Lane::Space(portal.login.clone()), Effect::ListRoom { room, listed: true })?;
        }
        Ok(())
    }

    /// Takes a portal's room out of the login's space.
    pub fn unlist_room(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        let mut look = self.store.look(portal)?;
        if let Some(room) = look.listed.take() {
            self.store.put_look(portal, &look)?;
            self.owe(Lane::Space(portal.login.clone()), Effect::ListRoom { room, listed: false })?;
        }
        Ok(())
    }
}

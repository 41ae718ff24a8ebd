//! Whom a person ignores in Matrix (`m.ignored_user_list`, by double puppeting) and whom their account blocks are one. Both are
//! held against what is known of the other, as states: what we wrote ourselves comes back as nothing new.

use std::collections::BTreeSet;

use ruma::{OwnedUserId, UserId};
use serde_json::value::RawValue;

use super::Engine;
use crate::{
    bridge::ghost::contact_of,
    domain::{
        BareJid, LoginId,
        address::parse_ghost_localpart,
        effect::{ContactKey, Effect, Lane},
    },
    store::{StoreError, blocked::MOST_BLOCKED, contact::GhostState, login::Login},
    translate::blocking,
};

/// How many debts of a person are looked through.
const LOOKED_AT: usize = 1_000;

impl Engine {
    /// The contact whose ghost this is.
    fn contact_of_ghost(&self, ghost: &UserId) -> Result<Option<ContactKey>, StoreError> {
        if !self.bridge.is_ours(ghost) {
            return Ok(None);
        }
        let Some((login, contact)) = parse_ghost_localpart(ghost.localpart()) else { return Ok(None) };
        let contact = match contact {
            Some(contact) => Some(contact),
            None => self.hashed_contact(&login, ghost)?,
        };
        Ok(contact.map(|contact| ContactKey { login, contact }))
    }

    /// What is still to be written of this ghost into the person's list.
    fn wanted_ignored(&self, owner: &OwnedUserId, ghost: &UserId) -> Result<Option<bool>, StoreError> {
        let debts = self.bridge.store.first_debts(&Lane::Person(owner.clone()), LOOKED_AT)?;
        Ok(debts.into_iter().rev().find_map(|debt| match debt.effect {
            Effect::Ignore { ghost: of, ignored } if of == *ghost => Some(ignored),
            _ => None,
        }))
    }

    /// The person's list, as it is in Matrix now. Only ghosts of their own logins mean something here.
    pub(super) fn on_ignored_list(&mut self, owner: &OwnedUserId, content: &RawValue) -> Result<(), StoreError> {
        let Some(listed) = blocking::ignored(content) else {
            self.bridge.ignore("list of the ignored that cannot be read");
            return Ok(());
        };
        let mut ghosts = BTreeSet::new();
        for ghost in listed.iter().filter(|user| self.bridge.is_ours(user)).take(MOST_BLOCKED) {
            ghosts.extend(self.contact_of_ghost(ghost)?);
        }
        for login in self.logins_of(owner)? {
            let known = self.bridge.store.ignored(&login.id)?;
            let of_login = |key: &&ContactKey| key.login == login.id;
            let now: BTreeSet<&BareJid> = ghosts.iter().filter(of_login).map(|key| &key.contact).collect();
            for contact in &known {
                if !now.contains(contact) {
                    self.ignored_by_owner(&login, contact, false)?;
                }
            }
            for contact in now {
                if !known.contains(contact) && self.has_ghost(&contact_of(&login.id, contact))? {
                    self.ignored_by_owner(&login, contact, true)?;
                }
            }
        }
        Ok(())
    }

    fn has_ghost(&self, contact: &ContactKey) -> Result<bool, StoreError> {
        let registered = self.bridge.store.contact(contact)?.is_some_and(|row| row.ghost != GhostState::None);
        Ok(registered || self.bridge.store.portal(contact)?.is_some())
    }

    /// The owner ignores a ghost from now on, or no longer; or this is what we wrote for them.
    fn ignored_by_owner(&mut self, login: &Login, who: &BareJid, ignored: bool) -> Result<(), StoreError> {
        let contact = contact_of(&login.id, who);
        self.bridge.store.put_ignored(&contact, ignored)?;
        let writes = match self.bridge.ghost(&contact) {
            Some(ghost) => self.wanted_ignored(&login.owner, &ghost)?.is_some(),
            None => true,
        };
        if writes || self.block_is_wanted(&login.id, who)? == ignored {
            return Ok(());
        }
        if self.may_block(login)? {
            return self.owe_block(&login.id, who, ignored, None);
        }
        if ignored {
            let text = format!(
                "You ignore {who} in Matrix. The server of {} cannot block them: they are only hidden from you, and they go on \
                 seeing you.",
                login.account
            );
            self.bridge.say(&login.owner, text)?;
        }
        Ok(())
    }

    /// A contact is blocked, or no longer: their ghost goes into the owner's list, or out of it.
    pub(super) fn show_block_in_matrix(
        &mut self,
        login: &Login,
        who: &BareJid,
        blocked: bool,
    ) -> Result<(), StoreError> {
        let contact = contact_of(&login.id, who);
        if !self.bridge.puppeted(&login.owner) || blocked && !self.has_ghost(&contact)? {
            return Ok(());
        }
        let Some(ghost) = self.bridge.ghost(&contact) else { return Ok(()) };
        let wanted = self.wanted_ignored(&login.owner, &ghost)?;
        if wanted.map_or_else(|| self.bridge.store.is_ignored(&contact), Ok)? == blocked {
            return Ok(());
        }
        self.bridge.owe_person(&login.owner, Effect::Ignore { ghost, ignored: blocked })
    }

    /// The same for all that a login's account blocks: what could not be written before.
    pub(super) fn show_blocks_in_matrix(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(()) };
        if !self.bridge.puppeted(&row.owner) {
            return Ok(());
        }
        let ignored = self.bridge.store.ignored(login)?;
        for who in self.bridge.store.blocked(login)?.difference(&ignored) {
            if self.wanted_block(login, who)?.is_none() {
                self.show_block_in_matrix(&row, who, true)?;
            }
        }
        Ok(())
    }

    /// All account data of a person was read.
    pub(super) fn account_data_is_whole(&mut self, owner: &OwnedUserId) -> Result<(), StoreError> {
        for login in self.logins_of(owner)? {
            self.show_blocks_in_matrix(&login.id)?;
        }
        Ok(())
    }

    /// The person's list says it now.
    pub(super) fn ignored_is_written(&mut self, ghost: &UserId, ignored: bool) -> Result<(), StoreError> {
        match self.contact_of_ghost(ghost)? {
            Some(contact) if self.bridge.store.login(&contact.login)?.is_some() => {
                self.bridge.store.put_ignored(&contact, ignored)
            }
            _ => Ok(()),
        }
    }

    /// A login ends: no ghost of it stays in its owner's list.
    pub(super) fn stop_ignoring(&mut self, login: &Login) -> Result<(), StoreError> {
        let known = self.bridge.store.ignored(&login.id)?;
        let mut ghosts: BTreeSet<OwnedUserId> =
            known.iter().filter_map(|who| self.bridge.ghost(&contact_of(&login.id, who))).collect();
        for debt in self.bridge.store.first_debts(&Lane::Person(login.owner.clone()), LOOKED_AT)? {
            if let Effect::Ignore { ghost, ignored: true } = debt.effect
                && parse_ghost_localpart(ghost.localpart()).is_some_and(|(of, _)| of == login.id)
            {
                ghosts.insert(ghost);
            }
        }
        for ghost in ghosts {
            self.bridge.owe_person(&login.owner, Effect::Ignore { ghost, ignored: false })?;
        }
        Ok(())
    }
}

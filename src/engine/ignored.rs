//! Whom a person ignores in Matrix (`m.ignored_user_list`, by double puppeting) and whom their account blocks are one. Both are
//! held against what is known of the other, as states: what we wrote ourselves comes back as nothing new.

use std::collections::{BTreeMap, BTreeSet};

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
const LOOKED_AT: usize = 2 * MOST_BLOCKED;

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

    /// What is still to be written into the person's list, and out of it.
    fn wanted_ignored(&self, owner: &OwnedUserId) -> Result<BTreeMap<OwnedUserId, bool>, StoreError> {
        let debts = self.bridge.store.first_debts(&Lane::Person(owner.clone()), LOOKED_AT)?;
        // The last word counts.
        let wanted = debts.into_iter().filter_map(|debt| match debt.effect {
            Effect::Ignore { ghost, ignored } => Some((ghost, ignored)),
            _ => None,
        });
        Ok(wanted.collect())
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
            let mut changes = Vec::new();
            let of_login = |key: &&ContactKey| key.login == login.id;
            let now: BTreeSet<&BareJid> = ghosts.iter().filter(of_login).map(|key| &key.contact).collect();
            for contact in &known {
                if !now.contains(contact) {
                    changes.push((contact.clone(), false));
                }
            }
            for contact in now {
                if !known.contains(contact) && self.has_ghost(&contact_of(&login.id, contact))? {
                    changes.push((contact.clone(), true));
                }
            }
            if !changes.is_empty() {
                self.ignored_by_owner(&login, &changes)?;
            }
        }
        Ok(())
    }

    fn has_ghost(&self, contact: &ContactKey) -> Result<bool, StoreError> {
        let registered = self.bridge.store.contact(contact)?.is_some_and(|row| row.ghost != GhostState::None);
        Ok(registered || self.bridge.store.portal(contact)?.is_some())
    }

    /// The owner ignores these from now on, or no longer; or this is what we wrote for them.
    fn ignored_by_owner(&mut self, login: &Login, changes: &[(BareJid, bool)]) -> Result<(), StoreError> {
        let (writing, wanted) = (self.wanted_ignored(&login.owner)?, self.wanted_blocks(&login.id)?);
        for (who, ignored) in changes {
            let contact = contact_of(&login.id, who);
            self.bridge.store.put_ignored(&contact, *ignored)?;
            let writes = self.bridge.ghost(&contact).is_none_or(|ghost| writing.contains_key(&ghost));
            let blocked = match wanted.get(who) {
                Some(wanted) => *wanted,
                None => self.bridge.store.is_blocked(&login.id, who)?,
            };
            if writes || blocked == *ignored {
                continue;
            }
            if self.may_block(login)? {
                self.owe_block(&login.id, who, *ignored, None)?;
            } else if *ignored {
                let text = format!(
                    "You ignore {who} in Matrix. The server of {} cannot block them: they are only hidden from you, and they go \
                     on seeing you.",
                    login.account
                );
                self.bridge.say(&login.owner, text)?;
            }
        }
        Ok(())
    }

    /// Contacts are blocked, or no longer: their ghosts go into the owner's list, or out of it.
    pub(super) fn show_blocks_in_matrix(
        &mut self,
        login: &Login,
        changes: &[(BareJid, bool)],
    ) -> Result<(), StoreError> {
        if !self.bridge.puppeted(&login.owner) {
            return Ok(());
        }
        let writing = self.wanted_ignored(&login.owner)?;
        for (who, blocked) in changes {
            let contact = contact_of(&login.id, who);
            let Some(ghost) = self.bridge.ghost(&contact) else { continue };
            let ignored = match writing.get(&ghost) {
                Some(wanted) => *wanted,
                None => self.bridge.store.is_ignored(&contact)?,
            };
            if ignored != *blocked && (!blocked || self.has_ghost(&contact)?) {
                self.bridge.owe_person(&login.owner, Effect::Ignore { ghost, ignored: *blocked })?;
            }
        }
        Ok(())
    }

    /// The same for all that a login's account blocks: what could not be written before.
    pub(super) fn show_all_blocks_in_matrix(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(()) };
        let (ignored, wanted) = (self.bridge.store.ignored(login)?, self.wanted_blocks(login)?);
        let blocked = self.bridge.store.blocked(login)?;
        let missing = blocked.difference(&ignored).filter(|who| !wanted.contains_key(who));
        let missing: Vec<(BareJid, bool)> = missing.map(|who| (who.clone(), true)).collect();
        self.show_blocks_in_matrix(&row, &missing)
    }

    /// All account data of a person was read.
    pub(super) fn account_data_is_whole(&mut self, owner: &OwnedUserId) -> Result<(), StoreError> {
        for login in self.logins_of(owner)? {
            self.show_all_blocks_in_matrix(&login.id)?;
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
        for (ghost, ignored) in self.wanted_ignored(&login.owner)? {
            if ignored && parse_ghost_localpart(ghost.localpart()).is_some_and(|(of, _)| of == login.id) {
                ghosts.insert(ghost);
            }
        }
        for ghost in ghosts {
            self.bridge.owe_person(&login.owner, Effect::Ignore { ghost, ignored: false })?;
        }
        Ok(())
    }
}

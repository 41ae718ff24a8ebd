//! People on the homeserver: their presence, and what the bot is in the middle of with them.

use std::collections::HashSet;

use ruma::{OwnedRoomId, OwnedUserId, UserId, presence::PresenceState};

use super::{Engine, session::Phase};
use crate::{
    domain::{BareJid, LoginId, Output, effect::ContactKey, output::Ephemeral, stream::StreamOrder},
    store::StoreError,
    translate::{activity, chat_state, idle, presence},
};

/// What is known of a person beside the store.
#[derive(Debug, Default)]
pub(super) struct Person {
    /// The sign-in that they talk with the bot about.
    pub conversation: Option<u64>,
    pub direct_invites: HashSet<OwnedRoomId>,
    /// Rooms that the person wants to be their management room, until it is known who is in them.
    pub wants_management: HashSet<OwnedRoomId>,
    pub watching: bool,
}

impl Engine {
    pub(super) fn person(&mut self, user: &UserId) -> &mut Person {
        self.people.entry(user.to_owned()).or_default()
    }

    /// A login of this person is there: say whether they look.
    pub(super) fn wake_person(&mut self, owner: &OwnedUserId) -> Result<(), StoreError> {
        self.follow_person(owner)?;
        let watching = self.presence_of(owner)?.0 != PresenceState::Offline;
        let person = self.person(owner);
        if watching && !person.watching {
            person.watching = true;
            self.outputs.push(Output::Now(Ephemeral::Watching { owner: owner.clone(), watching }));
        }
        Ok(())
    }

    /// A person's presence as Matrix last told it; on line where nothing was told, or where the homeserver keeps none.
    fn presence_of(&self, owner: &UserId) -> Result<(PresenceState, Option<String>), StoreError> {
        if !self.presence {
            return Ok((PresenceState::Online, None));
        }
        let known = self.bridge.store.management(owner)?.presence;
        Ok(known.map_or((PresenceState::Online, None), |(state, status)| (PresenceState::from(state), status)))
    }

    pub(super) fn on_homeserver(&mut self, presence: bool, busy: bool) -> Result<(), StoreError> {
        self.presence = presence;
        self.busy = busy;
        for login in self.bridge.store.logins()? {
            self.show_presence(&login.id)?;
            self.say_activity(&login.id)?;
            self.show_all_presence(&login.id)?;
        }
        Ok(())
    }

    pub(super) fn on_person_presence(
        &mut self,
        user: &OwnedUserId,
        state: &PresenceState,
        status: Option<String>,
        last_active_ago: Option<u64>,
    ) -> Result<(), StoreError> {
        let logins: Vec<LoginId> = self.logins_of(user)?.into_iter().map(|login| login.id).collect();
        if logins.is_empty() {
            return Ok(());
        }
        let watching = *state != PresenceState::Offline;
        let mut row = self.bridge.store.management(user)?;
        let told = Some((state.to_string(), status));
        let known = self.bridge.store.idle_person(user)?;
        let since = idle::from_matrix(state, last_active_ago, known, self.bridge.now.wall);
        if row.presence != told || known != since {
            row.presence = told;
            self.bridge.store.put_management(user, &row)?;
            self.bridge.store.put_idle_person(user, since)?;
            for login in &logins {
                self.show_presence(login)?;
                self.say_activity(login)?;
            }
        }
        let person = self.person(user);
        if person.watching != watching {
            person.watching = watching;
            self.outputs.push(Output::Now(Ephemeral::Watching { owner: user.clone(), watching }));
        }
        Ok(())
    }

    /// Shows the person's presence to the contacts of a login, if it differs from what they see.
    pub(super) fn show_presence(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let (Some(row), Some(profile)) = (self.bridge.store.login(login)?, self.profile_of(login)?) else {
            return Ok(());
        };
        let (state, status) = if self.bridge.settings.presence_from_matrix {
            self.presence_of(&row.owner)?
        } else {
            (PresenceState::Online, None)
        };
        let mut shown = presence::from_matrix(&state, status.as_deref(), self.bridge.settings.offline_as, &profile);
        if state != PresenceState::Online && profile.extensible {
            shown.idle = self.bridge.store.idle_person(&row.owner)?;
        }
        let mark = self.mark_of(&shown);
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        // Before initial presence nothing is said: it begins the catch-up, and is not to be taken for done.
        if live.phase != Phase::Up || !live.hello && !live.caught_up() || live.shown.as_ref() == Some(&mark) {
            return Ok(());
        }
        // An account that never said that it is there gets nothing of what the server keeps for it.
        let first = live.shown.is_none() && !live.caught_up();
        self.bridge.store.put_shown(login, &mark)?;
        live.shown = Some(mark);
        if first && !shown.available {
            let there = presence::Shown { available: true, show: Some("away"), status: None, idle: None };
            self.send(login, presence::to_xmpp(&there));
        }
        self.send(login, presence::to_xmpp(&shown));
        Ok(())
    }

    /// What stands for a presence in the store, which holds no text of it.
    fn mark_of(&self, shown: &presence::Shown) -> String {
        let presence::Shown { available, show, status, idle } = shown;
        let since = idle.map_or_else(String::new, |since| since.0.to_string());
        let there = if *available { "there" } else { "" };
        self.bridge.store.mark(&[
            "presence",
            there,
            show.unwrap_or_default(),
            status.as_deref().unwrap_or_default(),
            &since,
        ])
    }

    /// Tells a login's server whether the person looks, where it wants to know and was told otherwise (XEP-0352).
    pub(super) fn say_activity(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(()) };
        let active = activity::from_matrix(&self.presence_of(&row.owner)?.0);
        let Some(live) = self.lives.get_mut(login).filter(|live| live.caught_up() && live.csi) else { return Ok(()) };
        let Some(stream) = live.stream.filter(|_| live.active != active) else { return Ok(()) };
        live.active = active;
        self.order(stream, StreamOrder::Activity { active });
        Ok(())
    }

    /// The person types, or has stopped to, in a portal.
    pub(super) fn on_typing(&mut self, portal: &ContactKey, users: &[OwnedUserId]) -> Result<(), StoreError> {
        let Some(owner) = self.owner_of(&portal.login)? else { return Ok(()) };
        let types = users.contains(&owner);
        let Some(live) = self.lives.get_mut(&portal.login).filter(|live| live.caught_up()) else { return Ok(()) };
        let changed = if types {
            live.own_typing.insert(portal.contact.clone())
        } else {
            live.own_typing.remove(&portal.contact)
        };
        if changed && self.knows_chat_states(portal)? {
            let stanza = chat_state::to_xmpp(chat_state::from_matrix(types), &portal.contact);
            self.send(&portal.login, stanza);
        }
        Ok(())
    }

    /// May chat states be sent to the contact (XEP-0085 section 5.1)?
    pub(super) fn knows_chat_states(&self, contact: &ContactKey) -> Result<bool, StoreError> {
        if self.is_blocked(contact)? {
            return Ok(false);
        }
        if self.profile_of(&contact.login)?.is_some_and(|profile| profile.chat_states_always) {
            return Ok(true);
        }
        if self.bridge.store.contact(contact)?.is_some_and(|row| row.chat_states) {
            return Ok(true);
        }
        for client in self.bridge.store.resources(contact)?.map(|row| row.list).unwrap_or_default() {
            if let Some(caps) = client.caps
                && self.bridge.store.caps_chat_states(&caps)? == Some(true)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The presence of all contacts of a login, as it is known.
    pub(super) fn show_all_presence(&mut self, login: &LoginId) -> Result<(), StoreError> {
        for (contact, _) in self.bridge.store.present(login)? {
            self.show_contact_presence(&ContactKey { login: login.clone(), contact })?;
        }
        Ok(())
    }

    /// A contact's presence, to Matrix.
    pub(super) fn show_contact_presence(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        let registered = self
            .bridge
            .store
            .contact(contact)?
            .is_some_and(|row| row.ghost == crate::store::contact::GhostState::Registered);
        if !registered || !self.presence || !self.bridge.settings.presence_to_matrix {
            return Ok(());
        }
        let (state, status) = match self.bridge.store.resources(contact)? {
            Some(row) => {
                let idle = self.bridge.store.idle_clients(contact, row.bound)?;
                idle::to_matrix(&row.list, &idle, self.busy)
            }
            None => (PresenceState::Offline, None),
        };
        if let (Some(ghost), Some(owner)) = (self.bridge.ghost(contact), self.owner_of(&contact.login)?) {
            self.outputs.push(Output::Now(Ephemeral::Presence { ghost, owner, state, status }));
        }
        Ok(())
    }

    /// Contacts that were there on an earlier session and did not say so again are gone.
    pub(super) fn forget_stale_presence(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(bound) = self.lives.get(login).and_then(|live| live.session.as_ref()).map(|session| session.bound)
        else {
            return Ok(());
        };
        let stale: Vec<BareJid> = self
            .bridge
            .store
            .present(login)?
            .into_iter()
            .filter(|(_, row)| row.bound != bound)
            .map(|(contact, _)| contact)
            .collect();
        for contact in stale {
            let contact = ContactKey { login: login.clone(), contact };
            self.bridge
                .store
                .put_resources(&contact, &crate::store::presence::Resources { bound, list: Vec::new() })?;
            self.show_contact_presence(&contact)?;
        }
        Ok(())
    }
}

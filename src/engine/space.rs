//! Spaces: each login has one that holds its rooms.

use ruma::{OwnedRoomId, UserId};
use serde_json::json;

use super::{Engine, Timer, pay::Due};
use crate::{
    bridge::ghost::contact_of,
    domain::{
        LoginId,
        effect::{Debt, Effect, Lane},
        input::{Receipt, RoomEvent},
        output::{CreateRoom, MatrixCall, RoomKind},
    },
    store::{
        StoreError,
        login::Login,
        portal::{Membership, Room},
        space::Space,
    },
    translate::space,
};

impl Engine {
    /// What a debt of a space's lane asks of the homeserver.
    pub(super) fn due_space(&self, login: &LoginId, effect: &Effect, debt: &Debt) -> Result<Due, StoreError> {
        let (Some(row), Some(space)) = (self.bridge.store.login(login)?, self.bridge.store.space(login)?) else {
            return Ok(Due::Moot);
        };
        let user = self.bridge.homeserver.bot.clone();
        Ok(match (effect, space.room) {
            (Effect::CreateSpace, None) => self.space_to_make(&row, debt),
            (Effect::ListRoom { room, listed }, Some(space)) => Due::Call(MatrixCall::SetState {
                room: space,
                user,
                kind: space::CHILD.to_owned(),
                key: room.to_string(),
                content: space::child(&self.bridge, *listed),
            }),
            (Effect::InviteOwner, Some(room)) => Due::Call(MatrixCall::Invite { room, user, target: row.owner }),
            (Effect::JoinOwner, Some(room)) if self.bridge.puppeted(&row.owner) => {
                Due::Call(MatrixCall::Join { room, user: row.owner })
            }
            _ => Due::Moot,
        })
    }

    fn space_to_make(&self, login: &Login, debt: &Debt) -> Due {
        let Some(network) = self.bridge.settings.networks.get(&login.network) else { return Due::Moot };
        let state = space::state(login);
        let look_first = debt.tried.then(|| state.first().map(|(kind, key, _)| (kind.clone(), key.clone()))).flatten();
        let power_levels = json!({
            "invite": 100, "kick": 100, "ban": 100, "state_default": 100, "events_default": 100,
            "events": { "m.room.name": 0, "m.room.avatar": 0, "m.room.topic": 0 },
        });
        Due::Call(MatrixCall::CreateRoom(Box::new(CreateRoom {
            kind: RoomKind::Space,
            creator: self.bridge.homeserver.bot.clone(),
            invite: vec![login.owner.clone()],
            name: space::name(login, network),
            state,
            power_levels: power_levels.to_string(),
            look_first,
        })))
    }

    pub(super) fn space_made(&mut self, login: &LoginId, room: OwnedRoomId) -> Result<(), StoreError> {
        self.bridge.store.put_room(&room, &Room::Space(login.clone()))?;
        let owner = self.bridge.store.space(login)?.unwrap_or_default().owner;
        self.bridge.store.put_space(login, &Space { room: Some(room), creating: None, owner })?;
        self.join_space(login)
    }

    /// The homeserver makes no space. The rooms that wait for it are put into the next one.
    pub(super) fn space_refused(&mut self, login: &LoginId) -> Result<(), StoreError> {
        self.bridge.store.put_space(login, &Space::default())?;
        for (contact, _) in self.bridge.store.portals(login)? {
            let contact = contact_of(login, &contact);
            let mut look = self.bridge.store.look(&contact)?;
            look.listed = None;
            self.bridge.store.put_look(&contact, &look)?;
        }
        Ok(())
    }

    /// A space that we have made says whose it is: the answer to our request may come later, or never.
    pub(super) fn on_own_space(&mut self, event: &RoomEvent) -> Result<(), StoreError> {
        let Some(login) = space::login_of(&event.content) else { return Ok(()) };
        let Some(creating) = self.bridge.store.space(&login)?.and_then(|row| row.creating) else { return Ok(()) };
        match self.bridge.store.debt(&Lane::Space(login), creating)? {
            Some(debt) => self.paid(&debt, Receipt::Room(event.room.clone())),
            None => Ok(()),
        }
    }

    /// Someone's membership of a login's space has changed.
    pub(super) fn on_space_member(
        &mut self,
        login: &LoginId,
        target: &UserId,
        membership: &str,
    ) -> Result<(), StoreError> {
        if self.owner_of(login)?.as_deref() != Some(target) {
            return Ok(());
        }
        let Some(mut row) = self.bridge.store.space(login)? else { return Ok(()) };
        row.owner = match membership {
            "join" => Membership::Joined,
            "invite" => Membership::Invited,
            _ => Membership::Left,
        };
        self.bridge.store.put_space(login, &row)
    }

    /// A person who left their space is invited again when they ask for it, never by itself.
    pub(super) fn invite_to_space(&mut self, login: &LoginId) -> Result<(), StoreError> {
        if let Some(mut row) = self.bridge.store.space(login)?
            && row.owner == Membership::Left
            && self.bridge.settings.space
        {
            row.owner = Membership::Invited;
            self.bridge.store.put_space(login, &row)?;
            self.bridge.owe(Lane::Space(login.clone()), Effect::InviteOwner)?;
            self.join_space(login)?;
        }
        Ok(())
    }

    /// Lets the owner join the space by themselves, where they are not in it and we may.
    pub(super) fn join_space(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let there =
            self.bridge.store.space(login)?.is_none_or(|row| row.owner != Membership::Invited || row.room.is_none());
        let owner = self.owner_of(login)?;
        if !there && owner.is_some_and(|owner| self.bridge.puppeted(&owner)) {
            self.bridge.owe(Lane::Space(login.clone()), Effect::JoinOwner)?;
        }
        Ok(())
    }

    /// They have joined.
    pub(super) fn owner_has_joined_space(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.space(login)? else { return Ok(()) };
        self.bridge.store.put_space(login, &Space { owner: Membership::Joined, ..row })
    }

    /// The login is signed out: its space goes with it.
    pub(super) fn leave_space(&mut self, login: &Login) -> Result<(), StoreError> {
        let Some(room) = self.bridge.store.space(&login.id)?.and_then(|row| row.room) else { return Ok(()) };
        self.bridge.store.erase_successors_of(&room)?;
        let lane = Lane::Management(login.owner.clone());
        let bot = self.bridge.homeserver.bot.clone();
        self.bridge.owe(lane.clone(), Effect::RemoveFrom { room: room.clone(), user: login.owner.clone() })?;
        self.bridge.owe(lane, Effect::LeaveRoom { room, user: bot })?;
        Ok(())
    }

    /// Which rooms of a login are older than its space: they are put into it at the pace of new ones.
    pub(super) fn queue_listing(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let mut unlisted = std::collections::VecDeque::new();
        for (contact, _) in self.bridge.store.portals(login)? {
            if self.bridge.is_unlisted(&contact_of(login, &contact))? {
                unlisted.push_back(contact);
            }
        }
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        let runs = !live.unlisted.is_empty();
        live.unlisted = unlisted;
        if runs { Ok(()) } else { self.list_next(login) }
    }

    pub(super) fn list_next(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(contact) = self.lives.get_mut(login).and_then(|live| live.unlisted.pop_front()) else {
            return Ok(());
        };
        self.bridge.list_room(&contact_of(login, &contact))?;
        self.set_timer(self.bridge.settings.room_pause, Timer::List(login.clone()));
        Ok(())
    }
}

//! Room upgrades: a room of ours ends with a tombstone, and the bridge moves to the room that takes its place.
//!
//! The bot joins the new room, or waits there for its invitation; the new room must say itself which one it replaces; the
//! ghosts follow, the contact's last, and with it the portal moves: what waits to be said goes on in the new room.

use ruma::{OwnedRoomId, OwnedUserId, RoomId};

use super::{Engine, Timer, pay::Due};
use crate::{
    domain::{
        effect::{ContactKey, Effect, Lane},
        input::RoomEvent,
        output::MatrixCall,
    },
    store::{
        StoreError,
        portal::{Membership, Room},
        successor::Successor,
    },
    translate::upgrade,
};

/// How long an invitation to the new room may take, in milliseconds, before its owner is told that one is missing.
const INVITATION: u64 = 60_000;

impl Engine {
    /// Whose a room of ours is.
    fn whose(&self, room: &Room) -> Result<Option<OwnedUserId>, StoreError> {
        match room {
            Room::Management(owner) => Ok(Some(owner.clone())),
            Room::Portal(ContactKey { login, .. }) | Room::Space(login) => self.owner_of(login),
        }
    }

    /// A room of ours is replaced. In a portal and in a space only who has the bot's power can say so; a management room is its
    /// owner's.
    pub(super) fn on_tombstone(&mut self, event: &RoomEvent) -> Result<(), StoreError> {
        let (Some(""), Some(old)) = (event.state_key.as_deref(), self.bridge.store.room(&event.room)?) else {
            return Ok(());
        };
        let stranger = matches!(&old, Room::Management(owner) if *owner != event.sender);
        let Some(new) = upgrade::replacement(&event.content).filter(|_| !stranger) else {
            self.bridge.ignore("tombstone without a room to follow to");
            return Ok(());
        };
        let taken = match self.bridge.store.successor(&new)? {
            Some(known) => known.old != event.room || known.checked,
            None => self.bridge.store.room(&new)?.is_some(),
        };
        if taken {
            self.bridge.ignore("tombstone that names a room of ours");
            return Ok(());
        }
        self.bridge.store.put_successor(&new, &Successor { old: event.room.clone(), checked: false })?;
        self.follow(&new)
    }

    /// The bot joins the room that is said to replace one of ours.
    pub(super) fn follow(&mut self, new: &RoomId) -> Result<(), StoreError> {
        let Some((_, old)) = self.replaced_by(new)? else { return Ok(()) };
        if let Some(owner) = self.whose(&old)? {
            self.bridge.owe(Lane::Management(owner), Effect::FollowUpgrade { room: new.to_owned() })?;
        }
        Ok(())
    }

    /// The room that another is said to replace, and what that is.
    fn replaced_by(&self, new: &RoomId) -> Result<Option<(Successor, Room)>, StoreError> {
        let Some(row) = self.bridge.store.successor(new)? else { return Ok(None) };
        Ok(self.bridge.store.room(&row.old)?.map(|old| (row, old)))
    }

    /// What a debt that belongs to a named room asks of the homeserver.
    pub(super) fn due_upgrade(&self, effect: &Effect) -> Due {
        let bot = self.bridge.homeserver.bot.clone();
        match effect {
            Effect::FollowUpgrade { room } => Due::Call(MatrixCall::Join { room: room.clone(), user: bot }),
            Effect::CheckUpgrade { room } => Due::Call(MatrixCall::GetState {
                room: room.clone(),
                user: bot,
                kind: upgrade::CREATE.to_owned(),
                key: String::new(),
            }),
            Effect::InviteTo { room, user } => {
                Due::Call(MatrixCall::Invite { room: room.clone(), user: bot, target: user.clone() })
            }
            Effect::JoinAs { room, user } => Due::Call(MatrixCall::Join { room: room.clone(), user: user.clone() }),
            Effect::RemoveFrom { room, user } => Due::Call(MatrixCall::SetState {
                room: room.clone(),
                user: bot,
                kind: "m.room.member".to_owned(),
                key: user.to_string(),
                content: r#"{"membership":"leave"}"#.to_owned(),
            }),
            _ => Due::Moot,
        }
    }

    /// The bot or a ghost has joined a room that was named.
    pub(super) fn moved_in(&mut self, effect: Effect) -> Result<(), StoreError> {
        let (room, user) = match effect {
            Effect::FollowUpgrade { room } => {
                if let Some((_, old)) = self.replaced_by(&room)?
                    && let Some(owner) = self.whose(&old)?
                {
                    self.bridge.owe(Lane::Management(owner), Effect::CheckUpgrade { room })?;
                }
                return Ok(());
            }
            Effect::JoinAs { room, user } => (room, user),
            _ => return Ok(()),
        };
        match self.replaced_by(&room)? {
            Some((Successor { checked: true, old }, Room::Portal(portal))) => {
                if self.bridge.ghost(&portal).as_ref() == Some(&user) {
                    self.move_portal(&portal, &old, &room)?;
                }
            }
            _ => {
                // What waits to be said may have waited for this ghost.
                if let Some(Room::Portal(portal)) = self.bridge.store.room(&room)? {
                    self.bridge.outbox.urge(&Lane::ToMatrix(portal));
                }
            }
        }
        Ok(())
    }

    /// The homeserver does not let the bot or a ghost in. Mostly the invitation is on its way: a tombstone comes first.
    pub(super) fn not_let_in(&mut self, room: &OwnedRoomId) -> Result<(), StoreError> {
        if self.replaced_by(room)?.is_some() {
            self.timers.retain(|(_, timer)| *timer != Timer::Invitation(room.clone()));
            self.set_timer(INVITATION, Timer::Invitation(room.clone()));
        } else {
            self.bridge.ignore("ghost not let in");
        }
        Ok(())
    }

    /// Nobody has invited us to the room that replaces one of ours, or not all.
    pub(super) fn ask_for_invitation(&mut self, room: &RoomId) -> Result<(), StoreError> {
        let Some((_, old)) = self.replaced_by(room)? else { return Ok(()) };
        let Some(owner) = self.whose(&old)? else { return Ok(()) };
        let bot = &self.bridge.homeserver.bot;
        let text = match &old {
            Room::Portal(portal) => {
                let ghost = self.bridge.ghost(portal).map(|ghost| ghost.to_string()).unwrap_or_default();
                format!(
                    "The room of {} was replaced by {room}. Please let {bot} and {ghost} be invited there: until then I cannot go on with that chat.",
                    portal.contact
                )
            }
            Room::Management(_) | Room::Space(_) => {
                format!("A room of ours was replaced by {room}. Please invite {bot} there.")
            }
        };
        self.bridge.say(&owner, text)
    }

    /// What the new room says of itself is known.
    pub(super) fn checked_upgrade(&mut self, new: &OwnedRoomId, create: &str) -> Result<(), StoreError> {
        let Some((row, old)) = self.replaced_by(new)? else { return Ok(()) };
        let Some(owner) = self.whose(&old)? else { return Ok(()) };
        let lane = Lane::Management(owner.clone());
        let bot = self.bridge.homeserver.bot.clone();
        if upgrade::predecessor(create).as_ref() != Some(&row.old) {
            self.bridge.ignore("room that does not replace what it is said to");
            self.bridge.store.erase_successors_of(&row.old)?;
            if let Room::Portal(portal) = old {
                self.bridge.outbox.urge(&Lane::ToMatrix(portal));
            }
            self.bridge.owe(lane, Effect::LeaveRoom { room: new.clone(), user: bot })?;
            return Ok(());
        }
        match &old {
            Room::Portal(portal) => {
                // What is said in it from now on is said to the contact.
                self.bridge.store.put_successor(new, &Successor { checked: true, ..row })?;
                self.bridge.store.put_room(new, &old)?;
                return self.gather(&owner, portal, new);
            }
            Room::Management(_) => {
                let mut management = self.bridge.store.management(&owner)?;
                management.room = Some(new.clone());
                management.notices.clear();
                self.bridge.store.put_management(&owner, &management)?;
                self.bridge.say(&owner, "I am here, too: this is your management room now.")?;
            }
            Room::Space(login) => {
                if let Some(mut space) = self.bridge.store.space(login)? {
                    space.room = Some(new.clone());
                    space.owner = Membership::Invited;
                    self.bridge.store.put_space(login, &space)?;
                    self.bridge.owe(Lane::Space(login.clone()), Effect::InviteOwner)?;
                    self.join_space(login)?;
                }
            }
        }
        self.replace(&row.old, new, &old)?;
        self.bridge.owe(lane, Effect::LeaveRoom { room: row.old, user: bot })?;
        Ok(())
    }

    fn replace(&mut self, old: &RoomId, new: &RoomId, what: &Room) -> Result<(), StoreError> {
        self.bridge.store.erase_successors_of(old)?;
        self.bridge.store.erase_room(old);
        self.bridge.store.put_room(new, what)
    }

    /// The contact's ghost is in the new room: there the chat goes on.
    fn move_portal(&mut self, portal: &ContactKey, old: &RoomId, new: &RoomId) -> Result<(), StoreError> {
        let (Some(mut row), Some(owner)) = (self.bridge.store.portal(portal)?, self.owner_of(&portal.login)?) else {
            return Ok(());
        };
        self.stop_typing(portal)?;
        self.replace(old, new, &Room::Portal(portal.clone()))?;
        self.leave_behind(&owner, portal, old)?;
        row.room = Some(new.to_owned());
        // Others than the contact's are asked in again where they are needed.
        row.ghosts = vec![portal.contact.clone()];
        row.owner = Membership::Invited;
        self.bridge.store.put_portal(portal, &row)?;
        self.say_what_it_is(portal)?;
        let lane = Lane::ToMatrix(portal.clone());
        self.bridge.owe(lane.clone(), Effect::InviteOwner)?;
        self.bridge.join_owner(portal)?;
        self.bridge.list_room(portal)?;
        self.bridge.outbox.urge(&lane);
        Ok(())
    }
}

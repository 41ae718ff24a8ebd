//! Signing out, and what becomes of the rooms.

use std::collections::BTreeSet;

use super::{Engine, Timer};
use crate::{
    bridge::{ghost::contact_of, meter::Fate},
    domain::{
        LoginId, Output,
        effect::{ContactKey, Effect, Lane},
        output::Ephemeral,
        request::RoomsAfterLogout,
        stream::StreamOrder,
    },
    store::{StoreError, login::Login, trouble::Suspended},
};

/// Why a login that was signed out with its rooms kept does not connect.
const BY_PERSON: &str = "you signed out";

impl Engine {
    /// Signs a login out.
    pub(super) fn log_out(&mut self, login: &Login, rooms: RoomsAfterLogout) -> Result<(), StoreError> {
        self.end_stream(&login.id);
        self.states.note(&login.id);
        self.nobody_is_there(login)?;
        match rooms {
            RoomsAfterLogout::Nothing => self.keep_rooms(login),
            RoomsAfterLogout::Leave | RoomsAfterLogout::Delete => {
                self.forget_login(login, rooms == RoomsAfterLogout::Delete)
            }
        }
    }

    /// Its stream is closed, and nothing more is done on it.
    fn end_stream(&mut self, ours: &LoginId) {
        if let Some(mut live) = self.lives.remove(ours)
            && let Some(stream) = live.stream.take()
        {
            self.streams.remove(&stream);
            self.order(stream, StreamOrder::Close);
        }
        self.timers.retain(|(_, timer)| match timer {
            Timer::Connect(login)
            | Timer::Import(login)
            | Timer::Newcomer(login)
            | Timer::Roster(login)
            | Timer::VCards(login)
            | Timer::Wishes(login)
            | Timer::List(login)
            | Timer::State(login)
            | Timer::Question(login, _) => login != ours,
            Timer::Typing(contact) => contact.login != *ours,
            Timer::Delivery(_)
            | Timer::Vanish(_)
            | Timer::Sweep
            | Timer::Invitation(_)
            | Timer::SignIn(_)
            | Timer::Broadcast
            | Timer::Progress(_) => true,
            // Of rooms to be looked at each has one, which ends by itself.
            Timer::Features(_) => true,
        });
    }

    /// Its ghosts are seen to be away.
    fn nobody_is_there(&mut self, login: &Login) -> Result<(), StoreError> {
        for (contact, _) in self.bridge.store.present(&login.id)? {
            if let Some(ghost) = self.bridge.ghost(&contact_of(&login.id, &contact)) {
                let gone = Ephemeral::Presence {
                    ghost,
                    owner: login.owner.clone(),
                    state: ruma::presence::PresenceState::Offline,
                    status: None,
                };
                self.outputs.push(Output::Now(gone));
            }
        }
        Ok(())
    }

    /// What it signs in with is forgotten; all else waits for the person to come back.
    fn keep_rooms(&mut self, login: &Login) -> Result<(), StoreError> {
        self.bridge.store.erase_credentials(&login.id);
        let since = self.bridge.now.wall;
        self.bridge.store.put_suspended(&login.id, &Suspended { since, rejected: false })?;
        self.bridge.store.put_login(&Login { suspended: Some(BY_PERSON.to_owned()), ..login.clone() })
    }

    /// Every row, ghost and room of it goes. `rid`: the person is taken out of the rooms, too.
    fn forget_login(&mut self, login: &Login, rid: bool) -> Result<(), StoreError> {
        let ours = &login.id;
        let belongs = |lane: &Lane| match lane {
            Lane::ToMatrix(ContactKey { login, .. })
            | Lane::ToXmpp(ContactKey { login, .. })
            | Lane::Ghost(ContactKey { login, .. })
            | Lane::Login(login)
            | Lane::Space(login) => login == ours,
            Lane::Management(_) | Lane::Person(_) => false,
        };
        self.timers.retain(|(_, timer)| match timer {
            Timer::Delivery(contact) | Timer::Vanish(contact) => contact.login != *ours,
            _ => true,
        });
        self.watched.retain(|contact, _| contact.login != *ours);
        let debts: Vec<_> = self.bridge.store.debts()?.into_iter().filter(|debt| belongs(&debt.lane)).collect();
        self.bridge.outbox.forget_where(belongs);
        for debt in debts {
            self.bridge.outbox.forget(debt.id);
            self.bridge.meter.ended(&debt, Fate::Dropped, self.bridge.now.wall);
        }
        self.bridge.store.erase_debts(ours)?;
        let lane = Lane::Management(login.owner.clone());
        let bot = self.bridge.homeserver.bot.clone();
        for (contact, portal) in self.bridge.store.portals(ours)? {
            let Some(room) = portal.room else { continue };
            self.bridge.store.erase_successors_of(&room)?;
            if rid {
                let user = login.owner.clone();
                self.bridge.owe(lane.clone(), Effect::RemoveFrom { room: room.clone(), user })?;
            }
            for ghost in portal.ghosts.iter().chain([&contact]).collect::<BTreeSet<_>>() {
                if let Some(user) = self.bridge.ghost(&contact_of(ours, ghost)) {
                    self.bridge.owe(lane.clone(), Effect::LeaveRoom { room: room.clone(), user })?;
                }
            }
            self.bridge.owe(lane.clone(), Effect::LeaveRoom { room, user: bot.clone() })?;
        }
        self.leave_space(login)?;
        self.stop_ignoring(login)?;
        self.bridge.store.erase_login(ours)?;
        self.unfollow_person(&login.owner)
    }
}

//! How the bridge and its logins are ([`BridgeState`]): each change is told to the shells, and to people what they asked for
//! (`logins.status_notices`).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Engine, Timer,
    session::{Live, Phase},
};
use crate::{
    bridge::StatusNotices,
    domain::{
        LoginId, Output,
        bridge_state::{BridgeState, Remote, StateEvent, error_of},
        effect::{Effect, Lane, Notice},
        in_words,
        stream::StreamEnd,
    },
    store::StoreError,
};

/// A connection that is lost for no longer is not worth a word, in milliseconds.
const SHORT: u64 = 3 * 60_000;

/// What was told of states. It can be lost at any time.
#[derive(Debug, Default)]
pub(super) struct States {
    /// Logins whose state may have changed.
    stirred: BTreeSet<LoginId>,
    /// The last state of each login.
    told: BTreeMap<LoginId, BridgeState>,
    /// The last state of the bridge.
    bridge: Option<StateEvent>,
    /// Lost connections that are not worth a word yet, and when they are, as uptime.
    patient: BTreeMap<LoginId, u64>,
    /// Whose owner was told that something does not work, and not yet that it is over.
    worried: BTreeSet<LoginId>,
}

impl States {
    /// The state of a login may be another now.
    pub fn note(&mut self, login: &LoginId) {
        if !self.stirred.contains(login) {
            self.stirred.insert(login.clone());
        }
    }
}

impl Engine {
    /// Tells what has changed since it was told last.
    pub(super) fn tell_states(&mut self) -> Result<(), StoreError> {
        for login in std::mem::take(&mut self.states.stirred) {
            let before = self.states.told.get(&login).cloned();
            match self.bridge_state_of(&login)? {
                None => {
                    self.states.patient.remove(&login);
                    self.states.worried.remove(&login);
                    let Some(before) = self.states.told.remove(&login) else { continue };
                    let (event, at) = (StateEvent::LoggedOut, self.bridge.now.wall);
                    let gone = BridgeState { event, at, error: None, message: None, ..before };
                    self.outputs.push(Output::State(Box::new(gone)));
                }
                Some(state) if before.as_ref().is_some_and(|before| before.says_the_same(&state)) => {}
                Some(state) => {
                    self.states.told.insert(login.clone(), state.clone());
                    self.tell_owner(&login, &state)?;
                    self.outputs.push(Output::State(Box::new(state)));
                }
            }
        }
        let event = if self.states.told.is_empty() { StateEvent::Unconfigured } else { StateEvent::Running };
        if self.started && self.states.bridge.replace(event) != Some(event) {
            let state = BridgeState::of_bridge(event, self.bridge.now.wall);
            self.outputs.push(Output::State(Box::new(state)));
        }
        Ok(())
    }

    /// How a login is; `None`: it is gone.
    fn bridge_state_of(&self, login: &LoginId) -> Result<Option<BridgeState>, StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(None) };
        let now = self.bridge.now.wall;
        let remote = Remote { login: row.id, owner: row.owner, account: row.account, name: row.own_name };
        let state = |event, at, error, message| BridgeState { remote: Some(remote), event, at, error, message };
        if let Some(why) = row.suspended {
            let suspended = self.bridge.store.suspended(login)?;
            if self.bridge.store.credentials(login)?.is_none() {
                // Its rooms are kept, and nothing else.
                return Ok(Some(state(StateEvent::LoggedOut, suspended.map_or(now, |row| row.since), None, None)));
            }
            let rejected = suspended.is_some_and(|suspended| suspended.rejected);
            let error = if rejected { "xmpp-rejected" } else { "xmpp-signed-out" };
            let at = suspended.map_or(now, |suspended| suspended.since);
            return Ok(Some(state(StateEvent::BadCredentials, at, Some(error), Some(why))));
        }
        let live = self.lives.get(login);
        let end = live.and_then(|live| live.last_end.as_ref()).filter(|end| **end != StreamEnd::Closed);
        Ok(Some(match (live, end) {
            (Some(live), _) if live.caught_up() => state(StateEvent::Connected, now, None, None),
            (Some(Live { phase: Phase::Up, .. }), _) => state(StateEvent::Backfilling, now, None, None),
            // Between two tries it is what it was.
            (Some(live), Some(end)) => {
                let (error, mends) = error_of(end);
                let event = if mends { StateEvent::TransientDisconnect } else { StateEvent::UnknownError };
                state(event, live.down_since.unwrap_or(now), Some(error), Some(end.to_string()))
            }
            _ => state(StateEvent::Connecting, now, None, None),
        }))
    }

    /// What the owner is told of a login's new state. That it is signed out [`Engine::suspend_login`] says.
    fn tell_owner(&mut self, login: &LoginId, state: &BridgeState) -> Result<(), StoreError> {
        let Some(remote) = &state.remote else { return Ok(()) };
        let account = &remote.account;
        let why = state.message.as_deref().unwrap_or_default();
        let all = self.bridge.settings.status_notices == StatusNotices::All;
        if state.event != StateEvent::TransientDisconnect {
            self.states.patient.remove(login);
        }
        let text = match state.event {
            StateEvent::Connected if self.states.worried.remove(login) => format!("{account} is connected again."),
            StateEvent::Connected if all => format!("{account} is connected."),
            StateEvent::Connecting if all => format!("{account} is connecting."),
            StateEvent::Backfilling if all => format!("{account} is connected, and fetches what it has missed."),
            StateEvent::TransientDisconnect if all => {
                self.states.worried.insert(login.clone());
                format!("{account} has lost its connection: {why}. I go on trying.")
            }
            StateEvent::TransientDisconnect => {
                if !self.states.worried.contains(login) && !self.states.patient.contains_key(login) {
                    let due = self.bridge.now.uptime.saturating_add(SHORT);
                    self.states.patient.insert(login.clone(), due);
                    self.set_timer(SHORT, Timer::State(login.clone()));
                }
                return Ok(());
            }
            // Told once until it is over.
            StateEvent::UnknownError
                if self.lives.get_mut(login).is_some_and(|live| !std::mem::replace(&mut live.told, true)) =>
            {
                self.states.worried.insert(login.clone());
                format!("{account} is not connected: {why}. I go on trying.")
            }
            StateEvent::BadCredentials | StateEvent::LoggedOut => {
                self.states.worried.remove(login);
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.say_state(state, text)
    }

    /// A connection is lost for long.
    pub(super) fn disconnect_lasts(&mut self, login: &LoginId) -> Result<(), StoreError> {
        if self.states.patient.get(login).is_none_or(|due| *due > self.bridge.now.uptime) {
            return Ok(());
        }
        self.states.patient.remove(login);
        let Some(state) = self.states.told.get(login).cloned() else { return Ok(()) };
        let Some(remote) = &state.remote else { return Ok(()) };
        self.states.worried.insert(login.clone());
        let (account, why) = (&remote.account, state.message.as_deref().unwrap_or_default());
        let text = format!("{account} has not been connected for {}: {why}. I go on trying.", in_words(SHORT));
        self.say_state(&state, text)
    }

    /// Says how a login is now, unless nobody is to be told.
    pub(super) fn say_login_state(&mut self, login: &LoginId, text: String) -> Result<(), StoreError> {
        match self.bridge_state_of(login)? {
            Some(state) => self.say_state(&state, text),
            None => Ok(()),
        }
    }

    fn say_state(&mut self, state: &BridgeState, text: String) -> Result<(), StoreError> {
        let Some(remote) = &state.remote else { return Ok(()) };
        if self.bridge.settings.status_notices == StatusNotices::None
            || self.bridge.store.management(&remote.owner)?.room.is_none()
        {
            return Ok(());
        }
        let effect = Effect::SayState { notice: Notice::plain(text), state: state.to_json().to_string() };
        self.bridge.owe(Lane::Management(remote.owner.clone()), effect)?;
        Ok(())
    }
}

//! What clients are told of what can be said in a room: set when the room is made, and again when it has changed. A contact whose
//! apps come and go does not make an event each time.

use std::collections::BTreeSet;

use super::{Engine, Timer, files::Upload};
use crate::{
    bridge::ghost::contact_of,
    domain::{LoginId, effect::ContactKey},
    store::{
        StoreError,
        room_features::{KnownUpload, ToldFeatures},
    },
    translate::{bridge_info, room_features},
};

/// A change is looked at so many milliseconds after it was noted: others may follow.
const SOON: u64 = 10_000;
/// A room is told again after so many milliseconds at the earliest.
const CALM: u64 = 10 * 60_000;
/// Between two rooms of one login that are looked at for the same reason, in milliseconds.
const APART: u64 = 200;

/// Rooms that are to be looked at.
#[derive(Debug, Default)]
pub(super) struct Noted(BTreeSet<ContactKey>);

impl Engine {
    /// What can be said in a portal's room: the content's id, the state key, and the content.
    fn features_now(&self, portal: &ContactKey) -> Result<Option<(String, String, String)>, StoreError> {
        let Some(login) = self.bridge.store.login(&portal.login)? else { return Ok(None) };
        let Some(network) = self.bridge.settings.networks.get(&login.network) else { return Ok(None) };
        let known = room_features::Known {
            extensible: network.profile.extensible,
            features: self.features_of(portal)?,
            largest_file: self.largest_file(&portal.login, network.profile.extensible)?,
        };
        let (id, content) = room_features::to_matrix(&known);
        Ok(Some((id, bridge_info::state_key(&login, network.profile.protocol), content)))
    }

    /// The largest file that a login can send. Where that was not asked yet, as when it was asked last.
    fn largest_file(&self, login: &LoginId, extensible: bool) -> Result<Option<u64>, StoreError> {
        let most = self.bridge.settings.max_file;
        let linked = self.bridge.settings.public_media.as_ref().map(|_| most);
        if !extensible {
            return Ok(linked);
        }
        let known = match self.lives.get(login).map(|live| &live.upload) {
            Some(Upload::Found { most, .. }) => Some(KnownUpload::Found(*most)),
            Some(Upload::Missing { silent: None }) => Some(KnownUpload::Missing),
            _ => self.bridge.store.known_upload(login)?,
        };
        Ok(match known {
            Some(KnownUpload::Missing) => linked,
            Some(KnownUpload::Found(Some(limit))) => Some(most.min(limit)),
            Some(KnownUpload::Found(None)) | None => Some(most),
        })
    }

    /// The state event of a room that is being made: (type, state key, content). That it is told is noted.
    pub(super) fn first_features(
        &mut self,
        portal: &ContactKey,
    ) -> Result<Option<(String, String, String)>, StoreError> {
        let Some((id, key, content)) = self.features_now(portal)? else { return Ok(None) };
        let at = self.bridge.now.wall;
        self.bridge.store.put_told_features(portal, &ToldFeatures { id, at })?;
        Ok(Some((room_features::KIND.to_owned(), key, content)))
    }

    /// Owes a room what can be said in it.
    pub(super) fn say_features(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        match self.first_features(portal)? {
            Some((kind, key, content)) => self.bridge.set_room_state(portal, &kind, &key, content),
            None => Ok(()),
        }
    }

    /// What can be said in a contact's room may have changed.
    pub(super) fn note_features(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        if self.noted.0.contains(portal) || self.bridge.store.portal(portal)?.is_none() {
            return Ok(());
        }
        let told = self.bridge.store.told_features(portal)?;
        let calm = told.map_or(0, |told| told.at.after(CALM).since(self.bridge.now.wall));
        // A clock that was set back must not keep it waiting for ever.
        let after = u64::try_from(calm).unwrap_or_default().clamp(SOON, CALM);
        self.look_at_features(portal.clone(), after);
        Ok(())
    }

    /// The same for all rooms of a login, one after the other.
    pub(super) fn note_all_features(&mut self, login: &LoginId) -> Result<(), StoreError> {
        for (place, (contact, _)) in self.bridge.store.portals(login)?.into_iter().enumerate() {
            let place = u64::try_from(place).unwrap_or(u64::MAX);
            self.look_at_features(contact_of(login, &contact), SOON.saturating_add(place.saturating_mul(APART)));
        }
        Ok(())
    }

    /// Once in the life of the process: rooms of earlier versions, and what the operator has changed meanwhile.
    pub(super) fn look_at_rooms(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        if std::mem::replace(&mut live.looked_at_rooms, true) { Ok(()) } else { self.note_all_features(login) }
    }

    fn look_at_features(&mut self, portal: ContactKey, after: u64) {
        if self.noted.0.insert(portal.clone()) {
            self.set_timer(after, Timer::Features(portal));
        }
    }

    /// Tells a room what can be said in it, if it was told otherwise.
    pub(super) fn renew_features(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        self.noted.0.remove(portal);
        // A room that is not there yet gets it when it is made.
        if self.bridge.store.portal(portal)?.is_none_or(|row| row.room.is_none()) {
            return Ok(());
        }
        let Some((id, _, _)) = self.features_now(portal)? else { return Ok(()) };
        if self.bridge.store.told_features(portal)?.is_some_and(|told| told.id == id) {
            return Ok(());
        }
        self.say_features(portal)
    }

    /// The server has said where it takes files: rooms are told if that is news.
    pub(super) fn upload_found(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let known = match self.lives.get(login).map(|live| &live.upload) {
            Some(Upload::Found { most, .. }) => KnownUpload::Found(*most),
            Some(Upload::Missing { silent: None }) => KnownUpload::Missing,
            _ => return Ok(()),
        };
        if self.bridge.store.known_upload(login)? == Some(known) {
            return Ok(());
        }
        self.bridge.store.put_known_upload(login, known)?;
        self.note_all_features(login)
    }
}

//! Outcomes of requests to the homeserver.

use ruma::{OwnedEventId, UserId};

use super::{Engine, Soft, Timer};
use crate::{
    bridge::meter::Fate,
    domain::{
        DebtId,
        effect::{About, Composed, ContactKey, Debt, Effect, Lane, Relation, Sender},
        input::{Cause, Failure, Outcome, Receipt},
        output::{Ephemeral, WorkId},
    },
    store::{StoreError, contact::VCardState, management::EDITABLE, portal::Room},
    translate::{fallback, message, reply, stanza::to_xml, xhtml},
};

/// How long a lane rests whose head the homeserver will not take, in milliseconds. It is not thrown away.
const PARKED: u64 = 15 * 60 * 1_000;

impl Engine {
    pub(super) fn on_done(&mut self, work: WorkId, outcome: Outcome) -> Result<(), StoreError> {
        match &outcome {
            Outcome::Failed(Failure::Transient { cause, .. }) if cause.code == "connection" => {
                self.note_homeserver(false);
            }
            Outcome::Done(_) => self.note_homeserver(true),
            Outcome::Failed(_) => {}
        }
        let id = match work {
            WorkId::Debt(id) => id,
            WorkId::Soft(number) => {
                let (contact, hash) = match self.soft.remove(&number) {
                    None => return Ok(()),
                    Some(Soft::Photo(contact, hash)) => (contact, hash),
                    Some(Soft::Profile { owner, again }) => return self.on_own_profile(&owner, again, &outcome),
                    Some(Soft::Own(login, url)) => return self.on_own_picture(&login, url, outcome),
                };
                return if let Outcome::Done(Receipt::Media(url)) = outcome {
                    self.bridge.photo_uploaded(&contact, hash, url)
                } else {
                    self.bridge.ignore("photo not uploaded");
                    let for_good = matches!(outcome, Outcome::Failed(Failure::Permanent(_)));
                    if self.avatar_not_uploaded(&contact, &hash, for_good)? {
                        return Ok(());
                    }
                    // Its login may be gone by now: nothing of it may come back.
                    let Some(mut row) = self.bridge.store.contact(&contact)? else { return Ok(()) };
                    // The vCard is fetched again on the next connection, unless the homeserver will never take the photo.
                    row.vcard = match outcome {
                        Outcome::Failed(Failure::Permanent(_)) => VCardState::Fetched(row.announced_photo.clone()),
                        _ => VCardState::Unknown,
                    };
                    self.bridge.store.put_contact(&contact, &row)
                };
            }
        };
        let Some(lane) = self.requests.remove(&id) else { return Ok(()) };
        let Some(debt) = self.bridge.store.debt(&lane, id)? else {
            // Its echo has paid it, or its login is gone: then nobody is left for a room that was still made.
            if let Outcome::Done(Receipt::Room(room)) = outcome
                && self.bridge.store.room(&room)?.is_none()
            {
                let user = self.bridge.homeserver.bot.clone();
                self.bridge.owe(Lane::Management(user.clone()), Effect::LeaveRoom { room, user })?;
            }
            self.bridge.outbox.wake(&lane);
            return Ok(());
        };
        if let Effect::SendComposed(composed) = &debt.effect {
            // Its quotation is there, or will not be: a message is not held up for it.
            let text = match outcome {
                Outcome::Done(Receipt::Content(content)) => message::text_of(&content),
                _ => None,
            };
            let composed = composed.clone();
            return self.quoted(debt, composed, text.as_deref());
        }
        match outcome {
            Outcome::Done(receipt) => self.paid(&debt, receipt),
            Outcome::Failed(Failure::Transient { retry_after, cause }) => {
                self.bridge.meter.failed(&debt, &cause);
                self.bridge.outbox.failed(&lane, id, self.bridge.now.uptime, retry_after);
                Ok(())
            }
            Outcome::Failed(Failure::Permanent(cause)) => self.refused(&debt, &cause),
        }
    }

    /// A debt to the homeserver is paid.
    pub(super) fn paid(&mut self, debt: &Debt, receipt: Receipt) -> Result<(), StoreError> {
        if let Receipt::Event(event) = &receipt {
            self.bridge.meter.became(debt, event);
            self.keep_promise(debt, event)?;
        }
        match (&debt.lane, &debt.effect, receipt) {
            (Lane::Ghost(contact), Effect::RegisterGhost, _) => {
                self.bridge.ghost_registered(contact)?;
                if self.bridge.store.resources(contact)?.is_some() {
                    self.show_contact_presence(contact)?;
                }
            }
            (Lane::ToMatrix(portal), Effect::CreateRoom, Receipt::Room(room)) => {
                if let Some(mut row) = self.bridge.store.portal(portal)? {
                    row.room = Some(room.clone());
                    row.creating = None;
                    self.bridge.store.put_portal(portal, &row)?;
                    self.bridge.store.put_room(&room, &Room::Portal(portal.clone()))?;
                    self.room_made(portal)?;
                    self.choose_for_room(portal)?;
                    self.bridge.list_room(portal)?;
                }
            }
            (Lane::Space(login), Effect::CreateSpace, Receipt::Room(room)) => self.space_made(login, room)?,
            (Lane::ToMatrix(portal), Effect::JoinOwner, _) => self.owner_has_joined(portal)?,
            (Lane::Space(login), Effect::JoinOwner, _) => self.owner_has_joined_space(login)?,
            (Lane::ToMatrix(portal), Effect::SendEvent { sender, binds, .. }, Receipt::Event(event)) => {
                if *sender == Sender::Owner {
                    self.owner_spoke(portal, &event, binds)?;
                }
                self.bind(portal, binds, &event)?;
                self.notice_paid(portal, debt.id, &event)?;
                if let Sender::Ghost(ghost) = sender {
                    self.stop_typing(&ContactKey { login: portal.login.clone(), contact: ghost.clone() })?;
                }
            }
            (Lane::ToMatrix(portal), Effect::SendAbout { sender, about, binds, .. }, Receipt::Event(event)) => {
                let target = self.bridge.store.event_of(portal, &about.name)?;
                if *sender == Sender::Owner {
                    self.owner_spoke(portal, &event, binds)?;
                }
                match (&about.relation, target) {
                    // Whatever refers to an edit means what it edits.
                    (Relation::Replace, Some(target)) => {
                        self.bind(portal, binds, &target)?;
                        if about.name.starts_with("o:") {
                            // What the person said in Matrix goes on being known by its own name.
                            self.bind(portal, std::slice::from_ref(&about.name), &target)?;
                        }
                    }
                    (Relation::Replace, None) => {
                        self.bind(portal, std::slice::from_ref(&about.name), &event)?;
                        self.bind(portal, binds, &event)?;
                    }
                    (Relation::Reply | Relation::Reaction(_), _) => self.bind(portal, binds, &event)?,
                }
                if let Sender::Ghost(ghost) = sender {
                    self.stop_typing(&ContactKey { login: portal.login.clone(), contact: ghost.clone() })?;
                }
            }
            (Lane::Management(owner), Effect::Say { replaces: Some(key), .. }, Receipt::Event(event)) => {
                self.note_notice(owner, key, event)?;
            }
            (Lane::Management(owner), Effect::JoinInvited { room }, _) => {
                let room = room.clone();
                let owner = owner.clone();
                self.settle(debt)?;
                return self.joined_invited(&owner, room);
            }
            (Lane::Management(owner), Effect::CountMembers { room }, Receipt::Members(members)) => {
                let (room, owner) = (room.clone(), owner.clone());
                self.settle(debt)?;
                return self.counted_members(&owner, room, members);
            }
            (Lane::Management(_), effect @ (Effect::FollowUpgrade { .. } | Effect::JoinAs { .. }), _) => {
                let effect = effect.clone();
                self.settle(debt)?;
                return self.moved_in(effect);
            }
            (Lane::Person(owner), effect @ (Effect::SetTag { .. } | Effect::Silence { .. }), _) => {
                self.choice_is_written(owner, effect)?;
            }
            (Lane::Person(_), Effect::Ignore { ghost, ignored }, _) => self.ignored_is_written(ghost, *ignored)?,
            (Lane::Management(_), Effect::CheckUpgrade { room }, Receipt::Content(create)) => {
                let room = room.clone();
                self.settle(debt)?;
                return self.checked_upgrade(&room, &create);
            }
            _ => {}
        }
        self.settle_as(debt, Fate::Delivered)
    }

    fn bind(&mut self, portal: &ContactKey, names: &[String], event: &OwnedEventId) -> Result<(), StoreError> {
        for name in names {
            self.bridge.store.bind(portal, name, Some(event))?;
        }
        Ok(())
    }

    fn note_notice(&mut self, owner: &UserId, key: &str, event: OwnedEventId) -> Result<(), StoreError> {
        let mut row = self.bridge.store.management(owner)?;
        // An edit is made of the first notice; only that one is remembered.
        if row.notices.iter().any(|(known, _)| known == key) {
            return Ok(());
        }
        row.notices.push((key.to_owned(), event));
        if row.notices.len() > EDITABLE {
            row.notices.remove(0);
        }
        self.bridge.store.put_management(owner, &row)
    }

    /// What a message answers is known, or will not be: now it can be sent.
    fn quoted(&mut self, mut debt: Debt, mut composed: Composed, text: Option<&str>) -> Result<(), StoreError> {
        composed.quotes = None;
        let quotation = text.map(reply::quotation).unwrap_or_default();
        if !quotation.is_empty() {
            if let Some(namespace) = composed.stands_for.take() {
                let part = fallback::to_xmpp(&namespace, Some((0, quotation.chars().count())));
                composed.payloads.extend(to_xml(&part));
            }
            composed.body.insert_str(0, &quotation);
            for payload in &mut composed.payloads {
                let quoting = payload.parse().ok().and_then(|parsed| xhtml::with_quotation(&parsed, &quotation));
                if let Some(quoting) = quoting.as_ref().and_then(to_xml) {
                    *payload = quoting;
                }
            }
        }
        debt.effect = Effect::SendComposed(composed);
        self.bridge.store.put_debt(&debt)?;
        self.bridge.outbox.wake(&debt.lane);
        Ok(())
    }

    /// The homeserver will not take it, however often it is asked.
    fn refused(&mut self, debt: &Debt, cause: &Cause) -> Result<(), StoreError> {
        if self.owner_refused(debt, cause)? {
            return Ok(());
        }
        match (&debt.lane, &debt.effect) {
            // What someone said is not thrown away: its lane is parked, others go on.
            (
                Lane::ToMatrix(portal),
                Effect::CreateRoom
                | Effect::SendEvent { sender: Sender::Ghost(_), .. }
                | Effect::JoinRoom { .. }
                | Effect::SendAbout { about: About { relation: Relation::Reply | Relation::Replace, .. }, .. },
            ) => {
                if debt.effect == Effect::CreateRoom {
                    self.lookup_refused(portal, cause);
                }
                let told = debt.effect == Effect::CreateRoom && self.room_refused(portal, &cause.sentence)?;
                let first = self.bridge.outbox.failures(&debt.lane) == 0;
                self.bridge.outbox.failed(&debt.lane, debt.id, self.bridge.now.uptime, Some(PARKED));
                if first
                    && !told
                    && let Some(owner) = self.owner_of(&portal.login)?
                {
                    let text = format!(
                        "The chat with {} is held up: the homeserver says \u{201c}{}\u{201d}. I keep what is said and try again from time to time.",
                        portal.contact, cause.sentence
                    );
                    self.bridge.say(&owner, text)?;
                }
                Ok(())
            }
            // What the bot says of how messages fare must not hold them up.
            (Lane::ToMatrix(portal), Effect::SendEvent { sender: Sender::Bot, .. }) => {
                self.bridge.ignore("notice refused");
                self.notice_refused(portal, debt.id)?;
                self.settle(debt)
            }
            (Lane::Ghost(ghost), Effect::RegisterGhost) => {
                self.room_refused(ghost, &cause.sentence)?;
                self.bridge.outbox.failed(&debt.lane, debt.id, self.bridge.now.uptime, Some(PARKED));
                self.bridge.ignore("ghost not registered");
                Ok(())
            }
            (Lane::ToMatrix(portal), Effect::InviteOwner) => {
                self.settle(debt)?;
                let Some(owner) = self.owner_of(&portal.login)? else { return Ok(()) };
                let room = self.bridge.store.portal(portal)?.and_then(|row| row.room);
                let room = room.map(|room| room.to_string()).unwrap_or_default();
                let text = format!(
                    "I could not invite you to the room of {} ({room}): the homeserver says \u{201c}{}\u{201d}.",
                    portal.contact, cause.sentence
                );
                self.bridge.say(&owner, text)
            }
            (Lane::Management(owner), Effect::Redact { .. }) => {
                let owner = owner.clone();
                self.settle(debt)?;
                self.bridge.say(&owner, "I could not remove your message that held a secret: I lack the power for it in this room. Please delete it yourself.")
            }
            (Lane::Space(login), Effect::CreateSpace) => {
                // Tried again when the login has caught up the next time.
                self.bridge.ignore("space not made");
                self.space_refused(login)?;
                self.settle(debt)
            }
            (Lane::Management(_), Effect::FollowUpgrade { room } | Effect::JoinAs { room, .. }) => {
                let room = room.clone();
                self.settle(debt)?;
                self.not_let_in(&room)
            }
            _ => {
                self.bridge.ignore("request refused");
                self.settle_as(debt, Fate::Refused)
            }
        }
    }

    /// An event of ours came back in a transaction: pays its debt if our own request's answer was lost.
    pub(super) fn on_echo(&mut self, lane: &Lane, debt: DebtId, event: OwnedEventId) -> Result<(), StoreError> {
        if let Some(debt) = self.bridge.store.debt(lane, debt)? {
            self.paid(&debt, Receipt::Event(event))?;
        }
        Ok(())
    }

    /// The ghost has said something: it types no longer.
    pub(super) fn stop_typing(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        let Some(live) = self.lives.get_mut(&contact.login) else { return Ok(()) };
        if live.typing.remove(&contact.contact).is_none() {
            return Ok(());
        }
        self.timers.retain(|(_, timer)| !matches!(timer, Timer::Typing(typing) if typing == contact));
        let room = self.bridge.store.portal(contact)?.and_then(|portal| portal.room);
        if let (Some(room), Some(user)) = (room, self.bridge.ghost(contact)) {
            self.outputs.push(crate::domain::Output::Now(Ephemeral::Typing { room, user, timeout: None }));
        }
        Ok(())
    }
}

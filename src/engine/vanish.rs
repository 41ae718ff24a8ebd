//! Disappearing messages (XEP-0466): what each chat has agreed on, and what is redacted when.
//!
//! A contact's message begins to disappear when the person has read it: when their read receipt comes, when they write in the chat, or
//! [`UNREAD`] after it came, for a receipt can be private. What the person says begins when it goes out. The rows outlive a
//! restart; an event that is beyond [`PER_CHAT`] goes early.

use ruma::{EventId, OwnedEventId};

use super::{Engine, Timer, session::Live};
use crate::{
    domain::{
        DebtId, LoginId, Timestamp,
        effect::{ContactKey, Debt, Effect, Lane, Relation, Sender},
        feature::Feature,
        time::Lifetime,
    },
    store::{
        StoreError,
        vanishing::{Agreed, PER_CHAT, Promised, Vanishing},
    },
    translate::{disappearing, stable_id},
};

/// A message that nobody was seen to read begins to disappear so long after it came, in milliseconds.
const UNREAD: u64 = 7 * 86_400_000;
/// A message that is not known to be at the contact's server is looked at again after this, in milliseconds.
const ON_ITS_WAY: u64 = 60_000;
/// How many are redacted at once in one chat.
const AT_ONCE: usize = 50;
/// When the next of them follow, in milliseconds.
const NEXT: u64 = 1_000;

impl Engine {
    /// At the start: when something disappears next, in each chat.
    pub(super) fn watch_vanishing(&mut self, login: &LoginId) -> Result<(), StoreError> {
        for contact in self.bridge.store.chats_that_vanish(login)? {
            self.next_to_vanish(&ContactKey { login: login.clone(), contact })?;
        }
        Ok(())
    }

    /// Someone says after which time messages of a chat disappear, at this time.
    pub(super) fn on_timer(
        &mut self,
        portal: &ContactKey,
        own: bool,
        lifetime: Lifetime,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let extensible = self.profile_of(&portal.login)?.is_some_and(|profile| profile.extensible);
        if !extensible || self.bridge.store.portal(portal)?.is_none() {
            return Ok(());
        }
        // What goes at once is nothing that a conversation could agree on.
        let timer = match lifetime {
            Lifetime::Seconds(timer) if timer > 0 => Some(timer),
            Lifetime::Seconds(_) | Lifetime::Unlimited => None,
        };
        let known = self.bridge.store.agreed(portal)?;
        if known.is_some_and(|known| at < known.at) {
            return Ok(());
        }
        let before = known.and_then(|known| known.timer);
        let refused = known.and_then(|known| known.refused).filter(|_| !own);
        // Who goes on as before after the person has ended it says nothing new.
        if timer == before || timer.is_some() && timer == refused {
            return Ok(());
        }
        self.bridge.store.put_agreed(portal, Agreed { timer, refused: None, at })?;
        self.bridge.owe_event(portal, Sender::Bot, disappearing::to_matrix(timer), None, Vec::new())
    }

    /// The command `disappearing`: gives what to answer.
    pub(super) fn set_disappearing(
        &mut self,
        portal: &ContactKey,
        wish: Option<Lifetime>,
    ) -> Result<String, StoreError> {
        let known = self.bridge.store.agreed(portal)?;
        let before = known.and_then(|known| known.timer);
        let timer = match wish {
            None => return Ok(disappearing::words(before)),
            Some(Lifetime::Seconds(timer)) => Some(timer),
            Some(Lifetime::Unlimited) => None,
        };
        if !self.profile_of(&portal.login)?.is_some_and(|profile| profile.extensible) {
            return Ok("This network does not know messages that disappear.".to_owned());
        }
        if let Some(timer) = timer {
            if !self.lives.get(&portal.login).is_some_and(Live::caught_up) {
                return Ok("Your account is not on line just now.".to_owned());
            }
            let id = self.bridge.store.take_debt_id()?;
            let stanza = disappearing::negotiation(timer, &portal.contact, &self.bridge.wire_id(id));
            self.send(&portal.login, stanza);
        }
        let refused = if timer.is_none() { before.or(known.and_then(|known| known.refused)) } else { None };
        self.bridge.store.put_agreed(portal, Agreed { timer, refused, at: self.bridge.now.wall })?;
        let mut answer = match timer {
            Some(_) => disappearing::words(timer),
            None => "What you write here does not disappear any more.".to_owned(),
        };
        if timer.is_some() && !self.features_of(portal)?.has(Feature::Ephemeral) {
            answer.push_str(" The contact's app does not say that it knows this, so your messages may stay there.");
        }
        Ok(answer)
    }

    /// What was owed to a chat's room since `before` is to disappear.
    pub(super) fn promise_vanishing(
        &mut self,
        portal: &ContactKey,
        before: DebtId,
        promised: Promised,
    ) -> Result<(), StoreError> {
        let lane = Lane::ToMatrix(portal.clone());
        let mut after = before;
        while let Some(debt) = self.bridge.next_debt(&lane, Some(after))? {
            after = debt.id;
            let says = match &debt.effect {
                Effect::SendEvent { sender: Sender::Ghost(_) | Sender::Owner, .. }
                | Effect::ShowFile(_)
                | Effect::ShowMedia(_) => true,
                Effect::SendAbout { about, .. } => !matches!(about.relation, Relation::Reaction(_)),
                _ => false,
            };
            if says {
                self.bridge.store.promise(portal, debt.id, promised)?;
            }
        }
        Ok(())
    }

    /// An event is in its room: if it is to disappear, that begins now, or when it is read.
    pub(super) fn keep_promise(&mut self, debt: &Debt, event: &EventId) -> Result<(), StoreError> {
        let Lane::ToMatrix(portal) = &debt.lane else { return Ok(()) };
        match self.bridge.store.take_promise(portal, debt.id)? {
            Some(Promised { timer, read }) => self.let_vanish(portal, event.to_owned(), timer, read),
            None => Ok(()),
        }
    }

    fn let_vanish(
        &mut self,
        portal: &ContactKey,
        event: OwnedEventId,
        timer: u32,
        read: bool,
    ) -> Result<(), StoreError> {
        let Some(room) = self.bridge.store.portal(portal)?.and_then(|row| row.room) else { return Ok(()) };
        let now = self.bridge.now.wall;
        let due = read.then(|| now.after(u64::from(timer) * 1_000));
        self.bridge.store.add_vanishing(portal, &Vanishing { room, event, timer, at: now, due })?;
        self.next_to_vanish(portal)
    }

    /// A message of the person's goes out in a chat where messages disappear: so does it, from now on.
    pub(super) fn send_vanishing(
        &mut self,
        lane: &Lane,
        effect: &Effect,
        stanza: &mut minidom::Element,
    ) -> Result<(), StoreError> {
        let (Lane::ToXmpp(portal), Some((event, _))) = (lane, effect.said()) else { return Ok(()) };
        let Some(timer) = self.bridge.store.agreed(portal)?.and_then(|agreed| agreed.timer) else { return Ok(()) };
        if !disappearing::can_disappear(stanza) {
            return Ok(());
        }
        stanza.append_child(disappearing::to_xmpp(timer));
        // It may go out in parts, or again after a cut.
        let known = self.bridge.store.vanishing(portal)?;
        if known.iter().any(|(_, row)| row.event == *event) {
            return Ok(());
        }
        self.let_vanish(portal, event.clone(), timer, true)
    }

    /// The person has read up to an event, or everything.
    pub(super) fn read_vanishing(&mut self, portal: &ContactKey, event: Option<&EventId>) -> Result<(), StoreError> {
        let mut rows = self.bridge.store.vanishing(portal)?;
        if let Some(event) = event {
            let name = self.bridge.store.stanza_of(portal, event)?;
            let theirs = matches!(name.as_deref().and_then(stable_id::id_of), Some((_, false)));
            let place = rows.iter().position(|(_, row)| row.event == *event);
            if let Some(place) = place {
                rows.truncate(place + 1);
            } else if theirs {
                // Another message of the contact: whether it came before these is not known.
                return Ok(());
            }
        }
        let now = self.bridge.now.wall;
        let mut changed = false;
        for (number, mut row) in rows {
            if row.due.is_none() {
                row.due = Some(now.after(u64::from(row.timer) * 1_000));
                self.bridge.store.put_vanishing(portal, number, &row)?;
                changed = true;
            }
        }
        if changed { self.next_to_vanish(portal) } else { Ok(()) }
    }

    /// Is this message of the person's still owed to the contact?
    fn is_on_its_way(&self, portal: &ContactKey, event: &EventId) -> Result<bool, StoreError> {
        let owed = self.bridge.store.debts_of(&Lane::ToXmpp(portal.clone()))?;
        Ok(owed.iter().any(|debt| debt.effect.said().is_some_and(|(said, _)| said == event)))
    }

    /// Redacts what is due in a chat, and sets the clock for the next.
    pub(super) fn next_to_vanish(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        self.timers.retain(|(_, timer)| !matches!(timer, Timer::Vanish(known) if known == portal));
        let now = self.bridge.now.wall;
        let rows = self.bridge.store.vanishing(portal)?;
        let beyond = rows.len().saturating_sub(PER_CHAT);
        let mut next: Option<Timestamp> = None;
        let mut gone = 0;
        for (place, (number, mut row)) in rows.into_iter().enumerate() {
            let stay = u64::from(row.timer) * 1_000;
            let mut due = row.due.unwrap_or_else(|| row.at.after(UNREAD).after(stay));
            if due <= now && self.is_on_its_way(portal, &row.event)? {
                // What the contact may not have yet stays until it has been there for its time.
                due = now.after(stay.max(ON_ITS_WAY));
                row.due = Some(due);
                self.bridge.store.put_vanishing(portal, number, &row)?;
            }
            if (due <= now || place < beyond) && gone < AT_ONCE {
                gone += 1;
                self.bridge.store.erase_vanishing(portal, number);
                let effect = Effect::Vanish { room: row.room, event: row.event };
                self.bridge.owe(Lane::ToMatrix(portal.clone()), effect)?;
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        if let Some(next) = next {
            // A clock that is set is looked at again within the hour.
            let wait = u64::try_from(next.since(now)).unwrap_or(0).clamp(NEXT, 3_600_000);
            self.set_timer(wait, Timer::Vanish(portal.clone()));
        }
        Ok(())
    }
}

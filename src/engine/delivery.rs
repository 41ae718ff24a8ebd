//! What a person sees of messages that are not delivered, or not yet: a status for each, and one notice for each portal while
//! it is held up; mended when they are delivered after all, and told when they are given up.
//!
//! All of it stands in the lane into the room, like what is said there, and none of it may hold that lane up.

use std::collections::BTreeSet;

use ruma::OwnedEventId;

use super::{
    Engine, Timer,
    session::{Live, Phase, WINDOW},
};
use crate::{
    bridge::{meter::Fate, outbox::scatter},
    domain::{
        DebtId, LoginId, Timestamp,
        capability::Archive,
        effect::{ContactKey, Debt, Effect, Lane, MatrixEvent, Sender},
    },
    store::{
        StoreError,
        trouble::{HeldUp, Pending, STATUSES, Why},
    },
    translate::{
        blocking,
        failure::{self, StanzaError},
        history::RECENT_LINES,
        status::{self, Reason, State, Trouble},
    },
};

/// How many portals are looked after in one step; the others in the next.
pub(super) const CHECKS: usize = 16;
/// When the others are, in milliseconds.
pub(super) const NEXT_CHECKS: u64 = 50;
/// How many debts of a portal are looked at. A notice counts no more than that.
const LOOKED_AT: usize = 1_000;
/// A notice is not edited more often, in milliseconds.
const EDIT_PAUSE: u64 = 60_000;
/// How often a portal that is held up is looked after though nothing happens, in milliseconds.
const LOOK_AGAIN: u64 = 5 * 60_000;
/// Messages of one portal are given up together, no more often than this, in milliseconds: each time is a notice.
const GIVE_UP_PAUSE: u64 = 3_600_000;
/// After a start, streams get so long to come up before anything is said of what waits, in milliseconds.
const AFTER_START: u64 = 10_000;

/// A message that waits: one event, of which some stanzas are not delivered yet.
struct Waiting {
    event: OwnedEventId,
    made: Timestamp,
    written: Timestamp,
    left: u32,
}

/// The messages of a lane's debts, in order.
fn messages(debts: &[Debt]) -> Vec<Waiting> {
    let mut messages: Vec<Waiting> = Vec::new();
    for debt in debts {
        let Some((event, written)) = debt.effect.said() else { continue };
        match messages.last_mut() {
            Some(last) if last.event == *event => last.left += 1,
            _ => messages.push(Waiting { event: event.clone(), made: debt.made, written, left: 1 }),
        }
    }
    messages
}

fn count_of<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

impl Engine {
    /// After a start: what still waits is looked after again.
    pub(super) fn watch_all(&mut self) {
        let grace = AFTER_START.min(self.bridge.settings.warn_after);
        for lane in self.bridge.outbox.lanes_where(|lane| matches!(lane, Lane::ToXmpp(_))) {
            let Lane::ToXmpp(portal) = lane else { continue };
            let place = u64::try_from(self.watched.len()).unwrap_or(u64::MAX);
            self.watch(&portal, grace + scatter(place) % 2_000);
        }
    }

    /// Looks after what waits in a portal after so many milliseconds, or sooner if that is planned already.
    pub(super) fn watch(&mut self, portal: &ContactKey, after: u64) {
        let at = self.bridge.now.uptime.saturating_add(after.max(1));
        if let Some(planned) = self.watched.get(portal).copied() {
            if planned <= at {
                return;
            }
            self.timers.remove(&(planned, Timer::Delivery(portal.clone())));
        }
        self.watched.insert(portal.clone(), at);
        self.timers.insert((at, Timer::Delivery(portal.clone())));
    }

    /// A message was taken in: if it still waits then, its sender is told.
    pub(super) fn watch_message(&mut self, portal: &ContactKey) {
        self.watch(portal, self.bridge.settings.warn_after);
    }

    /// Looks after what waits in a portal: gives up what is too old, shows what waits too long.
    pub(super) fn check_delivery(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        self.watched.remove(portal);
        self.give_up_expired(portal)?;
        let debts = self.bridge.store.first_debts(&Lane::ToXmpp(portal.clone()), LOOKED_AT)?;
        let mut waiting = messages(&debts);
        if debts.len() == LOOKED_AT && waiting.len() > 1 {
            // Of the last one there may be more than was looked at.
            waiting.pop();
        }
        let (now, warn_after) = (self.bridge.now.wall, self.bridge.settings.warn_after);
        let due = waiting.iter().take_while(|message| self.waits_too_long(message.made)).count();
        let mut next = LOOK_AGAIN;
        if let Some(fresh) = waiting.get(due) {
            let left = warn_after.saturating_add_signed(now.since(fresh.made).saturating_neg());
            next = next.min(left.min(warn_after));
        }
        let Some(oldest) = waiting.first() else { return self.end_if_over(portal) };
        let until = self.until(oldest.made, oldest.written);
        if let Ok(left @ 1..) = u64::try_from(until.since(now)) {
            next = next.min(left);
        }
        if due == 0 {
            self.end_if_over(portal)?;
        } else if !self.show_held_up(portal, &waiting[..due], until)? {
            next = next.min(EDIT_PAUSE);
        }
        self.watch(portal, next);
        Ok(())
    }

    fn waits_too_long(&self, made: Timestamp) -> bool {
        u64::try_from(self.bridge.now.wall.since(made)).is_ok_and(|waited| waited >= self.bridge.settings.warn_after)
    }

    /// When a message is given up. Two clocks have to agree, ours and the homeserver's: a clock that was wrong and is set
    /// right must not throw everything away.
    fn until(&self, made: Timestamp, written: Timestamp) -> Timestamp {
        made.max(written).after(self.bridge.settings.expire)
    }

    /// Why what a login has to say waits: what it is, and a part of a sentence.
    fn why(&self, login: &LoginId) -> Result<(Why, String), StoreError> {
        let Some(row) = self.bridge.store.login(login)? else {
            return Ok((Why::NotConnected, "the account is gone".to_owned()));
        };
        let account = &row.account;
        if let Some(why) = &row.suspended {
            let command = self.bridge.sign_in_command(&row.network, &row.account);
            return Ok((Why::SignedOut, format!("{account} is signed out: {why} (sign in again with `{command}`)")));
        }
        let live = self.lives.get(login);
        Ok(match live.map(|live| (&live.phase, &live.last_end)) {
            Some((Phase::Up, _)) if live.is_some_and(Live::caught_up) => {
                (Why::Unconfirmed, format!("the server of {account} has not confirmed that it has it"))
            }
            Some((Phase::Up, _)) => {
                (Why::CatchingUp, format!("{account} has just been connected, and I fetch what was missed first"))
            }
            Some((Phase::Down | Phase::Connecting, Some(end))) => {
                (Why::NotConnected, format!("{account} is not connected: {end}"))
            }
            Some((Phase::Down | Phase::Connecting, None)) | None => {
                (Why::NotConnected, format!("{account} is being connected"))
            }
        })
    }

    /// Shows that these messages wait: those that have no status yet get one, as long as there are few, and the notice says how
    /// many they are. `false` if the notice is to be edited later.
    fn show_held_up(&mut self, portal: &ContactKey, waiting: &[Waiting], until: Timestamp) -> Result<bool, StoreError> {
        let (why, because) = self.why(&portal.login)?;
        let mut row = self.bridge.store.held_up(portal)?.unwrap_or_default();
        let trouble = Trouble::waits(why, status::waiting(1, why, &because, until));
        for message in waiting {
            if row.pending.len() >= STATUSES {
                break;
            }
            if row.pending.iter().all(|pending| pending.event != message.event) {
                row.pending.push(Pending { event: message.event.clone(), left: message.left });
                self.owe_status(portal, &message.event, State::Pending, Some(&trouble))?;
            }
        }
        let told = Some((count_of(waiting), why));
        let now = self.bridge.now.wall;
        let rested = now.since(row.told_at).unsigned_abs() >= EDIT_PAUSE;
        let speaks = match (&row.sending, &row.notice) {
            (Some(_), _) => false,
            (None, Some(_)) => row.told != told && rested,
            // One that the homeserver refused is not repeated.
            (None, None) => row.told.is_none(),
        };
        if let (true, Some(first)) = (speaks, waiting.first()) {
            let text = status::waiting(count_of(waiting), why, &because, until);
            let event = match &row.notice {
                Some(notice) => status::edit(&text, &first.event, notice),
                None => failure::to_matrix(&text, Some(first.event.clone())),
            };
            row.sending = Some(self.owe_from_bot(portal, event)?);
            row.told = told;
            row.told_at = now;
        }
        let up_to_date = row.told == told;
        self.bridge.store.put_held_up(portal, &row)?;
        Ok(up_to_date)
    }

    /// A stanza to a contact is delivered: what was shown of its message is mended.
    pub(super) fn message_paid(&mut self, debt: &Debt) -> Result<(), StoreError> {
        let (Lane::ToXmpp(portal), Some((event, _))) = (&debt.lane, debt.effect.said()) else { return Ok(()) };
        let Some(mut row) = self.bridge.store.held_up(portal)? else { return Ok(()) };
        if let Some(place) = row.pending.iter().position(|pending| pending.event == *event) {
            row.pending[place].left = row.pending[place].left.saturating_sub(1);
            if row.pending[place].left == 0 {
                row.pending.remove(place);
                self.owe_status(portal, event, State::Success, None)?;
            }
            self.bridge.store.put_held_up(portal, &row)?;
        }
        self.end_if_over(portal)
    }

    /// If nothing waits too long any more, the notice is taken away.
    fn end_if_over(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.held_up(portal)? else { return Ok(()) };
        let first = self.bridge.next_debt(&Lane::ToXmpp(portal.clone()), None)?;
        let waits = first.is_some_and(|debt| self.waits_too_long(debt.made));
        // One that is on its way is taken away once it is there.
        if waits || !row.pending.is_empty() || row.sending.is_some() {
            return Ok(());
        }
        if let Some(event) = row.notice
            && let Some(room) = self.bridge.store.portal(portal)?.and_then(|portal| portal.room)
        {
            self.bridge.owe(Lane::ToMatrix(portal.clone()), Effect::Redact { room, event })?;
        }
        self.bridge.store.erase_held_up(portal);
        Ok(())
    }

    /// Something of the bot's is in a portal's room: it may be the notice.
    pub(super) fn notice_paid(
        &mut self,
        portal: &ContactKey,
        debt: DebtId,
        event: &OwnedEventId,
    ) -> Result<(), StoreError> {
        let Some(mut row) = self.sent_notice(portal, debt)? else { return Ok(()) };
        row.notice.get_or_insert_with(|| event.clone());
        self.bridge.store.put_held_up(portal, &row)?;
        self.end_if_over(portal)
    }

    /// The homeserver refused something of the bot's for a portal's room: it may be the notice.
    pub(super) fn notice_refused(&mut self, portal: &ContactKey, debt: DebtId) -> Result<(), StoreError> {
        let Some(row) = self.sent_notice(portal, debt)? else { return Ok(()) };
        self.bridge.store.put_held_up(portal, &row)?;
        self.end_if_over(portal)
    }

    fn sent_notice(&self, portal: &ContactKey, debt: DebtId) -> Result<Option<HeldUp>, StoreError> {
        let row = self.bridge.store.held_up(portal)?.filter(|row| row.sending == Some(debt));
        Ok(row.map(|row| HeldUp { sending: None, ..row }))
    }

    /// Gives up the messages at the head of a portal's lane that are too old, and says so.
    fn give_up_expired(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        let (now, expire) = (self.bridge.now.wall, self.bridge.settings.expire);
        let mut row = self.bridge.store.held_up(portal)?.unwrap_or_default();
        let pause = GIVE_UP_PAUSE.min(expire / 8);
        if row.gave_up.is_some_and(|at| now.since(at).unsigned_abs() < pause) {
            return Ok(());
        }
        // What is on its way on a stream that is up may be confirmed at any moment.
        let on_its_way: BTreeSet<DebtId> = self
            .lives
            .get(&portal.login)
            .filter(|live| live.phase == Phase::Up)
            .map(|live| live.unconfirmed.values().map(|(_, debt)| *debt).collect())
            .unwrap_or_default();
        let mut expired = self.bridge.store.first_debts(&Lane::ToXmpp(portal.clone()), LOOKED_AT)?;
        let stays = |debt: &Debt| match debt.effect.said() {
            Some((_, written)) => on_its_way.contains(&debt.id) || self.until(debt.made, written) > now,
            None => true,
        };
        let count = expired.iter().position(stays).unwrap_or(expired.len());
        expired.truncate(count);
        let lost = messages(&expired);
        let Some(first) = lost.first().map(|message| message.event.clone()) else { return Ok(()) };
        let sent: BTreeSet<DebtId> =
            self.bridge.store.unconfirmed(&portal.login)?.into_iter().map(|(_, what)| what.debt).collect();
        let certain = !expired.iter().any(|debt| debt.tried || sent.contains(&debt.id));
        let (_, because) = self.why(&portal.login)?;
        let sentence = |count| status::given_up(count, certain, &because, expire);
        let trouble = Trouble { reason: Reason::TooOld, error: "expired".to_owned(), sentence: sentence(1) };
        let text = sentence(count_of(&lost));
        let mut unseen = 0;
        for message in &lost {
            let shown = row.pending.iter().position(|pending| pending.event == message.event);
            match shown {
                Some(place) => drop(row.pending.remove(place)),
                None if unseen >= STATUSES => continue,
                None => unseen += 1,
            }
            self.owe_status(portal, &message.event, State::FailPermanent, Some(&trouble))?;
        }
        row.gave_up = Some(now);
        self.bridge.store.put_held_up(portal, &row)?;
        self.owe_from_bot(portal, failure::to_matrix(&text, Some(first)))?;
        for debt in &expired {
            self.settle_as(debt, Fate::Expired)?;
        }
        Ok(())
    }

    /// A session was cut off: what is on its way may have been delivered, unless the server said how much it had read (`told`)
    /// and that can be true.
    pub(super) fn doubt_unconfirmed(&mut self, login: &LoginId, told: Option<u32>) -> Result<(), StoreError> {
        let Some(live) = self.lives.get(login) else { return Ok(()) };
        let sent = live.session.as_ref().map_or(0, |session| session.outbound);
        if told.is_some_and(|h| sent.wrapping_sub(h) <= u32::MAX / 2) {
            return Ok(());
        }
        let on_its_way: Vec<_> = live.unconfirmed.values().cloned().collect();
        for (lane, debt) in on_its_way {
            if let Some(mut debt) = self.bridge.store.debt(&lane, debt)?.filter(|debt| !debt.tried) {
                debt.tried = true;
                self.bridge.store.put_debt(&debt)?;
            }
        }
        Ok(())
    }

    /// A message is sent again of which nobody can know whether it had arrived: its sender is told, once for all that were cut
    /// off together. An archive with ids would have told.
    pub(super) fn tell_doubt(&mut self, debt: &Debt) -> Result<(), StoreError> {
        let (Lane::ToXmpp(portal), true) = (&debt.lane, debt.tried) else { return Ok(()) };
        let found = self.lives.get(&portal.login).and_then(|live| live.session.as_ref()).is_some_and(|s| s.archive);
        if found || self.bridge.archive(&portal.login)? == Archive::Mam {
            return Ok(());
        }
        if self.bridge.store.doubted(portal)?.is_some_and(|told| told >= debt.id) {
            return Ok(());
        }
        // They stand together at the head of the lane, and are no more than may be on their way.
        let mut doubtful = self.bridge.store.first_debts(&debt.lane, WINDOW)?;
        doubtful.retain(|other| other.tried && other.id >= debt.id);
        let last = doubtful.last().map_or(debt.id, |last| last.id);
        self.bridge.store.put_doubted(portal, last)?;
        let messages = messages(&doubtful);
        let text = status::doubtful(count_of(&messages));
        let about = messages.into_iter().next().map(|message| message.event);
        self.owe_from_bot(portal, failure::to_matrix(&text, about))?;
        Ok(())
    }

    /// The archive's last lines do not reach back to what was known before the connection broke: the person is told that what
    /// lies between may be missing.
    pub(super) fn tell_gap(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        let network = self.profile_of(&portal.login)?.map_or("the network", |profile| profile.display_name);
        let text = status::gap(network, RECENT_LINES);
        self.owe_from_bot(portal, failure::to_matrix(&text, None))?;
        Ok(())
    }

    /// An error stanza came back for a message.
    pub(super) fn on_bounce(
        &mut self,
        portal: &ContactKey,
        event: &OwnedEventId,
        error: &StanzaError,
    ) -> Result<(), StoreError> {
        self.bridge.meter.bounced();
        let reason = match error.condition.as_str() {
            "forbidden"
            | "not-authorized"
            | "not-allowed"
            | "subscription-required"
            | "registration-required"
            | blocking::BLOCKED => Reason::NoPermission,
            _ => Reason::Network,
        };
        let state = if error.temporary { State::FailRetriable } else { State::FailPermanent };
        let trouble = Trouble { reason, error: error.condition.clone(), sentence: error.sentence() };
        self.fail(portal, event, event, state, &trouble)?;
        // What was shown as waiting has failed; that its stanza is confirmed later says nothing else.
        if let Some(mut row) = self.bridge.store.held_up(portal)? {
            row.pending.retain(|pending| pending.event != *event);
            self.bridge.store.put_held_up(portal, &row)?;
            self.end_if_over(portal)?;
        }
        Ok(())
    }

    /// An event is not told to the contact at all: says so in reply to what it is `about`, and gives it a status.
    pub(super) fn reject(
        &mut self,
        portal: &ContactKey,
        event: &OwnedEventId,
        about: &OwnedEventId,
        reason: Reason,
        sentence: String,
    ) -> Result<(), StoreError> {
        let error = match reason {
            Reason::Undecryptable => "encrypted",
            _ => "unsupported",
        };
        let trouble = Trouble { reason, error: error.to_owned(), sentence };
        self.fail(portal, event, about, State::FailPermanent, &trouble)
    }

    fn fail(
        &mut self,
        portal: &ContactKey,
        event: &OwnedEventId,
        about: &OwnedEventId,
        state: State,
        trouble: &Trouble,
    ) -> Result<(), StoreError> {
        let notice = failure::to_matrix(&trouble.sentence, Some(about.clone()));
        self.bridge.owe_event(portal, Sender::Bot, notice, None, Vec::new())?;
        self.owe_status(portal, event, state, Some(trouble))
    }

    fn owe_status(
        &mut self,
        portal: &ContactKey,
        about: &OwnedEventId,
        state: State,
        trouble: Option<&Trouble>,
    ) -> Result<(), StoreError> {
        let network = self.profile_of(&portal.login)?.map_or("", |profile| profile.protocol);
        self.owe_from_bot(portal, status::to_matrix(network, about, state, trouble))?;
        Ok(())
    }

    /// Owes an event of the bot in a portal's room. Unlike what a contact says, it invites nobody who left.
    pub(super) fn owe_from_bot(&mut self, portal: &ContactKey, event: MatrixEvent) -> Result<DebtId, StoreError> {
        let effect = Effect::SendEvent { sender: Sender::Bot, event, at: None, binds: Vec::new() };
        self.bridge.owe(Lane::ToMatrix(portal.clone()), effect)
    }
}

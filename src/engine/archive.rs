//! What the archive tells (XEP-0313, XEP-0136): pages of what was missed, the history of a new room, and what in it is known
//! already.

use minidom::Element;

use super::{
    Engine,
    session::Phase,
    xmpp::{Arrival, Waiting},
};
use crate::{
    bridge::{ghost::contact_of, meter::Fate, question::Question},
    domain::{
        BareJid, DebtId, LoginId, Timestamp,
        capability::Archive,
        effect::{ContactKey, Lane},
    },
    store::{
        StoreError,
        portal::{History, RECENT, Said, Source},
    },
    translate::{
        history::{self, Archived, Recent},
        stable_id,
    },
};

/// Most results that one archive question may give; a server that sends more is not listened to.
const MAX_RESULTS: usize = 2_000;

impl Engine {
    pub(super) fn on_archive_result(&mut self, login: &LoginId, result: Archived) {
        let Some(live) = self.lives.get_mut(login) else { return };
        match live.questions.get_mut(&result.query) {
            Some(pending) if pending.results.len() < MAX_RESULTS => pending.results.push(result),
            _ => self.bridge.ignore("archive result that was not asked for"),
        }
    }

    /// We sent it: the server has it, whatever became of our stream.
    pub(super) fn on_own_archived(
        &mut self,
        contact: &ContactKey,
        id: &str,
        debt: DebtId,
        source: Source,
        archive_id: Option<&str>,
    ) -> Result<(), StoreError> {
        let event = self.bridge.store.event_of(contact, &stable_id::sent(id))?;
        if let Some(debt) = self.bridge.store.debt(&Lane::ToXmpp(contact.clone()), debt)? {
            self.settle_as(&debt, Fate::Delivered)?;
        }
        if let (Some(archive_id), Some(event)) = (archive_id, event) {
            self.bridge.store.bind(contact, &stable_id::archived(archive_id), Some(&event))?;
        }
        self.advance_archive(&contact.login, source, archive_id)
    }

    /// From here the archive is asked next time. History of one room says nothing of the others.
    pub(super) fn advance_archive(
        &mut self,
        login: &LoginId,
        source: Source,
        id: Option<&str>,
    ) -> Result<(), StoreError> {
        match id {
            Some(id) if source == Source::Live => self.archived_through(login, id),
            _ => Ok(()),
        }
    }

    pub(super) fn archived_through(&mut self, login: &LoginId, id: &str) -> Result<(), StoreError> {
        if let Some(mut row) = self.bridge.store.login(login)? {
            row.archive_after = Some(id.to_owned());
            self.bridge.store.put_login(&row)?;
        }
        Ok(())
    }

    /// A page of what was missed is in.
    pub(super) fn on_caught_up_page(
        &mut self,
        login: &LoginId,
        results: Vec<Archived>,
        answer: Option<&Element>,
        (fetched, since, newest): (u32, Timestamp, bool),
    ) -> Result<(), StoreError> {
        let Some(account) = self.lives.get(login).and_then(|live| live.account.clone()) else { return Ok(()) };
        let Some(answer) = answer else {
            // The place to go on from is no longer in the archive: take the newest instead.
            if !newest && fetched == 0 {
                return self.ask(login, Question::CatchUp { after: None, since, fetched, newest: true });
            }
            self.bridge.ignore("archive not readable");
            return self.fetched(login, |_| {});
        };
        let end = history::read_end(answer);
        let count = u32::try_from(results.len()).unwrap_or(u32::MAX);
        let last = results.last().map(|result| result.id.clone()).or(end.last.clone());
        for result in results {
            self.arrive(login, &account, &Arrival::archived(&result))?;
        }
        if let Some(last) = &last {
            self.archived_through(login, last)?;
        }
        let fetched = fetched.saturating_add(count);
        self.catch_up_goes_on(login, (fetched, since, newest), &end, (last, count))?;
        self.fetched(login, |work| work.missed += u64::from(count))
    }

    /// Asks for the next page of what was missed, if there is one.
    fn catch_up_goes_on(
        &mut self,
        login: &LoginId,
        (fetched, since, newest): (u32, Timestamp, bool),
        end: &history::End,
        (last, count): (Option<String>, u32),
    ) -> Result<(), StoreError> {
        if end.complete || newest || count == 0 {
            return Ok(());
        }
        if fetched >= self.bridge.settings.history_catch_up {
            if let Some(row) = self.bridge.store.login(login)? {
                let account = &row.account;
                self.bridge.say(&row.owner, format!("More was said to {account} while I was away than the {fetched} messages that I fetch at most. I add the newest; what lies between is in your other apps."))?;
            }
            return self.ask(login, Question::CatchUp { after: None, since, fetched: 0, newest: true });
        }
        self.ask(login, Question::CatchUp { after: last, since, fetched, newest: false })
    }

    /// What was said before the room was there is in.
    pub(super) fn on_history(&mut self, contact: &ContactKey, results: Vec<Archived>) -> Result<(), StoreError> {
        let Some(account) = self.lives.get(&contact.login).and_then(|live| live.account.clone()) else { return Ok(()) };
        self.history_done(contact)?;
        let count = u64::try_from(results.len()).unwrap_or(u64::MAX);
        for result in results {
            self.arrive(&contact.login, &account, &Arrival::archived(&result))?;
        }
        self.release_held(&contact.login)?;
        self.history_is_in(&contact.login, count)
    }

    fn history_done(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        if let Some(mut portal) = self.bridge.store.portal(contact)? {
            portal.history = History::Done;
            self.bridge.store.put_portal(contact, &portal)?;
        }
        Ok(())
    }

    /// The last messages of a conversation, from an archive without ids: those that are not known yet go into the room. Each
    /// known one answers for one of the archive's, so that two equal messages stay two.
    pub(super) fn on_recent(&mut self, contact: &ContactKey, recent: Vec<Recent>) -> Result<(), StoreError> {
        self.history_done(contact)?;
        let known = self.bridge.store.portal(contact)?.map(|portal| portal.recent).unwrap_or_default();
        let (earlier, among) = self.split_waiting(contact, &recent)?;
        let (told, linked) = match_known(known.clone(), &recent, self.session_began(&contact.login));
        let bound = self.lives.get(&contact.login).and_then(|live| live.session.as_ref()).map(|session| session.bound);
        let linked = linked || among.iter().chain(&earlier).any(|waiting| waiting.held.bound != bound);
        if !known.is_empty() && !linked && recent.len() >= history::RECENT_LINES {
            self.tell_gap(contact)?;
        }
        self.let_go(&contact.login, earlier)?;
        let mut count = 0;
        for (item, _) in recent.into_iter().zip(told).filter(|(_, told)| !told) {
            count += 1;
            let (own, at) = (item.own, item.at);
            let there = self.was_in_recovered_room(contact, own, &item.message.text, at, Source::Archive)?;
            self.remember_said(contact, own, &item.message.text, at, Source::Archive)?;
            if !there {
                self.show_message(contact, own, &item.message, Some(at), Vec::new())?;
            }
        }
        self.bridge.store.erase_recovered(contact);
        self.let_go(&contact.login, among)?;
        self.release_held(&contact.login)?;
        self.history_is_in(&contact.login, count)
    }

    /// Of what is held with the contact, what was said before the archive's last messages, and what is among them, with the
    /// archive's times, for a slow connection brings things late.
    ///
    /// What the server had kept has its own stamp, and need not be in the archive; with the same stamp as the archive's first it is
    /// what came just before that. What came live has none; but a stream keeps its
    /// order, so the archive had all that came before its answer, and what is none of its messages was said before them.
    fn split_waiting(
        &mut self,
        contact: &ContactKey,
        recent: &[Recent],
    ) -> Result<(Vec<Waiting>, Vec<Waiting>), StoreError> {
        let (mut earlier, mut among) = (Vec::new(), Vec::new());
        let Some(first) = recent.first().map(|line| line.at) else { return Ok((earlier, among)) };
        let mut lines: Vec<&Recent> = recent.iter().collect();
        for mut waiting in self.waiting(&contact.login)?.into_iter().rev() {
            if waiting.with.as_ref() != Some(&contact.contact) {
                continue;
            }
            let (at, stamped) = (waiting.held.at, waiting.stamped);
            let same = |line: &&Recent| {
                let late = at.since(line.at);
                line.own == waiting.own
                    && line.message.text == waiting.text
                    && (-SAME..=if stamped { SAME } else { LATE }).contains(&late)
            };
            if let Some(line) = lines.iter().rposition(same) {
                waiting.held.at = lines.remove(line).at;
                among.push(waiting);
            } else if !stamped || at <= first {
                earlier.push(waiting);
            }
        }
        earlier.reverse();
        among.reverse();
        Ok((earlier, among))
    }

    /// When the login's stream came up, by the clock that what was said is remembered by.
    fn session_began(&self, login: &LoginId) -> Timestamp {
        let up_since = self.lives.get(login).map_or(0, |live| live.up_since);
        let lasts = self.bridge.now.uptime.saturating_sub(up_since);
        Timestamp(self.bridge.steady.now().0.saturating_sub(i64::try_from(lasts).unwrap_or(i64::MAX)))
    }

    /// Is this message, kept by the server or held by us, one that the archive has given already? Each archived one answers once.
    pub(super) fn is_in_recent_archive(
        &mut self,
        contact: &ContactKey,
        own: bool,
        text: &str,
        at: Timestamp,
        source: Source,
        waited: bool,
    ) -> Result<bool, StoreError> {
        if !(source == Source::Offline || waited) || self.bridge.archive(&contact.login)? != Archive::Recent {
            return Ok(false);
        }
        let Some(mut portal) = self.bridge.store.portal(contact)? else { return Ok(false) };
        let text = stable_id::text_hash(text);
        let fits = |said: &Said| said.from == Source::Archive && said.own == own && said.text == text;
        let Some(said) = nearest(&portal.recent, at, fits).and_then(|place| portal.recent.get_mut(place)) else {
            return Ok(false);
        };
        said.from = source;
        self.bridge.store.put_portal(contact, &portal)?;
        Ok(true)
    }

    /// Remembers what was said, on networks whose messages have no ids.
    pub(super) fn remember_said(
        &mut self,
        contact: &ContactKey,
        own: bool,
        text: &str,
        at: Timestamp,
        from: Source,
    ) -> Result<(), StoreError> {
        if self.bridge.archive(&contact.login)? != Archive::Recent {
            return Ok(());
        }
        let Some(mut portal) = self.bridge.store.portal(contact)? else { return Ok(()) };
        let text = text.strip_prefix("/me ").filter(|_| from == Source::Matrix).unwrap_or(text);
        portal.recent.push(Said { own, text: stable_id::text_hash(text), at, from });
        if portal.recent.len() > RECENT {
            portal.recent.remove(0);
        }
        self.bridge.store.put_portal(contact, &portal)
    }

    /// Asks for the history of the next room that wants it, a few at a time.
    pub(super) fn next_history(&mut self, login: &LoginId) -> Result<(), StoreError> {
        const AT_ONCE: usize = 4;
        let archive = self.bridge.archive(login)?;
        while let Some(live) = self.lives.get_mut(login) {
            let asked = live
                .questions
                .values()
                .filter(|pending| matches!(pending.question, Question::History { .. } | Question::Recent { .. }))
                .count();
            let Some(contact) = (asked < AT_ONCE).then(|| live.histories.pop_front()).flatten() else { break };
            match archive {
                Archive::None => {}
                Archive::Mam => self.ask(login, Question::History { contact })?,
                Archive::Recent => self.ask(login, Question::Recent { contact })?,
            }
        }
        self.fetched(login, |_| {})
    }

    /// The history of one more room is in, and so many messages with it.
    fn history_is_in(&mut self, login: &LoginId, count: u64) -> Result<(), StoreError> {
        self.fetched(login, |work| {
            work.done += 1;
            work.messages += count;
        })?;
        self.next_history(login)
    }

    /// A new room wants its history: it is asked for in its turn. Without a stream, when there is one again.
    pub(super) fn queue_history(&mut self, login: &LoginId, contact: BareJid) -> Result<(), StoreError> {
        let Some(live) = self.lives.get_mut(login).filter(|live| live.phase == Phase::Up) else { return Ok(()) };
        let asked = live.questions.values().any(|pending| match &pending.question {
            Question::History { contact: asked } | Question::Recent { contact: asked } => *asked == contact,
            _ => false,
        });
        if asked || live.histories.contains(&contact) {
            return Ok(());
        }
        live.histories.push_back(contact);
        self.next_history(login)
    }

    /// Which rooms still want history: asked again after each connection, for what was asked before it is lost.
    pub(super) fn queue_histories(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let archive = self.bridge.archive(login)?;
        let portals = self.bridge.store.portals(login)?;
        for (contact, mut portal) in portals {
            match (archive, portal.history) {
                (Archive::None, History::Wanted) => {
                    portal.history = History::Done;
                    self.bridge.store.put_portal(&contact_of(login, &contact), &portal)?;
                }
                (Archive::None | Archive::Mam, History::Done) => {}
                // An archive without ids is asked again each time: what was said elsewhere meanwhile, or lost with the
                // connection, is only there, and comes before what is said from now on.
                (Archive::Mam | Archive::Recent, _) => {
                    if portal.history == History::Done {
                        portal.history = History::Wanted;
                        self.bridge.store.put_portal(&contact_of(login, &contact), &portal)?;
                    }
                    if let Some(live) = self.lives.get_mut(login)
                        && !live.histories.contains(&contact)
                    {
                        live.histories.push_back(contact);
                    }
                }
            }
        }
        if archive == Archive::None {
            self.release_held(login)?;
        }
        self.next_history(login)
    }
}

/// Two times of the same message, on a network whose messages have no ids, differ by no more than this, in milliseconds.
const SAME: i64 = 2_000;

/// The server can have had what we sent by no more than this later than we sent it, and we what it sent, in milliseconds.
const LATE: i64 = 10 * 60_000;

/// Which of the archive's lines are known; and whether one of them was known before the session began, so that nothing is missing
/// between that and the archive's first.
fn match_known(mut known: Vec<Said>, recent: &[Recent], began: Timestamp) -> (Vec<bool>, bool) {
    let (mut told, mut linked) = (vec![false; recent.len()], false);
    // First what was known at the time that the archive gives, then what a slow connection brought, or took, late.
    for late in [false, true] {
        for (item, told) in recent.iter().zip(&mut told).filter(|(_, told)| !**told) {
            let text = stable_id::text_hash(&item.message.text);
            let fits = |said: &Said| said.own == item.own && said.text == text;
            let place = if late {
                known.iter().position(|said| fits(said) && is_late(said, item.at))
            } else {
                nearest(&known, item.at, fits)
            };
            if let Some(place) = place {
                let said = known.remove(place);
                // What we sent late may be what we sent again.
                linked |= said.at.since(began) < 0 && !(late && said.from == Source::Matrix);
                *told = true;
            }
        }
    }
    (told, linked)
}

/// Whether we can have heard it after the archive had it, or have sent it before: by our clock it has another time.
fn is_late(said: &Said, archived: Timestamp) -> bool {
    match said.from {
        Source::Live => said.at.since(archived) > 0,
        Source::Matrix => (0..=LATE).contains(&archived.since(said.at)),
        Source::Archive | Source::Offline => false,
    }
}

/// Of what was said and fits, the one nearest in time: what was sent anew after a cut stands there more than once.
fn nearest(said: &[Said], at: Timestamp, fits: impl Fn(&Said) -> bool) -> Option<usize> {
    let apart = |said: &Said| said.at.since(at).abs();
    let places = (0..said.len()).filter(|place| fits(&said[*place]) && apart(&said[*place]) <= SAME);
    places.min_by_key(|place| apart(&said[*place]))
}

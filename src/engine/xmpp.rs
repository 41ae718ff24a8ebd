//! Dispatch of stanzas: whom they are from, whether that may be believed, and which concept each part is.

use minidom::Element;

use super::Engine;
use crate::{
    bridge::{ghost::contact_of, question::Question},
    domain::{
        BareJid, DebtId, LoginId, StreamId, Timestamp,
        capability::Archive,
        effect::{ContactKey, Lane, Sender},
    },
    store::{
        StoreError,
        held::{HELD_PER_LOGIN, Held},
        portal::{History, RECENT, Said, Source},
    },
    translate::{
        carbon, chat_state, failure,
        history::{self, Archived, MAM, Recent},
        message, stable_id,
        stanza::{Stanza, to_xml},
    },
};

/// XEP-0045: what is marked so belongs to a group chat.
const MUC_USER: &str = xmpp_parsers::ns::MUC_USER;

/// A message on its way in, with what is known of it beside the stanza.
struct Arrival<'a> {
    stanza: &'a Element,
    source: Source,
    at: Timestamp,
    archive_id: Option<String>,
    /// It was held, so the archive may have given it meanwhile.
    waited: bool,
    /// The session on which it was first held.
    bound: Option<StreamId>,
}

/// What is known of a message beside the stanza, once its turn has come.
struct Known {
    source: Source,
    at: Timestamp,
    archive_id: Option<String>,
    waited: bool,
}

/// Most results that one archive question may give; a server that sends more is not listened to.
const MAX_RESULTS: usize = 2_000;

impl Engine {
    pub(super) fn on_stanza(&mut self, login: &LoginId, element: &Element) -> Result<(), StoreError> {
        if let Some(live) = self.lives.get_mut(login)
            && let Some(session) = live.session.as_mut()
        {
            session.inbound = session.inbound.wrapping_add(1);
            live.session_changed = true;
        }
        match element.name() {
            "message" => self.on_message(login, element),
            "presence" => self.on_presence(login, element),
            "iq" => self.on_iq(login, element),
            _ => {
                self.bridge.ignore("element that is no stanza");
                Ok(())
            }
        }
    }

    fn on_message(&mut self, login: &LoginId, element: &Element) -> Result<(), StoreError> {
        let Some(account) = self.lives.get(login).and_then(|live| live.account.clone()) else { return Ok(()) };
        let mut stanza = Stanza::read(element);
        // Only the account itself speaks for its archive and its other devices (XEP-0280 section 11, XEP-0313 section 6.2).
        let from_account = match element.attr("from") {
            None => true,
            Some(_) => stanza.from.as_ref().is_some_and(|from| from.bare == account && from.resource.is_none()),
        };
        if stanza.has("result", MAM) {
            if !from_account {
                self.bridge.ignore("forged archive result");
            } else if let Some(result) = history::take_result(&mut stanza) {
                self.on_archive_result(login, result);
            } else {
                self.bridge.ignore("archive result without a message");
            }
            return Ok(());
        }
        let now = self.bridge.steady.now();
        if carbon::is_carbon(&stanza) {
            if !from_account {
                self.bridge.ignore("forged carbon");
                return Ok(());
            }
            let Some(copy) = carbon::from_xmpp(&mut stanza) else {
                self.bridge.ignore("carbon without a message");
                return Ok(());
            };
            return self.arrive(
                login,
                &account,
                &Arrival { stanza: &copy, source: Source::Live, at: now, archive_id: None, waited: false, bound: None },
            );
        }
        self.arrive(
            login,
            &account,
            &Arrival { stanza: element, source: Source::Live, at: now, archive_id: None, waited: false, bound: None },
        )
    }

    fn on_archive_result(&mut self, login: &LoginId, result: Archived) {
        let Some(live) = self.lives.get_mut(login) else { return };
        match live.questions.get_mut(&result.query) {
            Some(pending) if pending.results.len() < MAX_RESULTS => pending.results.push(result),
            _ => self.bridge.ignore("archive result that was not asked for"),
        }
    }

    /// A message that someone said: live, kept by the server, or archived.
    fn arrive(&mut self, login: &LoginId, account: &BareJid, arrival: &Arrival<'_>) -> Result<(), StoreError> {
        let mut stanza = Stanza::read(arrival.stanza);
        let own = stanza.from.as_ref().is_some_and(|from| from.bare == *account);
        let other = if own { &stanza.to } else { &stanza.from };
        let contact = match other {
            Some(address) => address.bare.clone(),
            // A stanza without a sender is from the account's own server (RFC 6120 section 8.1.2.1).
            None if arrival.stanza.attr("from").is_none() => {
                self.bridge.ignore("message of the server itself");
                return Ok(());
            }
            None => {
                self.bridge.ignore("message from no address");
                return Ok(());
            }
        };
        if contact == *account {
            self.bridge.ignore("message to oneself");
            return Ok(());
        }
        if stanza.kind == "groupchat" || stanza.has("x", MUC_USER) {
            self.bridge.ignore("message of a group chat");
            return Ok(());
        }
        let contact = contact_of(login, &contact);
        if stanza.kind == "error" {
            return self.on_error(&contact, &mut stanza);
        }
        let delay = history::from_xmpp(&mut stanza);
        let source = if arrival.source == Source::Live && delay.is_some() { Source::Offline } else { arrival.source };
        if let Some(state) = chat_state::from_xmpp(&mut stanza)
            && source == Source::Live
            && !own
        {
            self.on_chat_state(&contact, state)?;
        }
        if message::from_xmpp(&mut stanza.clone()).is_none() {
            return Ok(());
        }
        let at = delay.filter(|_| source == Source::Offline).unwrap_or(arrival.at);
        let archive_id = || arrival.archive_id.clone();
        if own
            && let Some((id, debt)) =
                stanza.id.clone().and_then(|id| Some((id.clone(), self.bridge.debt_of_wire_id(&id)?)))
        {
            // It shows nothing, so it waits for nothing; what pays a debt must be known before the lane goes on.
            let archive_id = archive_id().or_else(|| stable_id::take_archive_id(&mut stanza, account));
            return self.on_own_archived(&contact, &id, debt, source, archive_id.as_deref());
        }
        if self.must_wait(&contact, source)? {
            return self.hold(login, arrival, source, at);
        }
        let archive_id = archive_id().or_else(|| stable_id::take_archive_id(&mut stanza, account));
        self.take_in(&contact, own, &mut stanza, &Known { source, at, archive_id, waited: arrival.waited })
    }

    /// Must this message wait until history is in?
    fn must_wait(&mut self, contact: &ContactKey, source: Source) -> Result<bool, StoreError> {
        let live = self.lives.get(&contact.login);
        if live.is_some_and(|live| live.held >= HELD_PER_LOGIN) {
            self.bridge.ignore("held too many; let through");
            return Ok(false);
        }
        if source != Source::Archive && !live.is_some_and(super::session::Live::caught_up) {
            return Ok(true);
        }
        self.bridge.ensure_portal(contact)?;
        Ok(self.bridge.store.portal(contact)?.is_some_and(|portal| portal.history == History::Wanted))
    }

    fn hold(
        &mut self,
        login: &LoginId,
        arrival: &Arrival<'_>,
        source: Source,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(stanza) = to_xml(arrival.stanza) else {
            self.bridge.ignore("message that cannot be written again");
            return Ok(());
        };
        let bound = arrival.bound.or_else(|| Some(self.lives.get(login)?.session.as_ref()?.bound));
        self.bridge.store.hold(login, &Held { stanza, source, at, archive_id: arrival.archive_id.clone(), bound })?;
        if let Some(live) = self.lives.get_mut(login) {
            live.held += 1;
        }
        Ok(())
    }

    /// Lets go of what was held for history that is in now: what the server had kept first, by its stamps, then the rest as
    /// it came.
    pub(super) fn release_held(&mut self, login: &LoginId) -> Result<(), StoreError> {
        self.release_held_of(login, |_, _, _| true)
    }

    /// The same for those that fit, by what is held, with whom it was said, and its text.
    fn release_held_of(
        &mut self,
        login: &LoginId,
        fits: impl Fn(&Held, &BareJid, &str) -> bool,
    ) -> Result<(), StoreError> {
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        let Some(account) = live.account.clone().filter(|_| live.held > 0) else { return Ok(()) };
        let mut held = self.bridge.store.held(login)?;
        held.sort_by_key(|(number, held)| match held.source {
            Source::Archive => (None, 0, 0, *number),
            Source::Offline => (held.bound, 1, held.at.0, *number),
            Source::Live | Source::Matrix => (held.bound, 2, 0, *number),
        });
        for (number, held) in held {
            let Ok(element) = held.stanza.parse::<Element>() else {
                self.bridge.store.release(login, number);
                self.bridge.ignore("held message that cannot be read again");
                continue;
            };
            let mut stanza = Stanza::read(&element);
            let text = message::from_xmpp(&mut stanza).map(|message| message.text).unwrap_or_default();
            let from = stanza.from.as_ref().filter(|from| from.bare != account);
            if !from.or(stanza.to.as_ref()).is_some_and(|with| fits(&held, &with.bare, &text)) {
                continue;
            }
            // What must still wait is held anew, behind the rest, in the same order.
            self.bridge.store.release(login, number);
            if let Some(live) = self.lives.get_mut(login) {
                live.held = live.held.saturating_sub(1);
            }
            self.arrive(
                login,
                &account,
                &Arrival {
                    stanza: &element,
                    source: held.source,
                    at: held.at,
                    archive_id: held.archive_id,
                    waited: true,
                    bound: held.bound,
                },
            )?;
        }
        Ok(())
    }

    /// A message whose turn has come: known already, or into its room.
    fn take_in(
        &mut self,
        contact: &ContactKey,
        own: bool,
        stanza: &mut Stanza,
        known: &Known,
    ) -> Result<(), StoreError> {
        let Known { source, at, ref archive_id, waited } = *known;
        let archived = archive_id.as_deref().map(stable_id::archived);
        let Some(message) = message::from_xmpp(stanza) else { return Ok(()) };
        let theirs = |archived| stanza.id.as_deref().map(|id| stable_id::theirs(id, &message.text, archived));
        let seen = match &archived {
            Some(name) => self.bridge.store.is_seen(contact, name)?,
            None => false,
        };
        // The sender's id counts only where one of the two came without the archive's: a copy that the server kept, or that
        // was held while the archive gave the other.
        let mut seen_before = false;
        if source != Source::Live || waited && self.bridge.archive(&contact.login)? != Archive::None {
            for (name, counts) in [(theirs(false), true), (theirs(true), archived.is_none())] {
                if let Some(name) = name.filter(|_| counts) {
                    seen_before |= self.bridge.store.is_seen(contact, &name)?;
                }
            }
        }
        let theirs = theirs(archived.is_some());
        if seen || seen_before || self.is_in_recent_archive(contact, own, &message.text, at, source, waited)? {
            if let Some(name) = &archived {
                self.bridge.store.bind(contact, name, None)?;
            }
            return self.advance_archive(&contact.login, source, archive_id.as_deref());
        }
        if !stanza.leftovers().is_empty() {
            self.bridge.ignore("payload that is not translated");
        }
        self.remember_said(contact, own, &message.text, at, source)?;
        let binds = [archived, theirs].into_iter().flatten().collect();
        self.show_message(contact, own, &message, (source != Source::Live).then_some(at), binds)?;
        self.advance_archive(&contact.login, source, archive_id.as_deref())
    }

    /// We sent it: the server has it, whatever became of our stream.
    fn on_own_archived(
        &mut self,
        contact: &ContactKey,
        id: &str,
        debt: DebtId,
        source: Source,
        archive_id: Option<&str>,
    ) -> Result<(), StoreError> {
        let event = self.bridge.store.event_of(contact, &stable_id::sent(id))?;
        if let Some(debt) = self.bridge.store.debt(&Lane::ToXmpp(contact.clone()), debt)? {
            self.settle(&debt)?;
        }
        if let (Some(archive_id), Some(event)) = (archive_id, event) {
            self.bridge.store.bind(contact, &stable_id::archived(archive_id), Some(&event))?;
        }
        self.advance_archive(&contact.login, source, archive_id)
    }

    fn show_message(
        &mut self,
        contact: &ContactKey,
        own: bool,
        message: &message::Message,
        at: Option<Timestamp>,
        binds: Vec<String>,
    ) -> Result<(), StoreError> {
        let sender = match (own, self.lives.get(&contact.login).and_then(|live| live.account.clone())) {
            (true, Some(account)) => account,
            _ => contact.contact.clone(),
        };
        // A stamp from the future is someone's wrong clock; it is still what tells messages without ids apart.
        let at = at.map(|at| at.min(self.bridge.now.wall));
        self.bridge.owe_event(contact, Sender::Ghost(sender), message::to_matrix(message), at, binds)
    }

    /// From here the archive is asked next time. History of one room says nothing of the others.
    fn advance_archive(&mut self, login: &LoginId, source: Source, id: Option<&str>) -> Result<(), StoreError> {
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

    fn on_error(&mut self, contact: &ContactKey, stanza: &mut Stanza) -> Result<(), StoreError> {
        let event = match &stanza.id {
            Some(id) => self.bridge.store.event_of(contact, &stable_id::sent(id))?,
            None => None,
        };
        if event.is_none() {
            // It answers a chat state, or something that was not said in a room.
            self.bridge.ignore("error that answers no message");
            return Ok(());
        }
        let error = failure::from_xmpp(stanza);
        self.bridge.owe_event(contact, Sender::Bot, failure::to_matrix(&error.sentence(), event), None, Vec::new())
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
            return Ok(());
        };
        let end = history::read_end(answer);
        let count = u32::try_from(results.len()).unwrap_or(u32::MAX);
        let last = results.last().map(|result| result.id.clone()).or(end.last);
        for result in results {
            let arrival = Arrival {
                stanza: &result.message,
                source: Source::Archive,
                at: result.at,
                archive_id: Some(result.id),
                waited: false,
                bound: None,
            };
            self.arrive(login, &account, &arrival)?;
        }
        if let Some(last) = &last {
            self.archived_through(login, last)?;
        }
        let fetched = fetched.saturating_add(count);
        if end.complete || newest || count == 0 {
            return Ok(());
        }
        if fetched >= self.bridge.settings.history_catch_up {
            if let Some(owner) = self.owner_of(login)? {
                self.bridge.say(&owner, format!("More was said to {account} while I was away than the {fetched} messages that I fetch at most. I add the newest; what lies between is in your other apps."))?;
            }
            return self.ask(login, Question::CatchUp { after: None, since, fetched: 0, newest: true });
        }
        self.ask(login, Question::CatchUp { after: last, since, fetched, newest: false })
    }

    /// What was said before the room was there is in.
    pub(super) fn on_history(&mut self, contact: &ContactKey, results: Vec<Archived>) -> Result<(), StoreError> {
        let Some(account) = self.lives.get(&contact.login).and_then(|live| live.account.clone()) else { return Ok(()) };
        self.history_done(contact)?;
        for result in results {
            let arrival = Arrival {
                stanza: &result.message,
                source: Source::Archive,
                at: result.at,
                archive_id: Some(result.id),
                waited: false,
                bound: None,
            };
            self.arrive(&contact.login, &account, &arrival)?;
        }
        self.release_held(&contact.login)
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
        if let Some(first) = recent.first() {
            // What was kept from before the archive's last messages, and is none of them, comes before them.
            let first = first.at;
            let among = |text: &str, at: Timestamp| {
                recent.iter().any(|item| item.message.text == text && item.at.since(at).abs() <= SAME)
            };
            self.release_held_of(&contact.login, |held, with, text| {
                with == &contact.contact && held.at < first && !among(text, held.at)
            })?;
        }
        let mut known = self.bridge.store.portal(contact)?.map(|portal| portal.recent).unwrap_or_default();
        let mut told = vec![false; recent.len()];
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
                    known.remove(place);
                    *told = true;
                }
            }
        }
        for (item, _) in recent.into_iter().zip(told).filter(|(_, told)| !told) {
            self.remember_said(contact, item.own, &item.message.text, item.at, Source::Archive)?;
            self.show_message(contact, item.own, &item.message, Some(item.at), Vec::new())?;
        }
        self.release_held(&contact.login)
    }

    /// Is this message, kept by the server or held by us, one that the archive has given already? Each archived one answers once.
    fn is_in_recent_archive(
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
            self.bridge.ask_history(&contact_of(login, &contact), archive);
            self.take_wants()?;
        }
        Ok(())
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
                    if let Some(live) = self.lives.get_mut(login) {
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

/// The server can have had what we sent by no more than this later than we sent it, in milliseconds.
const LATE: i64 = 10 * 60_000;

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

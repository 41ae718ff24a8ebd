//! Dispatch of stanzas: whom they are from, whether that may be believed, and which concept each part is.

use minidom::Element;

use super::Engine;
use crate::{
    bridge::ghost::contact_of,
    domain::{
        BareJid, LoginId, StreamId, Timestamp,
        capability::Archive,
        effect::{ContactKey, Sender},
        time::Lifetime,
    },
    store::{
        StoreError,
        held::{HELD_BYTES, HELD_PER_LOGIN, Held},
        portal::{History, Source},
        vanishing::Promised,
    },
    translate::{
        blocking, carbon, chat_state,
        content::Content,
        disappearing, displayed, failure,
        history::{self, Archived, MAM},
        message, nickname, pep, receipt, stable_id,
        stanza::{CLIENT, Stanza, to_xml},
    },
};

/// XEP-0045: what is marked so belongs to a group chat.
const MUC_USER: &str = xmpp_parsers::ns::MUC_USER;

/// A message on its way in, with what is known of it beside the stanza.
pub(super) struct Arrival<'a> {
    pub stanza: &'a Element,
    pub source: Source,
    pub at: Timestamp,
    pub archive_id: Option<String>,
    /// It was held, so the archive may have given it meanwhile.
    pub waited: bool,
    /// The session on which it was first held.
    pub bound: Option<StreamId>,
    /// A copy of what another client of the account got: that one answers it.
    pub copy: bool,
}

impl<'a> Arrival<'a> {
    fn live(stanza: &'a Element, at: Timestamp) -> Self {
        Self { stanza, source: Source::Live, at, archive_id: None, waited: false, bound: None, copy: false }
    }

    /// One that was held and whose turn has come.
    pub(super) fn held(stanza: &'a Element, held: Held) -> Self {
        let Held { source, at, archive_id, bound, .. } = held;
        Self { stanza, source, at, archive_id, waited: true, bound, copy: false }
    }

    pub(super) fn archived(result: &'a Archived) -> Self {
        let archive_id = Some(result.id.clone());
        Self {
            stanza: &result.message,
            source: Source::Archive,
            at: result.at,
            archive_id,
            waited: false,
            bound: None,
            copy: false,
        }
    }
}

/// A message that is held, read again.
pub(super) struct Waiting {
    number: u64,
    pub held: Held,
    element: Element,
    /// The account said it.
    pub own: bool,
    /// With whom it was said.
    pub with: Option<BareJid>,
    pub text: String,
    /// The server says when it was said.
    pub stamped: bool,
}

/// What is known of a message beside the stanza, once its turn has come.
struct Known {
    source: Source,
    at: Timestamp,
    archive_id: Option<String>,
    waited: bool,
    /// What the sender wants to be told, where we are the one to tell.
    wishes: Option<receipt::Receipts>,
}

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
        if from_account && self.on_chats_event(login, &stanza)? {
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
            return self.arrive(login, &account, &Arrival { copy: true, ..Arrival::live(&copy, now) });
        }
        if let Some(told) = displayed::from_xmpp(&mut stanza, &account) {
            if from_account {
                return self.on_displayed_elsewhere(login, told);
            }
            self.bridge.ignore("forged read state");
            return Ok(());
        }
        if stanza.kind != "error"
            && let Some(events) = pep::take_events(&mut stanza)
        {
            self.on_events(login, stanza.from.as_ref(), &events)?;
            if !stanza.has("body", CLIENT) {
                return Ok(());
            }
        }
        self.arrive(login, &account, &Arrival::live(element, now))
    }

    /// A message that someone said: live, kept by the server, or archived.
    pub(super) fn arrive(
        &mut self,
        login: &LoginId,
        account: &BareJid,
        arrival: &Arrival<'_>,
    ) -> Result<(), StoreError> {
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
        if !own && source == Source::Live && !arrival.waited && self.is_blocked(&contact)? {
            // The server keeps it from us (XEP-0191 section 3.3); this is one that does not.
            self.bridge.ignore("message of someone who is blocked");
            return Ok(());
        }
        if let Some(state) = chat_state::from_xmpp(&mut stanza)
            && source == Source::Live
            && !own
        {
            self.on_chat_state(&contact, state)?;
        }
        let receipts = receipt::from_xmpp(&mut stanza);
        if own {
            self.on_own_receipts(&contact, &receipts)?;
        } else {
            self.on_receipts(&contact, &receipts)?;
        }
        let at = delay.filter(|_| source == Source::Offline).unwrap_or(arrival.at);
        let archive_id = || arrival.archive_id.clone();
        if own
            && let Some((id, debt)) =
                stanza.id.clone().and_then(|id| Some((id.clone(), self.bridge.debt_of_wire_id(&id)?)))
        {
            // It shows nothing, so it waits for nothing; what pays a debt must be known before the lane goes on.
            let archive_id = archive_id().or(self.take_archive_id(login, &mut stanza, account)?);
            return self.on_own_archived(&contact, &id, debt, source, archive_id.as_deref());
        }
        match Content::take(&mut stanza.clone()) {
            // It says nothing but after which time the next ones disappear (XEP-0466 section 3.4).
            None if disappearing::is_there(&stanza) => {
                return match disappearing::take(&mut stanza) {
                    Some(lifetime) => self.on_timer(&contact, own, lifetime, at),
                    None => Ok(()),
                };
            }
            None => return Ok(()),
            Some(content) if !content.opens_chat() && self.bridge.store.portal(&contact)?.is_none() => {
                self.bridge.ignore("change of something unknown");
                return Ok(());
            }
            Some(_) => {}
        }
        let room_to_hold =
            self.lives.get(login).is_none_or(|live| live.held.0 < HELD_PER_LOGIN && live.held.1 < HELD_BYTES);
        if !room_to_hold {
            self.bridge.ignore("held too many; let through");
        }
        let caught_up = self.lives.get(login).is_some_and(super::session::Live::caught_up);
        if room_to_hold && source != Source::Archive && !caught_up {
            return self.hold(login, arrival, source, at);
        }
        if self.meets_newcomer(&contact, own, arrival, (source, at))? {
            return Ok(());
        }
        if room_to_hold && self.waits_for_history(&contact)? {
            return self.hold(login, arrival, source, at);
        }
        let archive_id = archive_id().or(self.take_archive_id(login, &mut stanza, account)?);
        let wishes = (!own && !arrival.copy && source != Source::Archive).then_some(receipts);
        self.take_in(&contact, own, &mut stanza, &Known { source, at, archive_id, waited: arrival.waited, wishes })
    }

    /// The id that the account's archive gave the message. Only a server that has an archive takes out those that a sender wrote
    /// in (XEP-0359 section 6).
    pub(super) fn take_archive_id(
        &self,
        login: &LoginId,
        stanza: &mut Stanza,
        account: &BareJid,
    ) -> Result<Option<String>, StoreError> {
        let found = stable_id::take_archive_id(stanza, account);
        Ok(if self.bridge.archive(login)? == Archive::Mam { found } else { None })
    }

    /// Must a message in this chat wait until history is in?
    fn waits_for_history(&mut self, contact: &ContactKey) -> Result<bool, StoreError> {
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
        let bytes = stanza.len();
        self.bridge.store.hold(login, &Held { stanza, source, at, archive_id: arrival.archive_id.clone(), bound })?;
        if let Some(live) = self.lives.get_mut(login) {
            live.held.0 += 1;
            live.held.1 += bytes;
        }
        Ok(())
    }

    /// Lets go of what was held for history that is in now. What must still wait is held anew, in the same order.
    pub(super) fn release_held(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let waiting = self.waiting(login)?;
        self.let_go(login, waiting)
    }

    /// What is held, in the order in which it was said: of each session what the server had kept first, by its stamps, then the
    /// rest as it came.
    pub(super) fn waiting(&mut self, login: &LoginId) -> Result<Vec<Waiting>, StoreError> {
        let Some(live) = self.lives.get(login) else { return Ok(Vec::new()) };
        let Some(account) = live.account.clone().filter(|_| live.held.0 > 0) else { return Ok(Vec::new()) };
        let mut held = self.bridge.store.held(login)?;
        held.sort_by_key(|(number, held)| match held.source {
            Source::Archive => (None, 0, 0, *number),
            Source::Offline => (held.bound, 1, held.at.0, *number),
            Source::Live | Source::Matrix => (held.bound, 2, 0, *number),
        });
        let mut waiting = Vec::with_capacity(held.len());
        for (number, held) in held {
            let Ok(element) = held.stanza.parse::<Element>() else {
                self.bridge.store.release(login, number);
                self.bridge.ignore("held message that cannot be read again");
                continue;
            };
            let mut stanza = Stanza::read(&element);
            let stamped = history::from_xmpp(&mut stanza).is_some();
            let text = message::from_xmpp(&mut stanza).map(|message| message.text).unwrap_or_default();
            let own = stanza.from.as_ref().is_some_and(|from| from.bare == account);
            let with = if own { stanza.to } else { stanza.from }.map(|other| other.bare);
            waiting.push(Waiting { number, held, element, own, with, text, stamped });
        }
        Ok(waiting)
    }

    /// Lets go of messages that are held.
    pub(super) fn let_go(&mut self, login: &LoginId, messages: Vec<Waiting>) -> Result<(), StoreError> {
        let Some(account) = self.lives.get(login).and_then(|live| live.account.clone()) else { return Ok(()) };
        for Waiting { number, held, element, .. } in messages {
            self.bridge.store.release(login, number);
            if let Some(live) = self.lives.get_mut(login) {
                live.held.0 = live.held.0.saturating_sub(1);
                live.held.1 = live.held.1.saturating_sub(held.stanza.len());
            }
            self.arrive(login, &account, &Arrival::held(&element, held))?;
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
        let Known { source, at, ref archive_id, waited, ref wishes } = *known;
        let archived = archive_id.as_deref().map(stable_id::archived);
        let Some(content) = Content::take(stanza) else { return Ok(()) };
        let text = content.text();
        let theirs = |archived| stanza.id.as_deref().map(|id| stable_id::theirs(id, &text, archived));
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
        if !seen && self.was_in_recovered_room(contact, own, &text, at, source)? {
            for name in [&archived, &theirs].into_iter().flatten() {
                self.bridge.store.bind(contact, name, None)?;
            }
            return self.advance_archive(&contact.login, source, archive_id.as_deref());
        }
        if seen || seen_before || self.is_in_recent_archive(contact, own, &text, at, source, waited)? {
            if let Some(name) = &archived {
                self.bridge.store.bind(contact, name, None)?;
            }
            return self.advance_archive(&contact.login, source, archive_id.as_deref());
        }
        if let Some(nick) = nickname::take(stanza).filter(|_| !own) {
            self.note_nickname(contact, nick)?;
        }
        let disappears = disappearing::take(stanza);
        if !stanza.leftovers().is_empty() {
            self.bridge.ignore("payload that is not translated");
        }
        let named = stanza.id.as_deref().map(|id| stable_id::named(id, own));
        let is_text = matches!(content, Content::Message { .. } | Content::Pictures { text: Some(_), .. });
        if let (true, Some(name)) = (is_text, &named)
            && self.bridge.store.is_seen(contact, &stable_id::superseded(name))?
        {
            // What it should have said is there already.
            return self.advance_archive(&contact.login, source, archive_id.as_deref());
        }
        if is_text {
            self.remember_said(contact, own, &text, at, source)?;
        }
        if let (Some(wishes), Some(id), true) = (wishes, &stanza.id, content.opens_chat()) {
            self.give_receipts(contact, id, wishes)?;
        }
        let binds = [archived, theirs, named].into_iter().flatten().collect();
        // A number that comes before those of what is owed now.
        let before = if disappears.is_some() { Some(self.bridge.store.take_debt_id()?) } else { None };
        self.show(contact, own, content, (source != Source::Live).then_some(at), binds)?;
        if let Some(id) = archive_id {
            self.note_archived(contact, id)?;
        }
        if let (Some(lifetime), Some(before)) = (disappears, before) {
            if let Lifetime::Seconds(timer) = lifetime {
                self.promise_vanishing(contact, before, Promised { timer, read: own })?;
            }
            self.on_timer(contact, own, lifetime, at)?;
        }
        self.advance_archive(&contact.login, source, archive_id.as_deref())
    }

    /// Who says it: the contact, or the account.
    pub(super) fn speaker(&self, contact: &ContactKey, own: bool) -> BareJid {
        match (own, self.lives.get(&contact.login).and_then(|live| live.account.clone())) {
            (true, Some(account)) => account,
            _ => contact.contact.clone(),
        }
    }

    /// Who says it in the room: the contact's ghost, or the owner.
    pub(super) fn voice(&self, contact: &ContactKey, own: bool) -> Result<Sender, StoreError> {
        let own = if own { self.bridge.own_voice(contact)? } else { None };
        Ok(own.unwrap_or_else(|| Sender::Ghost(contact.contact.clone())))
    }

    pub(super) fn show_message(
        &mut self,
        contact: &ContactKey,
        own: bool,
        message: &message::Message,
        at: Option<Timestamp>,
        binds: Vec<String>,
    ) -> Result<(), StoreError> {
        let sender = self.voice(contact, own)?;
        // A stamp from the future is someone's wrong clock; it is still what tells messages without ids apart.
        let at = at.map(|at| at.min(self.bridge.now.wall));
        self.bridge.owe_event(contact, sender, message::to_matrix(message), at, binds)
    }

    fn on_error(&mut self, contact: &ContactKey, stanza: &mut Stanza) -> Result<(), StoreError> {
        let event = match &stanza.id {
            Some(id) => self.bridge.store.event_of(contact, &stable_id::sent(id))?,
            None => None,
        };
        let Some(event) = event else {
            // It answers a chat state, or something that was not said in a room.
            self.bridge.ignore("error that answers no message");
            return Ok(());
        };
        let mut error = failure::from_xmpp(stanza);
        if error.condition == blocking::BLOCKED && !self.is_blocked(contact)? {
            // Anyone can say so.
            "not-acceptable".clone_into(&mut error.condition);
        }
        self.on_bounce(contact, &event, &error)
    }
}

//! What is said about what was said: answers, edits, retractions, reactions and receipts, in both directions.

use std::collections::{BTreeSet, VecDeque};

use ruma::OwnedEventId;

use super::Engine;
use crate::{
    bridge::Want,
    domain::{
        Timestamp,
        effect::{About, Composed, ContactKey, Effect, Lane, MatrixEvent, Outgoing, Relation, Sender},
        feature::{Feature, Features},
        input::RoomEvent,
    },
    store::StoreError,
    translate::{
        attention,
        content::Content,
        edit, encrypted, file, location, message,
        message::{Form, Message, Untranslatable},
        reaction::{self, Reactions},
        receipt, reply, retraction, stable_id,
        stanza::{CLIENT, legal, text_element, to_xml},
        status::Reason,
        styling, xhtml,
    },
};

/// How many messages of a contact are remembered that want to be told when they are read; older ones are taken for read with
/// the next.
const MARKABLE: usize = 32;
/// Room in a stanza that is left for a quotation of what is answered, twice: in the body, and in the form beside it.
const QUOTATION: usize = 4096;

impl Engine {
    // ---- from XMPP

    /// Shows what a stanza says, in the contact's room.
    pub(super) fn show(
        &mut self,
        contact: &ContactKey,
        own: bool,
        content: Content,
        at: Option<Timestamp>,
        binds: Vec<String>,
    ) -> Result<(), StoreError> {
        let voice = self.voice(contact, own)?;
        match content {
            Content::Files { files, answers } => self.show_files(contact, own, files, answers, at, &binds),
            Content::Pictures { text, pictures, answers } => {
                self.show_pictures(contact, own, (text, pictures), answers, at, &binds)
            }
            Content::Message { message, answers: None } => self.show_message(contact, own, &message, at, binds),
            Content::Message { message, answers: Some(id) } => match self.name_of(contact, &id)? {
                Some(name) => self.show_about(contact, voice, &message, (name, Relation::Reply), at, binds),
                None => self.show_message(contact, own, &message, at, binds),
            },
            Content::Edit { id, message } => {
                let mut name = stable_id::named(&id, own);
                if own && !self.bridge.store.is_seen(contact, &name)? {
                    let sent = stable_id::sent(&id);
                    if voice != Sender::Owner || self.bridge.store.event_of(contact, &sent)?.is_none() {
                        // The account's ghost cannot change what its owner said in Matrix: it says it anew.
                        return self.show_message(contact, own, &message.anew(), at, binds);
                    }
                    name = sent;
                }
                if !self.bridge.store.is_seen(contact, &name)? {
                    // It came first: it is shown for itself, and what it edits no more.
                    self.bridge.store.bind(contact, &stable_id::superseded(&name), None)?;
                }
                self.show_about(contact, voice, &message, (name, Relation::Replace), at, binds)
            }
            Content::Retraction { id } => self.show_retraction(contact, own, voice, &id, &binds),
            Content::Reactions(reactions) => self.show_reactions(contact, own, &voice, &reactions, at, &binds),
            Content::Place(place) => {
                let at = at.map(|at| at.min(self.bridge.now.wall));
                self.bridge.owe_event(contact, voice, location::to_matrix(&place), at, binds)
            }
            Content::Nudge => self.bridge.owe_event(contact, voice, attention::to_matrix(), at, binds),
            Content::Encrypted { method, fallback } => {
                let event = encrypted::to_matrix(&method, fallback.as_deref());
                self.bridge.owe_event(contact, voice, event, at, binds)
            }
        }
    }

    fn show_about(
        &mut self,
        contact: &ContactKey,
        sender: Sender,
        message: &Message,
        (name, relation): (String, Relation),
        at: Option<Timestamp>,
        binds: Vec<String>,
    ) -> Result<(), StoreError> {
        let at = at.map(|at| at.min(self.bridge.now.wall));
        self.bridge.owe_about(contact, sender, message::to_matrix(message), About { name, relation }, at, binds)
    }

    /// Only one's own messages can be taken back: the contact's by the contact, the account's from any of its clients.
    fn show_retraction(
        &mut self,
        contact: &ContactKey,
        own: bool,
        voice: Sender,
        id: &str,
        binds: &[String],
    ) -> Result<(), StoreError> {
        self.note_seen(contact, binds)?;
        let (theirs, sent) = (stable_id::named(id, own), stable_id::sent(id));
        let (name, sender) = if self.bridge.store.is_seen(contact, &theirs)? {
            (theirs, voice)
        } else if own && self.bridge.store.is_seen(contact, &sent)? {
            // The owner said it in Matrix; the bot has the power to take it back where we may not act for them.
            (sent, if voice == Sender::Owner { voice } else { Sender::Bot })
        } else {
            self.bridge.ignore("retraction of something unknown");
            return Ok(());
        };
        let mut names = vec![name];
        for number in 1..=file::MOST {
            let part = stable_id::part(&names[0], number);
            if self.bridge.store.is_seen(contact, &part)? {
                names.push(part);
            }
        }
        for name in names {
            if own {
                self.note_taken_back(contact, &name)?;
            }
            let sender = sender.clone();
            self.bridge.owe(Lane::ToMatrix(contact.clone()), Effect::RedactNamed { sender, name })?;
        }
        Ok(())
    }

    /// A stanza says all reactions anew: what is new is added, what is missing is taken back.
    fn show_reactions(
        &mut self,
        contact: &ContactKey,
        own: bool,
        voice: &Sender,
        reactions: &Reactions,
        at: Option<Timestamp>,
        binds: &[String],
    ) -> Result<(), StoreError> {
        self.note_seen(contact, binds)?;
        let Some(target) = self.name_of(contact, &reactions.to)? else {
            self.bridge.ignore("reaction to something unknown");
            return Ok(());
        };
        let known = self.bridge.store.reactions(contact, own, &reactions.to)?;
        self.bridge.store.put_reactions(contact, own, &reactions.to, &reactions.set)?;
        for gone in known.difference(&reactions.set) {
            let name = reaction::name(&reactions.to, gone, own);
            // The bot may take back what the owner reacted with in Matrix.
            let sender = if own { Sender::Bot } else { voice.clone() };
            self.bridge.owe(Lane::ToMatrix(contact.clone()), Effect::RedactNamed { sender, name })?;
        }
        for new in reactions.set.difference(&known) {
            let name = reaction::name(&reactions.to, new, own);
            let event = MatrixEvent { kind: "m.reaction".to_owned(), content: "{}".to_owned() };
            let about = About { name: target.clone(), relation: Relation::Reaction(new.clone()) };
            let at = at.map(|at| at.min(self.bridge.now.wall));
            self.bridge.owe_about(contact, voice.clone(), event, about, at, vec![name])?;
        }
        Ok(())
    }

    fn note_seen(&mut self, contact: &ContactKey, binds: &[String]) -> Result<(), StoreError> {
        for name in binds {
            self.bridge.store.bind(contact, name, None)?;
        }
        Ok(())
    }

    /// The name that a message with this id is bound under, whoever said it.
    pub(super) fn name_of(&self, contact: &ContactKey, id: &str) -> Result<Option<String>, StoreError> {
        for name in
            [stable_id::named(id, false), stable_id::sent(id), stable_id::named(id, true), stable_id::archived(id)]
        {
            if self.bridge.store.is_seen(contact, &name)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Receipts in a stanza of the contact: what was displayed there, and what the contact wants to know.
    pub(super) fn on_receipts(&mut self, contact: &ContactKey, receipts: &receipt::Receipts) -> Result<(), StoreError> {
        if let Some(id) = &receipts.displayed {
            let name = stable_id::sent(id);
            // Only what was said to this contact can have been read by it.
            if self.bridge.store.is_seen(contact, &name)? {
                let ghost = contact.contact.clone();
                self.bridge.owe(Lane::ToMatrix(contact.clone()), Effect::ReadUpTo { ghost, name })?;
            }
        }
        Ok(())
    }

    /// A message of the contact is safe with us: says so if it is wanted, and remembers who wants to know when it is read.
    pub(super) fn give_receipts(
        &mut self,
        contact: &ContactKey,
        id: &str,
        receipts: &receipt::Receipts,
    ) -> Result<(), StoreError> {
        // A stranger learns nothing of when one is there (XEP-0184 section 8).
        if !self.bridge.store.contact(contact)?.is_some_and(|row| row.on_roster) {
            return Ok(());
        }
        if receipts.wants_received {
            let stanza = receipt::received(id, &contact.contact);
            self.bridge.wants.push(Want::Send(contact.login.clone(), stanza));
        }
        if receipts.wants_displayed
            && let Some(live) = self.lives.get_mut(&contact.login)
        {
            let waiting: &mut VecDeque<String> = live.markable.entry(contact.contact.clone()).or_default();
            waiting.push_back(id.to_owned());
            if waiting.len() > MARKABLE {
                waiting.pop_front();
            }
        }
        Ok(())
    }

    // ---- from Matrix

    /// The owner has read up to an event: so far as the contact wants to know, it is told.
    pub(super) fn on_read(&mut self, portal: &ContactKey, event: &OwnedEventId) -> Result<(), StoreError> {
        self.publish_displayed(portal, event)?;
        let read = self.bridge.store.stanza_of(portal, event)?;
        let read = read.as_deref().and_then(stable_id::id_of).filter(|(_, own)| !own).map(|(id, _)| id.to_owned());
        let Some(live) = self.lives.get_mut(&portal.login).filter(|live| live.caught_up()) else { return Ok(()) };
        let Some(waiting) = live.markable.get_mut(&portal.contact) else { return Ok(()) };
        let through = match read {
            Some(id) => waiting.iter().position(|waiting| *waiting == id),
            // One's own message, or a notice: all before it was seen.
            None => waiting.len().checked_sub(1),
        };
        let Some(through) = through else { return Ok(()) };
        let last = waiting.drain(..=through).next_back();
        if waiting.is_empty() {
            live.markable.remove(&portal.contact);
        }
        if let Some(id) = last {
            self.send(&portal.login, receipt::displayed(&id, &portal.contact));
        }
        Ok(())
    }

    /// The owner says something in the portal.
    pub(super) fn say_to(&mut self, portal: &ContactKey, event: &RoomEvent) -> Result<(), Untold> {
        if let Some((target, new)) = edit::from_matrix(&event.content) {
            if let Some(media) = file::from_matrix(&event.kind, &new)? {
                return self.say_file_edit(portal, event, media);
            }
            let message = message::from_matrix(&new)?;
            return self.say_edit(portal, event, &target, &message);
        }
        if let Some(media) = file::from_matrix(&event.kind, &event.content)? {
            return self.say_file(portal, event, media);
        }
        let message = message::from_matrix(&event.content)?;
        let mut composed = None;
        if let Some(target) = reply::from_matrix(&event.content) {
            composed = Some(self.answer_to(portal, event, &target)?);
        }
        self.owe_message(portal, event, &message, composed)?;
        Ok(())
    }

    /// A message, in as many parts as it needs; the first of them is the answer, if it is one.
    pub(super) fn owe_message(
        &mut self,
        portal: &ContactKey,
        event: &RoomEvent,
        message: &Message,
        mut answer: Option<Composed>,
    ) -> Result<(), StoreError> {
        let bodies = message::to_bodies(message, self.body_budget(portal)?);
        let form = self.form_of(portal, message, &bodies)?;
        for body in bodies {
            match answer.take() {
                Some(mut answer) => {
                    answer.payloads.extend(form.clone());
                    self.owe_composed(portal, Composed { body, ..answer })?;
                }
                None if form.is_some() => {
                    let payloads = form.clone().into_iter().collect();
                    self.owe_composed(portal, Composed { payloads, ..bare(event, body) })?;
                }
                None => self.owe_text(portal, event, body)?,
            }
        }
        Ok(())
    }

    /// What a stanza says of its body's form beside it: that it has none, or the form itself for a client of the old kind.
    fn form_of(&self, portal: &ContactKey, message: &Message, bodies: &[String]) -> Result<Option<String>, StoreError> {
        const NEWER: [Feature; 4] = [Feature::Edits, Feature::Replies, Feature::Reactions, Feature::Retractions];
        if !self.profile_of(&portal.login)?.is_some_and(|profile| profile.extensible) {
            return Ok(None);
        }
        match (&message.form, bodies) {
            (Form::Plain, _) => Ok(None),
            (Form::Unstyled, _) => Ok(to_xml(&styling::unstyled())),
            (Form::Rich(rich), [body]) => {
                let features = self.features_of(portal)?;
                if !features.has(Feature::Xhtml) || NEWER.iter().any(|newer| features.has(*newer)) {
                    return Ok(None);
                }
                let body = to_xml(&text_element("body", CLIENT, body)).map_or(0, |xml| xml.len());
                let budget = self.body_budget(portal)?.saturating_sub(body + QUOTATION);
                Ok(to_xml(&xhtml::to_xmpp(rich, message.emote)).filter(|xml| xml.len() <= budget))
            }
            // One form does not fit several parts.
            (Form::Rich(_), _) => Ok(None),
        }
    }

    fn say_edit(
        &mut self,
        portal: &ContactKey,
        event: &RoomEvent,
        target: &OwnedEventId,
        message: &Message,
    ) -> Result<(), Untold> {
        let bodies = message::to_bodies(message, self.body_budget(portal)?);
        let edited = self.bridge.store.stanza_of(portal, target)?;
        let edited = edited.as_deref().filter(|name| name.starts_with("o:")).and_then(stable_id::id_of);
        let features = self.features_of(portal)?;
        match (edited, bodies.as_slice()) {
            (Some((id, true)), [body]) if features.has(Feature::Edits) => {
                let form = self.form_of(portal, message, &bodies)?;
                let payloads = to_xml(&edit::to_xmpp(id)).into_iter().chain(form).collect();
                self.owe_composed(portal, Composed { payloads, ..bare(event, body.clone()) })?;
            }
            // What cannot be changed there is said anew, in the way that people do it.
            _ => self.owe_message(portal, event, &message.anew(), None)?,
        }
        Ok(())
    }

    /// An answer, still without its own text. What it answers is quoted for clients that do not know answers.
    pub(super) fn answer_to(
        &self,
        portal: &ContactKey,
        event: &RoomEvent,
        target: &OwnedEventId,
    ) -> Result<Composed, StoreError> {
        let mut answer = Composed { quotes: Some(target.clone()), ..bare(event, String::new()) };
        let name = self.bridge.store.stanza_of(portal, target)?;
        if self.features_of(portal)?.has(Feature::Replies)
            && let Some((id, own)) = name.as_deref().and_then(stable_id::id_of)
        {
            let author = self.speaker(portal, own);
            answer.payloads.extend(to_xml(&reply::to_xmpp(id, &author)));
            answer.stands_for = Some(reply::NS.to_owned());
        }
        Ok(answer)
    }

    /// The owner reacts to a message. The whole set goes, or words where the contact's clients know no reactions.
    pub(super) fn say_reaction(&mut self, portal: &ContactKey, event: &RoomEvent) -> Result<(), Untold> {
        let Some((target, key)) = reaction::from_matrix(&event.content) else {
            self.bridge.ignore("reaction that cannot be read");
            return Ok(());
        };
        let key = legal(&key);
        if !self.all_know_reactions(portal)? {
            let words = Composed { quotes: Some(target), ..bare(event, key) };
            self.owe_composed(portal, words)?;
            return Ok(());
        }
        let name = self.bridge.store.stanza_of(portal, &target)?;
        let Some((id, _)) = name.as_deref().and_then(stable_id::id_of) else {
            return Err(Untold::Sentence("it is to something that the contact does not have".to_owned()));
        };
        let mut set = self.bridge.store.reactions(portal, true, id)?;
        if set.len() >= reaction::MOST {
            return Err(Untold::Sentence("there are too many reactions already".to_owned()));
        }
        set.insert(key.clone());
        self.owe_reactions(portal, event, id, &set)?;
        self.bridge.store.bind(portal, &reaction::name(id, &key, true), Some(&event.id))?;
        Ok(())
    }

    fn owe_reactions(
        &mut self,
        portal: &ContactKey,
        event: &RoomEvent,
        id: &str,
        set: &BTreeSet<String>,
    ) -> Result<(), StoreError> {
        self.bridge.store.put_reactions(portal, true, id, set)?;
        let payloads = reaction::to_xmpp(id, set).iter().filter_map(to_xml).collect();
        self.owe_composed(portal, Composed { payloads, ..bare(event, String::new()) })
    }

    /// The owner takes something back: a message of theirs, or a reaction.
    pub(super) fn say_redaction(&mut self, portal: &ContactKey, event: &RoomEvent) -> Result<(), Untold> {
        let name = match &event.redacts {
            Some(redacts) => self.bridge.store.stanza_of(portal, redacts)?,
            None => None,
        };
        if let (Some(redacts), Some(name)) = (&event.redacts, &name)
            && self.is_taken_back(portal, redacts, name)?
        {
            // It was taken back on another device, and this is how that looks here.
            return Ok(());
        }
        let ended = match &event.redacts {
            Some(redacts) => self.end_link(portal, redacts)?,
            None => false,
        };
        let Some(name) = name else {
            self.bridge.ignore("redaction of something that the contact does not have");
            return Ok(());
        };
        if let Some((id, key)) = reaction::of_name(&name) {
            let mut set = self.bridge.store.reactions(portal, true, id)?;
            set.remove(key);
            self.owe_reactions(portal, event, id, &set)?;
            return Ok(());
        }
        let Some((id, true)) = stable_id::id_of(&name) else {
            // What others said can be hidden in one's own room; they keep it.
            self.bridge.ignore("redaction of something that someone else said");
            return Ok(());
        };
        if !self.features_of(portal)?.has(Feature::Retractions) {
            let why = if ended {
                "the contact's app cannot take messages back, but the link to your file leads nowhere now"
            } else {
                "the contact's app cannot take messages back, so it still has yours"
            };
            return Err(Untold::Sentence(why.to_owned()));
        }
        let payloads = retraction::to_xmpp(id).iter().filter_map(to_xml).collect();
        self.owe_composed(portal, Composed { payloads, ..bare(event, retraction::WORDS.to_owned()) })?;
        Ok(())
    }

    /// A message in words alone.
    pub(super) fn owe_text(&mut self, portal: &ContactKey, event: &RoomEvent, body: String) -> Result<(), StoreError> {
        let outgoing = Outgoing { body, event: event.id.clone(), written: event.at };
        let debt = self.bridge.owe(Lane::ToXmpp(portal.clone()), Effect::SendMessage(outgoing))?;
        let name = stable_id::sent(&self.bridge.wire_id(debt));
        self.bridge.store.bind(portal, &name, Some(&event.id))
    }

    fn owe_composed(&mut self, portal: &ContactKey, composed: Composed) -> Result<(), StoreError> {
        let event = composed.event.clone();
        let debt = self.bridge.owe(Lane::ToXmpp(portal.clone()), Effect::SendComposed(composed))?;
        let name = stable_id::sent(&self.bridge.wire_id(debt));
        self.bridge.store.bind(portal, &name, Some(&event))
    }

    /// Says in the room why something was not told to the contact.
    pub(super) fn tell_untold(
        &mut self,
        portal: &ContactKey,
        event: &RoomEvent,
        why: &Untold,
    ) -> Result<(), StoreError> {
        let what = match event.kind.as_str() {
            "m.room.message" | "m.sticker" => "message was not sent",
            "m.reaction" => "reaction was not sent",
            _ => "message was not taken back",
        };
        let text = match why {
            Untold::Nothing => return Ok(()),
            Untold::Sentence(sentence) => format!("Your {what}: {sentence}."),
            Untold::Store(_) => return Ok(()),
        };
        // Clients show what a reaction or a redaction is about, and not these themselves.
        let about = match event.kind.as_str() {
            "m.reaction" => reaction::from_matrix(&event.content).map(|(target, _)| target),
            "m.room.redaction" => event.redacts.clone(),
            _ => None,
        };
        self.reject(portal, &event.id, about.as_ref().unwrap_or(&event.id), Reason::Unsupported, text)
    }

    /// Do all of the contact's clients that get messages know reactions? A reaction has no body, so one that does not would show
    /// nothing; what else is said beside a message has a body that it shows.
    fn all_know_reactions(&self, contact: &ContactKey) -> Result<bool, StoreError> {
        if !self.features_of(contact)?.has(Feature::Reactions) {
            return Ok(false);
        }
        let clients = self.bridge.store.resources(contact)?.map(|row| row.list).unwrap_or_default();
        for client in clients.iter().filter(|client| client.priority >= 0) {
            // Who says nothing of what it can do knows nothing newer. Of one whose word could not be verified the contact's last
            // answer counts.
            let Some(caps) = &client.caps else { return Ok(false) };
            if self.bridge.store.caps_features(caps)?.is_some_and(|features| !features.has(Feature::Reactions)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the contact's clients can do, as far as it is known: those on line, else those that were there last.
    pub(super) fn features_of(&self, contact: &ContactKey) -> Result<Features, StoreError> {
        if !self.profile_of(&contact.login)?.is_some_and(|profile| profile.extensible) {
            return Ok(Features::default());
        }
        let clients = self.bridge.store.resources(contact)?.map(|row| row.list).unwrap_or_default();
        let mut features: Option<Features> = None;
        for caps in clients.iter().filter_map(|client| client.caps.as_deref()) {
            if let Some(known) = self.bridge.store.caps_features(caps)? {
                features = Some(features.unwrap_or_default().and(known));
            }
        }
        match features {
            Some(features) => Ok(features),
            None => Ok(self.bridge.store.last_features(contact)?.unwrap_or_default()),
        }
    }
}

/// Why something was not told to the contact.
#[derive(Debug)]
pub(super) enum Untold {
    /// There is nothing to tell.
    Nothing,
    /// For this reason, as the end of a sentence.
    Sentence(String),
    /// The store failed.
    Store(StoreError),
}

impl From<Untranslatable> for Untold {
    fn from(error: Untranslatable) -> Self {
        match error {
            Untranslatable::Empty => Self::Nothing,
            error => Self::Sentence(error.to_string()),
        }
    }
}

impl From<StoreError> for Untold {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn bare(event: &RoomEvent, body: String) -> Composed {
    Composed { body, payloads: Vec::new(), event: event.id.clone(), written: event.at, quotes: None, stands_for: None }
}

//! Favourites and mutes: what a person chooses in Matrix (by double puppeting) and in other clients of the account, held against what
//! each side is known to have. Whatever differs from that is a new choice and goes to the other side; what we wrote ourselves comes
//! back as nothing new.

use std::collections::{BTreeMap, BTreeSet};

use minidom::Element;
use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::value::RawValue;

use super::{Engine, session::Pending};
use crate::{
    bridge::{ghost::contact_of, question::Question},
    domain::{
        BareJid, LoginId,
        choice::{Choice, Keep, Notify},
        effect::{ContactKey, Debt, Effect, Lane},
    },
    store::{
        StoreError,
        chat::{Chat, MOST_CHATS},
    },
    translate::{
        chats::{self, Item},
        discovery, failure, favourite, notify, pep,
        stanza::{Stanza, to_xml},
    },
};

/// How many debts of a lane are looked through for what is on its way.
const LOOKED_AT: usize = 4 * MOST_CHATS;
/// Longest item that is kept, as XML, in bytes; one that is longer is left alone.
const LONGEST_ITEM: usize = 16 * 1024;

/// What is on its way to Matrix for a room.
#[derive(Clone, Copy, Debug, Default)]
struct Writing {
    pinned: Option<bool>,
    notify: Option<Notify>,
}

/// What is still to be done for the chats of a login.
#[derive(Debug, Default)]
struct Owed {
    rooms: BTreeMap<OwnedRoomId, Writing>,
    kept: BTreeSet<BareJid>,
}

impl Owed {
    fn of(&self, room: &OwnedRoomId) -> Writing {
        self.rooms.get(room).copied().unwrap_or_default()
    }
}

impl Engine {
    fn owed_for_chats(&self, owner: &OwnedUserId, login: &LoginId) -> Result<Owed, StoreError> {
        let mut owed = Owed::default();
        for debt in self.bridge.store.first_debts(&Lane::Person(owner.clone()), LOOKED_AT)? {
            match debt.effect {
                Effect::SetTag { room, tag, content } if tag == favourite::TAG => {
                    owed.rooms.entry(room).or_default().pinned = Some(content.is_some());
                }
                Effect::Silence { room, notify } => owed.rooms.entry(room).or_default().notify = Some(notify),
                _ => {}
            }
        }
        for debt in self.bridge.store.first_debts(&Lane::Login(login.clone()), LOOKED_AT)? {
            if let Effect::KeepChat { contact } = debt.effect {
                owed.kept.insert(contact);
            }
        }
        Ok(owed)
    }

    fn put_chat(&mut self, contact: &ContactKey, row: &Chat) -> Result<bool, StoreError> {
        let kept = self.bridge.store.put_chat(contact, row)?;
        if !kept {
            self.bridge.ignore("choice for one chat too many");
        }
        Ok(kept)
    }

    /// Owes what one side does not have yet of what was chosen.
    fn spread(&mut self, contact: &ContactKey, owed: &mut Owed) -> Result<(), StoreError> {
        let row = self.bridge.store.chat(contact)?;
        if row.wanted != row.xmpp
            && self.bridge.store.lists(&contact.login)?.chats == Some(true)
            && owed.kept.insert(contact.contact.clone())
        {
            let effect = Effect::KeepChat { contact: contact.contact.clone() };
            self.bridge.owe(Lane::Login(contact.login.clone()), effect)?;
        }
        let room = self.bridge.store.portal(contact)?.and_then(|portal| portal.room);
        let (Some(room), Some(owner)) = (room, self.owner_of(&contact.login)?) else { return Ok(()) };
        let mut writing = owed.of(&room);
        if writing.pinned.unwrap_or(row.matrix.pinned) != row.wanted.pinned {
            let (tag, content) = (favourite::TAG.to_owned(), favourite::to_matrix(row.wanted.pinned));
            self.bridge.owe_person(&owner, Effect::SetTag { room: room.clone(), tag, content })?;
            writing.pinned = Some(row.wanted.pinned);
        }
        if writing.notify.unwrap_or(row.matrix.notify) != row.wanted.notify {
            let effect = Effect::Silence { room: room.clone(), notify: row.wanted.notify };
            self.bridge.owe_person(&owner, effect)?;
            writing.notify = Some(row.wanted.notify);
        }
        owed.rooms.insert(room, writing);
        Ok(())
    }

    /// The same for a chat alone.
    fn spread_one(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        let Some(owner) = self.owner_of(&contact.login)? else { return Ok(()) };
        let mut owed = self.owed_for_chats(&owner, &contact.login)?;
        self.spread(contact, &mut owed)
    }

    // ---- Matrix

    /// The tags of a portal's room, as they are now.
    pub(super) fn on_tags(
        &mut self,
        owner: &OwnedUserId,
        portal: &ContactKey,
        room: Option<&OwnedRoomId>,
        content: &RawValue,
    ) -> Result<(), StoreError> {
        let Some(pinned) = favourite::from_matrix(content) else {
            self.bridge.ignore("tags that cannot be read");
            return Ok(());
        };
        // A room that was replaced says nothing any more.
        let now = self.bridge.store.portal(portal)?.and_then(|row| row.room);
        let Some(room) = room.filter(|room| now.as_ref() == Some(room)) else { return Ok(()) };
        let row = self.bridge.store.chat(portal)?;
        let seen = Choice { pinned, ..row.matrix };
        let mut owed = self.owed_for_chats(owner, &portal.login)?;
        self.chosen_in_matrix((portal, room), row, seen, &mut owed)
    }

    /// All push rules of a person, as they are now.
    pub(super) fn on_push_rules(&mut self, owner: &OwnedUserId, content: &RawValue) -> Result<(), StoreError> {
        let Some(rules) = notify::from_matrix(content) else {
            self.bridge.ignore("push rules that cannot be read");
            return Ok(());
        };
        for login in self.logins_of(owner)? {
            let mut owed = self.owed_for_chats(owner, &login.id)?;
            let mut known: BTreeMap<BareJid, Chat> = self.bridge.store.chats(&login.id)?.into_iter().collect();
            for (contact, portal) in self.bridge.store.portals(&login.id)? {
                let Some(room) = portal.room else { continue };
                let row = known.remove(&contact).unwrap_or_default();
                let seen = Choice { notify: rules.of(&room), ..row.matrix };
                if seen != row.matrix {
                    self.chosen_in_matrix((&contact_of(&login.id, &contact), &room), row, seen, &mut owed)?;
                }
            }
        }
        Ok(())
    }

    /// What Matrix has now, beside what it was known to have.
    fn chosen_in_matrix(
        &mut self,
        (portal, room): (&ContactKey, &OwnedRoomId),
        mut row: Chat,
        seen: Choice,
        owed: &mut Owed,
    ) -> Result<(), StoreError> {
        if seen == row.matrix {
            return Ok(());
        }
        let writing = owed.of(room);
        // While we write, what is seen is what was before, or what we wrote.
        match writing.pinned {
            Some(ours) if ours != seen.pinned => {}
            Some(_) => row.matrix.pinned = seen.pinned,
            None if seen.pinned != row.matrix.pinned => {
                (row.matrix.pinned, row.wanted.pinned) = (seen.pinned, seen.pinned);
            }
            None => {}
        }
        match writing.notify {
            Some(ours) if ours != seen.notify => {}
            Some(_) => row.matrix.notify = seen.notify,
            None if seen.notify != row.matrix.notify => {
                (row.matrix.notify, row.wanted.notify) = (seen.notify, seen.notify);
            }
            None => {}
        }
        if self.put_chat(portal, &row)? { self.spread(portal, owed) } else { Ok(()) }
    }

    /// A tag or a rule of ours stands in Matrix now.
    pub(super) fn choice_is_written(&mut self, owner: &OwnedUserId, effect: &Effect) -> Result<(), StoreError> {
        let (Effect::SetTag { room, .. } | Effect::Silence { room, .. }) = effect else { return Ok(()) };
        let Some(portal) = self.portal_of_person(owner, room)? else { return Ok(()) };
        if self.bridge.store.portal(&portal)?.and_then(|row| row.room).as_ref() != Some(room) {
            return Ok(());
        }
        let mut row = self.bridge.store.chat(&portal)?;
        match effect {
            Effect::SetTag { tag, content, .. } if tag == favourite::TAG => row.matrix.pinned = content.is_some(),
            Effect::Silence { notify, .. } => row.matrix.notify = *notify,
            _ => return Ok(()),
        }
        self.put_chat(&portal, &row).map(drop)
    }

    /// A portal has a new room, in which nothing is chosen yet: what was chosen before there was one is.
    pub(super) fn choose_for_room(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        let mut row = self.bridge.store.chat(portal)?;
        row.matrix = Choice::default();
        if self.put_chat(portal, &row)? { self.spread_one(portal) } else { Ok(()) }
    }

    // ---- XMPP

    /// The account was asked what it can do: if it keeps private nodes, ours is fetched.
    pub(super) fn on_chats_found(&mut self, login: &LoginId, answer: Option<&Element>) -> Result<(), StoreError> {
        let Some(answer) = answer else { return Ok(()) };
        let keeps = discovery::has_feature(answer, pep::PUBLISH_OPTIONS);
        let mut lists = self.bridge.store.lists(login)?;
        lists.chats = Some(keeps);
        self.bridge.store.put_lists(login, &lists)?;
        if keeps { self.ask(login, Question::Chats) } else { Ok(()) }
    }

    /// All items of our node, or that there is none.
    pub(super) fn on_chats(
        &mut self,
        login: &LoginId,
        answer: Option<&Element>,
        heard: Option<&Element>,
    ) -> Result<(), StoreError> {
        let items = match (answer, heard) {
            (Some(answer), _) => chats::list(answer).unwrap_or_default(),
            (None, Some(heard)) if condition(heard) == "item-not-found" => Vec::new(),
            _ => {
                self.bridge.ignore("choices for chats not fetched");
                return Ok(());
            }
        };
        self.take_chats(login, items, true)?;
        let Some(owner) = self.owner_of(login)? else { return Ok(()) };
        let mut owed = self.owed_for_chats(&owner, login)?;
        for (contact, row) in self.bridge.store.chats(login)? {
            if row.wanted != row.xmpp || row.wanted != row.matrix {
                self.spread(&contact_of(login, &contact), &mut owed)?;
            }
        }
        Ok(())
    }

    /// A message that is an event of our node, from the account itself. `false`: it is none.
    pub(super) fn on_chats_event(&mut self, login: &LoginId, stanza: &Stanza) -> Result<bool, StoreError> {
        let (name, namespace) = chats::EVENT_PAYLOAD;
        let payload = stanza.leftovers().iter().find(|child| child.is(name, namespace));
        match payload.and_then(chats::event) {
            None => return Ok(false),
            Some(Some(items)) => self.take_chats(login, items, false)?,
            Some(None) => self.take_chats(login, Vec::new(), true)?,
        }
        Ok(true)
    }

    /// What the account's server has now; `all`: and nothing else.
    fn take_chats(&mut self, login: &LoginId, items: Vec<Item>, all: bool) -> Result<(), StoreError> {
        let mut items: BTreeMap<BareJid, Option<Element>> =
            items.into_iter().map(|item| (item.contact, item.chat)).collect();
        if all {
            for (contact, row) in self.bridge.store.chats(login)? {
                if row.xmpp != Choice::default() {
                    items.entry(contact).or_default();
                }
            }
        }
        let Some(owner) = self.owner_of(login)? else { return Ok(()) };
        let mut owed = self.owed_for_chats(&owner, login)?;
        for (contact, chat) in items {
            self.chosen_elsewhere(&contact_of(login, &contact), chat.as_ref(), &mut owed)?;
        }
        Ok(())
    }

    fn chosen_elsewhere(
        &mut self,
        contact: &ContactKey,
        chat: Option<&Element>,
        owed: &mut Owed,
    ) -> Result<(), StoreError> {
        let item = chat.and_then(to_xml);
        if item.as_ref().is_some_and(|item| item.len() > LONGEST_ITEM) {
            self.bridge.ignore("choice for a chat that is too long");
            return Ok(());
        }
        let seen = chat.map(chats::choice).unwrap_or_default();
        let mut row = self.bridge.store.chat(contact)?;
        if self.keeping(contact) != Some(seen) {
            if seen.pinned != row.xmpp.pinned {
                row.wanted.pinned = seen.pinned;
            }
            if seen.notify != row.xmpp.notify {
                row.wanted.notify = seen.notify;
            }
        }
        row.xmpp = seen;
        row.item = item;
        if self.put_chat(contact, &row)? { self.spread(contact, owed) } else { Ok(()) }
    }

    /// What is on its way to the account's server for this chat.
    fn keeping(&self, contact: &ContactKey) -> Option<Choice> {
        self.lives.get(&contact.login)?.questions.values().find_map(|pending| match &pending.question {
            Question::KeepChat { contact: of, choice, .. } if *of == contact.contact => Some(*choice),
            _ => None,
        })
    }

    /// Pays a debt to keep what was chosen for a chat, once its answer is there. `true`: there is nothing left to keep.
    pub(super) fn ask_to_keep(&mut self, login: &LoginId, debt: &Debt) -> Result<bool, StoreError> {
        let Effect::KeepChat { contact } = &debt.effect else { return Ok(false) };
        let is_it =
            |pending: &Pending| matches!(pending.question, Question::KeepChat { debt: of, .. } if of == debt.id);
        if self.lives.get(login).is_some_and(|live| live.questions.values().any(is_it)) {
            return Ok(false);
        }
        let row = self.bridge.store.chat(&contact_of(login, contact))?;
        if row.wanted == row.xmpp {
            return Ok(true);
        }
        let known = row.item.as_deref().and_then(|item| item.parse::<Element>().ok());
        let chat = chats::with_choice(known.as_ref(), contact, row.wanted);
        let made = self.lives.get(login).is_some_and(|live| live.chats_made);
        let step = if made { Keep::PublishMade } else { Keep::Publish };
        let question = Question::KeepChat { contact: contact.clone(), choice: row.wanted, chat, step, debt: debt.id };
        self.ask(login, question)?;
        Ok(false)
    }

    /// The server has kept it, or not; or it has taken a step on the way there.
    pub(super) fn on_chat_kept(
        &mut self,
        login: &LoginId,
        question: Question,
        heard: Option<&Element>,
    ) -> Result<(), StoreError> {
        let Question::KeepChat { contact, choice, chat, step, debt } = question else { return Ok(()) };
        let done = heard.is_some_and(|answer| answer.attr("type") == Some("result"));
        let next = match (step, heard) {
            (Keep::Publish, Some(_)) if !done && chat.is_some() => Some(Keep::Make),
            // If it could not be made it is there, or the next step says why not.
            (Keep::Make, Some(_)) => Some(Keep::PublishMade),
            _ => None,
        };
        if let Some(step) = next {
            if let Some(live) = self.lives.get_mut(login) {
                live.chats_made |= step == Keep::PublishMade;
            }
            return self.ask(login, Question::KeepChat { contact, choice, chat, step, debt });
        }
        let lane = Lane::Login(login.clone());
        if let Some(debt) = self.bridge.store.debt(&lane, debt)? {
            self.settle(&debt)?;
        }
        self.bridge.outbox.wake(&lane);
        // What is not there need not be taken back.
        let gone = chat.is_none() && heard.is_some_and(|answer| condition(answer) == "item-not-found");
        if !done && !gone {
            // Tried again with the next choice, or on the next session.
            self.bridge.ignore("choice for a chat not kept by the server");
            return Ok(());
        }
        let contact = ContactKey { login: login.clone(), contact };
        let mut row = self.bridge.store.chat(&contact)?;
        row.xmpp = choice;
        row.item = chat.as_ref().and_then(to_xml);
        if self.put_chat(&contact, &row)? { self.spread_one(&contact) } else { Ok(()) }
    }
}

fn condition(answer: &Element) -> String {
    failure::from_xmpp(&mut Stanza::read(answer)).condition
}

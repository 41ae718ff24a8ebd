//! What contacts publish of themselves by personal eventing (XEP-0163): avatars (XEP-0084), nicknames (XEP-0172), vCard4
//! (XEP-0292). Which name and which picture go before which stands in `store/contact.rs` and docs/protocol.md.

use std::collections::{HashMap, VecDeque};

use minidom::Element;

use super::{Engine, Timer, session::Phase};
use crate::{
    bridge::{ghost::contact_of, question::Question},
    domain::{BareJid, LoginId, effect::ContactKey},
    store::{
        StoreError,
        contact::VCardState,
        profile::{Avatar, Profile},
    },
    translate::{
        avatar::{self, Said},
        nickname,
        pep::{Event, Item},
        vcard::Photo,
        vcard4,
    },
};

/// Items of contacts asked for at once.
const AT_ONCE: usize = 2;
/// One contact is asked no more often, in milliseconds.
const REST: u64 = 10_000;

/// Something of a contact that is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    /// The bytes of its avatar with this SHA-1.
    Avatar(String),
    /// Its vCard4.
    VCard4,
}

/// What is still to be asked of a login's contacts: at most two things of each.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    waiting: VecDeque<(BareJid, Wish)>,
    /// When each was last asked on this stream, as uptime.
    asked: HashMap<BareJid, u64>,
    /// A timer is set for those that rest.
    resting: bool,
}

impl Wishes {
    fn add(&mut self, contact: BareJid, wish: Wish) {
        let same = |other: &Wish| std::mem::discriminant(other) == std::mem::discriminant(&wish);
        self.waiting.retain(|(waiting, other)| *waiting != contact || !same(other));
        self.waiting.push_back((contact, wish));
    }
}

impl Engine {
    /// A contact tells of its nodes. Only its bare JID speaks for them, and only a contact's count.
    pub(super) fn on_events(
        &mut self,
        login: &LoginId,
        from: Option<&crate::domain::Address>,
        events: &[Event],
    ) -> Result<(), StoreError> {
        let Some(from) = from.filter(|from| from.resource.is_none()) else {
            self.bridge.ignore("event of a node that is not the sender's");
            return Ok(());
        };
        let contact = contact_of(login, &from.bare);
        let known = self.bridge.store.contact(&contact)?.is_some_and(|row| row.on_roster);
        if !known || !self.publishes(login)? {
            self.bridge.ignore("event of nobody's node");
            return Ok(());
        }
        for Event { node, item } in events {
            match node.as_str() {
                avatar::METADATA => self.on_avatar_event(&contact, item.as_ref())?,
                nickname::NS => self.on_nickname(&contact, item.as_ref())?,
                _ => self.bridge.ignore("event of a node that is not translated"),
            }
        }
        Ok(())
    }

    /// Does the network have personal eventing?
    pub(super) fn publishes(&self, login: &LoginId) -> Result<bool, StoreError> {
        Ok(self.profile_of(login)?.is_some_and(|profile| !profile.vcard_fetch_only))
    }

    fn on_nickname(&mut self, contact: &ContactKey, item: Option<&Item>) -> Result<(), StoreError> {
        let Some(nick) = nickname::from_xmpp(item) else {
            self.bridge.ignore("nickname that cannot be read");
            return Ok(());
        };
        let mut row = self.bridge.store.profile(contact)?;
        row.nick = nick;
        self.bridge.store.put_profile(contact, &row)?;
        self.bridge.name_ghost(contact)
    }

    /// Someone unknown says in a message how they call themselves (XEP-0172 section 4.2).
    pub(super) fn note_nickname(&mut self, contact: &ContactKey, nick: String) -> Result<(), StoreError> {
        let mut row = self.bridge.store.profile(contact)?;
        if row.nick.is_some() || self.bridge.store.contact(contact)?.is_some_and(|row| row.on_roster) {
            return Ok(());
        }
        row.nick = Some(nick);
        self.bridge.store.put_profile(contact, &row)?;
        self.bridge.name_ghost(contact)
    }

    fn on_avatar_event(&mut self, contact: &ContactKey, item: Option<&Item>) -> Result<(), StoreError> {
        let Some(said) = avatar::from_xmpp(item) else {
            self.bridge.ignore("avatar that cannot be read");
            return Ok(());
        };
        let mut row = self.bridge.store.profile(contact)?;
        let shown = self.bridge.contact(contact)?.shown_photo;
        let new = match said {
            Said::None => Avatar::None,
            Said::Picture(hash) => Avatar::Picture(hash),
            Said::Unusable(hash) => Avatar::Unusable(hash),
        };
        // One that could not be had or shown will not be better when it is announced again.
        if matches!((&row.avatar, &new), (Avatar::Unusable(known), Avatar::Picture(hash)) if known == hash) {
            return Ok(());
        }
        let before = std::mem::replace(&mut row.avatar, new);
        self.bridge.store.put_profile(contact, &row)?;
        if let Avatar::Picture(hash) = row.avatar {
            if shown.as_ref() != Some(&hash) {
                self.wish(contact, Wish::Avatar(hash))?;
            }
            return Ok(());
        }
        if matches!(&before, Avatar::Picture(hash) if shown.as_ref() == Some(hash)) {
            self.bridge.unpicture_ghost(contact)?;
        }
        self.photo_counts(contact)
    }

    /// There is no avatar: the photo that presence announces counts, if it is another than was shown.
    fn photo_counts(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        let row = self.bridge.contact(contact)?;
        let Some(announced) =
            row.announced_photo.filter(|hash| !hash.is_empty() && row.shown_photo.as_ref() != Some(hash))
        else {
            return Ok(());
        };
        if let Some(live) = self.lives.get_mut(&contact.login) {
            live.vcards.retain(|(waiting, _)| *waiting != contact.contact);
            live.vcards.push_back((contact.contact.clone(), Some(announced)));
        }
        self.next_vcard(&contact.login)
    }

    /// The vCard is there and names nobody: perhaps the vCard4 does.
    pub(super) fn name_by_vcard4(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        let nameless = is_nameless(&self.bridge.contact(contact)?, &self.bridge.store.profile(contact)?);
        if nameless { self.wish(contact, Wish::VCard4) } else { Ok(()) }
    }

    fn wish(&mut self, contact: &ContactKey, wish: Wish) -> Result<(), StoreError> {
        if !self.publishes(&contact.login)? {
            return Ok(());
        }
        if let Some(live) = self.lives.get_mut(&contact.login) {
            live.wishes.add(contact.contact.clone(), wish);
        }
        self.next_wish(&contact.login)
    }

    /// What was announced and is not shown yet is asked for once a stream has caught up: a server does not say it again on one
    /// that is resumed.
    pub(super) fn queue_wishes(&mut self, login: &LoginId) -> Result<(), StoreError> {
        if !self.publishes(login)? {
            return Ok(());
        }
        let mut wishes = Vec::new();
        for (contact, own) in self.bridge.store.profiles(login)? {
            let shown = self.bridge.contact(&contact_of(login, &contact))?.shown_photo;
            if let Avatar::Picture(hash) = own.avatar
                && shown.as_ref() != Some(&hash)
            {
                wishes.push((contact, Wish::Avatar(hash)));
            }
        }
        for (contact, row) in self.bridge.store.contacts(login)? {
            let own = self.bridge.store.profile(&contact_of(login, &contact))?;
            if row.on_roster && matches!(row.vcard, VCardState::Fetched(_)) && is_nameless(&row, &own) {
                wishes.push((contact, Wish::VCard4));
            }
        }
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        for (contact, wish) in wishes {
            live.wishes.add(contact, wish);
        }
        self.next_wish(login)
    }

    /// The next items are asked for. Whoever changes their avatar all the time is asked now and then.
    pub(super) fn next_wish(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let uptime = self.bridge.now.uptime;
        while let Some(live) = self.lives.get_mut(login) {
            let ours = |question: &Question| matches!(question, Question::Avatar { .. } | Question::VCard4 { .. });
            let asked = live.questions.values().filter(|pending| ours(&pending.question)).count();
            if asked >= AT_ONCE || live.phase != Phase::Up {
                break;
            }
            let wishes = &mut live.wishes;
            let rested = |(contact, wish): &(BareJid, Wish)| {
                *wish == Wish::VCard4 || wishes.asked.get(contact).is_none_or(|at| uptime.saturating_sub(*at) >= REST)
            };
            let Some((contact, wish)) = wishes.waiting.iter().position(rested).and_then(|at| wishes.waiting.remove(at))
            else {
                if !wishes.waiting.is_empty() && !std::mem::replace(&mut wishes.resting, true) {
                    self.set_timer(REST, Timer::Wishes(login.clone()));
                }
                break;
            };
            let question = match wish {
                Wish::Avatar(hash) => {
                    wishes.asked.insert(contact.clone(), uptime);
                    Question::Avatar { contact, hash }
                }
                Wish::VCard4 => Question::VCard4 { contact },
            };
            self.ask(login, question)?;
        }
        Ok(())
    }

    pub(super) fn wishes_rested(&mut self, login: &LoginId) -> Result<(), StoreError> {
        if let Some(live) = self.lives.get_mut(login) {
            live.wishes.resting = false;
        }
        self.next_wish(login)
    }

    /// An avatar's bytes are there, or will not be; `heard`: something came.
    pub(super) fn on_avatar(
        &mut self,
        contact: &ContactKey,
        hash: &str,
        answer: Option<&Element>,
        heard: bool,
    ) -> Result<(), StoreError> {
        let mut row = self.bridge.store.profile(contact)?;
        // What was asked for may be out of date, and silence says nothing of the picture.
        if row.avatar != Avatar::Picture(hash.to_owned()) || !heard {
            return Ok(());
        }
        match answer.map(|answer| avatar::picture(answer, hash)) {
            Some(Photo::Picture { mime, hash, bytes }) => self.bridge.picture_ghost(contact, hash, mime, bytes),
            Some(Photo::None | Photo::Unusable) | None => {
                self.bridge.ignore("avatar that cannot be had or shown");
                row.avatar = Avatar::Unusable(hash.to_owned());
                self.bridge.store.put_profile(contact, &row)?;
                self.photo_counts(contact)
            }
        }
    }

    /// A vCard4 is there, or will not be.
    pub(super) fn on_vcard4(
        &mut self,
        contact: &ContactKey,
        answer: Option<&Element>,
        heard: bool,
    ) -> Result<(), StoreError> {
        if !heard {
            return Ok(());
        }
        let names = answer.map(vcard4::from_xmpp).unwrap_or_default();
        let mut row = self.bridge.store.profile(contact)?;
        (row.vcard4, row.vcard4_nickname, row.vcard4_full_name) = (true, names.nickname, names.full_name);
        self.bridge.store.put_profile(contact, &row)?;
        self.bridge.name_ghost(contact)
    }

    /// The homeserver did not take the picture. `true`: it was an avatar, and the vCard is not concerned.
    pub(super) fn avatar_not_uploaded(
        &mut self,
        contact: &ContactKey,
        hash: &str,
        for_good: bool,
    ) -> Result<bool, StoreError> {
        let mut row = self.bridge.store.profile(contact)?;
        if row.avatar != Avatar::Picture(hash.to_owned()) {
            return Ok(false);
        }
        if for_good {
            row.avatar = Avatar::Unusable(hash.to_owned());
            self.bridge.store.put_profile(contact, &row)?;
        }
        Ok(true)
    }
}

/// Nobody says a name, and the vCard4 was not asked yet.
fn is_nameless(row: &crate::store::contact::Contact, own: &Profile) -> bool {
    let names = [&row.roster_name, &own.nick, &row.nickname, &row.full_name];
    !own.vcard4 && names.into_iter().all(|name| name.as_deref().is_none_or(|name| name.trim().is_empty()))
}

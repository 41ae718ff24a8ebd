//! Whom an account blocks (XEP-0191): the list as its server keeps it, changes made here and elsewhere, and what they mean for
//! the rooms.

use std::collections::{BTreeMap, BTreeSet};

use minidom::Element;
use ruma::{OwnedRoomId, OwnedUserId};

use super::{
    Engine,
    session::{Live, Pending},
};
use crate::{
    bridge::{ghost::contact_of, question::Question},
    domain::{
        BareJid, DebtId, LoginId,
        effect::{ContactKey, Debt, Effect, Lane, Notice},
    },
    store::{
        StoreError,
        blocked::MOST_BLOCKED,
        login::Login,
        portal::{Membership, Room},
        presence::Resources,
    },
    translate::{
        blocking::{self, Push},
        discovery, failure, presence,
        stanza::Stanza,
    },
};

/// So many of the changes that come together are told one by one.
const TOLD: usize = 5;
/// So many who are freed together are asked whether they are there; the others show once their presence changes.
const PROBES: usize = 64;
/// How many of a list are shown to a person.
const SHOWN: usize = 20;
/// How many debts of a login are looked through for what is wanted but not done yet.
const LOOKED_AT: usize = 2 * MOST_BLOCKED;

impl Engine {
    /// Does the account block this contact, alone or with their whole domain?
    pub(super) fn is_blocked(&self, contact: &ContactKey) -> Result<bool, StoreError> {
        if self.bridge.store.is_blocked(&contact.login, &contact.contact)? {
            return Ok(true);
        }
        let domain = BareJid::parse(contact.contact.domain());
        domain.map_or(Ok(false), |domain| self.bridge.store.is_blocked(&contact.login, &domain))
    }

    /// Which addresses the person wants blocked, or no longer, as far as that is still to be done.
    pub(super) fn wanted_blocks(&self, login: &LoginId) -> Result<BTreeMap<BareJid, bool>, StoreError> {
        let debts = self.bridge.store.first_debts(&Lane::Login(login.clone()), LOOKED_AT)?;
        // The last word counts.
        let wanted = debts.into_iter().filter_map(|debt| match debt.effect {
            Effect::Block { contact, blocked, .. } => Some((contact, blocked)),
            _ => None,
        });
        Ok(wanted.collect())
    }

    /// May what the person says go to this contact? Not while they are blocked, unless that is about to end.
    pub(super) fn hears_the_owner(&self, contact: &ContactKey) -> Result<bool, StoreError> {
        Ok(!self.is_blocked(contact)? || self.wanted_blocks(&contact.login)?.get(&contact.contact) == Some(&false))
    }

    // ---- commands

    /// `block` and `unblock`. Gives what to answer at once.
    pub(super) fn block_named(
        &mut self,
        owner: &OwnedUserId,
        room: &OwnedRoomId,
        (login, who): (Option<&str>, Option<&str>),
        blocked: bool,
    ) -> Result<Option<Notice>, StoreError> {
        let plain = |text: String| Ok(Some(Notice::plain(text)));
        let Some(who) = who else {
            return match self.bridge.store.room(room)? {
                Some(Room::Portal(portal)) if self.owner_of(&portal.login)?.as_ref() == Some(owner) => {
                    let Some(login) = self.bridge.store.login(&portal.login)? else { return Ok(None) };
                    self.block(&login, &portal.contact, blocked, room)
                }
                _ => self.list_blocked(owner).map(Some),
            };
        };
        let who = match BareJid::parse(who) {
            Ok(who) => who,
            Err(error) => return plain(format!("That is not an address: {error}.")),
        };
        match self.only_login(owner, login, Some(&who))? {
            Ok(login) => self.block(&login, &who, blocked, room),
            Err(sentence) => plain(sentence),
        }
    }

    fn block(
        &mut self,
        login: &Login,
        who: &BareJid,
        blocked: bool,
        room: &OwnedRoomId,
    ) -> Result<Option<Notice>, StoreError> {
        let account = &login.account;
        let plain = |text: String| Ok(Some(Notice::plain(text)));
        if who == account || who.as_str() == account.domain() {
            return plain("That is your own address, or your own server.".to_owned());
        }
        if !self.may_block(login)? {
            return plain(format!(
                "The server of {account} has no list of blocked contacts that I could write. What {who} says can be muted or \
                 ignored in your Matrix app."
            ));
        }
        let reached = self.is_blocked(&contact_of(&login.id, who))?;
        let known = self.bridge.store.is_blocked(&login.id, who)?;
        if self.wanted_blocks(&login.id)?.get(who).copied().unwrap_or(known) == blocked {
            return plain(match (blocked, reached) {
                (false, true) => {
                    let domain = who.domain();
                    format!("Everyone at {domain} is blocked by {account}: `unblock {account} {domain}` ends it.")
                }
                (true, _) => format!("{who} is blocked by {account} already."),
                (false, false) => format!("{who} is not blocked by {account}."),
            });
        }
        self.owe_block(&login.id, who, blocked, Some(room.clone()))?;
        if self.lives.get(&login.id).is_some_and(Live::caught_up) {
            return Ok(None);
        }
        let what = if blocked { "blocked" } else { "unblocked" };
        plain(format!("{account} is not connected just now: {who} will be {what} once it is."))
    }

    /// Can the account's server block, as far as it is known?
    pub(super) fn may_block(&self, login: &Login) -> Result<bool, StoreError> {
        let found = self.bridge.store.lists(&login.id)?.blocking;
        Ok(found.unwrap_or_else(|| self.bridge.profile(&login.network).is_some_and(|profile| profile.discovers)))
    }

    pub(super) fn owe_block(
        &mut self,
        login: &LoginId,
        who: &BareJid,
        blocked: bool,
        told_in: Option<OwnedRoomId>,
    ) -> Result<(), StoreError> {
        let effect = Effect::Block { contact: who.clone(), blocked, told_in };
        self.bridge.owe(Lane::Login(login.clone()), effect)?;
        Ok(())
    }

    fn list_blocked(&self, owner: &OwnedUserId) -> Result<Notice, StoreError> {
        use std::fmt::Write as _;
        let mut text = String::new();
        for login in self.logins_of(owner)? {
            let blocked = self.bridge.store.blocked(&login.id)?;
            let named: Vec<&str> = blocked.iter().take(SHOWN).map(BareJid::as_str).collect();
            let more = blocked.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let named = if named.is_empty() { "nobody".to_owned() } else { named.join(", ") };
            let _ = writeln!(text, "Blocked by {}: {named}{more}.", login.account);
        }
        text.push_str(
            "Use `block [login] <JID>` and `unblock [login] <JID>`, or `!msgr block` and `!msgr unblock` in a contact's room.",
        );
        Ok(Notice::plain(text))
    }

    // ---- on the stream

    /// The server was asked what it can do: if it keeps the list, that is fetched before anything else is said.
    pub(super) fn on_blocking_found(&mut self, login: &LoginId, answer: Option<&Element>) -> Result<(), StoreError> {
        let Some(answer) = answer else { return Ok(()) };
        let blocking = discovery::has_feature(answer, blocking::NS);
        let mut lists = self.bridge.store.lists(login)?;
        lists.blocking = Some(blocking);
        self.bridge.store.put_lists(login, &lists)?;
        if blocking { self.ask(login, Question::BlockList) } else { Ok(()) }
    }

    pub(super) fn on_block_list(&mut self, login: &LoginId, answer: Option<&Element>) -> Result<(), StoreError> {
        let Some(told) = answer.and_then(blocking::list) else {
            self.bridge.ignore("list of the blocked not fetched");
            return Ok(());
        };
        self.count_odd_blocks(told.other);
        let known = self.bridge.store.blocked(login)?;
        let new = told.whole.difference(&known).map(|who| (who.clone(), true));
        let gone = known.difference(&told.whole).map(|who| (who.clone(), false));
        let changes: Vec<(BareJid, bool)> = new.chain(gone).collect();
        let mut lists = self.bridge.store.lists(login)?;
        let first = !std::mem::replace(&mut lists.fetched, true);
        self.bridge.store.put_lists(login, &lists)?;
        self.take_blocks(login, &changes, first)?;
        self.show_all_blocks_in_matrix(login)
    }

    /// A change on any of the account's clients, this one too.
    pub(super) fn on_block_push(&mut self, login: &LoginId, push: Push) -> Result<(), StoreError> {
        let known = self.bridge.store.blocked(login)?;
        let (told, blocked) = match push {
            Push::Blocked(items) => (items, true),
            Push::Unblocked(items) => (items, false),
            Push::UnblockedAll => (blocking::Items { whole: known.clone(), other: 0 }, false),
        };
        self.count_odd_blocks(told.other);
        let changes = told.whole.into_iter().filter(|who| known.contains(who) != blocked);
        let changes: Vec<(BareJid, bool)> = changes.map(|who| (who, blocked)).collect();
        self.take_blocks(login, &changes, false)
    }

    fn count_odd_blocks(&mut self, count: usize) {
        for _ in 0..count {
            self.bridge.ignore("block of a single client, or of no address");
        }
    }

    /// Pays a debt to block someone, or not to, once its answer is there.
    pub(super) fn ask_to_block(&mut self, login: &LoginId, debt: &Debt) -> Result<(), StoreError> {
        let Effect::Block { contact, blocked, .. } = &debt.effect else { return Ok(()) };
        let is_it = |pending: &Pending| matches!(pending.question, Question::Block { debt: of, .. } if of == debt.id);
        if self.lives.get(login).is_some_and(|live| live.questions.values().any(is_it)) {
            return Ok(());
        }
        self.ask(login, Question::Block { contact: contact.clone(), blocked: *blocked, debt: debt.id })
    }

    /// The server has blocked someone, or not. `heard`: whatever it said.
    pub(super) fn on_block_answer(
        &mut self,
        login: &LoginId,
        (who, blocked): (&BareJid, bool),
        debt: DebtId,
        heard: Option<&Element>,
    ) -> Result<(), StoreError> {
        let lane = Lane::Login(login.clone());
        let (Some(row), Some(debt)) = (self.bridge.store.login(login)?, self.bridge.store.debt(&lane, debt)?) else {
            return Ok(());
        };
        let told_in = match &debt.effect {
            Effect::Block { told_in, .. } => told_in.clone(),
            _ => None,
        };
        self.settle(&debt)?;
        self.bridge.outbox.wake(&lane);
        let condition = match heard {
            Some(answer) if answer.attr("type") == Some("result") => {
                if self.bridge.store.is_blocked(login, who)? != blocked {
                    self.take_blocks(login, &[(who.clone(), blocked)], false)?;
                }
                let said_in = self.place_of_notice(&row, who)?;
                return match told_in.filter(|asked| said_in.as_ref() != Some(asked)) {
                    Some(room) => {
                        let text = blocking::notice(who, &row.account, blocked, false);
                        self.answer_in(&row.owner, Some(room), text)
                    }
                    None => Ok(()),
                };
            }
            Some(answer) => Some(failure::from_xmpp(&mut Stanza::read(answer)).condition),
            None => None,
        };
        let text = blocking::refused(who, &row.account, blocked, condition.as_deref());
        self.answer_in(&row.owner, told_in, text)
    }

    // ---- what it means

    /// These are blocked from now on, or no longer. `first`: that was so before there was a login, so it is no news.
    fn take_blocks(&mut self, login: &LoginId, changes: &[(BareJid, bool)], first: bool) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(()) };
        if changes.is_empty() {
            return Ok(());
        }
        let mut known = self.bridge.store.blocked(login)?.len();
        let mut told = 0;
        for (who, blocked) in changes {
            if *blocked && known >= MOST_BLOCKED {
                self.bridge.ignore("blocked address beyond the bound");
                continue;
            }
            known = if *blocked { known + 1 } else { known.saturating_sub(1) };
            self.bridge.store.put_blocked(login, who, *blocked)?;
            let contact = contact_of(login, who);
            if self.has_room_for_notice(&contact)? {
                let text = blocking::notice(who, &row.account, *blocked, true);
                self.owe_from_bot(&contact, failure::all_well(&text))?;
            } else if !first {
                told += 1;
                if told <= TOLD {
                    self.bridge.say(&row.owner, blocking::notice(who, &row.account, *blocked, false))?;
                }
            }
        }
        if told > TOLD {
            let text = format!("{} more changes of whom {} blocks. `block` lists them.", told - TOLD, row.account);
            self.bridge.say(&row.owner, text)?;
        }
        self.show_blocks_in_matrix(&row, changes)?;
        self.hide_blocked(login, changes)?;
        if changes.iter().any(|(_, blocked)| !blocked) {
            // Who was left out while the contacts got their rooms gets one now.
            self.queue_import(login)?;
            self.look_for_freed(login, changes)?;
        }
        Ok(())
    }

    /// Who is no longer blocked has been there all along, maybe: servers gather presence at sign-in alone.
    fn look_for_freed(&mut self, login: &LoginId, changes: &[(BareJid, bool)]) -> Result<(), StoreError> {
        if !self.lives.get(login).is_some_and(Live::caught_up) {
            return Ok(());
        }
        let freed: BTreeSet<&BareJid> = changes.iter().filter(|(_, blocked)| !blocked).map(|(who, _)| who).collect();
        let mut asked = 0;
        for (who, row) in self.bridge.store.contacts(login)? {
            let was_blocked = freed.iter().any(|freed| blocking::reaches(freed, &who));
            if row.sees && was_blocked && asked < PROBES && !self.is_blocked(&contact_of(login, &who))? {
                asked += 1;
                self.send(login, presence::probe(&who));
            }
        }
        Ok(())
    }

    /// The contact's room is where it is said; where the owner does not see that, the management room is.
    fn has_room_for_notice(&self, contact: &ContactKey) -> Result<bool, StoreError> {
        Ok(self.bridge.store.portal(contact)?.is_some_and(|portal| portal.owner != Membership::Left))
    }

    fn place_of_notice(&self, login: &Login, who: &BareJid) -> Result<Option<OwnedRoomId>, StoreError> {
        let contact = contact_of(&login.id, who);
        if self.has_room_for_notice(&contact)? {
            return Ok(self.bridge.store.portal(&contact)?.and_then(|portal| portal.room));
        }
        Ok(self.bridge.store.management(&login.owner)?.room)
    }

    /// Nothing more is heard of who is blocked: they are shown as not there, until they are heard of again.
    fn hide_blocked(&mut self, login: &LoginId, changes: &[(BareJid, bool)]) -> Result<(), StoreError> {
        let blocked: BTreeSet<&BareJid> = changes.iter().filter(|(_, blocked)| *blocked).map(|(who, _)| who).collect();
        let reached = |who: &BareJid| blocked.iter().any(|blocked| blocking::reaches(blocked, who));
        if blocked.is_empty() {
            return Ok(());
        }
        if let Some(live) = self.lives.get_mut(login) {
            live.markable.retain(|who, _| !reached(who));
        }
        for (who, row) in self.bridge.store.present(login)? {
            if !reached(&who) {
                continue;
            }
            let contact = contact_of(login, &who);
            self.bridge.store.put_resources(&contact, &Resources { list: Vec::new(), ..row })?;
            self.show_contact_presence(&contact)?;
            self.stop_typing(&contact)?;
        }
        Ok(())
    }
}

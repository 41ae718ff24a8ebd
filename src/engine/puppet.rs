//! Double puppeting: what the account says on other devices comes from its owner's own user. Where the homeserver does not let
//! us it comes from the account's ghost, and nothing is lost.
//!
//! What we say in a person's name comes back in transactions as theirs, and must not be said to the contact again. It is known
//! by a proof that only we can make ([`Bridge::puppet_mark`]): of the room and of the time that we gave the event, which no
//! client of the person can give one. So a copy of it (forwarded, edited, quoted) is what it is: the person's own.
//!
//! [`Bridge::puppet_mark`]: crate::bridge::Bridge::puppet_mark

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::{Map, Value, json};

use super::Engine;
use crate::{
    bridge::{ghost::contact_of, meter::Fate},
    domain::{
        DebtId, LoginId, Timestamp,
        effect::{About, ContactKey, Debt, Effect, Lane, MatrixEvent, Relation, Sender},
        input::{Cause, Receipt, RoomEvent},
    },
    store::{
        StoreError,
        portal::{Membership, Room},
    },
    translate::{bridge_info, stable_id},
};

/// What the homeserver says of a token, or of a person, and not of what was to be done.
const NOT_AS: [&str; 7] = [
    "M_UNKNOWN_TOKEN",
    "M_MISSING_TOKEN",
    "M_EXCLUSIVE",
    "M_USER_DEACTIVATED",
    "M_USER_LOCKED",
    "M_USER_SUSPENDED",
    "M_CONSENT_NOT_GIVEN",
];

#[derive(serde::Deserialize)]
struct Marks {
    #[serde(rename = "org.messenger_bridge.debt")]
    debt: Option<String>,
    #[serde(rename = "org.messenger_bridge.puppet")]
    puppet: Option<String>,
}

impl Engine {
    // ---- what is said in the owner's name

    /// Who a sender is on the homeserver.
    pub(super) fn user_of(&self, portal: &ContactKey, sender: &Sender) -> Result<Option<OwnedUserId>, StoreError> {
        let who = match sender {
            Sender::Bot => return Ok(Some(self.bridge.homeserver.bot.clone())),
            Sender::Ghost(who) => who.clone(),
            Sender::Owner => match self.bridge.store.login(&portal.login)? {
                Some(login) if self.bridge.puppeted(&login.owner) => return Ok(Some(login.owner)),
                Some(login) => login.account,
                None => return Ok(None),
            },
        };
        Ok(self.bridge.ghost(&contact_of(&portal.login, &who)))
    }

    /// Who edits: only who sent an event can change it, and what the owner sees as theirs may have come from the account's ghost.
    pub(super) fn editor(
        &self,
        portal: &ContactKey,
        sender: &Sender,
        about: &About,
        target: Option<&OwnedEventId>,
    ) -> Result<Sender, StoreError> {
        let owners = *sender != Sender::Owner
            || about.relation != Relation::Replace
            || target.is_none()
            || about.name.starts_with("o:")
            || self.bridge.store.is_seen(portal, &stable_id::by_owner(&about.name))?;
        match self.bridge.store.login(&portal.login)? {
            Some(login) if !owners => Ok(Sender::Ghost(login.account)),
            _ => Ok(sender.clone()),
        }
    }

    /// Content with the proof that it is ours.
    pub(super) fn proven(&self, content: &str, room: &RoomId, user: &UserId, at: Timestamp, debt: DebtId) -> String {
        match serde_json::from_str::<Map<String, Value>>(content) {
            Ok(mut content) => {
                let mark = self.bridge.puppet_mark(room, user, at, &self.bridge.wire_id(debt));
                content.insert(bridge_info::PUPPET.to_owned(), json!(mark));
                Value::Object(content).to_string()
            }
            Err(_) => content.to_owned(),
        }
    }

    /// An event was sent in the owner's name: when it comes back it is known, and what is said about it is the owner's to say.
    pub(super) fn owner_spoke(
        &mut self,
        portal: &ContactKey,
        event: &OwnedEventId,
        binds: &[String],
    ) -> Result<(), StoreError> {
        self.bridge.store.bind(portal, &stable_id::handled(event), Some(event))?;
        for name in binds.iter().filter(|name| name.starts_with("d:")) {
            self.bridge.store.bind(portal, &stable_id::by_owner(name), None)?;
        }
        Ok(())
    }

    /// Something in a person's name comes in a transaction, or was found in its room. `true`: we have said it ourselves.
    pub(super) fn on_puppet_event(&mut self, event: &RoomEvent) -> Result<bool, StoreError> {
        if event.state_key.is_some() {
            return Ok(false);
        }
        let Ok(Marks { debt: Some(mark), puppet }) = serde_json::from_str(event.content.get()) else {
            return Ok(false);
        };
        let Some(id) = self.bridge.debt_of_wire_id(&mark) else { return Ok(false) };
        let Some(Room::Portal(portal)) = self.bridge.store.room(&event.room)? else { return Ok(false) };
        if self.owner_of(&portal.login)?.as_ref() != Some(&event.sender) {
            return Ok(false);
        }
        let lane = Lane::ToMatrix(portal.clone());
        let owed = self.bridge.store.debt(&lane, id)?.filter(|debt| says_as_owner(&debt.effect));
        let proof = self.bridge.puppet_mark(&event.room, &event.sender, event.at, &mark);
        if puppet.as_ref() == Some(&proof) {
            self.bridge.puppets.keeps_times = true;
        } else if self.bridge.puppets.keeps_times || !self.is_in_hand(&lane, owed.as_ref(), event, puppet.as_deref()) {
            self.bridge.ignore("copy of what was said in a person's name");
            return Ok(false);
        }
        match owed {
            // Our own request's answer was lost, or comes later.
            Some(debt) => self.paid(&debt, Receipt::Event(event.id.clone()))?,
            None if self.bridge.store.stanza_of(&portal, &event.id)?.is_none() => {
                self.bridge.store.bind(&portal, &stable_id::handled(&event.id), Some(&event.id))?;
            }
            None => {}
        }
        Ok(true)
    }

    /// Have we said this in its sender's name? Not all of ours can be known without its debt; where the homeserver gives times
    /// of its own it is known once it was bound.
    pub(super) fn is_puppet_event(&self, event: &RoomEvent) -> Result<bool, StoreError> {
        let Ok(Marks { debt: Some(mark), puppet: Some(puppet) }) = serde_json::from_str(event.content.get()) else {
            return Ok(false);
        };
        let proof = self.bridge.puppet_mark(&event.room, &event.sender, event.at, &mark);
        Ok(puppet == proof
            || match self.bridge.store.room(&event.room)? {
                Some(Room::Portal(portal)) => self.bridge.store.stanza_of(&portal, &event.id)?.is_some(),
                _ => false,
            })
    }

    /// On a homeserver that gives events its own times: is this what we are just sending? Its mark was made for another time
    /// then, but for this debt.
    fn is_in_hand(&self, lane: &Lane, owed: Option<&Debt>, event: &RoomEvent, puppet: Option<&str>) -> bool {
        let Some(debt) = owed else { return false };
        let at = match &debt.effect {
            Effect::SendEvent { at, .. } | Effect::SendAbout { at, .. } => at.unwrap_or(debt.made).max(Timestamp(0)),
            _ => return false,
        };
        let proof = self.bridge.puppet_mark(&event.room, &event.sender, at, &self.bridge.wire_id(debt.id));
        let tried = self.bridge.outbox.handed_out(lane) == Some(debt.id) || self.bridge.outbox.may_be_paid(lane);
        tried && puppet == Some(proof.as_str())
    }

    // ---- where the homeserver does not let us

    /// Is this to be said by an owner whom we may not act for any more?
    pub(super) fn owner_is_mute(&self, debt: &Debt) -> Result<bool, StoreError> {
        let Lane::ToMatrix(portal) = &debt.lane else { return Ok(false) };
        let there = || Ok(self.bridge.store.portal(portal)?.is_some_and(|row| row.room.is_some()));
        Ok(says_as_owner(&debt.effect) && !self.bridge.puppets_owner(portal)? && there()?)
    }

    /// The account's ghost says it in the owner's place; if it is not in the room it joins first, and the debt waits for that.
    pub(super) fn fall_back(&mut self, mut debt: Debt) -> Result<Debt, StoreError> {
        let Lane::ToMatrix(portal) = debt.lane.clone() else { return Ok(debt) };
        let (Some(login), Some(mut row)) =
            (self.bridge.store.login(&portal.login)?, self.bridge.store.portal(&portal)?)
        else {
            return Ok(debt);
        };
        debt.after = None;
        if let Effect::RedactNamed { sender, .. } = &mut debt.effect {
            // What the ghost did not say it cannot take back; the bot can.
            *sender = Sender::Bot;
            self.bridge.store.put_debt(&debt)?;
            self.bridge.outbox.take_back(&debt.lane);
            return Ok(debt);
        }
        let account = login.account;
        debt.effect = as_ghost(debt.effect, &Sender::Ghost(account.clone()));
        if let (false, Some(room)) = (row.ghosts.contains(&account), row.room.clone()) {
            let key = contact_of(&portal.login, &account);
            let registration = self.bridge.ensure_ghost(&key)?;
            if let Some(user) = self.bridge.ghost(&key) {
                let lane = Lane::Management(login.owner);
                let invite = Effect::InviteTo { room: room.clone(), user: user.clone() };
                self.bridge.owe_after(lane.clone(), invite, registration)?;
                debt.after = Some(self.bridge.owe(lane, Effect::JoinAs { room, user })?);
            }
            row.ghosts.push(account);
            self.bridge.store.put_portal(&portal, &row)?;
        }
        self.bridge.store.put_debt(&debt)?;
        self.bridge.outbox.take_back(&debt.lane);
        Ok(debt)
    }

    /// The homeserver has refused something in a person's name for good. `true`: that is dealt with.
    pub(super) fn owner_refused(&mut self, debt: &Debt, cause: &Cause) -> Result<bool, StoreError> {
        let (login, portal) = match &debt.lane {
            Lane::ToMatrix(portal) => (&portal.login, Some(portal.clone())),
            Lane::Space(login) => (login, None),
            Lane::Person(owner) => {
                if NOT_AS.contains(&cause.code.as_str()) {
                    self.bridge.puppet_refused(owner);
                }
                self.bridge.ignore("account data not set");
                self.settle(debt)?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        let joins = matches!(debt.effect, Effect::JoinOwner);
        let speaks = says_as_owner(&debt.effect);
        if !joins && !speaks && !matches!(debt.effect, Effect::ReadByOwner { .. }) {
            return Ok(false);
        }
        if let Some(owner) = self.owner_of(login)?
            && NOT_AS.contains(&cause.code.as_str())
        {
            self.bridge.puppet_refused(&owner);
        }
        // The same reaction twice is one.
        if speaks && cause.code != "M_DUPLICATE_ANNOTATION" {
            self.bridge.ignore("owner's ghost speaks for them");
            self.fall_back(debt.clone())?;
            return Ok(true);
        }
        if let (true, Some(portal)) = (joins, &portal) {
            self.bridge.owner_join_tried(portal);
        }
        self.bridge.ignore("request in a person's name refused");
        self.settle_as(debt, Fate::Refused)?;
        Ok(true)
    }

    // ---- rooms

    /// Is the owner owed to join the portal?
    pub(super) fn owes_join(&self, portal: &ContactKey) -> Result<bool, StoreError> {
        let owed = self.bridge.store.debts_of(&Lane::ToMatrix(portal.clone()))?;
        Ok(owed.iter().any(|debt| matches!(debt.effect, Effect::JoinOwner)))
    }

    /// The owner has joined their portal by themselves.
    pub(super) fn owner_has_joined(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        self.bridge.owner_join_tried(portal);
        let Some(mut row) = self.bridge.store.portal(portal)? else { return Ok(()) };
        row.owner = Membership::Joined;
        self.bridge.store.put_portal(portal, &row)?;
        match (self.owner_of(&portal.login)?, row.room) {
            (Some(owner), Some(room)) => self.direct(&owner, portal, &room, true),
            _ => Ok(()),
        }
    }

    /// A portal's room is a direct chat with the contact's ghost to its owner's clients, or no longer.
    pub(super) fn direct(
        &mut self,
        owner: &UserId,
        portal: &ContactKey,
        room: &OwnedRoomId,
        listed: bool,
    ) -> Result<(), StoreError> {
        let Some(ghost) = self.bridge.ghost(portal) else { return Ok(()) };
        self.bridge.owe_person(owner, Effect::ListDirect { room: room.clone(), ghost, listed })
    }

    /// The contacts' rooms whose invitation waits are joined: double puppeting may be newer than they are.
    pub(super) fn join_rooms(&mut self, login: &LoginId) -> Result<(), StoreError> {
        if !self.owner_of(login)?.is_some_and(|owner| self.bridge.puppeted(&owner)) {
            return Ok(());
        }
        self.join_space(login)?;
        for (contact, row) in self.bridge.store.portals(login)? {
            let portal = contact_of(login, &contact);
            if row.owner == Membership::Invited && self.bridge.contact(&portal)?.on_roster {
                self.bridge.join_owner(&portal)?;
            }
        }
        Ok(())
    }

    // ---- what was taken back

    /// What has this name was taken back on another device of the account. Its redaction in the owner's name comes back as
    /// theirs, and must not be told to the contact, who knows it already.
    pub(super) fn note_taken_back(&mut self, portal: &ContactKey, name: &str) -> Result<(), StoreError> {
        let event = self.bridge.store.event_of(portal, name)?;
        for what in [Some(name), event.as_ref().map(|event| event.as_str())].into_iter().flatten() {
            self.bridge.store.bind(portal, &stable_id::taken_back(what), None)?;
        }
        Ok(())
    }

    pub(super) fn is_taken_back(
        &self,
        portal: &ContactKey,
        event: &OwnedEventId,
        name: &str,
    ) -> Result<bool, StoreError> {
        Ok(self.bridge.store.is_seen(portal, &stable_id::taken_back(name))?
            || self.bridge.store.is_seen(portal, &stable_id::taken_back(event.as_str()))?)
    }
}

/// Is it said by the owner?
fn says_as_owner(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::SendEvent { sender: Sender::Owner, .. }
            | Effect::SendAbout { sender: Sender::Owner, .. }
            | Effect::RedactNamed { sender: Sender::Owner, .. }
    )
}

/// The same said by the account's ghost. What it cannot change, for the owner said it, it says anew.
fn as_ghost(effect: Effect, ghost: &Sender) -> Effect {
    match effect {
        Effect::SendEvent { event, at, binds, .. } => Effect::SendEvent { sender: ghost.clone(), event, at, binds },
        Effect::SendAbout { event, about: About { relation: Relation::Replace, .. }, at, binds, .. } => {
            Effect::SendEvent { sender: ghost.clone(), event: anew(event), at, binds }
        }
        Effect::SendAbout { event, about, at, binds, .. } => {
            Effect::SendAbout { sender: ghost.clone(), event, about, at, binds }
        }
        other => other,
    }
}

fn anew(event: MatrixEvent) -> MatrixEvent {
    let Ok(mut content) = serde_json::from_str::<Map<String, Value>>(&event.content) else { return event };
    for key in ["body", "formatted_body"] {
        if let Some(Value::String(text)) = content.get_mut(key) {
            text.insert_str(0, "* ");
        }
    }
    MatrixEvent { content: Value::Object(content).to_string(), ..event }
}

/// The keys are spelled once more in a derive above; this holds them together.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_have_one_name() {
        let json = json!({ bridge_info::DEBT: "d", bridge_info::PUPPET: "p" }).to_string();
        let Marks { debt, puppet } = serde_json::from_str(&json).unwrap();
        assert_eq!((debt.as_deref(), puppet.as_deref()), (Some("d"), Some("p")));
    }

    #[test]
    fn what_the_ghost_cannot_change_it_says_anew() {
        let event = MatrixEvent {
            kind: "m.room.message".to_owned(),
            content: json!({ "msgtype": "m.text", "body": "two", "formatted_body": "<b>two</b>" }).to_string(),
        };
        let about = About { name: "o:1".to_owned(), relation: Relation::Replace };
        let edit = Effect::SendAbout { sender: Sender::Owner, event, about, at: None, binds: vec!["d:2".to_owned()] };
        let Effect::SendEvent { sender: Sender::Bot, event, binds, .. } = as_ghost(edit, &Sender::Bot) else {
            panic!()
        };
        let content: Value = serde_json::from_str(&event.content).unwrap();
        assert_eq!((&content["body"], &content["formatted_body"]), (&json!("* two"), &json!("* <b>two</b>")));
        assert_eq!(binds, ["d:2"]);
    }
}

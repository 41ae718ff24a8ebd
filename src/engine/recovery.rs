//! Rebuilding a lost store from the rooms that the bot is in: logins, portals, ghosts and management rooms.
//!
//! Only what the bot itself has set counts: anybody can invite it into a room with state that looks the same. What was said
//! lately in a recovered room is kept for a while, so that an archive does not show it a second time. Not recovered, for
//! the homeserver does not have it: credentials, debts that were not paid, and which event stands for which stanza.

use std::collections::{BTreeMap, btree_map::Entry};

use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde::Deserialize;

use super::{Engine, session::CLOCKS_DIFFER};
use crate::{
    bridge::{Bridge, Homeserver, Permission, Settings, ghost::contact_of},
    domain::{
        BareJid, LoginId, Now, Timestamp, address::parse_ghost_localpart, capability::Archive, effect::ContactKey,
        input::RoomEvent, survey::SurveyedRoom,
    },
    store::{
        Store, StoreError,
        contact::GhostState,
        login::Login,
        look::Look,
        portal::{History, Membership, Portal, Room, Said, Source},
        recovered::Recovered,
        space::Space,
    },
    translate::{
        bridge_info::{self, BridgeState},
        message, room_look, space, stable_id,
    },
};

/// What is recovered of the rooms, gathered room by room and written at once.
pub struct Recovery {
    homeserver: Homeserver,
    settings: Settings,
    portals: BTreeMap<ContactKey, FoundPortal>,
    management: BTreeMap<OwnedUserId, Vec<(Timestamp, OwnedRoomId)>>,
    spaces: BTreeMap<LoginId, Space>,
    report: Report,
}

struct FoundPortal {
    room: OwnedRoomId,
    bridged: BridgeState,
    owner: Membership,
    ghosts: Vec<BareJid>,
    name: Option<String>,
    look: Look,
    /// The latest time at which the bridge was at work in the room.
    until: Timestamp,
    said: Vec<Said>,
}

/// What was recovered, and what was left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Portals that the store knows now and did not know before, by login: owner, network, account, how many.
    pub logins: Vec<(OwnedUserId, String, BareJid, usize)>,
    /// Portals that the store knew already.
    pub known: usize,
    /// Management rooms.
    pub management: usize,
    /// Rooms left alone because the store, or another room, has their contact's portal already.
    pub doubles: Vec<OwnedRoomId>,
    /// Portals' rooms that their ghost has left, as at a sign-out.
    pub abandoned: usize,
    /// Rooms that are neither portals nor management rooms.
    pub foreign: usize,
    /// Networks that recovered logins are on and that are not configured.
    pub unknown_networks: Vec<String>,
}

/// The membership of everyone in the room, from its state.
struct Members<'a>(Vec<(&'a str, &'a str, Timestamp)>);

impl<'a> Members<'a> {
    fn read(state: &'a [RoomEvent]) -> Self {
        #[derive(Deserialize)]
        struct Member<'a> {
            #[serde(borrow)]
            membership: &'a str,
        }
        let members = state.iter().filter(|event| event.kind == "m.room.member");
        Self(
            members
                .filter_map(|event| {
                    let member: Member<'a> = serde_json::from_str(event.content.get()).ok()?;
                    Some((event.state_key.as_deref()?, member.membership, event.at))
                })
                .collect(),
        )
    }

    fn of(&self, user: &UserId) -> Option<&'a str> {
        self.0.iter().find(|(who, _, _)| *who == user.as_str()).map(|(_, membership, _)| *membership)
    }

    fn joined(&self) -> impl Iterator<Item = (&'a str, Timestamp)> {
        self.0.iter().filter(|(_, membership, _)| *membership == "join").map(|(who, _, at)| (*who, *at))
    }
}

impl Recovery {
    /// Nothing found yet.
    pub fn new(homeserver: Homeserver, settings: Settings) -> Self {
        Self {
            homeserver,
            settings,
            portals: BTreeMap::new(),
            management: BTreeMap::new(),
            spaces: BTreeMap::new(),
            report: Report::default(),
        }
    }

    /// Another for the same homeserver with nothing found, to judge rooms while this one takes them in.
    #[must_use]
    pub fn beginning(&self) -> Self {
        Self::new(self.homeserver.clone(), self.settings.clone())
    }

    /// Is this the state of a portal's room, whose latest messages matter?
    pub fn is_portal(&self, state: &[RoomEvent]) -> bool {
        self.bridged(state).is_some()
    }

    /// Is this room one that would be recovered?
    pub fn is_ours(&self, state: &[RoomEvent]) -> bool {
        self.is_portal(state) || self.space_of(state).is_some() || self.person_alone_with_bot(state).is_some()
    }

    /// The login whose space the room is.
    fn space_of(&self, state: &[RoomEvent]) -> Option<LoginId> {
        state
            .iter()
            .filter(|event| event.kind == space::MARK && event.sender == self.homeserver.bot)
            .find_map(|event| space::login_of(&event.content))
    }

    fn bridged<'a>(&self, state: &'a [RoomEvent]) -> Option<(BridgeState, &'a RoomEvent)> {
        state
            .iter()
            .filter(|event| event.kind == "m.bridge" && event.sender == self.homeserver.bot)
            .find_map(|event| Some((bridge_info::read(&event.content)?, event)))
    }

    /// Whose management room it is, and since when the bot is in it.
    fn person_alone_with_bot(&self, state: &[RoomEvent]) -> Option<(OwnedUserId, Timestamp)> {
        let members = Members::read(state);
        let mut joined = members.joined();
        let (one, other) = (joined.next()?, joined.next()?);
        if joined.next().is_some() {
            return None;
        }
        let bot = self.homeserver.bot.as_str();
        let (person, since) = match (one, other) {
            ((person, _), (ours, since)) | ((ours, since), (person, _)) if ours == bot => (person, since),
            _ => return None,
        };
        let person = UserId::parse(person).ok()?;
        let ghost = parse_ghost_localpart(person.localpart()).is_some() && person.server_name() == self.homeserver.name;
        (!ghost && self.settings.permission(&person) >= Permission::User).then_some((person, since))
    }

    /// Takes in a room.
    pub fn take(&mut self, surveyed: SurveyedRoom) {
        let SurveyedRoom { room, state, said } = surveyed;
        if let Some(login) = self.space_of(&state) {
            // Nobody but the bot and the owner is ever in it.
            let members = Members::read(&state);
            let person = members.0.iter().find(|(who, _, _)| *who != self.homeserver.bot.as_str());
            let owner = person.map_or(Membership::Left, |(_, membership, _)| membership_of(Some(membership)));
            self.spaces.entry(login).or_insert(Space { room: Some(room), creating: None, owner });
            return;
        }
        let Some((bridged, told)) = self.bridged(&state) else {
            match self.person_alone_with_bot(&state) {
                Some((person, since)) => self.management.entry(person).or_default().push((since, room)),
                None => self.report.foreign += 1,
            }
            return;
        };
        let members = Members::read(&state);
        let contact = bridged.portal.contact.clone();
        let user = |who: &BareJid| self.ghost(&bridged.portal.login, who);
        let membership = user(&contact).and_then(|ghost| members.of(&ghost));
        if !matches!(membership, Some("join" | "invite")) {
            self.report.abandoned += 1;
            return;
        }
        let account = bridged.account.clone();
        let ghosts: Vec<BareJid> = [contact.clone(), account.clone()]
            .into_iter()
            .filter(|who| user(who).and_then(|ghost| members.of(&ghost)) == Some("join"))
            .collect();
        let owner = membership_of(members.of(&bridged.owner));
        let (ghost, own_ghost) = (user(&contact), user(&account));
        let mut until = told.at;
        let mut heard = Vec::new();
        for event in &said {
            let (own, from) = match &event.sender {
                sender if Some(sender) == ghost.as_ref() => (false, Source::Live),
                sender if Some(sender) == own_ghost.as_ref() => (true, Source::Live),
                sender if *sender == bridged.owner => (true, Source::Matrix),
                _ => continue,
            };
            if from == Source::Live {
                until = until.max(event.at);
            }
            let texts = texts_of(event, from);
            heard.extend(texts.map(|text| Said { own, text: stable_id::text_hash(&text), at: event.at, from }));
        }
        let found = FoundPortal {
            name: self.room_name(&state),
            look: self.look(&state),
            room,
            owner,
            ghosts,
            until,
            said: heard,
            bridged: bridged.clone(),
        };
        match self.portals.entry(bridged.portal) {
            Entry::Vacant(place) => {
                place.insert(found);
            }
            Entry::Occupied(mut place) => {
                // The one in which the person is, and where something was said last.
                let rank = |portal: &FoundPortal| {
                    let there = match portal.owner {
                        Membership::Joined => 2,
                        Membership::Invited => 1,
                        Membership::Left => 0,
                    };
                    (there, portal.until, portal.room.clone())
                };
                let other = if rank(&found) > rank(place.get()) { place.insert(found) } else { found };
                self.report.doubles.push(other.room);
            }
        }
    }

    fn ghost(&self, login: &LoginId, who: &BareJid) -> Option<OwnedUserId> {
        crate::bridge::ghost::ghost_user(&contact_of(login, who), &self.homeserver.name)
    }

    /// The room's name where the bridge set it; one that a person gave it stays theirs.
    fn room_name(&self, state: &[RoomEvent]) -> Option<String> {
        #[derive(Deserialize)]
        struct Name {
            name: String,
        }
        let event = state.iter().find(|event| event.kind == "m.room.name" && event.sender == self.homeserver.bot)?;
        serde_json::from_str(event.content.get()).ok().map(|Name { name }| name)
    }

    /// What of the room's look people have made their own.
    fn look(&self, state: &[RoomEvent]) -> Look {
        let mut look = Look::default();
        for event in state.iter().filter(|event| event.sender != self.homeserver.bot) {
            if let Some(decided) = room_look::from_matrix(&event.kind, &event.content) {
                room_look::decide(&mut look, &event.kind, decided);
            }
        }
        look
    }

    /// Writes what was found into the store, as one batch. What the store knows already is not changed, so that doing it
    /// again changes nothing.
    pub fn finish(self, store: Store, now: Now) -> Result<Report, StoreError> {
        let Self { homeserver, settings, portals, management, spaces, mut report } = self;
        let mut bridge = Bridge::new(store, settings, homeserver)?;
        bridge.now = now;
        for (person, rooms) in &management {
            report.management += recover_management(&mut bridge, person, rooms)?;
        }
        // The bridge was at work for all rooms of a login at once.
        let mut until: BTreeMap<LoginId, Timestamp> = BTreeMap::new();
        for portal in portals.values() {
            let latest = until.entry(portal.bridged.portal.login.clone()).or_insert(portal.until);
            *latest = portal.until.max(*latest).min(now.wall);
        }
        let mut counts: BTreeMap<LoginId, (BridgeState, usize)> = BTreeMap::new();
        for (key, portal) in portals {
            let until = until.get(&key.login).copied().unwrap_or(now.wall);
            let bridged = portal.bridged.clone();
            recover_login(&mut bridge, &bridged, until)?;
            match recover_portal(&mut bridge, &key, portal, until)? {
                Kept::New => counts.entry(key.login).or_insert((bridged, 0)).1 += 1,
                Kept::Known => report.known += 1,
                Kept::Double(room) => report.doubles.push(room),
            }
        }
        for (login, space) in spaces {
            recover_space(&mut bridge, &login, &space, &mut report)?;
        }
        for (state, count) in counts.into_values() {
            if !bridge.settings.networks.contains_key(&state.network)
                && !report.unknown_networks.contains(&state.network)
            {
                report.unknown_networks.push(state.network.clone());
            }
            report.logins.push((state.owner, state.network, state.account, count));
        }
        bridge.store.note_recovery(now.wall)?;
        bridge.store.commit()?;
        Ok(report)
    }
}

/// The texts that a message of the room would have as stanzas, without the mark of an action.
fn texts_of(event: &RoomEvent, from: Source) -> impl Iterator<Item = String> {
    let message = message::from_matrix(&event.content).ok();
    let texts = match message {
        None => Vec::new(),
        Some(message) if from == Source::Matrix => {
            let bodies = message::to_bodies(&message, usize::MAX);
            bodies.into_iter().map(|body| body.strip_prefix("/me ").map_or(body.clone(), str::to_owned)).collect()
        }
        Some(message) => vec![message.text],
    };
    texts.into_iter()
}

fn membership_of(membership: Option<&str>) -> Membership {
    match membership {
        Some("join") => Membership::Joined,
        Some("invite") => Membership::Invited,
        _ => Membership::Left,
    }
}

enum Kept {
    New,
    Known,
    Double(OwnedRoomId),
}

fn recover_management(
    bridge: &mut Bridge,
    person: &OwnedUserId,
    rooms: &[(Timestamp, OwnedRoomId)],
) -> Result<usize, StoreError> {
    let mut new = 0;
    for (_, room) in rooms {
        if bridge.store.room(room)?.is_none() {
            bridge.store.put_room(room, &Room::Management(person.clone()))?;
            new += 1;
        }
    }
    let mut row = bridge.store.management(person)?;
    if row.room.is_none()
        && let Some((_, newest)) = rooms.iter().max()
    {
        row.room = Some(newest.clone());
        row.notices.clear();
        bridge.store.put_management(person, &row)?;
    }
    Ok(new)
}

/// The space of a login that is there again; its rooms are put into it anew, which changes nothing where they are.
fn recover_space(bridge: &mut Bridge, login: &LoginId, space: &Space, report: &mut Report) -> Result<(), StoreError> {
    let Some(room) = space.room.clone() else { return Ok(()) };
    let known = bridge.store.space(login)?.and_then(|space| space.room);
    match (bridge.store.login(login)?, known) {
        (None, _) => report.foreign += 1,
        (Some(_), Some(known)) if known == room => {}
        (Some(_), Some(_)) => report.doubles.push(room),
        (Some(_), None) => {
            bridge.store.put_room(&room, &Room::Space(login.clone()))?;
            bridge.store.put_space(login, space)?;
        }
    }
    Ok(())
}

/// The login, signed out: its owner is told to sign in again, which finds it by the same id.
fn recover_login(bridge: &mut Bridge, state: &BridgeState, until: Timestamp) -> Result<(), StoreError> {
    let id = &state.portal.login;
    if bridge.store.login(id)?.is_some() {
        return Ok(());
    }
    let login = Login {
        id: id.clone(),
        owner: state.owner.clone(),
        network: state.network.clone(),
        account: state.account.clone(),
        // A sign-in takes one of its own.
        resource: String::new(),
        // From here its archive is read: what came before is in the rooms.
        made: until,
        suspended: Some("the bridge has lost what it knew and found your chats again".to_owned()),
        archive_after: None,
        roster_version: None,
        own_name: None,
    };
    bridge.store.put_login(&login)?;
    bridge.say(
        &state.owner,
        format!(
            "{} is signed out: the bridge has lost what it knew, your password or token too, and found your chats again. Please sign in again with `{}`; what you write meanwhile waits.",
            state.account,
            bridge.sign_in_command(&state.network, &state.account),
        ),
    )
}

fn recover_portal(
    bridge: &mut Bridge,
    key: &ContactKey,
    found: FoundPortal,
    until: Timestamp,
) -> Result<Kept, StoreError> {
    let known = bridge.store.portal(key)?;
    if known.as_ref().and_then(|row| row.room.as_ref()).is_some_and(|room| *room != found.room) {
        return Ok(Kept::Double(found.room));
    }
    let has_room = known.as_ref().is_some_and(|row| row.room.is_some());
    let wants_history = known.as_ref().is_some_and(|row| row.history == History::Wanted);
    if !(has_room && wants_history) {
        // What was said long before is told by its time alone.
        let said = found.said.into_iter().filter(|said| said.at.since(until) >= -2 * CLOCKS_DIFFER).collect();
        bridge.store.put_recovered(key, &Recovered { until, said })?;
    }
    if has_room {
        return Ok(Kept::Known);
    }
    for ghost in &found.ghosts {
        let contact = contact_of(&key.login, ghost);
        let mut row = bridge.contact(&contact)?;
        if row.ghost == GhostState::None {
            row.ghost = GhostState::Registered;
            bridge.store.put_contact(&contact, &row)?;
        }
    }
    let portal = Portal {
        room: Some(found.room.clone()),
        // A room that is owed is owed no more.
        creating: None,
        history: History::Done,
        owner: found.owner,
        ghosts: found.ghosts,
        name: found.name,
        recent: Vec::new(),
    };
    bridge.store.put_look(key, &found.look)?;
    bridge.store.put_portal(key, &portal)?;
    bridge.store.put_room(&found.room, &Room::Portal(key.clone()))?;
    Ok(Kept::New)
}

impl Engine {
    /// Did this message, which an archive or the server's own store gives, stand in its room before the room was recovered?
    pub(super) fn was_in_recovered_room(
        &mut self,
        contact: &ContactKey,
        own: bool,
        text: &str,
        at: Timestamp,
        source: Source,
    ) -> Result<bool, StoreError> {
        if !matches!(source, Source::Archive | Source::Offline) {
            return Ok(false);
        }
        let Some(mut row) = self.bridge.store.recovered(contact)? else { return Ok(false) };
        if source == Source::Archive && at.since(row.until) < -CLOCKS_DIFFER {
            return Ok(true);
        }
        let text = stable_id::text_hash(text);
        let apart = |said: &Said| said.at.since(at).abs();
        let same = |said: &Said| said.own == own && said.text == text && apart(said) <= CLOCKS_DIFFER;
        let places = (0..row.said.len()).filter(|place| same(&row.said[*place]));
        let Some(place) = places.min_by_key(|place| apart(&row.said[*place])) else { return Ok(false) };
        row.said.remove(place);
        self.bridge.store.put_recovered(contact, &row)?;
        Ok(true)
    }

    /// The login has caught up. An archive without ids is still asked room by room.
    pub(super) fn forget_recovered(&mut self, login: &LoginId) -> Result<(), StoreError> {
        if self.bridge.archive(login)? == Archive::Recent {
            return Ok(());
        }
        self.bridge.store.erase_all_recovered(login)
    }
}

//! What an administrator says to everybody: a notice in each person's management room, at a pace, and on after a restart.

use ruma::OwnedUserId;

use super::{Engine, Timer, admin::many};
use crate::{
    bridge::{Permission, outbox::Kind},
    domain::effect::Notice,
    store::{StoreError, broadcast::Broadcast},
};

/// Milliseconds from one person to the next.
const PAUSE: u64 = 200;
/// Characters of a broadcast at most.
const LONGEST: usize = 2_000;
/// People whom one broadcast reaches at most.
pub const MOST_PEOPLE: u32 = 10_000;
/// So much may wait to be said by the bot; until there is less, a broadcast rests.
const BACKLOG: usize = 200;
/// People that are read at once.
const PAGE: usize = 256;

impl Engine {
    /// Begins one. Gives what to answer.
    pub(super) fn broadcast(
        &mut self,
        admin: &OwnedUserId,
        text: String,
        confirmed: bool,
    ) -> Result<String, StoreError> {
        if let Some(row) = self.bridge.store.broadcast()? {
            return Ok(format!(
                "Another is still on its way: {} got it so far. `broadcast stop` ends it.",
                have(row.given)
            ));
        }
        if text.chars().count() > LONGEST {
            return Ok(format!("That is too long: {LONGEST} characters are the most."));
        }
        let people = self.count_people()?;
        if people == 0 {
            return Ok("There is nobody to say it to.".to_owned());
        }
        let seconds = u64::from(people) * PAUSE / 1_000 + 1;
        if !confirmed {
            return Ok(format!(
                "That would be said to {}, within about {}. `broadcast confirm <text>` says it.",
                many(people as usize, "person", "people"),
                crate::domain::in_words(seconds * 1_000),
            ));
        }
        self.bridge.store.put_broadcast(&Broadcast { by: admin.clone(), text, after: None, given: 0 })?;
        self.set_timer(PAUSE, Timer::Broadcast);
        Ok(format!("I am saying it to {}.", many(people as usize, "person", "people")))
    }

    /// Ends the one that is on its way.
    pub(super) fn stop_broadcast(&mut self) -> Result<String, StoreError> {
        let Some(row) = self.bridge.store.broadcast()? else {
            return Ok("No broadcast is on its way.".to_owned());
        };
        self.bridge.store.erase_broadcast();
        Ok(format!("Stopped: {} got it.", have(row.given)))
    }

    /// The process has started: what was on its way goes on.
    pub(super) fn resume_broadcast(&mut self) -> Result<(), StoreError> {
        if self.bridge.store.broadcast()?.is_some() {
            self.set_timer(PAUSE, Timer::Broadcast);
        }
        Ok(())
    }

    /// The next person gets it.
    pub(super) fn next_of_broadcast(&mut self) -> Result<(), StoreError> {
        let Some(mut row) = self.bridge.store.broadcast()? else { return Ok(()) };
        if self.bridge.outbox.waiting(Kind::Management).0 >= BACKLOG {
            self.set_timer(PAUSE, Timer::Broadcast);
            return Ok(());
        }
        let next = if row.given < MOST_PEOPLE { self.person_after(row.after.as_ref())? } else { None };
        let Some(person) = next else {
            self.bridge.store.erase_broadcast();
            let more = if row.given >= MOST_PEOPLE { ", which is as many as one reaches" } else { "" };
            return self.bridge.say(&row.by, format!("Your broadcast is over: {} got it{more}.", have(row.given)));
        };
        let text = format!("The operator of this bridge says:\n{}", row.text);
        self.bridge.say_notice(&person, Notice::plain(text), None)?;
        (row.given, row.after) = (row.given + 1, Some(person));
        self.bridge.store.put_broadcast(&row)?;
        self.set_timer(PAUSE, Timer::Broadcast);
        Ok(())
    }

    /// The next person, in the order of their MXIDs, who has a management room and may use the bridge.
    fn person_after(&self, after: Option<&OwnedUserId>) -> Result<Option<OwnedUserId>, StoreError> {
        let mut found = None;
        self.each_person(after.cloned(), |person| {
            found = Some(person);
            false
        })?;
        Ok(found)
    }

    /// How many would get one.
    fn count_people(&self) -> Result<u32, StoreError> {
        let mut count = 0;
        self.each_person(None, |_| {
            count += 1;
            count < MOST_PEOPLE
        })?;
        Ok(count)
    }

    /// Everyone who would get one, until `go_on` says no.
    fn each_person(
        &self,
        mut after: Option<OwnedUserId>,
        mut go_on: impl FnMut(OwnedUserId) -> bool,
    ) -> Result<(), StoreError> {
        loop {
            let page = self.bridge.store.people_after(after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (person, row) in page {
                let gets = row.room.is_some() && self.bridge.settings.permission(&person) >= Permission::User;
                if gets && !go_on(person) {
                    return Ok(());
                }
            }
        }
    }
}

fn have(given: u32) -> String {
    if given == 1 { "1 person has".to_owned() } else { format!("{given} people have") }
}

//! The reference: what must have come of what everyone said.

use std::collections::{HashMap, HashSet};

use super::{
    homeserver::Room,
    server::{FILES, show_of},
    world::{OWNER, World, wall},
};

/// Everything in order, nothing twice; `must` says what may not be missing.
fn compare(what: &str, said: &[String], came: &[String], must: impl Fn(&str) -> bool) -> Result<(), String> {
    let fail = |why: &str| Err(format!("{what}: {why}\n  said {said:?}\n  came {came:?}"));
    let place: HashMap<&String, usize> = said.iter().enumerate().map(|(n, body)| (body, n)).collect();
    let mut last = None;
    for body in came {
        let Some(now) = place.get(body) else { return fail("nobody said that") };
        if last.is_some_and(|last| *now <= last) {
            return fail(&format!("twice or out of order: {body}"));
        }
        last = Some(*now);
    }
    let came: HashSet<&String> = came.iter().collect();
    match said.iter().find(|body| must(body) && !came.contains(body)) {
        Some(body) => fail(&format!("missing: {body}")),
        None => Ok(()),
    }
}

impl World {
    pub fn check(&self) -> Result<(), String> {
        if let Some(violation) = self.hs.violations.iter().chain(&self.server.violations).next() {
            return Err(violation.clone());
        }
        let times: HashMap<String, u64> = self.server.said_at().collect();
        let committed: HashSet<&String> = self.committed.iter().collect();
        for contact in 0..self.server.contacts.len() {
            self.check_room(contact, &times, &committed)?;
            self.check_contact(contact)?;
        }
        self.check_space()?;
        self.check_statuses()
    }

    /// All is delivered, so nothing may still be shown as waiting, and what never was shown so is not said to be delivered.
    fn check_statuses(&self) -> Result<(), String> {
        for room in &self.hs.rooms {
            let mut pending = HashSet::new();
            for (event, status) in &room.statuses {
                let fits = match status.as_str() {
                    "PENDING" => pending.insert(event),
                    "SUCCESS" => pending.remove(event),
                    _ => false,
                };
                if !fits {
                    return Err(format!("{event} is {status} in {}: {:?}", room.id, room.statuses));
                }
            }
            if !pending.is_empty() {
                return Err(format!("shown as waiting to the end: {pending:?}"));
            }
            let waits = |said: &&super::homeserver::Said| {
                said.content["body"].as_str().is_some_and(|body| body.contains("not been delivered yet"))
                    && said.content["m.relates_to"]["rel_type"] != "m.replace"
            };
            if let Some(said) = room.said.iter().filter(waits).find(|said| !room.redacted.contains(&said.id)) {
                return Err(format!("a notice was left: {}", said.content));
            }
        }
        Ok(())
    }

    /// The account has one space at most, and it holds every room.
    fn check_space(&self) -> Result<(), String> {
        let marked = |room: &&Room| room.state.iter().any(|(kind, _, _)| kind == "org.messenger_bridge.space");
        let spaces: Vec<_> = self.hs.rooms.iter().filter(marked).collect();
        if spaces.len() > 1 {
            return Err(format!("{} spaces", spaces.len()));
        }
        for portal in self.hs.rooms.iter().filter(|room| room.channel().is_some()) {
            let listed = spaces
                .iter()
                .flat_map(|space| &space.state)
                .any(|(kind, key, content)| kind == "m.space.child" && *key == portal.id && content.contains("via"));
            if !listed {
                return Err(format!("{:?} is not in the space", portal.channel()));
            }
        }
        Ok(())
    }

    pub fn contacts(&self) -> Vec<String> {
        self.server.contacts.iter().map(|contact| contact.jid.clone()).collect()
    }

    /// How often the owner was told that something may have been delivered twice.
    pub fn doubts(&self, jid: &str) -> usize {
        let rooms = self.hs.rooms.iter().filter(|room| room.channel().as_deref() == Some(jid));
        let doubt = |body: &str| body.contains("may have been delivered twice");
        rooms.flat_map(|room| &room.said).filter(|said| said.content["body"].as_str().is_some_and(doubt)).count()
    }

    fn check_room(
        &self,
        contact: usize,
        times: &HashMap<String, u64>,
        committed: &HashSet<&String>,
    ) -> Result<(), String> {
        let jid = &self.server.contacts[contact].jid;
        let rooms: Vec<_> = self.hs.rooms.iter().filter(|room| room.channel().as_ref() == Some(jid)).collect();
        if rooms.len() > 1 {
            return Err(format!("{} rooms for {jid}", rooms.len()));
        }
        let escaped = jid.replace('@', "=40");
        let mut theirs = Vec::new();
        let mut own = Vec::new();
        for said in rooms.iter().flat_map(|room| &room.said) {
            let body = said.content["body"].as_str().unwrap_or_default();
            // A file is named after where it lay.
            let is_file = said.content["msgtype"] == "m.file";
            let body = if is_file { format!("{FILES}{body}") } else { body.to_owned() };
            if said.sender.localpart().ends_with(&format!("_{escaped}")) {
                if let (Some(at), Some(when)) = (said.at, times.get(&body))
                    && at != wall(*when)
                    && !self.config.keeps_offline
                {
                    return Err(format!("{body} at {at:?}, was said at {:?}", wall(*when)));
                }
                theirs.push(body);
            } else if said.sender.localpart().ends_with("_me=40x.test")
                || said.sender == OWNER && self.device_said[contact].contains(&body)
            {
                own.push(body);
            }
        }
        // With an archive all must come; with stream management all that the contact says; else what was committed.
        let all = self.config.archive;
        let there = !rooms.is_empty() || self.contact_said[contact].iter().any(|body| committed.contains(body));
        let config = self.config;
        compare(&format!("{jid} to Matrix"), &self.contact_said[contact], &theirs, |body| {
            committed.contains(&body.to_owned()) || (all && there) || (config.sm && config.keeps_offline)
        })?;
        compare(&format!("the other device to {jid}"), &self.device_said[contact], &own, |body| {
            committed.contains(&body.to_owned()) || all
        })?;
        self.check_presence(contact, !rooms.is_empty())
    }

    fn check_presence(&self, contact: usize, there: bool) -> Result<(), String> {
        let contact = &self.server.contacts[contact];
        let ghost = format!("_{}", contact.jid.replace('@', "=40"));
        let shown = self.shown.iter().find(|(user, _)| user.localpart().ends_with(&ghost)).map(|(_, shown)| shown);
        let wanted = match show_of(contact.show) {
            ("", true) => "online",
            (_, true) => "unavailable",
            (_, false) => "offline",
        };
        let shown = shown.map_or("offline", String::as_str);
        if contact.on_roster && there && shown != wanted {
            return Err(format!("{} is {wanted}, but shown {shown}", contact.jid));
        }
        Ok(())
    }

    fn check_contact(&self, contact: usize) -> Result<(), String> {
        let contact_row = &self.server.contacts[contact];
        let said = &self.phone_said[contact];
        let strict = self.config.archive || (self.config.sm && self.config.says_h);
        let mut first: Vec<String> = Vec::new();
        let mut seen: HashMap<&str, (&str, super::world::Conn)> = HashMap::new();
        for got in &contact_row.got {
            match seen.get(got.body.as_str()) {
                None => {
                    seen.insert(&got.body, (&got.id, got.conn));
                    first.push(got.body.clone());
                }
                Some((id, conn)) => {
                    if strict || *id != got.id || *conn == got.conn {
                        return Err(format!("{} got twice: {}", contact_row.jid, got.body));
                    }
                    seen.insert(&got.body, (&got.id, got.conn));
                }
            }
        }
        let twice = contact_row.got.len() > first.len();
        match self.doubts(&contact_row.jid) {
            0 if twice => return Err(format!("{} got something twice, and nobody was told", contact_row.jid)),
            told if told > 0 && strict => return Err(format!("{told} doubts where there is none")),
            told if told > said.len() => return Err(format!("{told} doubts of {} messages", said.len())),
            _ => {}
        }
        compare(&format!("Matrix to {}", contact_row.jid), said, &first, |_| true)
    }
}

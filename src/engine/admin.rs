//! What administrators' commands do. They look after the bridge, not into people's affairs: of accounts they see the network, the server
//! and the login's id, of contacts and messages nothing, and whom they act for is told.

use std::{collections::BTreeMap, fmt::Write as _};

use ruma::{OwnedRoomId, OwnedUserId, UserId};

use super::Engine;
use crate::{
    bot::{AdminCommand, Command},
    bridge::{
        Permission,
        meter::{Direction, Fate},
        outbox::Kind,
    },
    domain::{Output, effect::Notice, request::Connection},
    store::{StoreError, login::Login},
};

/// What whoever may not is told, whatever it is.
pub(super) const NO_PERMISSION: &str =
    "You have no permission for that. The operator of this bridge can give it to you.";
/// People whom one list shows.
const PEOPLE: usize = 50;
/// Accounts of one person that it shows.
const ACCOUNTS: usize = 10;

impl Engine {
    /// What a command of administrators is answered with where it is not to be run.
    pub(super) fn admin_refused(&self, person: &UserId, private: bool) -> Option<&'static str> {
        if self.bridge.settings.permission(person) < Permission::Admin {
            return Some(NO_PERMISSION);
        }
        (!private).then_some("Please say that in a room with me alone, so that nobody else reads it.")
    }

    /// Runs it for an administrator. Gives what to answer, unless that comes later.
    pub(super) fn run_admin(
        &mut self,
        admin: &OwnedUserId,
        room: &OwnedRoomId,
        command: AdminCommand,
    ) -> Result<Option<Notice>, StoreError> {
        if self.bridge.settings.permission(admin) < Permission::Admin {
            return Ok(Some(Notice::plain(NO_PERMISSION)));
        }
        let text = match command {
            AdminCommand::Misused(sentence) => sentence,
            AdminCommand::ListUsers { text } => self.list_users(text.as_deref())?,
            AdminCommand::Sudo { user, command } => self.sudo(room, &user, command)?,
            AdminCommand::Broadcast { text, confirmed } => self.broadcast(admin, text, confirmed)?,
            AdminCommand::StopBroadcast => self.stop_broadcast()?,
            AdminCommand::SetLogLevel(level) => {
                self.outputs.push(Output::SetLogLevel(level));
                format!(
                    "The log shows `{}` and graver from now on, until the bridge starts again or is sent SIGHUP.",
                    level.name()
                )
            }
            AdminCommand::Stats => {
                // What the process takes is known outside; the answer comes with it.
                self.outputs.push(Output::Measure { owner: admin.clone() });
                return Ok(None);
            }
        };
        Ok(Some(Notice::plain(text)))
    }

    fn list_users(&self, text: Option<&str>) -> Result<String, StoreError> {
        let mut people: BTreeMap<OwnedUserId, Vec<Login>> = BTreeMap::new();
        for login in self.bridge.store.logins()? {
            if text.is_none_or(|text| login.owner.as_str().to_lowercase().contains(text)) {
                people.entry(login.owner.clone()).or_default().push(login);
            }
        }
        let accounts: usize = people.values().map(Vec::len).sum();
        if people.is_empty() {
            let whose = if text.is_some() { " whose address has that in it" } else { "" };
            return Ok(format!("Nobody{whose} is signed in to an account."));
        }
        let mut list =
            format!("{} with {}:", many(people.len(), "person", "people"), many(accounts, "account", "accounts"));
        for (person, logins) in people.iter().take(PEOPLE) {
            let shown = logins.iter().take(ACCOUNTS).map(|login| {
                let state = self.state_for_admin(login).words();
                format!("{} at {} ({}) {state}", login.network, login.account.domain(), login.id)
            });
            let _ = write!(list, "\n- {person}: {}", shown.collect::<Vec<_>>().join("; "));
            if logins.len() > ACCOUNTS {
                let _ = write!(list, "; and {} more", logins.len() - ACCOUNTS);
            }
        }
        if people.len() > PEOPLE {
            let _ =
                write!(list, "\nand {} more: say part of an address, as in `list-users romeo`.", people.len() - PEOPLE);
        }
        Ok(list)
    }

    fn state_for_admin(&self, login: &Login) -> Connection {
        match self.bridge.store.standings().get(&login.id) {
            Some(standing) => self.connection_of(&login.id, standing.suspended),
            None => Connection::Down,
        }
    }

    /// Runs a command as somebody, who is told. Nothing is run that shows or needs a secret, or that shows contacts.
    fn sudo(
        &mut self,
        room: &OwnedRoomId,
        user: &str,
        command: Result<Box<Command>, String>,
    ) -> Result<String, StoreError> {
        let Ok(person) = UserId::parse(user) else {
            return Ok("Say whom you mean by their MXID, as in `sudo @romeo:example.org ping`.".to_owned());
        };
        let command = match command {
            Ok(command) => *command,
            Err(sentence) => return Ok(sentence),
        };
        let (name, changes) = match &command {
            Command::ListLogins => ("list-logins", false),
            Command::Ping => ("ping", false),
            Command::Logout { .. } => ("logout", true),
            Command::Sync => ("sync", true),
            Command::Cancel => ("cancel", true),
            Command::Help
            | Command::Login { .. }
            | Command::Relogin { .. }
            | Command::StartChat { .. }
            | Command::Search { .. }
            | Command::Decide { .. }
            | Command::Nudge
            | Command::PublishProfile { .. }
            | Command::Disappearing { .. }
            | Command::DeletePortal
            | Command::DeleteAllPortals { .. }
            | Command::SyncPortal
            | Command::SetManagementRoom
            | Command::Id
            | Command::Block { .. }
            | Command::Version
            | Command::Admin(_) => {
                return Ok(
                    "I run `list-logins`, `ping`, `logout`, `sync` and `cancel` as somebody else, and nothing that \
                           shows or needs a secret, or shows contacts."
                        .to_owned(),
                );
            }
        };
        let theirs = self.bridge.store.management(&person)?.room;
        if theirs.is_none() && self.logins_of(&person)?.is_empty() {
            return Ok(format!("Nobody called {person} uses this bridge."));
        }
        let answer = self.run_command(&person, &theirs.unwrap_or_else(|| room.clone()), command)?;
        let answer = answer.map(|notice| notice.text).unwrap_or_default();
        let mut told = format!("An administrator of this bridge ran `{name}` for you.");
        if changes && !answer.is_empty() {
            let _ = write!(told, " {answer}");
        }
        self.bridge.say(&person, told)?;
        Ok(format!("As {person}: {}", without_accounts(&answer)))
    }

    /// What `stats` asked for is known.
    pub(super) fn on_measured(
        &mut self,
        admin: &OwnedUserId,
        memory: Option<u64>,
        store: Option<u64>,
    ) -> Result<(), StoreError> {
        let now = self.bridge.now;
        let mut states: BTreeMap<Connection, usize> = BTreeMap::new();
        for (id, standing) in self.bridge.store.standings() {
            *states.entry(self.connection_of(id, standing.suspended)).or_default() += 1;
        }
        let logins: Vec<String> = states.iter().map(|(state, count)| format!("{count} {}", state.words())).collect();
        let oldest = Kind::ALL.iter().filter_map(|kind| self.bridge.outbox.waiting(*kind).1).min();
        let [rooms, contacts] = Direction::ALL.map(|way| {
            let delivered = self.bridge.meter.messages(way).of(Fate::Delivered);
            (delivered, self.bridge.meter.delivered_today(way, now.wall))
        });
        let size = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), size_in_words);
        let text = format!(
            "messenger-bridge {}, up {}.\n\
             Accounts: {}.\n\
             Waiting: {}{}.\n\
             Messages since the start: {} into rooms, {} to contacts; today (UTC): {} and {}.\n\
             Store: {}. Memory: {}.",
            self.bridge.settings.version,
            up_in_words(now.uptime),
            if logins.is_empty() { "none".to_owned() } else { logins.join(", ") },
            many(self.debts(), "debt", "debts"),
            oldest.map(|since| format!(", the oldest since {}", since.to_person())).unwrap_or_default(),
            rooms.0,
            contacts.0,
            rooms.1,
            contacts.1,
            size(store),
            size(memory),
        );
        self.bridge.say(admin, text)
    }
}

pub(super) fn many(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// The text with every address cut down to its server: what an administrator sees of accounts.
fn without_accounts(text: &str) -> String {
    let hidden = |word: &str| match word.split_once('@') {
        // An MXID begins with it.
        Some((before, server)) if before.chars().any(char::is_alphanumeric) => {
            let opening: String = before.chars().take_while(|c| matches!(c, '(' | '`' | '\u{201c}')).collect();
            format!("{opening}\u{2026}@{server}")
        }
        _ => word.to_owned(),
    };
    text.split_inclusive(char::is_whitespace).map(hidden).collect()
}

fn up_in_words(millis: u64) -> String {
    let minutes = millis / 60_000;
    match (minutes / 1_440, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn size_in_words(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let (mut tenths, mut unit) = (bytes / 100, 0);
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        (tenths, unit) = (tenths / 1_000, unit + 1);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_cut_down_to_its_server_and_an_mxid_stays() {
        for (text, shown) in [
            ("Signed out of romeo@montague.lit.", "Signed out of \u{2026}@montague.lit."),
            (
                "- romeo@montague.lit (xmpp): online\n- o'neil@x (xmpp)",
                "- \u{2026}@montague.lit (xmpp): online\n- \u{2026}@x (xmpp)",
            ),
            ("As @romeo:h.test", "As @romeo:h.test"),
            ("(a@b) `c@d`", "(\u{2026}@b) `\u{2026}@d`"),
            ("at noon @ home", "at noon @ home"),
        ] {
            assert_eq!(without_accounts(text), shown);
        }
    }

    #[test]
    fn sizes_and_times_are_for_people() {
        assert_eq!(size_in_words(0), "0.0 kB");
        assert_eq!(size_in_words(999_999), "999.9 kB");
        assert_eq!(size_in_words(35_460_000), "35.4 MB");
        assert_eq!(size_in_words(2_000_000_000_000_000), "2000.0 TB");
        assert_eq!((up_in_words(59_999), up_in_words(3_660_000)), ("0 min".to_owned(), "1 h 1 min".to_owned()));
        assert_eq!(up_in_words(90_000_000), "1 d 1 h");
    }
}

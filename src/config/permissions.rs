//! Who may use the bridge.

use std::collections::BTreeMap;

use ruma::{ServerName, UserId};
use serde::Deserialize;

use super::fault::Fault;

/// What a person may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing: one sentence says so.
    Block,
    /// Sign in and chat.
    User,
    /// As a user, and the commands for whoever runs the bridge.
    Admin,
}

/// Levels by `*`, server name or MXID. The most specific entry wins; who has none is blocked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Permissions(BTreeMap<String, Level>);

impl Permissions {
    /// The level of the person with this MXID: their own entry, else their server's, else that of `*`, else
    /// [`Level::Block`]. What is no MXID is blocked.
    pub fn level_of(&self, mxid: &str) -> Level {
        let Ok(user) = UserId::parse(mxid) else { return Level::Block };
        [mxid, user.server_name().as_str(), "*"]
            .into_iter()
            .find_map(|key| self.0.get(key))
            .copied()
            .unwrap_or(Level::Block)
    }

    /// The entries: key and level, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Level)> {
        self.0.iter().map(|(key, level)| (key.as_str(), *level))
    }

    /// What is wrong with the keys.
    pub(super) fn check(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for key in self.0.keys() {
            let legal = key == "*"
                || if key.starts_with('@') { UserId::parse(key).is_ok() } else { ServerName::parse(key).is_ok() };
            if !legal {
                let fault = Fault::new("neither `*`, nor a server name, nor a user id like @admin:example.org");
                faults.push(fault.at_path(&["permissions", key]));
            }
        }
        if self.0.values().all(|level| *level == Level::Block) {
            let fault = Fault::new("nobody may use the bridge").at_path(&["permissions"]);
            faults.push(fault.hint("give your server or yourself a level: \"example.org\": user"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(entries: &[(&str, Level)]) -> Permissions {
        Permissions(entries.iter().map(|(key, level)| ((*key).to_owned(), *level)).collect())
    }

    #[test]
    fn the_most_specific_entry_wins() {
        let all = permissions(&[
            ("*", Level::User),
            ("example.org", Level::Block),
            ("@admin:example.org", Level::Admin),
            ("@bad:other.org", Level::Block),
        ]);
        for (mxid, level) in [
            ("@admin:example.org", Level::Admin),
            ("@alice:example.org", Level::Block),
            ("@bad:other.org", Level::Block),
            ("@good:other.org", Level::User),
            ("@admin:example.org.evil", Level::User),
            ("@Admin:example.org", Level::Block),
            ("example.org", Level::Block),
            ("*", Level::Block),
            ("", Level::Block),
        ] {
            assert_eq!(all.level_of(mxid), level, "{mxid}");
        }
        assert_eq!(permissions(&[]).level_of("@a:b"), Level::Block);
    }

    #[test]
    fn keys_are_checked() {
        assert!(permissions(&[("*", Level::User), ("a.org:8448", Level::Admin)]).check().is_empty());
        assert_eq!(permissions(&[("a b", Level::User), ("@nobody", Level::User)]).check().len(), 2);
        assert_eq!(permissions(&[("*", Level::Block)]).check().len(), 1);
    }
}

//! Table contact: what the roster and the vCard say of a contact, and what its ghost shows.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table, text_at},
    profile::Profile,
};
use crate::domain::{BareJid, DebtId, LoginId, effect::ContactKey, id::LOGIN_ID_LENGTH};

/// A contact of a login. The account itself has a row too once its ghost is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// It is in the roster.
    pub on_roster: bool,
    /// The name in the roster.
    pub roster_name: Option<String>,
    /// The account sees the contact's presence (`to` or `both`).
    pub sees: bool,
    /// `NICKNAME` of the vCard.
    pub nickname: Option<String>,
    /// `FN` of the vCard.
    pub full_name: Option<String>,
    /// A vCard was fetched (or refused) in the life of this row, with this photo hash announced at the time.
    pub vcard: VCardState,
    /// The photo hash that the last presence announced (XEP-0153).
    pub announced_photo: Option<String>,
    /// The ghost's account.
    pub ghost: GhostState,
    /// The display name that was given to the ghost.
    pub shown_name: Option<String>,
    /// SHA-1 of the photo that the ghost shows.
    pub shown_photo: Option<String>,
    /// The contact's clients have shown that they know chat states (XEP-0085 section 5.1).
    pub chat_states: bool,
    /// An incoming subscription request waits for the person's answer.
    pub asks: bool,
}

/// Whether the vCard is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VCardState {
    /// Never asked for.
    #[default]
    Unknown,
    /// Fetched when this hash was announced (`None`: none was).
    Fetched(Option<String>),
}

/// The life of a ghost's account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GhostState {
    /// Not asked for.
    #[default]
    None,
    /// This debt registers it.
    Owed(DebtId),
    /// It exists.
    Registered,
}

impl Contact {
    /// The display name by the order that people expect: what the person calls them in the roster; what they call themselves now
    /// (XEP-0172); the vCard's nickname, or that of their request; the vCard's full name; the vCard4's nickname and full name
    /// (XEP-0292), which is asked for only where there is none of these; the localpart.
    pub fn display_name(&self, own: &Profile, contact: &BareJid) -> String {
        let vcard4 = [&own.vcard4_nickname, &own.vcard4_full_name];
        [&self.roster_name, &own.nick, &self.nickname, &self.full_name]
            .into_iter()
            .chain(vcard4)
            .flatten()
            .find(|name| !name.trim().is_empty())
            .cloned()
            .unwrap_or_else(|| contact.localpart().unwrap_or(contact.as_str()).to_owned())
    }
}

fn key(contact: &ContactKey) -> Vec<u8> {
    Key::of(Table::Contact).login(&contact.login).text(contact.contact.as_str()).done()
}

impl Store {
    /// A contact's row; `None` if nothing is known of it.
    pub fn contact(&self, contact: &ContactKey) -> Result<Option<Contact>, StoreError> {
        self.row(&key(contact))
    }

    /// Writes a contact.
    pub fn put_contact(&mut self, contact: &ContactKey, row: &Contact) -> Result<(), StoreError> {
        self.write(key(contact), row)
    }

    /// All contacts of a login, by address.
    pub fn contacts(&self, login: &LoginId) -> Result<Vec<(BareJid, Contact)>, StoreError> {
        let rows = self.rows(&Key::of(Table::Contact).login(login).done())?;
        Ok(rows
            .into_iter()
            .filter_map(|(key, row)| Some((BareJid::parse(&text_at(&key, 1 + LOGIN_ID_LENGTH)).ok()?, row)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_before_each_other_in_one_order() {
        let jid = BareJid::parse("juliet@capulet.lit").unwrap();
        let name = |text: &str| Some(text.to_owned());
        let mut row = Contact { roster_name: name("roster"), nickname: name("vcard nick"), ..Contact::default() };
        row.full_name = name("vcard fn");
        let mut own = Profile { nick: name("pep nick"), vcard4_nickname: name("v4 nick"), ..Profile::default() };
        own.vcard4_full_name = name("v4 fn");
        let mut seen = Vec::new();
        for without in 0..7 {
            seen.push(row.display_name(&own, &jid));
            match without {
                0 => row.roster_name = name(" "),
                1 => own.nick = None,
                2 => row.nickname = None,
                3 => row.full_name = None,
                4 => own.vcard4_nickname = None,
                _ => own.vcard4_full_name = None,
            }
        }
        assert_eq!(seen, ["roster", "pep nick", "vcard nick", "vcard fn", "v4 nick", "v4 fn", "juliet"]);
    }
}

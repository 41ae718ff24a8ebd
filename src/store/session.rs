//! Tables session, unconfirmed and shown: what a stream must know to be resumed, what is on its way on it, and what contacts see.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table, last_number},
};
use crate::domain::{
    DebtId, LoginId, StreamId,
    effect::Lane,
    stream::{Management, Resume},
};

/// A login's session on the XMPP server. It outlives the connection and the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The stream that carries it, or carried it last.
    pub stream: StreamId,
    /// The stream on which it was bound: what a contact's presence row of another session is stale by.
    pub bound: StreamId,
    /// The bound resource.
    pub resource: String,
    /// Stream management, if the server has it.
    pub management: Option<Management>,
    /// Stanzas handled (XEP-0198 section 4, modulo 2^32).
    pub inbound: u32,
    /// Stanzas sent.
    pub outbound: u32,
    /// The largest stanza that the server takes, if it said so.
    pub max_bytes: Option<u32>,
    /// Roster, archive and offline messages are in.
    pub caught_up: bool,
    /// The account keeps an archive (XEP-0313).
    pub archive: bool,
}

impl Session {
    /// What a new stream needs to resume this session.
    pub fn resume(&self) -> Option<Resume> {
        let management = self.management.as_ref()?;
        Some(Resume { id: management.id.clone()?, location: management.location.clone(), inbound: self.inbound })
    }
}

/// A stanza that pays a debt and is not confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unconfirmed {
    /// The lane of the debt.
    pub lane: Lane,
    /// The debt.
    pub debt: DebtId,
    /// Where the archive was read to when it was sent (XEP-0313): if the stream is lost, the archive tells from there on
    /// whether the server had it.
    pub archive_after: Option<String>,
}

fn key(login: &LoginId) -> Vec<u8> {
    Key::of(Table::Session).login(login).done()
}

fn shown_key(login: &LoginId) -> Vec<u8> {
    Key::of(Table::Shown).login(login).done()
}

impl Store {
    /// A login's session.
    pub fn session(&self, login: &LoginId) -> Result<Option<Session>, StoreError> {
        self.row(&key(login))
    }

    /// Writes a login's session.
    pub fn put_session(&mut self, login: &LoginId, session: &Session) -> Result<(), StoreError> {
        self.write(key(login), session)
    }

    /// The session cannot be resumed any more.
    pub fn erase_session(&mut self, login: &LoginId) {
        self.erase(key(login));
    }

    /// A mark of the presence that a login's contacts were shown last ([`Store::mark`]): who resumes a session says nothing anew.
    pub fn shown(&self, login: &LoginId) -> Result<Option<String>, StoreError> {
        self.row(&shown_key(login))
    }

    /// Notes it.
    pub fn put_shown(&mut self, login: &LoginId, mark: &str) -> Result<(), StoreError> {
        self.write(shown_key(login), &mark.to_owned())
    }

    /// The `number`-th stanza of the session pays a debt.
    pub fn put_unconfirmed(&mut self, login: &LoginId, number: u32, what: &Unconfirmed) -> Result<(), StoreError> {
        self.write(Key::of(Table::Unconfirmed).login(login).number(u64::from(number)).done(), what)
    }

    /// All that is not confirmed, by number. Numbers wrap after 2^32 stanzas of one session.
    pub fn unconfirmed(&self, login: &LoginId) -> Result<Vec<(u32, Unconfirmed)>, StoreError> {
        let rows = self.rows(&Key::of(Table::Unconfirmed).login(login).done())?;
        Ok(rows.into_iter().map(|(key, row)| (u32::try_from(last_number(&key)).unwrap_or(u32::MAX), row)).collect())
    }

    /// Confirmed, or to be sent anew.
    pub fn erase_unconfirmed(&mut self, login: &LoginId, number: u32) {
        self.erase(Key::of(Table::Unconfirmed).login(login).number(u64::from(number)).done());
    }
}

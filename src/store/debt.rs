//! Table debt: the outbox. A lane is a range, in the order in which its debts were made. Sealed: what is owed is what people said.

use std::collections::HashMap;

use super::{
    Store, StoreError,
    key::{Key, Table},
};
use crate::domain::{
    DebtId, LoginId,
    effect::{Debt, Lane},
};

fn lane_key(lane: &Lane) -> Key {
    let key = Key::of(Table::Debt);
    match lane {
        Lane::ToMatrix(c) => key.byte(b'm').login(&c.login).text(c.contact.as_str()),
        Lane::ToXmpp(c) => key.byte(b'x').login(&c.login).text(c.contact.as_str()),
        Lane::Ghost(c) => key.byte(b'g').login(&c.login).text(c.contact.as_str()),
        Lane::Login(login) => key.byte(b'l').login(login),
        Lane::Management(owner) => key.byte(b'o').text(owner.as_str()),
        Lane::Space(login) => key.byte(b's').login(login),
        Lane::Person(owner) => key.byte(b'p').text(owner.as_str()),
    }
}

fn key(lane: &Lane, id: DebtId) -> Vec<u8> {
    lane_key(lane).number(id.0).done()
}

/// Debts as they were written lately: most are read twice within milliseconds, to be handed out and to be settled, and opening
/// the seal costs more than that.
#[derive(Default)]
pub(super) struct Lately(HashMap<DebtId, Debt>);

impl Lately {
    /// How many are kept; when there are so many all are forgotten, and read again where they are asked for.
    const MOST: usize = 1024;

    fn note(&mut self, debt: &Debt) {
        if self.0.len() >= Self::MOST {
            self.0 = HashMap::new();
        }
        self.0.insert(debt.id, debt.clone());
    }
}

impl Store {
    /// A debt.
    pub fn debt(&self, lane: &Lane, id: DebtId) -> Result<Option<Debt>, StoreError> {
        match self.lately.0.get(&id) {
            Some(debt) if debt.lane == *lane => Ok(Some(debt.clone())),
            _ => self.row(&key(lane, id)),
        }
    }

    /// Writes a debt.
    pub fn put_debt(&mut self, debt: &Debt) -> Result<(), StoreError> {
        self.lately.note(debt);
        self.write_sealed(key(&debt.lane, debt.id), debt)
    }

    /// A debt is paid, or given up.
    pub fn erase_debt(&mut self, lane: &Lane, id: DebtId) {
        self.lately.0.remove(&id);
        self.erase(key(lane, id));
    }

    /// The debts of a lane, in order.
    pub fn debts_of(&self, lane: &Lane) -> Result<Vec<Debt>, StoreError> {
        Ok(self.rows(&lane_key(lane).done())?.into_iter().map(|(_, debt)| debt).collect())
    }

    /// Every debt, read once at start.
    pub fn debts(&self) -> Result<Vec<Debt>, StoreError> {
        Ok(self.rows(&Key::of(Table::Debt).done())?.into_iter().map(|(_, debt)| debt).collect())
    }

    /// The first debts of a lane, at most `limit`.
    pub fn first_debts(&self, lane: &Lane, limit: usize) -> Result<Vec<Debt>, StoreError> {
        let rows = self.first_rows(&lane_key(lane).done(), None, limit)?;
        Ok(rows.into_iter().map(|(_, debt)| debt).collect())
    }

    /// What a login owes its contacts.
    pub fn debts_to_contacts(&self, login: &LoginId) -> Result<Vec<Debt>, StoreError> {
        Ok(self.rows(&Key::of(Table::Debt).byte(b'x').login(login).done())?.into_iter().map(|(_, debt)| debt).collect())
    }

    /// What is owed to the rooms of a login's contacts.
    pub fn debts_to_rooms(&self, login: &LoginId) -> Result<Vec<Debt>, StoreError> {
        Ok(self.rows(&Key::of(Table::Debt).byte(b'm').login(login).done())?.into_iter().map(|(_, debt)| debt).collect())
    }

    /// Gives up every debt of a login (logout), and says which lanes they stood in.
    pub fn erase_debts(&mut self, login: &LoginId) -> Result<(), StoreError> {
        self.lately = Lately::default();
        for lane in [b'm', b'x', b'g', b'l', b's'] {
            self.erase_all(&Key::of(Table::Debt).byte(lane).login(login).done())?;
        }
        Ok(())
    }
}

//! Table transaction: which transactions were handled, so that a repeated one changes nothing.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
};

/// How many transactions are remembered. The homeserver repeats only the last one, until it is answered.
pub const REMEMBERED: u64 = 1024;

#[derive(Serialize, Deserialize)]
struct Place(u64);

#[derive(Serialize, Deserialize)]
struct Named(String);

fn key(txn: &str) -> Vec<u8> {
    Key::of(Table::Transaction).byte(b'n').text(txn).done()
}

fn place_key(place: u64) -> Vec<u8> {
    Key::of(Table::Transaction).byte(b'p').number(place % REMEMBERED).done()
}

impl Store {
    /// Notes a transaction; `false` if it was handled before.
    pub fn note_transaction(&mut self, txn: &str) -> Result<bool, StoreError> {
        if self.row::<Place>(&key(txn))?.is_some() {
            return Ok(false);
        }
        let count_key = Key::of(Table::Meta).text("transactions").done();
        let Place(place) = self.row(&count_key)?.unwrap_or(Place(0));
        if let Some(Named(oldest)) = self.row(&place_key(place))? {
            self.erase(key(&oldest));
        }
        self.write(place_key(place), &Named(txn.to_owned()))?;
        self.write(key(txn), &Place(place))?;
        self.write(count_key, &Place(place + 1))?;
        Ok(true)
    }
}

/// Can this record be read?
pub(super) fn readable(key: &[u8], value: &[u8]) -> Result<(), String> {
    let read = match key.get(1) {
        Some(b'n') => super::decode::<Place>(key, value).map(drop),
        _ => super::decode::<Named>(key, value).map(drop),
    };
    read.map_err(|error| error.to_string())
}

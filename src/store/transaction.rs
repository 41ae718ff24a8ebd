//! Table transaction: which events of the homeserver's transactions were handled, so that a repeated one changes nothing.
//!
//! The transactions' own ids do not tell: Synapse on `SQLite` counts them anew after a restart, and a homeserver that was
//! killed can put an event into a second transaction.

use ruma::EventId;
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
};

/// How many events are remembered. The homeserver repeats only the last transaction, until it is answered; Synapse's hold
/// at most 100 events.
pub const REMEMBERED: u64 = 8192;

#[derive(Serialize, Deserialize)]
struct Place(u64);

#[derive(Serialize, Deserialize)]
struct Named(String);

fn key(event: &str) -> Vec<u8> {
    Key::of(Table::Transaction).byte(b'n').text(event).done()
}

fn place_key(place: u64) -> Vec<u8> {
    Key::of(Table::Transaction).byte(b'p').number(place % REMEMBERED).done()
}

impl Store {
    /// Notes an event; `false` if it was handled before.
    pub fn note_event(&mut self, event: &EventId) -> Result<bool, StoreError> {
        if self.row::<Place>(&key(event.as_str()))?.is_some() {
            return Ok(false);
        }
        let count_key = Key::of(Table::Meta).text("transactions").done();
        let Place(place) = self.row(&count_key)?.unwrap_or(Place(0));
        if let Some(Named(oldest)) = self.row(&place_key(place))? {
            self.erase(key(&oldest));
        }
        self.write(place_key(place), &Named(event.to_string()))?;
        self.write(key(event.as_str()), &Place(place))?;
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

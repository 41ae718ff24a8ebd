//! Table meta: the instance id and the counters that never go back.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
};
use crate::domain::{DebtId, StreamId, Timestamp};

/// Numbers that make ids unique for the life of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    instance: u64,
    next_debt: u64,
    next_stream: u64,
    next_row: u64,
}

fn key() -> Vec<u8> {
    Key::of(Table::Meta).text("counters").done()
}

fn began_key() -> Vec<u8> {
    Key::of(Table::Meta).text("began").done()
}

impl Store {
    pub(super) fn begin(&mut self, entropy: u64) -> Result<(), StoreError> {
        if self.row::<Counters>(&key())?.is_none() {
            self.write(key(), &Counters { instance: entropy, next_debt: 1, next_stream: 1, next_row: 1 })?;
        }
        Ok(())
    }

    fn counters(&self) -> Result<Counters, StoreError> {
        self.row(&key())?.ok_or_else(|| StoreError::corrupt("the counters are missing"))
    }

    /// Sixteen hex digits that tell this store from any other: part of every id that leaves the bridge, so that a store
    /// begun anew cannot repeat the ids of an old one.
    pub fn instance(&self) -> Result<String, StoreError> {
        Ok(format!("{:016x}", self.counters()?.instance))
    }

    /// When the store was first used; what was said before is not known to it.
    pub fn began(&self) -> Result<Option<Timestamp>, StoreError> {
        self.row(&began_key())
    }

    /// Notes when the store is first used.
    pub fn note_beginning(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.began()?.is_none() {
            self.write(began_key(), &now)?;
        }
        Ok(())
    }

    /// A debt id that was never used.
    pub fn take_debt_id(&mut self) -> Result<DebtId, StoreError> {
        let mut counters = self.counters()?;
        let id = DebtId(counters.next_debt);
        counters.next_debt += 1;
        self.write(key(), &counters)?;
        Ok(id)
    }

    /// A stream id that was never used.
    pub fn take_stream_id(&mut self) -> Result<StreamId, StoreError> {
        let mut counters = self.counters()?;
        let id = StreamId(counters.next_stream);
        counters.next_stream += 1;
        self.write(key(), &counters)?;
        Ok(id)
    }

    /// A number that orders rows by when they were written.
    pub(super) fn take_row_number(&mut self) -> Result<u64, StoreError> {
        let mut counters = self.counters()?;
        let number = counters.next_row;
        counters.next_row += 1;
        self.write(key(), &counters)?;
        Ok(number)
    }
}

/// Can this record be read?
pub(super) fn readable(key: &[u8], value: &[u8]) -> Result<(), String> {
    let read = if key == self::key() {
        super::decode::<Counters>(key, value).map(drop)
    } else if key == began_key() {
        super::decode::<Timestamp>(key, value).map(drop)
    } else {
        super::decode::<u64>(key, value).map(drop)
    };
    read.map_err(|error| error.to_string())
}

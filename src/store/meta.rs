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

/// Where the counters are.
pub(super) fn counters_key() -> Vec<u8> {
    Key::of(Table::Meta).text("counters").done()
}

/// Where the beginning is. An import does not take it over: what was said after the export was taken is not known to it.
pub(super) fn began_key() -> Vec<u8> {
    Key::of(Table::Meta).text("began").done()
}

/// Takes the counters of an export to where neither the store that it was taken of nor another import of it has been: what
/// that one has sent since under the ids that would come next must not be taken for what this one sends. `None` if the
/// record is not the counters, or cannot be read.
pub(super) fn moved_on(key: &[u8], value: &[u8], entropy: u64) -> Option<Vec<u8>> {
    if key != counters_key() {
        return None;
    }
    let mut counters: Counters = super::decode(key, value).ok()?;
    let far = 1 << 40 | entropy >> 16;
    for number in [&mut counters.next_debt, &mut counters.next_stream, &mut counters.next_row] {
        *number = number.saturating_add(far);
    }
    super::encode(key, &counters).ok()
}

impl Store {
    pub(super) fn begin(&mut self, entropy: u64) -> Result<(), StoreError> {
        if self.row::<Counters>(&counters_key())?.is_none() {
            self.write(counters_key(), &Counters { instance: entropy, next_debt: 1, next_stream: 1, next_row: 1 })?;
        }
        Ok(())
    }

    fn counters(&self) -> Result<Counters, StoreError> {
        self.row(&counters_key())?.ok_or_else(|| StoreError::corrupt("the counters are missing"))
    }

    /// Sixteen hex digits that tell this store from any other: part of every id that leaves the bridge, so that a store
    /// begun anew cannot repeat the ids of an old one.
    pub fn instance(&self) -> Result<String, StoreError> {
        Ok(format!("{:016x}", self.counters()?.instance))
    }

    /// When the store was first used, or rebuilt; what was said before is not known to it.
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

    /// When the mapping was last rebuilt from the homeserver: from then on the store is no longer blank, whatever was found.
    pub fn note_recovery(&mut self, at: Timestamp) -> Result<(), StoreError> {
        self.write(began_key(), &at)?;
        let at = u64::try_from(at.0).unwrap_or_default();
        self.write(Key::of(Table::Meta).text("recovery").done(), &at)
    }

    /// A debt id that was never used.
    pub fn take_debt_id(&mut self) -> Result<DebtId, StoreError> {
        let mut counters = self.counters()?;
        let id = DebtId(counters.next_debt);
        counters.next_debt += 1;
        self.write(counters_key(), &counters)?;
        Ok(id)
    }

    /// A stream id that was never used.
    pub fn take_stream_id(&mut self) -> Result<StreamId, StoreError> {
        let mut counters = self.counters()?;
        let id = StreamId(counters.next_stream);
        counters.next_stream += 1;
        self.write(counters_key(), &counters)?;
        Ok(id)
    }

    /// A number that orders rows by when they were written.
    pub(super) fn take_row_number(&mut self) -> Result<u64, StoreError> {
        let mut counters = self.counters()?;
        let number = counters.next_row;
        counters.next_row += 1;
        self.write(counters_key(), &counters)?;
        Ok(number)
    }
}

/// Can this record be read?
pub(super) fn readable(key: &[u8], value: &[u8]) -> Result<(), String> {
    let read = if key == counters_key() {
        super::decode::<Counters>(key, value).map(drop)
    } else if key == began_key() {
        super::decode::<Timestamp>(key, value).map(drop)
    } else {
        super::decode::<u64>(key, value).map(drop)
    };
    read.map_err(|error| error.to_string())
}

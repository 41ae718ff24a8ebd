//! Table successor: rooms that are said to replace one of ours (`m.room.tombstone`), until the bridge has moved there.

use ruma::{OwnedRoomId, RoomId};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table, text_at},
};

/// What a room is said to replace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    /// The room that is replaced.
    pub old: OwnedRoomId,
    /// The new room says the same of itself (`predecessor` of its `m.room.create`).
    pub checked: bool,
}

fn key(room: &RoomId) -> Vec<u8> {
    Key::of(Table::Successor).text(room.as_str()).done()
}

impl Store {
    /// What this room is said to replace.
    pub fn successor(&self, room: &RoomId) -> Result<Option<Successor>, StoreError> {
        self.row(&key(room))
    }

    /// The rooms that are said to replace ours.
    pub fn successors(&self) -> Result<Vec<OwnedRoomId>, StoreError> {
        let rows = self.rows::<Successor>(&Key::of(Table::Successor).done())?;
        Ok(rows.into_iter().filter_map(|(key, _)| RoomId::parse(text_at(&key, 1)).ok()).collect())
    }

    /// Is this room said to be replaced? Asked with each message, so it is known without reading.
    pub fn is_replaced(&self, old: &RoomId) -> bool {
        self.replaced.contains(old)
    }

    pub(super) fn read_replaced(&mut self) -> Result<(), StoreError> {
        let rows = self.rows::<Successor>(&Key::of(Table::Successor).done())?;
        self.replaced = rows.into_iter().map(|(_, row)| row.old).collect();
        Ok(())
    }

    /// Notes it. A room has one successor: the last that was named.
    pub fn put_successor(&mut self, room: &RoomId, row: &Successor) -> Result<(), StoreError> {
        self.erase_successors_of(&row.old)?;
        self.replaced.insert(row.old.clone());
        self.write(key(room), row)
    }

    /// Nothing replaces this room any more: it has been replaced, or is given up.
    pub fn erase_successors_of(&mut self, old: &RoomId) -> Result<(), StoreError> {
        if !self.replaced.contains(old) {
            return Ok(());
        }
        // There are only ever a few of them.
        for (key, row) in self.rows::<Successor>(&Key::of(Table::Successor).done())? {
            if row.old == old {
                if row.checked
                    && let Ok(room) = RoomId::parse(text_at(&key, 1))
                {
                    self.erase_room(&room);
                }
                self.erase(key);
            }
        }
        self.replaced.remove(old);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        memory::MemoryBackend,
        portal::Room,
        seal::{KeyFile, Seal},
    };

    #[test]
    fn a_room_has_one_successor_and_is_unmapped_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyFile::load_or_create(&folder.path().join("key"), [7; 32]).unwrap();
        let mut store = Store::open(Box::new(MemoryBackend::new()), Seal::new(&key), 7).unwrap();
        let room = |name: &str| RoomId::parse(format!("!{name}:h")).unwrap();
        let ours = Room::Management(ruma::owned_user_id!("@a:h"));
        let row = |checked| Successor { old: room("old"), checked };
        store.put_successor(&room("first"), &row(false)).unwrap();
        assert!(store.is_replaced(&room("old")));
        store.put_successor(&room("second"), &row(true)).unwrap();
        store.put_room(&room("second"), &ours).unwrap();
        assert_eq!(store.successors().unwrap(), [room("second")]);
        // What was never checked is no room of ours, whatever it is to somebody else.
        store.put_room(&room("third"), &ours).unwrap();
        store.put_successor(&room("third"), &row(false)).unwrap();
        assert_eq!(store.room(&room("second")).unwrap(), None);
        store.erase_successors_of(&room("old")).unwrap();
        assert_eq!(store.room(&room("third")).unwrap(), Some(ours));
        assert!(!store.is_replaced(&room("old")));
    }
}

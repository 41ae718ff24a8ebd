//! Many small things, each found by its name, which stands nowhere but in the thing itself: there may be a hundred thousand ghosts,
//! and a name is the most of what is known of one.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// What has a name that does not change.
pub trait Named {
    /// It.
    fn name(&self) -> &str;
}

/// Things by their names, and by numbers that are used again once a thing is gone.
#[derive(Debug)]
pub struct Table<T> {
    places: Vec<Option<Box<T>>>,
    free: Vec<u32>,
    names: HashTable<u32>,
    hasher: RandomState,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), names: HashTable::new(), hasher: RandomState::new() }
    }
}

fn at<T>(places: &[Option<Box<T>>], id: u32) -> Option<&T> {
    places.get(usize::try_from(id).ok()?)?.as_deref()
}

impl<T: Named> Table<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The number of what has this name.
    pub fn find(&self, name: &str) -> Option<u32> {
        let same = |id: &u32| at(&self.places, *id).is_some_and(|known| known.name() == name);
        self.names.find(self.hasher.hash_one(name), same).copied()
    }

    /// What has this number.
    pub fn get(&self, id: u32) -> Option<&T> {
        at(&self.places, id)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.places.get_mut(usize::try_from(id).ok()?)?.as_deref_mut()
    }

    /// Puts in what has a name that nothing else has here, and gives its number.
    pub fn insert(&mut self, thing: T) -> u32 {
        let hash = self.hasher.hash_one(thing.name());
        let next = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let id = self.free.pop().unwrap_or(next);
        let thing = Some(Box::new(thing));
        match usize::try_from(id).ok().and_then(|place| self.places.get_mut(place)) {
            Some(place) => *place = thing,
            None => self.places.push(thing),
        }
        let (places, hasher) = (&self.places, &self.hasher);
        let rehash = |id: &u32| at(places, *id).map_or(0, |known| hasher.hash_one(known.name()));
        self.names.insert_unique(hash, id, rehash);
        id
    }

    /// Takes out what has this number.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        let hash = self.hasher.hash_one(self.get(id)?.name());
        if let Ok(entry) = self.names.find_entry(hash, |known| *known == id) {
            entry.remove();
        }
        let gone = self.places.get_mut(usize::try_from(id).ok()?)?.take();
        self.free.push(id);
        gone.map(|gone| *gone)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Thing(String, u32);

    impl Named for Thing {
        fn name(&self) -> &str {
            &self.0
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_by_name_whose_numbers_stay(steps in prop::collection::vec((0u32..40, any::<bool>()), 0..400)) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            for (count, (name, put)) in (0..).zip(steps) {
                let name = name.to_string();
                match (table.find(&name), put) {
                    (None, true) => {
                        let id = table.insert(Thing(name.clone(), count));
                        model.insert(name, (id, count));
                    }
                    (Some(id), true) => table.get_mut(id).unwrap().1 = model.get_mut(&name).map(|known| { known.1 = count; count }).unwrap(),
                    (Some(id), false) => {
                        let (known, number) = model.remove(&name).unwrap();
                        prop_assert_eq!((id, table.remove(id)), (known, Some(Thing(name, number))));
                        prop_assert!(table.get(id).is_none());
                    }
                    (None, false) => prop_assert!(!model.contains_key(&name)),
                }
                prop_assert_eq!(table.len(), model.len());
                for (name, (id, number)) in &model {
                    prop_assert_eq!(table.find(name), Some(*id));
                    prop_assert_eq!(table.get(*id).map(|thing| thing.1), Some(*number));
                }
            }
            prop_assert!(table.places.len() <= 40);
        }
    }
}

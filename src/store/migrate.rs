//! Bringing a store from an older schema to this program's.
//!
//! Each step takes the tables from one version to the next, in the overlay; the new version number is written behind the
//! last, and all of it reaches the disk with the first commit, as one batch. A crash before that leaves the old store,
//! which is brought up again; after it there is nothing left to do. There is no state between.

use super::{
    backend::{self, Backend, Batch, Fate, StoreError},
    overlay::Overlay,
};

/// Takes the tables from version `to - 1` to version `to`.
pub struct Step<B: Backend> {
    /// The version that the store has afterwards.
    pub to: u32,
    /// Changes the records, by [`rewrite`] or one by one. It must not commit.
    pub run: fn(&mut Overlay<B>) -> Result<(), StoreError>,
}

/// The steps of this program, in order: one for each version after the first.
pub fn steps<B: Backend>() -> Vec<Step<B>> {
    Vec::new()
}

/// Brings the store up to `known`, pending in `overlay` until its next commit; a new store is given that version. Gives
/// the version that was found; `None` if the store is new.
///
/// # Errors
/// [`StoreError::NewerSchema`], [`StoreError::OlderSchema`] where no step leads on from what was found, or what a step said:
/// then nothing must be committed.
pub fn bring_up<B: Backend>(
    overlay: &mut Overlay<B>,
    steps: &[Step<B>],
    known: u32,
) -> Result<Option<u32>, StoreError> {
    let found = backend::known_schema_version(overlay.backend(), known)?;
    if found == Some(known) {
        return Ok(found);
    }
    for to in found.map_or(known, |found| found + 1)..=known {
        let done = match steps.iter().find(|step| step.to == to) {
            _ if found.is_none() => Ok(()),
            Some(step) => (step.run)(overlay),
            None => Err(StoreError::OlderSchema { found: to - 1, known }),
        };
        if let Err(error) = done {
            overlay.discard();
            return Err(error);
        }
    }
    let mut last = Batch::new();
    backend::put_schema_version(&mut last, known);
    for (key, fate) in &last {
        if let Some(value) = fate {
            overlay.put(key.clone(), value.clone());
        }
    }
    Ok(found)
}

/// Gives each record under `prefix` its new fate, page by page.
pub fn rewrite<B: Backend>(
    overlay: &mut Overlay<B>,
    prefix: &[u8],
    change: impl Fn(&[u8], &[u8]) -> Result<Fate, StoreError>,
) -> Result<(), StoreError> {
    const PAGE: usize = 256;
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = overlay.scan(prefix, after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        for (key, value) in page {
            match change(&key, &value)? {
                Some(new) if new == value => {}
                Some(new) => overlay.put(key, new),
                None => overlay.remove(key),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryBackend;
    use super::*;

    /// A store of version 1: 600 contacts, and a record that nobody touches.
    fn old() -> MemoryBackend {
        let mut backend = MemoryBackend::new();
        let mut batch = Batch::new();
        backend::put_schema_version(&mut batch, 1);
        (0..600).for_each(|number| batch.put(format!("c/{number:04}"), format!("v1 {number}")));
        batch.put("x/other", "stays");
        backend.commit(&batch).unwrap();
        backend
    }

    fn all(backend: &MemoryBackend) -> Vec<(Vec<u8>, Vec<u8>)> {
        backend.scan(b"", None, usize::MAX).unwrap()
    }

    fn from_text(value: &[u8]) -> &str {
        std::str::from_utf8(value).unwrap()
    }

    /// 2: each contact says its version anew, and the odd ones go. 3: they move to another table.
    fn synthetic() -> Vec<Step<MemoryBackend>> {
        vec![
            Step {
                to: 2,
                run: |overlay| {
                    rewrite(overlay, b"c/", |_, value| {
                        let number: u32 = from_text(value).strip_prefix("v1 ").unwrap().parse().unwrap();
                        Ok(number.is_multiple_of(2).then(|| format!("v2 {number}").into_bytes()))
                    })
                },
            },
            Step {
                to: 3,
                run: |overlay| {
                    for (key, value) in overlay.scan(b"c/", None, usize::MAX)? {
                        assert!(value.starts_with(b"v2 "), "the steps run in order");
                        overlay.put([b"d/", &key[2..]].concat(), value);
                        overlay.remove(key);
                    }
                    Ok(())
                },
            },
        ]
    }

    #[test]
    fn steps_run_in_order_and_reach_the_disk_as_one_batch() {
        let disk = old();
        let mut overlay = Overlay::new(disk.reopen());
        let before = all(&disk);
        assert_eq!(bring_up(&mut overlay, &synthetic(), 3).unwrap(), Some(1));
        assert_eq!((all(&disk), disk.commits()), (before, 1), "nothing is on the disk before the commit");
        overlay.commit().unwrap();
        assert_eq!(disk.commits(), 2);
        assert_eq!(backend::schema_version(&disk).unwrap(), Some(3));
        let found = disk.scan(b"d/", None, usize::MAX).unwrap();
        assert_eq!(found.len(), 300);
        assert_eq!(found[299], (b"d/0598".to_vec(), b"v2 598".to_vec()));
        assert!(disk.scan(b"c/", None, 1).unwrap().is_empty());
        assert_eq!(disk.get(b"x/other").unwrap(), Some(b"stays".to_vec()));
        // There is nothing left to do the next time.
        let mut overlay = Overlay::new(disk.reopen());
        assert_eq!(bring_up(&mut overlay, &synthetic(), 3).unwrap(), Some(3));
        assert!(!overlay.is_dirty());
    }

    #[test]
    fn a_crash_before_the_commit_leaves_the_old_store_and_the_next_start_brings_it_up() {
        let disk = old();
        let before = all(&disk);
        for _ in 0..3 {
            let mut overlay = Overlay::new(disk.reopen());
            bring_up(&mut overlay, &synthetic(), 3).unwrap();
            disk.fail_commits(1);
            assert!(overlay.commit().is_err());
            assert_eq!(all(&disk), before);
        }
        let mut overlay = Overlay::new(disk.reopen());
        bring_up(&mut overlay, &synthetic(), 3).unwrap();
        overlay.commit().unwrap();
        assert_eq!(disk.scan(b"d/", None, usize::MAX).unwrap().len(), 300);
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_pending() {
        let disk = old();
        let mut steps = synthetic();
        steps[1].run = |overlay| {
            overlay.put("half", "done");
            Err(StoreError::corrupt_record(b"c/0002", "not a contact"))
        };
        let mut overlay = Overlay::new(disk.reopen());
        assert!(matches!(bring_up(&mut overlay, &steps, 3), Err(StoreError::Corrupt { .. })));
        assert!(!overlay.is_dirty());
    }

    #[test]
    fn too_new_too_old_and_fresh_stores() {
        let disk = old();
        let error = bring_up(&mut Overlay::new(disk.reopen()), &synthetic()[1..], 3).unwrap_err();
        assert!(matches!(error, StoreError::OlderSchema { found: 1, known: 3 }));
        assert!(error.to_string().contains("schema version 1"), "{error}");
        assert!(matches!(
            bring_up(&mut Overlay::new(disk.reopen()), &synthetic(), 0),
            Err(StoreError::NewerSchema { found: 1, known: 0 })
        ));
        let mut fresh = Overlay::new(MemoryBackend::new());
        assert_eq!(bring_up(&mut fresh, &synthetic(), 3).unwrap(), None);
        fresh.commit().unwrap();
        assert_eq!(backend::schema_version(fresh.backend()).unwrap(), Some(3));
    }

    #[test]
    fn the_steps_of_this_program_lead_to_its_schema_without_a_gap() {
        let numbers: Vec<u32> = steps::<MemoryBackend>().iter().map(|step| step.to).collect();
        let wanted: Vec<u32> = (0..=super::super::SCHEMA).skip(2).collect();
        assert_eq!(numbers, wanted);
    }
}

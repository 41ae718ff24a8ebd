//! What every backend must do: one suite, run by each backend's own tests.

use super::backend::{Backend, Batch, MAX_VALUE, StoreError};
use super::verify;

/// Opens the same store again each time it is called; the handle before must be dropped first.
pub type Reopen = Box<dyn FnMut() -> Box<dyn Backend>>;

/// Runs the suite; `fresh` makes a new, empty store for each part.
pub fn suite(mut fresh: impl FnMut() -> Reopen) {
    for part in [
        starts_empty_and_keeps_what_was_committed as fn(Reopen),
        scans_in_order_within_the_prefix,
        batches_replace_and_remove,
        refuses_what_it_cannot_keep_as_a_whole,
        keeps_awkward_bytes_and_sizes,
        keeps_many_records_over_many_batches,
    ] {
        part(fresh());
    }
}

fn batch(writes: &[(&[u8], Option<&[u8]>)]) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in writes {
        match value {
            Some(value) => batch.put(*key, *value),
            None => batch.remove(*key),
        }
    }
    batch
}

fn keys(backend: &dyn Backend, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Vec<u8>> {
    backend.scan(prefix, after, limit).unwrap().into_iter().map(|(key, _)| key).collect()
}

fn starts_empty_and_keeps_what_was_committed(mut open: Reopen) {
    let mut backend = open();
    assert_eq!(backend.get(b"a").unwrap(), None);
    assert_eq!(backend.get(b"").unwrap(), None);
    assert_eq!(backend.scan(b"", None, 10).unwrap(), []);
    backend.commit(&Batch::new()).unwrap();
    backend.commit(&batch(&[(b"a", Some(b"1")), (b"b", Some(b""))])).unwrap();
    for _ in 0..3 {
        assert_eq!(backend.get(b"a").unwrap(), Some(b"1".to_vec()));
        assert_eq!(backend.get(b"b").unwrap(), Some(Vec::new()), "an empty value is a value");
        assert_eq!(backend.get(b"ab").unwrap(), None);
        assert_eq!(backend.scan(b"", None, 10).unwrap().len(), 2);
        assert!(backend.size_on_disk().unwrap() > 0);
        backend.check().unwrap();
        drop(backend);
        backend = open();
    }
}

fn scans_in_order_within_the_prefix(mut open: Reopen) {
    let mut backend = open();
    let all: [&[u8]; 8] = [b"\0", b"a", b"a\0", b"a/1", b"a/2", b"a\xff", b"a\xff\xff", b"b"];
    let mut writes = Batch::new();
    for key in all.iter().rev() {
        writes.put(*key, "x");
    }
    backend.commit(&writes).unwrap();
    assert_eq!(keys(&*backend, b"", None, 99), all);
    assert_eq!(keys(&*backend, b"a", None, 99), all[1..7]);
    assert_eq!(keys(&*backend, b"a/", None, 99), all[3..5]);
    assert_eq!(keys(&*backend, b"a", Some(b"a/1"), 99), all[4..7]);
    assert_eq!(keys(&*backend, b"a", Some(b"a/1"), 2), all[4..6]);
    assert_eq!(keys(&*backend, b"a", Some(b"a/0"), 1), all[3..4], "`after` need not exist");
    assert_eq!(keys(&*backend, b"a/", Some(b"a"), 99), all[3..5], "`after` before the prefix changes nothing");
    assert_eq!(keys(&*backend, b"a/", Some(b"b"), 99), [] as [&[u8]; 0], "`after` beyond the prefix leaves nothing");
    assert_eq!(keys(&*backend, b"a\xff", None, 99), all[5..7]);
    assert_eq!(keys(&*backend, b"", Some(b""), 99), all, "the empty key is before all others");
    assert_eq!(keys(&*backend, b"", None, 0), [] as [&[u8]; 0]);
    assert_eq!(keys(&*backend, b"zz", None, 99), [] as [&[u8]; 0]);
}

fn batches_replace_and_remove(mut open: Reopen) {
    let mut backend = open();
    backend.commit(&batch(&[(b"a", Some(b"1")), (b"b", Some(b"2"))])).unwrap();
    backend.commit(&batch(&[(b"a", None), (b"b", Some(b"3")), (b"never", None)])).unwrap();
    drop(backend);
    let mut backend = open();
    assert_eq!(backend.scan(b"", None, 9).unwrap(), [(b"b".to_vec(), b"3".to_vec())]);
    backend.commit(&batch(&[(b"a", Some(b"4")), (b"b", None)])).unwrap();
    assert_eq!(backend.scan(b"", None, 9).unwrap(), [(b"a".to_vec(), b"4".to_vec())]);
    backend.check().unwrap();
}

fn refuses_what_it_cannot_keep_as_a_whole(mut open: Reopen) {
    let mut backend = open();
    assert!(matches!(backend.commit(&batch(&[(b"", Some(b"x")), (b"a", Some(b"x"))])), Err(StoreError::EmptyKey)));
    let mut large = batch(&[(b"a", Some(b"x"))]);
    large.put("z", vec![0; MAX_VALUE + 1]);
    assert!(matches!(backend.commit(&large), Err(StoreError::TooLarge { .. })));
    assert_eq!(backend.scan(b"", None, 9).unwrap(), [], "nothing of a refused batch is kept");
    backend.commit(&batch(&[(b"a", Some(b"x"))])).unwrap();
    assert_eq!(backend.get(b"a").unwrap(), Some(b"x".to_vec()));
}

fn keeps_awkward_bytes_and_sizes(mut open: Reopen) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let sizes = [1, 4_095, 70_000, 600_000, 2_000_000];
    let mut backend = open();
    let mut writes = Batch::new();
    writes.put(every_byte.clone(), every_byte.clone());
    writes.put(vec![255; 2_000], "long key");
    for size in sizes {
        writes.put(format!("size/{size}"), vec![b'v'; size]);
    }
    backend.commit(&writes).unwrap();
    for _ in 0..2 {
        assert_eq!(backend.get(&every_byte).unwrap().as_ref(), Some(&every_byte));
        assert_eq!(backend.get(&[255; 2_000]).unwrap(), Some(b"long key".to_vec()));
        for size in sizes {
            let value = backend.get(format!("size/{size}").as_bytes()).unwrap().unwrap();
            assert!(value.len() == size && value.iter().all(|byte| *byte == b'v'));
        }
        drop(backend);
        backend = open();
    }
}

fn keeps_many_records_over_many_batches(mut open: Reopen) {
    let mut backend = open();
    let name = |number: u32| format!("m/{number:06}");
    for round in 0..40_u32 {
        let mut writes = Batch::new();
        for number in round * 50..round * 50 + 100 {
            writes.put(name(number), format!("{round}/{}", "text ".repeat(20)));
        }
        writes.remove(name(round * 50));
        backend.commit(&writes).unwrap();
    }
    drop(backend);
    let backend = open();
    let mut after: Option<Vec<u8>> = None;
    let mut seen = 0;
    loop {
        let page = backend.scan(b"m/", after.as_deref(), 97).unwrap();
        for (key, value) in &page {
            let number: u32 = std::str::from_utf8(&key[2..]).unwrap().parse().unwrap();
            let last_round = (number / 50).min(39);
            assert!(value.starts_with(format!("{last_round}/").as_bytes()), "the newest value of {number}");
            assert!(!number.is_multiple_of(50) || number == 2_000, "{number} was removed last");
            seen += 1;
        }
        let Some((key, _)) = page.last() else { break };
        after = Some(key.clone());
    }
    assert_eq!(seen, 41 * 50 - 40);
    let report = verify::verify(&*backend, &[verify::Table { name: "m", prefix: b"m/", decode: &|_, _| Ok(()) }]);
    assert_eq!((report.records, report.problems.len()), (seen, 0));
}

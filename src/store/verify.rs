//! `store verify`: reads and decodes every record, and says what is wrong with each.

use super::backend::{Backend, StoreError};

const PAGE: usize = 512;
/// How many problems a report keeps; beyond it they are only counted.
pub const MAX_PROBLEMS: usize = 100;

/// Decodes key and value, or says what is wrong without quoting them.
pub type Decode<'a> = &'a dyn Fn(&[u8], &[u8]) -> Result<(), String>;

/// A table as `verify` sees it.
pub struct Table<'a> {
    /// What it is called in a report.
    pub name: &'a str,
    /// What its keys begin with.
    pub prefix: &'a [u8],
    /// What reads its records.
    pub decode: Decode<'a>,
}

/// What a verification found. The store is sound if `problem_count` is 0.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Records read, sound or not.
    pub records: u64,
    /// Problems found.
    pub problem_count: u64,
    /// The first [`MAX_PROBLEMS`] of them, one sentence each, without addresses or contents.
    pub problems: Vec<String>,
}

impl Report {
    fn problem(&mut self, sentence: String) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(sentence);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problem_count == 0
    }
}

/// Reads the whole of `backend`. Keys that begin with a zero byte are the store's own and belong to no table.
pub fn verify<B: Backend + ?Sized>(backend: &B, tables: &[Table<'_>]) -> Report {
    verify_watched(backend, tables, &mut |_| true).unwrap_or_else(|report| report)
}

/// The same. `watch` is told how many records were read, and goes on as long as that is `true`.
///
/// # Errors
/// What was found before it was ended.
pub fn verify_watched<B: Backend + ?Sized>(
    backend: &B,
    tables: &[Table<'_>],
    watch: &mut dyn FnMut(u64) -> bool,
) -> Result<Report, Report> {
    let mut report = Report::default();
    let mut after: Option<Vec<u8>> = None;
    // One damaged record fails the page that it is on: the page is then read record by record to get around it.
    let mut limit = PAGE;
    loop {
        if !watch(report.records) {
            return Err(report);
        }
        match backend.scan(b"", after.as_deref(), limit) {
            Ok(page) => {
                for (key, value) in &page {
                    report.records += 1;
                    examine(key, value, tables, &mut report);
                }
                let Some((key, _)) = page.into_iter().next_back() else { break };
                after = Some(key);
            }
            Err(_) if limit > 1 => limit = 1,
            Err(StoreError::Corrupt { what, key: Some(key) }) if after.as_ref().is_none_or(|after| key.0 > *after) => {
                report.records += 1;
                report.problem(what);
                after = Some(key.0);
                limit = PAGE;
            }
            Err(error) => {
                report.problem(format!("reading stopped: {error}"));
                break;
            }
        }
    }
    if let Err(error) = backend.check() {
        report.problem(error.to_string());
    }
    Ok(report)
}

fn examine(key: &[u8], value: &[u8], tables: &[Table<'_>], report: &mut Report) {
    if key.starts_with(b"\0") {
        return;
    }
    let longest = tables.iter().filter(|table| key.starts_with(table.prefix)).max_by_key(|table| table.prefix.len());
    match longest {
        None => report.problem(format!("a record of an unknown table ({})", key[..1].escape_ascii())),
        Some(table) => {
            if let Err(why) = (table.decode)(key, value) {
                report.problem(format!("table {}: {why}", table.name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::backend::{Batch, Record};
    use super::super::memory::MemoryBackend;
    use super::*;

    /// A backend on which the keys that contain `bad` cannot be read.
    struct Scratched(MemoryBackend);

    impl Backend for Scratched {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.0.get(key)
        }
        fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
            let page = self.0.scan(prefix, after, limit)?;
            match page.iter().find(|(key, _)| key.windows(3).any(|part| part == b"bad")) {
                Some((key, _)) => Err(StoreError::corrupt_record(key, "its checksum is wrong")),
                None => Ok(page),
            }
        }
        fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
            self.0.commit(batch)
        }
        fn size_on_disk(&self) -> Result<u64, StoreError> {
            self.0.size_on_disk()
        }
        fn check(&self) -> Result<(), StoreError> {
            Err(StoreError::corrupt("three records are missing"))
        }
    }

    #[test]
    fn every_problem_is_found_and_the_rest_is_still_read() {
        let mut backend = Scratched(MemoryBackend::new());
        let mut batch = Batch::new();
        for key in ["\0schema", "a/1", "a/bad", "a/bad2", "a/long", "b/1", "x/1"] {
            batch.put(key, "value");
        }
        batch.put("a/2", "broken");
        backend.commit(&batch).unwrap();
        let decode = |_: &[u8], value: &[u8]| if value == b"broken" { Err("not a contact".to_owned()) } else { Ok(()) };
        let never = |_: &[u8], _: &[u8]| Err("the longer prefix wins".to_owned());
        let tables = [
            Table { name: "a", prefix: b"a/", decode: &decode },
            Table { name: "long", prefix: b"a/long", decode: &never },
            Table { name: "b", prefix: b"b/", decode: &decode },
        ];
        let report = verify(&backend, &tables);
        assert_eq!((report.records, report.problem_count, report.is_sound()), (8, 6, false));
        let all = report.problems.join("\n");
        let parts =
            ["table a: not a contact", "table long: the longer", "unknown table (x)", "three records are missing"];
        for part in parts {
            assert!(all.contains(part), "{part} in {all}");
        }
        assert_eq!(all.matches("its checksum is wrong").count(), 2);
    }

    #[test]
    fn problems_kept_are_bounded() {
        let mut backend = MemoryBackend::new();
        let mut batch = Batch::new();
        (0..1_000_u32).for_each(|number| batch.put(number.to_be_bytes().map(|byte| byte | 0x80), "x"));
        backend.commit(&batch).unwrap();
        let report = verify(&backend, &[]);
        assert_eq!(report.problems.len(), MAX_PROBLEMS);
        assert_eq!(report.problem_count, report.records);
    }
}

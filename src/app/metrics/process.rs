//! What the process and its store take, as the system says it.

use std::{fs, path::Path, sync::OnceLock, time::SystemTime};

/// Folders within folders that are looked into: the store has one.
const DEPTH: usize = 3;

/// When the process began, in seconds since 1970: what is asked first counts, so ask early.
pub fn began() -> f64 {
    static BEGAN: OnceLock<f64> = OnceLock::new();
    *BEGAN.get_or_init(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0.0, |since| since.as_secs_f64())
    })
}

/// Resident memory, in bytes. `None` where the system does not say it so.
pub fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// Bytes of the files in a folder.
pub fn size_of(folder: &Path) -> Option<u64> {
    fn add(folder: &Path, depth: usize) -> Option<u64> {
        let mut size: u64 = 0;
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let more = if !meta.is_dir() {
                meta.len()
            } else if depth > 0 {
                add(&entry.path(), depth - 1).unwrap_or(0)
            } else {
                0
            };
            size = size.saturating_add(more);
        }
        Some(size)
    }
    add(folder, DEPTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_as_large_as_its_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::write(folder.path().join("a"), [0; 300]).unwrap();
        fs::write(folder.path().join("in/b"), [0; 21]).unwrap();
        assert_eq!(size_of(folder.path()), Some(321));
        assert_eq!(size_of(&folder.path().join("missing")), None);
    }

    #[test]
    fn the_process_knows_what_it_takes() {
        assert!(resident_memory().is_some_and(|bytes| bytes > 1_000_000));
        assert!(began() > 1_600_000_000.0 && (began() - began()).abs() < f64::EPSILON);
    }
}

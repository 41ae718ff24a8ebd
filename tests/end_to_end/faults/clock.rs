//! The bridge's wall clock, which can be stepped: libfaketime (Debian's package `libfaketime`), read from a file at each
//! look. Monotonic time is left alone, as a step of the real clock leaves it.

use std::fs;
use std::path::{Path, PathBuf};

/// A clock that only what runs through [`Clock::runner`] sees.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// One that goes right, with its file in `folder`; `None` where libfaketime is not installed.
    pub fn new(folder: &Path) -> Option<Self> {
        let library = fs::read_dir("/usr/lib").ok()?.flatten().find_map(|entry| {
            let library = entry.path().join("faketime/libfaketimeMT.so.1");
            library.exists().then_some(library)
        })?;
        let clock = Self { file: folder.join("clock"), library };
        clock.step(0);
        Some(clock)
    }

    /// What runs a program by this clock.
    pub fn runner(&self) -> Vec<String> {
        vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", self.library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file.display()),
            "FAKETIME_CACHE_DURATION=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "DONT_FAKE_MONOTONIC=1".to_owned(),
        ]
    }

    /// Steps it to so many seconds from the right time.
    pub fn step(&self, seconds: i64) {
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, format!("{seconds:+}\n")).expect("write the clock");
        fs::rename(&fresh, &self.file).expect("step the clock");
    }
}

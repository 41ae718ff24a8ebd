//! Opening the store, and the commands `store export`, `import` and `verify`.

use std::{
    fs::{self, OpenOptions},
    io::{BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rand::random;

use super::{cli::StoreAction, exit::Exit};
use crate::{
    config::Config,
    store::{
        SCHEMA, Store, StoreError,
        archive_file::{export, import},
        seal::{KeyFile, Seal},
        sled::SledBackend,
        verify::verify,
    },
};

/// Opens the store and its key; both are made at the first start.
pub fn open(config: &Config) -> Result<Store, StoreError> {
    let path = &config.store.path;
    let backend = SledBackend::open(path, random())?;
    // A key made anew would open nothing of a store that is there already.
    let fresh = crate::store::backend::schema_version(&backend)?.is_none();
    let key = if fresh {
        KeyFile::load_or_create(&config.store.key_file, random())?
    } else {
        KeyFile::load(&config.store.key_file)?
    };
    Store::open(Box::new(backend), Seal::new(&key), random())
}

/// The exit code of a store that cannot be used.
pub fn exit(error: &StoreError) -> Exit {
    match error {
        StoreError::NewerSchema { .. } | StoreError::NewerFormat { .. } => Exit::StoreUpgrade,
        StoreError::WrongKey | StoreError::KeyFile { .. } => Exit::StoreKey,
        _ => Exit::StoreOpen,
    }
}

/// `store …`.
pub fn store(config: &Config, action: &StoreAction) -> Exit {
    let result = match action {
        StoreAction::Export { file } => export_to(config, file),
        StoreAction::Import { file } => import_from(config, file),
        StoreAction::Verify => return verify_all(config),
    };
    match result {
        Ok(said) => {
            say(&said);
            Exit::Success
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            Exit::StoreTransfer
        }
    }
}

fn say(text: &str) {
    // Nothing is left to be done if stdout is closed.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn export_to(config: &Config, file: &Path) -> Result<String, StoreError> {
    let backend = SledBackend::open_existing(&config.store.path)?;
    let what = || format!("writing {}", file.display());
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(StoreError::io(what()))?;
    let mut out = BufWriter::new(out);
    let records = export(&backend, &mut out)?;
    let out = out.into_inner().map_err(|error| StoreError::io(what())(error.into_error()))?;
    out.sync_all().map_err(StoreError::io(what()))?;
    backend.close()?;
    Ok(format!(
        "{records} records exported to {}. The credentials in it are sealed with {}: keep that too.",
        file.display(),
        config.store.key_file.display()
    ))
}

fn import_from(config: &Config, file: &Path) -> Result<String, StoreError> {
    let source = fs::File::open(file).map_err(StoreError::io(format!("reading {}", file.display())))?;
    let mut backend = SledBackend::open(&config.store.path, random())?;
    let records = import(&mut BufReader::new(source), &mut backend, SCHEMA)?;
    backend.close()?;
    Ok(format!("{records} records imported from {}.", file.display()))
}

fn verify_all(config: &Config) -> Exit {
    let checked = SledBackend::open_existing(&config.store.path).and_then(|backend| {
        let report = verify(&backend, &crate::store::tables());
        backend.close()?;
        Ok(report)
    });
    match checked {
        Ok(report) if report.is_sound() => {
            say(&format!("{} records, all sound.", report.records));
            Exit::Success
        }
        Ok(report) => {
            for problem in &report.problems {
                let _ = writeln!(std::io::stderr(), "{problem}");
            }
            let _ = writeln!(std::io::stderr(), "{} of {} records are damaged.", report.problem_count, report.records);
            Exit::StoreTransfer
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            Exit::StoreTransfer
        }
    }
}

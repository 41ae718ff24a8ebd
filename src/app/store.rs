//! Opening the store, and the commands `store export`, `import` and `verify`.

use std::{
    fs::{self, OpenOptions},
    io::{BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rand::random;

use super::{cli::StoreAction, exit::Exit};
use crate::{
    config::Config,
    store::{
        SCHEMA, Store, StoreError,
        archive_file::{export, import, rotate_exports},
        backend::known_schema_version,
        seal::{KeyFile, Seal},
        sled::SledBackend,
        verify::verify,
    },
};

/// Opens the store and its key; both are made at the first start. `used`: it is about to be worked with, so the daily export
/// is taken if it is due, and a store of an older schema is brought up for good. Else nothing of it is changed.
pub fn open(config: &Config, used: bool) -> Result<Store, StoreError> {
    let path = &config.store.path;
    let backend = SledBackend::open(path, random())?;
    let found = known_schema_version(&backend, SCHEMA)?;
    // A key made anew would open nothing of a store that is there already.
    let key = match found {
        None => KeyFile::load_or_create(&config.store.key_file, random())?,
        Some(_) => KeyFile::load(&config.store.key_file)?,
    };
    match found {
        // What the program before could read is kept, whatever the day.
        Some(found) if used && found < SCHEMA => {
            let file = rotate_exports(&exports(config), EXPORTS, |out| export(&backend, out).map(drop))?;
            tracing::info!(path = %file.display(), from = found, to = SCHEMA, "the store was exported and is brought up");
        }
        Some(_) if used => take_export(config, &backend),
        _ => {}
    }
    let mut store = Store::open(Box::new(backend), Seal::new(&key), random())?;
    if used {
        store.commit()?;
    }
    Ok(store)
}

/// The folder of exports beside the store.
fn exports(config: &Config) -> PathBuf {
    let mut folder = config.store.path.clone().into_os_string();
    folder.push(".exports");
    folder.into()
}

/// Exports that are kept beside the store.
const EXPORTS: usize = 7;
/// A new export is taken at a start when the last is older than this.
const EXPORT_AGE: Duration = Duration::from_hours(24);

/// Takes an export of the store into the folder beside it named `<store.path>.exports`, once a day at most. That it fails
/// is told, and is no reason not to start.
fn take_export(config: &Config, backend: &SledBackend) {
    let folder = &exports(config);
    let newest = fs::read_dir(folder)
        .ok()
        .and_then(|entries| entries.filter_map(|entry| entry.ok()?.metadata().ok()?.modified().ok()).max());
    if newest.is_some_and(|at| at.elapsed().is_ok_and(|age| age < EXPORT_AGE)) {
        return;
    }
    match rotate_exports(folder, EXPORTS, |out| export(backend, out).map(drop)) {
        Ok(path) => tracing::info!(path = %path.display(), "the store was exported"),
        Err(error) => tracing::warn!(%error, "the store could not be exported"),
    }
}

/// The exit code of a store that cannot be used.
pub fn exit(error: &StoreError) -> Exit {
    match error {
        StoreError::NewerSchema { .. } | StoreError::OlderSchema { .. } | StoreError::NewerFormat { .. } => {
            Exit::StoreUpgrade
        }
        StoreError::Locked { .. } => Exit::StoreInUse,
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
        Err(error) => refused(&error),
    }
}

/// Why a command could not be done: that another process has the store is a cause of its own.
fn refused(error: &StoreError) -> Exit {
    // Nothing is left to be done if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{error}");
    if matches!(error, StoreError::Locked { .. }) { Exit::StoreInUse } else { Exit::StoreTransfer }
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
    let records = import(&mut BufReader::new(source), &mut backend, SCHEMA, Some(random()))?;
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
        Err(error) => refused(&error),
    }
}

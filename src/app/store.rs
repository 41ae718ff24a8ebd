//! Opening the store, and the commands `store export`, `import` and `verify`.

use std::{
    fs,
    io::{BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rand::random;

use super::{
    cli::StoreAction,
    exit::Exit,
    meter::{Meter, Stop},
};
use crate::{
    config::Config,
    store::{
        SCHEMA, Store, StoreError,
        archive_file::{export, export_watched, import_watched, rotate_exports},
        backend::known_schema_version,
        seal::{KeyFile, Seal},
        sled::SledBackend,
        verify::{Report, verify_watched},
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

/// `store …`. Ctrl-C ends it in order.
pub fn store(config: &Config, action: &StoreAction) -> Exit {
    let stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => return refused(&StoreError::io("listening for signals")(error)),
    };
    let result = match action {
        StoreAction::Export { file } => export_to(config, file, &stop),
        StoreAction::Import { file } => import_from(config, file, &stop),
        StoreAction::Verify => return verify_all(config, &stop),
    };
    match (result, action) {
        (Ok(said), _) => {
            say(&said);
            Exit::Success
        }
        (Err(StoreError::Cancelled), StoreAction::Export { file }) => {
            cancelled(&format!("Nothing was exported: there is no {}. The store is as it was.", file.display()))
        }
        (Err(StoreError::Cancelled), _) => {
            cancelled("Nothing was imported: the store is as empty as it was. `store import` begins anew.")
        }
        (Err(error), _) => refused(&error),
    }
}

/// Why a command could not be done: that another process has the store is a cause of its own.
fn refused(error: &StoreError) -> Exit {
    complain(&error.to_string());
    if matches!(error, StoreError::Locked { .. }) { Exit::StoreInUse } else { Exit::StoreTransfer }
}

fn cancelled(what: &str) -> Exit {
    complain(&format!("Cancelled. {what}"));
    Exit::Cancelled
}

fn complain(text: &str) {
    // Nothing is left to be done if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn say(text: &str) {
    // Nothing is left to be done if stdout is closed.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The file gets its name when it is whole and on the disk: nobody takes half an export for one.
fn export_to(config: &Config, file: &Path, stop: &Stop) -> Result<String, StoreError> {
    let backend = SledBackend::open_existing(&config.store.path)?;
    let failed = || StoreError::io(format!("writing {}", file.display()));
    if file.try_exists().map_err(failed())? {
        return Err(failed()(std::io::ErrorKind::AlreadyExists.into()));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Only we can read it, and it is removed if we do not come to the end.
    let partial =
        tempfile::Builder::new().prefix(".export-").suffix(".partial").tempfile_in(folder).map_err(failed())?;
    let mut out = BufWriter::new(partial);
    let mut meter = Meter::new("records");
    let records = export_watched(&backend, &mut out, &mut |done, total| {
        meter.at(done, total);
        !stop.is_asked()
    })?;
    meter.end();
    let partial = out.into_inner().map_err(|error| failed()(error.into_error()))?;
    partial.as_file().sync_all().map_err(failed())?;
    partial.persist_noclobber(file).map_err(|error| failed()(error.error))?;
    crate::store::sync_directory(folder)?;
    backend.close()?;
    Ok(format!(
        "{records} records exported to {}. The credentials in it are sealed with {}: keep that too.",
        file.display(),
        config.store.key_file.display()
    ))
}

fn import_from(config: &Config, file: &Path, stop: &Stop) -> Result<String, StoreError> {
    let source = fs::File::open(file).map_err(StoreError::io(format!("reading {}", file.display())))?;
    let mut backend = SledBackend::open(&config.store.path, random())?;
    let mut meter = Meter::new("records");
    let result =
        import_watched(&mut BufReader::new(source), &mut backend, SCHEMA, Some(random()), &mut |done, total| {
            meter.at(done, total);
            !stop.is_asked()
        });
    meter.end();
    backend.close()?;
    Ok(format!("{} records imported from {}.", result?, file.display()))
}

fn verify_all(config: &Config, stop: &Stop) -> Exit {
    let mut meter = Meter::new("records");
    let checked = SledBackend::open_existing(&config.store.path).and_then(|backend| {
        let report = verify_watched(&backend, &crate::store::tables(), &mut |done| {
            meter.at(done, None);
            !stop.is_asked()
        });
        backend.close()?;
        Ok(report)
    });
    meter.end();
    match checked {
        Ok(Ok(report)) if report.is_sound() => {
            say(&format!("{} records, all sound.", report.records));
            Exit::Success
        }
        Ok(Ok(report)) => {
            tell_problems(&report);
            complain(&format!("{} of {} records are damaged.", report.problem_count, report.records));
            Exit::StoreTransfer
        }
        Ok(Err(report)) => {
            tell_problems(&report);
            cancelled(&format!(
                "{} records were read, {} of them damaged; nothing was changed.",
                report.records, report.problem_count
            ))
        }
        Err(error) => refused(&error),
    }
}

fn tell_problems(report: &Report) {
    for problem in &report.problems {
        complain(problem);
    }
}

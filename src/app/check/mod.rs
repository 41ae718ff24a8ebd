//! `check`: goes through all that `run` needs and people get wrong, and says for each what is wrong, where, and what to do.
//!
//! It changes nothing that lasts: the bot's account and name are made as `run` would make them, and its presence ends offline.

mod abilities;
mod certificate;
mod files;
mod homeserver;
mod listener;
mod networks;
mod report;

use std::{
    io::{self, Write},
    path::Path,
};

use self::{homeserver::Outcome, report::Report};
use super::{
    cli::{self, CheckArguments, Failure, Files},
    exit::Exit,
    health, run, store,
};
use crate::{
    config::{Config, ConfigError},
    registration::{Disagreement, Registration},
    store::StoreError,
};

/// What comes after the configuration.
const AFTER_CONFIG: [&str; 5] = ["registration file", "disk", "homeserver", "networks", "store"];

/// Checks all that `run` needs.
pub fn check(arguments: &CheckArguments) -> Exit {
    let mut report = Report::new(io::stdout(), arguments.json);
    match examine(&mut report, &arguments.files) {
        Ok(()) => report.end(arguments.strict),
        Err(exit) => exit,
    }
}

fn examine<W: Write>(report: &mut Report<W>, files: &Files) -> Result<(), Exit> {
    let Some(config) = configuration(report, &files.config) else {
        for check in AFTER_CONFIG {
            report.skip(check, "the configuration cannot be used.");
        }
        return Ok(());
    };
    let registration = registration(report, &files.registration, &config);
    let puppets = puppets(report, &config);
    let key = files::secrets(report, files, &config);
    let disk = files::disk(report, &config);
    run::install_crypto();
    let runtime = tokio::runtime::Runtime::new().map_err(|_| Exit::Internal)?;
    let running = health::probe(config.appservice.listen).is_ok();
    let outcome = runtime.block_on(async {
        let outcome = if let Some(registration) = &registration {
            homeserver::check(report, &config, registration, running).await
        } else {
            report.skip("homeserver", "there is no registration to ask it with.");
            Outcome { client: None, answers: false }
        };
        match (&puppets, outcome.answers) {
            (Some(puppets), true) => homeserver::puppets(report, &config, puppets).await,
            (Some(_), false) => report.skip("double puppet", "the homeserver could not be asked."),
            (None, _) => {}
        }
        networks::check(report, &config).await;
        if let Some(address) = config.public_media.address.as_ref().filter(|_| config.public_media.enabled) {
            certificate::web(report, "public_media.address", address.url(), true).await;
        }
        if let Some(address) = &config.web.public_address {
            certificate::web(report, "web.public_address", address.url(), true).await;
        }
        outcome
    });
    let (blank, logins) = if key && disk {
        stored(report, &config, running)
    } else {
        report.skip("store", if disk { "its key cannot be used." } else { "its folder cannot be used." });
        (false, None)
    };
    files::open_files(report, logins);
    if let (true, Some(client)) = (blank, outcome.client) {
        runtime.block_on(homeserver::rooms(report, &config, &client));
    }
    Ok(())
}

/// What is wrong in a file that [`ConfigError`] tells of, each with its remedy.
fn refused<W: Write>(report: &mut Report<W>, check: &str, file: &Path, error: &ConfigError, absent: &str) {
    let file = file.display();
    if let ConfigError::Read { .. } = error {
        report.fail(check, error, format!("Run messenger-bridge {absent}, or name the file on the command line."));
    }
    for problem in error.problems() {
        let told = problem.to_string();
        let mut lines = told.lines();
        let finding = format!("{}.", lines.next().unwrap_or_default());
        let hint =
            lines.find_map(|line| line.strip_prefix("  = ")).map(|hint| format!(" ({hint})")).unwrap_or_default();
        let verb = if problem.missing { "Set" } else { "Correct" };
        let key = if problem.key.is_empty() { "it".to_owned() } else { problem.key.clone() };
        report.fail(check, finding, format!("{verb} {key} in {file}{hint}."));
    }
}

fn configuration<W: Write>(report: &mut Report<W>, path: &Path) -> Option<Config> {
    match Config::load(path) {
        Ok(config) => {
            report.ok("config", path.display());
            Some(config)
        }
        Err(error) => {
            // With the lines of the file, as `run` shows it.
            tell(&cli::unusable(path, &error));
            refused(report, "config", path, &error, "generate-config");
            None
        }
    }
}

fn tell(failure: &Failure) {
    // Nothing is left to be done if stderr is closed.
    let _ = writeln!(io::stderr(), "{}", failure.message);
}

/// The registration as it lies here. What is wrong in it does not keep from asking the homeserver with it.
fn registration<W: Write>(report: &mut Report<W>, path: &Path, config: &Config) -> Option<Registration> {
    const WHAT: &str = "registration file";
    let registration = match Registration::load(path) {
        Ok(registration) => registration,
        Err(error) => {
            refused(report, WHAT, path, &error, "generate-registration");
            return None;
        }
    };
    let file = path.display();
    let wrong = registration.disagreements(config);
    disagree(report, WHAT, path, &wrong);
    if registration.rate_limited {
        report.warn(
            WHAT,
            format!(
                "{file}: rate_limited is not false, so the homeserver's rate limits for people hold for the bridge."
            ),
            format!("Set rate_limited to false in {file}, copy it to the homeserver and restart that."),
        );
    } else if wrong.is_empty() {
        report.ok(WHAT, file);
    }
    Some(registration)
}

fn disagree<W: Write>(report: &mut Report<W>, check: &str, path: &Path, wrong: &[Disagreement]) {
    for Disagreement { what, remedy } in wrong {
        report.fail(check, format!("{}: {what}.", path.display()), remedy);
    }
}

/// The registration for double puppeting, where the configuration names one.
fn puppets<W: Write>(report: &mut Report<W>, config: &Config) -> Option<Registration> {
    let path = config.double_puppet.registration.as_ref()?;
    let what = "double puppet";
    match Registration::load(path) {
        Ok(puppets) => {
            let wrong = puppets.puppet_disagreements(config);
            disagree(report, what, path, &wrong);
            wrong.is_empty().then_some(puppets)
        }
        Err(error) => {
            refused(report, what, path, &error, "generate-registration (or set double_puppet.registration to null)");
            None
        }
    }
}

/// Opens the store. Gives whether it is there and was never used, and how many logins it has, if that could be asked.
fn stored<W: Write>(report: &mut Report<W>, config: &Config, running: bool) -> (bool, Option<usize>) {
    let path = config.store.path.display();
    let found = store::open(config, false).and_then(|store| Ok((store.is_blank()?, store.logins()?.len())));
    match found {
        Ok((blank, logins)) if running => {
            report.fail(
                "store",
                format!("a bridge runs at {}, but not with the store {path}.", config.appservice.listen),
                "Stop the bridge that runs, or set store.path and appservice.listen in config.yaml to its own for each of the two.",
            );
            (blank, Some(logins))
        }
        Ok((blank, logins)) => {
            report.ok("store", path);
            (blank, Some(logins))
        }
        Err(StoreError::Locked { .. }) if running => {
            report.ok("store", "in use by the running bridge.");
            (false, None)
        }
        Err(error) => {
            let finding = match &error {
                StoreError::Locked { path } => format!("{} is in use by another process.", path.display()),
                StoreError::Io { what, source } => format!("{what} failed: {}.", without_number(source)),
                error => error.to_string(),
            };
            let remedy = match &error {
                StoreError::Locked { .. } => "Stop the other process that has the store of store.path open.",
                StoreError::WrongKey | StoreError::KeyFile { .. } => {
                    "Put the key file that belongs to this store back to store.key_file."
                }
                StoreError::NewerSchema { .. } | StoreError::NewerFormat { .. } => {
                    "Run the version of messenger-bridge that worked with this store last."
                }
                StoreError::Corrupt { .. } => {
                    "Move the folder of store.path aside, and run messenger-bridge store import with the newest export."
                }
                _ => "Free space on the disk of store.path, and give the files there to the user that runs the bridge.",
            };
            report.fail("store", finding, remedy);
            (false, None)
        }
    }
}

/// What the system says, without its number.
fn without_number(error: &io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}

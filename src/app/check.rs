//! `check`: one line for each thing that must be right, with the remedy where it is not.

use std::{io::Write as _, sync::Arc};

use rand::random;
use secrecy::ExposeSecret;
use tokio::{net::TcpListener, sync::mpsc};

use super::{cli, exit::Exit, health, recover, run, settings, store};
use crate::{
    config::Config,
    domain::credentials::Secret,
    matrix::{
        appservice::AppService,
        client::Client,
        counters::Counters,
        start::{self, Finding},
    },
    registration::Registration,
    store::StoreError,
    xmpp::Xmpp,
};

/// Prints the lines and knows whether all passed.
#[derive(Default)]
struct Lines {
    failed: bool,
}

impl Lines {
    fn well(what: &str, text: &str) {
        // Nothing is left to be done if stdout is closed.
        let _ = writeln!(std::io::stdout(), "ok    {what}: {text}");
    }

    fn wrong(&mut self, what: &str, text: &str) {
        self.failed = true;
        let _ = writeln!(std::io::stdout(), "FAIL  {what}: {text}");
    }
}

impl Lines {
    /// A file is wrong: what is wrong in it goes where `run` says it too.
    fn refused(&mut self, what: &str, message: &str) {
        let _ = writeln!(std::io::stderr(), "{message}");
        self.wrong(what, "see above; mend the file.");
    }
}

impl Lines {
    /// Double puppeting, where the operator wants it.
    async fn puppets(&mut self, config: &Config, puppets: &Registration) {
        let Some(line) = run::double_puppet(config, puppets).await else { return };
        match &line.result {
            Ok(sentence) => Self::well(&line.check.to_string(), sentence),
            Err(finding) => self.wrong(&line.check.to_string(), &format!("{finding} {}", finding.remedy())),
        }
    }
}

/// Checks all that `run` needs.
pub fn check(arguments: &cli::CheckArguments) -> Exit {
    let files = &arguments.files;
    let mut lines = Lines::default();
    let config = match cli::load_config(&files.config) {
        Ok(config) => config,
        Err(failure) => {
            lines.refused("config", &failure.message);
            return Exit::CheckFailed;
        }
    };
    Lines::well("config", &files.config.display().to_string());
    let registration = match cli::load_registration(&files.registration, &config) {
        Ok(registration) => registration,
        Err(failure) => {
            lines.refused("registration", &failure.message);
            return Exit::CheckFailed;
        }
    };
    Lines::well("registration", &files.registration.display().to_string());
    let puppets = match cli::load_puppets(&config) {
        Ok(puppets) => puppets,
        Err(failure) => {
            lines.refused("double puppet", &failure.message);
            None
        }
    };
    run::install_crypto();
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return Exit::Internal };
    let running = health::probe(config.appservice.listen).is_ok();
    let answers = runtime.block_on(async {
        let answers = check_homeserver(&mut lines, &config, &registration, running).await;
        if let (Some(puppets), true) = (&puppets, answers.is_some()) {
            lines.puppets(&config, puppets).await;
        }
        check_networks(&mut lines, &config).await;
        answers
    });
    let blank = check_store(&mut lines, &config, running);
    if let (true, Some(client)) = (blank, answers) {
        runtime.block_on(check_rooms(&mut lines, &config, &client));
    }
    if lines.failed { Exit::CheckFailed } else { Exit::Success }
}

/// Gives the client if the homeserver knows us.
async fn check_homeserver(
    lines: &mut Lines,
    config: &Config,
    registration: &Registration,
    running: bool,
) -> Option<Client> {
    let (Some(identity), Ok(client)) = (run::identity(config, registration), run::client(config, registration, None))
    else {
        lines.wrong("homeserver", "homeserver.address cannot be used: write it like http://127.0.0.1:8008.");
        return None;
    };
    // The homeserver's ping must find us; where the bridge runs already, it finds that.
    let (mailbox, _inputs) = mpsc::channel(1);
    let service =
        AppService::new(Secret::new(registration.hs_token.expose_secret()), mailbox, Arc::new(Counters::default()));
    if running {
        Lines::well("listener", &format!("the bridge is running on {}.", config.appservice.listen));
    } else {
        match TcpListener::bind(config.appservice.listen).await {
            Ok(listener) => {
                Lines::well("listener", &format!("{} is free.", config.appservice.listen));
                let router = service.router();
                tokio::spawn(async move { axum::serve(listener, router).await });
            }
            Err(error) => lines.wrong(
                "listener",
                &format!(
                    "cannot listen on {}: {error}. Stop what listens there, or set another appservice.listen.",
                    config.appservice.listen
                ),
            ),
        }
    }
    let report = start::check(&client, &identity, &service, &format!("check-{:016x}", random::<u64>())).await;
    for line in &report.lines {
        let what = line.check.to_string();
        match &line.result {
            Ok(sentence) => Lines::well(&what, sentence),
            Err(Finding::PingElsewhere(_)) if running => {
                Lines::well(&what, "The homeserver reaches the running bridge.");
            }
            Err(finding) => lines.wrong(&what, &format!("{finding} {}", finding.remedy())),
        }
    }
    let known = report.lines.iter().any(|line| line.check == start::Check::Bot && line.result.is_ok());
    known.then_some(client)
}

/// An empty store and a bot that is in rooms do not go together.
async fn check_rooms(lines: &mut Lines, config: &Config, client: &Client) {
    match recover::is_needed(client, config).await {
        Ok(false) => {}
        Ok(true) => lines.wrong("rooms", recover::UNRECOVERED),
        Err(error) => lines.wrong("rooms", &format!("the rooms that the bot is in cannot be looked at: {error}")),
    }
}

async fn check_networks(lines: &mut Lines, config: &Config) {
    let xmpp = Xmpp::new(settings::networks(config));
    for name in config.networks.keys() {
        let what = format!("network {name}");
        match xmpp.probe(name).await {
            Ok(line) => Lines::well(&what, &line),
            Err(end) => lines.wrong(
                &what,
                &format!("{end}. Check its domain, address and tls in the configuration, and that its server runs."),
            ),
        }
    }
}

/// `true`: the store is there and was never used.
fn check_store(lines: &mut Lines, config: &Config, running: bool) -> bool {
    match store::open(config, false).and_then(|store| store.is_blank()) {
        Ok(blank) => {
            Lines::well("store", &config.store.path.display().to_string());
            return blank;
        }
        Err(StoreError::Locked { .. }) if running => Lines::well("store", "in use by the running bridge."),
        Err(error) => lines.wrong("store", &format!("{error}")),
    }
    false
}

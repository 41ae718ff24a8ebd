//! `run`: starts everything in order, and ends it in order.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rand::random;
use secrecy::ExposeSecret;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    cli, doors,
    driver::{self, MAILBOX, Shells},
    exit::Exit,
    files::{Bounds, Files},
    logging::{self, Level},
    metrics::{Metrics, Sources, process},
    public_media::PublicMedia,
    recover, settings, store,
};
use crate::{
    bridge::{Homeserver, Settings},
    config::Config,
    desk::Desk,
    domain::{Input, credentials::Secret},
    engine::Engine,
    matrix::{
        account_data::Followers,
        appservice::AppService,
        client::Client,
        counters::Counters,
        presence_task::PresenceKeeper,
        record::Record,
        sender::{self, IN_HAND, MatrixSender, REQUESTS_AT_ONCE},
        start::{self, Check, Finding, Identity},
        typing,
    },
    page::{Page, Patience},
    registration::Registration,
    web::{Limits, SystemLookup, Web},
    xmpp::Xmpp,
};

/// How long ending may take, from the signal on.
const ENDING: Duration = Duration::from_secs(10);
/// How long the homeserver may take to be there at the start.
const HOMESERVER_PATIENCE: Duration = Duration::from_mins(1);

/// Runs the bridge until it is told to stop.
/// `file`: where the configuration was read from.
pub fn run(config: &Config, registration: &Registration, file: &Path) -> Exit {
    process::began();
    let level = match logging::init(config.logging) {
        Ok(level) => level,
        Err(error) => {
            eprintln!("logging cannot be set up: {error}");
            return Exit::Logging;
        }
    };
    install_crypto();
    let puppets = match cli::load_puppets(config) {
        Ok(puppets) => puppets,
        Err(failure) => {
            tracing::error!("{}", failure.message);
            return failure.exit;
        }
    };
    let store = match store::open(config, true) {
        Ok(store) => store,
        Err(error) => {
            tracing::error!("{error}");
            return store::exit(&error);
        }
    };
    let Some(homeserver) = settings::homeserver(config) else { return Exit::ConfigInvalid };
    let blank = match store.is_blank() {
        Ok(blank) => blank,
        Err(error) => {
            tracing::error!("{error}");
            return store::exit(&error);
        }
    };
    let mut settings = settings::settings(config);
    settings.public_media = match settings::public_media(config, &store) {
        Ok(public) => public,
        Err(error) => {
            tracing::error!("{error}");
            return store::exit(&error);
        }
    };
    settings.page = match settings::page(config, &store) {
        Ok(page) => page,
        Err(error) => {
            tracing::error!("{error}");
            return store::exit(&error);
        }
    };
    let engine = match Engine::new(store, settings.clone(), homeserver.clone()) {
        Ok(engine) => engine,
        Err(error) => {
            tracing::error!("{error}");
            return store::exit(&error);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime cannot be started");
            return Exit::Internal;
        }
    };
    let begun = (blank, settings, homeserver);
    let exit = runtime.block_on(serve(config, registration, puppets.as_ref(), engine, begun, (level, file)));
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

/// One TLS provider for the whole process: with two, rustls would refuse to choose.
pub fn install_crypto() {
    // It fails only if one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Who we are to the homeserver.
pub fn identity(config: &Config, registration: &Registration) -> Option<Identity> {
    Some(Identity {
        appservice: registration.id.clone(),
        address: config.appservice.address.as_str().to_owned(),
        bot: settings::homeserver(config)?.bot,
        displayname: config.appservice.bot.displayname.clone(),
    })
}

/// The client that speaks with the registration's token, and for people with that of `puppets`, the registration for double
/// puppeting.
pub fn client(
    config: &Config,
    registration: &Registration,
    puppets: Option<&Registration>,
) -> Result<Client, crate::matrix::client::CallError> {
    let client = Client::new(config.homeserver.address.as_str(), Secret::new(registration.as_token.expose_secret()))?;
    Ok(match (puppets, settings::homeserver(config)) {
        (Some(puppets), Some(homeserver)) => {
            let token = Secret::new(puppets.as_token.expose_secret());
            client.with_puppets(token, homeserver.name, homeserver.bot)
        }
        _ => client,
    })
}

/// Does double puppeting work?
pub async fn double_puppet(config: &Config, puppets: &Registration) -> Option<start::Line> {
    let client = client(config, puppets, None).ok()?;
    Some(start::double_puppet(&client, &settings::homeserver(config)?.bot).await)
}

/// Says in the log where double puppeting does not work: ghosts speak instead.
async fn tell_double_puppet(config: &Config, puppets: Option<&Registration>) {
    let Some(puppets) = puppets else { return };
    match double_puppet(config, puppets).await {
        Some(start::Line { check, result: Ok(sentence) }) => tracing::info!(%check, "{sentence}"),
        Some(start::Line { check, result: Err(finding) }) => {
            tracing::warn!(%check, "{finding} Until then what people write elsewhere comes from a ghost. {}", finding.remedy());
        }
        None => {}
    }
}

/// `blank`: the store is new, so rooms that the bot is in already are an earlier one's.
/// `file`: the configuration, whose log level is read again when SIGHUP comes.
async fn serve(
    config: &Config,
    registration: &Registration,
    puppets: Option<&Registration>,
    engine: Engine,
    (blank, settings, served): (bool, Settings, Homeserver),
    (level, file): (Level, &Path),
) -> Exit {
    let (Some(identity), Ok(client)) = (identity(config, registration), client(config, registration, puppets)) else {
        tracing::error!("the homeserver's address cannot be used");
        return Exit::ConfigInvalid;
    };
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be listened for");
        return Exit::Internal;
    };
    let Some(listener) = listen(config.appservice.listen, "appservice.listen").await else { return Exit::Listener };
    let numbers = match config.metrics.listen {
        Some(address) => match listen(address, "metrics.listen").await {
            Some(listener) => Some(listener),
            None => return Exit::Listener,
        },
        None => None,
    };
    if !obey_hangups(file.to_owned(), level.clone()) {
        tracing::error!("signals cannot be listened for");
        return Exit::Internal;
    }

    let counters = Arc::new(Counters::default());
    let (mailbox, inputs) = mpsc::channel(MAILBOX);
    let service =
        AppService::new(Secret::new(registration.hs_token.expose_secret()), mailbox.clone(), Arc::clone(&counters));
    if blank {
        service.refuse_transactions();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the configuration")]
    let keeper = PresenceKeeper::new(config.presence.updates_per_second.ceil() as u32, Arc::clone(&counters));
    tokio::spawn(Arc::clone(&keeper).run(client.clone()));
    let (work, works) = mpsc::channel(IN_HAND);
    let matrix =
        Arc::new(MatrixSender::new(client.clone(), Arc::clone(&counters), Arc::clone(&keeper), REQUESTS_AT_ONCE));
    tokio::spawn(sender::pump(matrix, works, mailbox.clone()));
    let (reports, told) = mpsc::channel(MAILBOX);
    tokio::spawn(driver::forward(told, mailbox.clone()));
    let folder = config.store.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let bounds = Bounds::new(config.files.max_bytes, folder.to_owned());
    let trust = match settings::trust(config) {
        Ok(trust) => trust,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::ConfigInvalid;
        }
    };
    let web = Web::new(Arc::new(SystemLookup), settings::allowed(config), Limits::default());
    let files = Arc::new(Files::new(client.clone(), identity.bot.clone(), web, trust, bounds));
    let links = settings.public_media.as_ref().map(|public| public.key.clone());
    let public = links.map(|key| PublicMedia::new(key, Arc::clone(&files), mailbox.clone()));
    let desk = Desk::new(mailbox.clone());
    let page = settings.page.as_ref().map(|page| {
        Page::new(Arc::clone(&desk), &page.address, &config.appservice.bot.displayname, Patience::default())
    });
    let (board, api) = match doors::open(config, registration, &desk, settings, served) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(%error, "HTTP cannot be spoken");
            return Exit::Internal;
        }
    };
    let closing = CancellationToken::new();
    let http = tokio::spawn({
        let mut router = service.router().merge(api.router());
        if let Some(public) = &public {
            router = router.merge(public.router());
        }
        if let Some(page) = page {
            router = router.merge(page.router());
        }
        let closing = closing.clone();
        async move { axum::serve(listener, router).with_graceful_shutdown(closing.cancelled_owned()).await }
    });
    let metrics = numbers.map(|listener| {
        let metrics = Metrics::new(Sources {
            counters: Arc::clone(&counters),
            tally: Arc::clone(client.tally()),
            presence: Arc::clone(&keeper),
            presence_budget: config.presence.updates_per_second,
            mailbox: mailbox.clone(),
            store: config.store.path.clone(),
        });
        let (router, closing) = (metrics.router(), closing.clone());
        tokio::spawn(
            async move { axum::serve(listener, router).with_graceful_shutdown(closing.cancelled_owned()).await },
        );
        metrics
    });
    let shells = Shells {
        runtime: tokio::runtime::Handle::current(),
        service: Arc::clone(&service),
        xmpp: Xmpp::new(settings::networks(config)),
        work,
        files,
        public,
        desk,
        board,
        record: Record::new(client.clone(), identity.bot.clone()),
        followers: Followers::new(client.clone(), mailbox.clone(), tokio::runtime::Handle::current()),
        now: typing::Now::new(client.clone(), counters, Arc::clone(&keeper)),
        mailbox: mailbox.clone(),
        reports,
        metrics,
        level,
        store: config.store.path.clone(),
    };
    let mut ended = match driver::start(engine, shells, inputs) {
        Ok(ended) => ended,
        Err(error) => {
            tracing::error!(%error, "the engine's thread cannot be started");
            return Exit::Internal;
        }
    };
    tracing::info!(listen = %config.appservice.listen, metrics = ?config.metrics.listen, "listening");

    let going_on = async {
        match checked(&client, &identity, &service).await {
            Ok(facts) => {
                if let Err(exit) = unless_unrecovered(&client, config, blank).await {
                    return exit;
                }
                tell_double_puppet(config, puppets).await;
                keeper.homeserver(facts.presence, facts.busy);
                // The engine ends before its mailbox only with an error, which is told below.
                let _ = mailbox.send(Input::Homeserver { presence: facts.presence, busy: facts.busy }).await;
                let _ = mailbox.send(Input::Started).await;
                service.set_ready(true);
                tracing::info!("ready");
                if service.held_any() {
                    // The ping of the start had the homeserver try at once, before we were ready. Another has it try now.
                    let nonce = format!("ready-{:016x}", random::<u64>());
                    if let Err(error) = client.ping(&identity.appservice, &nonce).await {
                        tracing::warn!(%error, "the homeserver could not be asked to send what waits: it will by itself");
                    }
                }
                std::future::pending::<Exit>().await
            }
            Err(exit) => exit,
        }
    };
    let exit = tokio::select! {
        exit = going_on => exit,
        end = &mut ended => {
            if let Ok(Err(error)) = end {
                tracing::error!("{error}");
                return store::exit(&error);
            }
            tracing::error!("the engine ended by itself");
            return Exit::Internal;
        }
        _ = terminate.recv() => Exit::Success,
        _ = interrupt.recv() => Exit::Success,
    };

    // First the homeserver is no longer listened to, then streams are left so that they can be resumed.
    tracing::info!("ending");
    service.set_ready(false);
    closing.cancel();
    let ending = async {
        let _ = mailbox.send(Input::Suspend).await;
        let end = (&mut ended).await;
        let _ = timeout(Duration::from_secs(2), http).await;
        end
    };
    match timeout(ENDING, ending).await {
        Ok(Ok(Err(error))) => {
            tracing::error!("{error}");
            store::exit(&error)
        }
        Ok(_) => exit,
        Err(_) => Exit::ShutdownTimedOut,
    }
}

/// `key` names the address in the configuration.
async fn listen(address: SocketAddr, key: &str) -> Option<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::error!("cannot listen on {address}: {error}; set another {key}, or stop what listens there");
            None
        }
    }
}

/// From now on SIGHUP reads the log level from the configuration again, and nothing else. `false`: it cannot be listened for.
fn obey_hangups(file: PathBuf, level: Level) -> bool {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return false };
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let path = file.clone();
            match tokio::task::spawn_blocking(move || Config::load(&path)).await {
                Ok(Ok(config)) => level.set(config.logging.level.into()),
                Ok(Err(error)) => tracing::error!("the log level stays as it is: {error}"),
                Err(error) => tracing::error!(%error, "the configuration cannot be read again"),
            }
        }
    });
    true
}

/// The checks of the start, until the homeserver is there. What time cannot cure ends the program.
async fn checked(client: &Client, identity: &Identity, service: &AppService) -> Result<start::Facts, Exit> {
    let began = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(500);
    loop {
        let report = start::check(client, identity, service, &format!("start-{:016x}", random::<u64>())).await;
        let mut wrong = None;
        for line in &report.lines {
            match &line.result {
                Ok(sentence) => tracing::info!(check = %line.check, "{sentence}"),
                Err(finding) => {
                    tracing::error!(check = %line.check, "{finding} {}", finding.remedy());
                    wrong = wrong.or(Some((line.check, finding)));
                }
            }
        }
        let Some((check, finding)) = wrong else { return Ok(report.facts) };
        if check == Check::Presence {
            // A homeserver whose presence cannot be asked for is served without.
            return Ok(report.facts);
        }
        if !finding.may_pass() || began.elapsed() > HOMESERVER_PATIENCE {
            return Err(exit_of(check, finding));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

/// Nothing of the homeserver has been taken in yet: with an empty store it would be answered for and lost.
async fn unless_unrecovered(client: &Client, config: &Config, blank: bool) -> Result<(), Exit> {
    if !blank {
        return Ok(());
    }
    match recover::is_needed(client, config).await {
        Ok(false) => Ok(()),
        Ok(true) => {
            tracing::error!("{}", recover::UNRECOVERED);
            Err(Exit::StoreUnrecovered)
        }
        Err(error) => {
            tracing::error!("the rooms that the bot is in cannot be looked at: {error}");
            Err(Exit::HomeserverUnreachable)
        }
    }
}

/// The exit code of what was found wrong.
pub fn exit_of(check: Check, finding: &Finding) -> Exit {
    match (check, finding) {
        (_, Finding::OtherBot(_) | Finding::OtherDomain(_)) => Exit::WhoamiMismatch,
        (_, Finding::NotInstalled | Finding::TokenTaken | Finding::OtherId) => Exit::RegistrationUnknown,
        (Check::Ping, _) => Exit::PingFailed,
        (Check::Registration | Check::Bot, _) => Exit::WhoamiMismatch,
        (Check::Homeserver | Check::Presence | Check::DoublePuppet, _) => Exit::HomeserverUnreachable,
    }
}

//! The homeserver: whether it knows us, reaches us, and does what the bridge needs of it.

use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

use rand::random;
use secrecy::ExposeSecret;
use tokio::{net::TcpListener, sync::mpsc};

use super::{
    certificate::{self, now},
    report::Report,
};
use crate::{
    app::{health, recover, run},
    config::Config,
    domain::credentials::Secret,
    matrix::{
        appservice::{AppService, SEEN_PATH, Seen},
        client::Client,
        counters::Counters,
        probe::{self, Media},
        start::{self, Check, Finding, Identity},
    },
    registration::Registration,
};

/// A difference between two clocks that spoils nothing yet, and one at which messages get wrong times and certificates seem to have
/// ended, in seconds.
const SKEW: u64 = 30;
const LARGE_SKEW: u64 = 300;
/// What a running bridge may take to answer; it waits for news for less.
const SEEN_PATIENCE: Duration = Duration::from_secs(10);

/// What the check of the homeserver has found.
pub struct Outcome {
    /// The client, if the homeserver knows us.
    pub client: Option<Client>,
    /// The homeserver answers at all.
    pub answers: bool,
}

/// Whom the homeserver's requests reach.
enum Listening {
    /// This process.
    Here(Arc<AppService>),
    /// A bridge that runs with this configuration.
    Running(Running),
    /// Something else.
    Nobody,
}

/// Asks the homeserver everything. `running`: something that lives like a bridge listens already.
pub async fn check<W: Write>(
    report: &mut Report<W>,
    config: &Config,
    registration: &Registration,
    running: bool,
) -> Outcome {
    let (Some(identity), Ok(client)) = (run::identity(config, registration), run::client(config, registration, None))
    else {
        report.fail(
            "homeserver",
            "homeserver.address cannot be used.",
            "Set homeserver.address in config.yaml to an address such as http://127.0.0.1:8008.",
        );
        return Outcome { client: None, answers: false };
    };
    // The homeserver's ping must find us; where the bridge runs already, it finds that.
    let (mailbox, _inputs) = mpsc::channel(1);
    let service =
        AppService::new(Secret::new(registration.hs_token.expose_secret()), mailbox, Arc::new(Counters::default()));
    service.only_look();
    let listening = listen(report, config, registration, &service, running).await;
    let before = listening.seen(None).await.map_or(0, |seen| seen.transactions);

    if !certificate::web(report, "homeserver.address", config.homeserver.address.url(), false).await {
        report.skip("homeserver", "without a certificate that can be trusted nothing is said to it.");
        return Outcome { client: None, answers: false };
    }
    let nonce = format!("check-{:016x}", random::<u64>());
    let found = start::check(&client, &identity, &service, &nonce).await;
    let mut reaches = false;
    for line in &found.lines {
        let what = line.check.to_string();
        match (&line.check, &line.result) {
            (Check::Presence, result) => presence(report, config, result, found.facts.presence),
            (Check::Ping, Err(finding @ Finding::PingElsewhere(_))) => {
                reaches = elsewhere(report, &listening, finding, &nonce).await;
            }
            (check, Ok(sentence)) => {
                reaches |= *check == Check::Ping;
                report.ok(&what, sentence);
            }
            (_, Err(finding)) => report.fail(&what, finding, finding.remedy()),
        }
    }
    let of = |check: Check| found.lines.iter().find(|line| line.check == check);
    let well = |check: Check| of(check).is_some_and(|line| line.result.is_ok());
    for (check, needs) in [
        (Check::Registration, "the homeserver does not answer."),
        (Check::Bot, "the homeserver does not know the registration."),
        (Check::Ping, "the homeserver does not know the registration."),
        (Check::Presence, "the bot has no account."),
    ] {
        if of(check).is_none() {
            report.skip(
                &check.to_string(),
                if well(Check::Homeserver) { needs } else { "the homeserver does not answer." },
            );
        }
    }
    if well(Check::Homeserver) {
        clock(report, &client).await;
    } else {
        report.skip("clock", "the homeserver does not answer.");
    }
    if !well(Check::Bot) {
        let answers = well(Check::Homeserver);
        let reason =
            if answers { "the homeserver does not let the bot in." } else { "the homeserver does not answer." };
        for check in ["ephemeral", "rate limit", "media"] {
            report.skip(check, reason);
        }
        return Outcome { client: None, answers };
    }
    if reaches && found.facts.presence {
        ephemeral(report, &listening, before).await;
    } else {
        let reason = if reaches { "presence could not be shown" } else { "the homeserver does not reach this bridge" };
        report.skip("ephemeral", format!("{reason}, so nothing would come; {}", in_the_file(registration)));
    }
    limits(report, &client, &identity).await;
    media(report, &client).await;
    Outcome { client: Some(client), answers: true }
}

/// Opens the port that the homeserver sends to, or finds out who has it.
async fn listen<W: Write>(
    report: &mut Report<W>,
    config: &Config,
    registration: &Registration,
    service: &Arc<AppService>,
    running: bool,
) -> Listening {
    let at = config.appservice.listen;
    if running {
        let running = Running { at, hs_token: Secret::new(registration.hs_token.expose_secret()) };
        return match running.seen(None).await {
            Err(Unseen::Refused) => {
                report.fail(
                    "listener",
                    format!("at {at} (appservice.listen) a bridge runs with another registration: it does not take our hs_token."),
                    "Set appservice.listen in config.yaml to a port of its own, or start the bridge that runs again with this \
                     registration.yaml.",
                );
                Listening::Nobody
            }
            Ok(_) | Err(Unseen::Unknown) => {
                report.ok("listener", format!("the bridge is running on {at}."));
                Listening::Running(running)
            }
        };
    }
    match TcpListener::bind(at).await {
        Ok(listener) => {
            report.ok("listener", format!("{at} is free."));
            let router = service.router();
            tokio::spawn(async move { axum::serve(listener, router).await });
            Listening::Here(Arc::clone(service))
        }
        Err(error) => {
            let why = super::without_number(&error);
            report.fail(
                "listener",
                format!("cannot listen on {at} (appservice.listen): {why}."),
                "Stop what listens there, or set another appservice.listen in config.yaml.",
            );
            Listening::Nobody
        }
    }
}

impl Listening {
    /// What whoever listens has seen. `after`: it waits a moment for more transactions than so many.
    async fn seen(&self, after: Option<u64>) -> Option<Seen> {
        match self {
            Self::Here(service) => match after {
                Some(after) => Some(service.seen(after).await),
                None => Some(Seen::default()),
            },
            Self::Running(running) => running.seen(after).await.ok(),
            Self::Nobody => None,
        }
    }
}

/// A bridge that runs.
struct Running {
    at: SocketAddr,
    hs_token: Secret,
}

/// Why a running bridge does not tell.
enum Unseen {
    /// It has another `hs_token`.
    Refused,
    /// It is of a version that tells nothing.
    Unknown,
}

impl Running {
    async fn seen(&self, after: Option<u64>) -> Result<Seen, Unseen> {
        let client =
            reqwest::Client::builder().no_proxy().timeout(SEEN_PATIENCE).build().map_err(|_| Unseen::Unknown)?;
        let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let url = format!("http://{}{SEEN_PATH}{after}", health::reachable(self.at));
        let answer = client.get(url).bearer_auth(self.hs_token.expose()).send().await.map_err(|_| Unseen::Unknown)?;
        match answer.status().as_u16() {
            200 => {
                let body = answer.bytes().await.map_err(|_| Unseen::Unknown)?;
                serde_json::from_slice(&body).map_err(|_| Unseen::Unknown)
            }
            401 | 403 => Err(Unseen::Refused),
            _ => Err(Unseen::Unknown),
        }
    }
}

/// The ping was taken by another process. Gives whether it is the one that should take it.
async fn elsewhere<W: Write>(report: &mut Report<W>, listening: &Listening, finding: &Finding, nonce: &str) -> bool {
    let what = Check::Ping.to_string();
    let well = match listening {
        Listening::Running(running) => match running.seen(None).await {
            Ok(seen) => seen.ping.as_deref() == Some(nonce),
            // It cannot be told from another.
            Err(Unseen::Unknown) => true,
            Err(Unseen::Refused) => false,
        },
        Listening::Here(_) | Listening::Nobody => false,
    };
    if well {
        report.ok(&what, "The homeserver reaches the running bridge.");
    } else {
        report.fail(&what, finding, finding.remedy());
    }
    well
}

fn presence<W: Write>(report: &mut Report<W>, config: &Config, result: &Result<String, Finding>, kept: bool) {
    let what = Check::Presence.to_string();
    let wanted = config.presence.to_matrix || config.presence.from_matrix;
    match result {
        Ok(sentence) if kept || !wanted => report.ok(&what, sentence),
        Ok(sentence) => report.warn(
            &what,
            sentence,
            "Set presence.enabled to true in the homeserver's homeserver.yaml, or presence.to_matrix and presence.from_matrix to \
             false in config.yaml.",
        ),
        Err(Finding::Other(error)) if error.limited().is_some() => {
            report.skip(&what, "the homeserver's rate limit holds it up; see \"rate limit\".");
        }
        Err(finding) => report.fail(&what, finding, finding.remedy()),
    }
}

async fn clock<W: Write>(report: &mut Report<W>, client: &Client) {
    match probe::clock(client).await {
        Ok(Some(theirs)) => skew(report, theirs - now()),
        Ok(None) => report.skip("clock", "the homeserver's answers carry no Date."),
        Err(error) => report.skip("clock", error),
    }
}

/// `ahead`: by how many seconds the homeserver's clock is ahead of ours.
fn skew<W: Write>(report: &mut Report<W>, ahead: i64) {
    let by = ahead.unsigned_abs();
    let way = if ahead > 0 { "ahead of" } else { "behind" };
    let finding = format!("The homeserver's clock is {by} s {way} this machine's.");
    let remedy = "Set both clocks by a time server (timedatectl set-ntp true).";
    match by {
        0..SKEW => report.ok("clock", "The homeserver's clock and this machine's agree."),
        SKEW..LARGE_SKEW => report.warn("clock", finding, remedy),
        LARGE_SKEW.. => report.fail("clock", finding, remedy),
    }
}

/// Whether the homeserver sends typing, receipts and presence: when the bot's presence changed, as it has just now, it must have sent
/// that, and the keys of what it sends say what its copy of the registration asks for.
async fn ephemeral<W: Write>(report: &mut Report<W>, listening: &Listening, before: u64) {
    let remedy = "Set receive_ephemeral and de.sorunome.msc2409.push_ephemeral to true in the homeserver's copy of registration.yaml, \
                  and restart it.";
    let Some(seen) = listening.seen(Some(before)).await else {
        report.skip("ephemeral", "the running bridge does not tell what it has seen.");
        return;
    };
    if seen.transactions <= before {
        let finding = "The homeserver sent nothing when the bot's presence changed: its copy of the registration lacks \
                       receive_ephemeral and de.sorunome.msc2409.push_ephemeral. Typing, receipts and presence are missing.";
        report.fail("ephemeral", finding, remedy);
        return;
    }
    match (seen.flags.receive_ephemeral, seen.flags.push_ephemeral) {
        (true, true) => report.ok("ephemeral", "The homeserver sends typing, receipts and presence."),
        (false, false) => {
            let finding = "The homeserver sends events, but no typing, receipts and presence: its copy of the registration lacks \
                           receive_ephemeral and de.sorunome.msc2409.push_ephemeral.";
            report.fail("ephemeral", finding, remedy);
        }
        (stable, _) => {
            let missing = if stable { "de.sorunome.msc2409.push_ephemeral" } else { "receive_ephemeral" };
            let finding = format!(
                "The homeserver sends typing, receipts and presence, but its copy of the registration lacks {missing}, which other \
                 versions of it want."
            );
            report.warn("ephemeral", finding, remedy);
        }
    }
}

fn in_the_file(registration: &Registration) -> &'static str {
    if registration.receive_ephemeral && registration.push_ephemeral {
        "registration.yaml here sets both of its keys."
    } else {
        "registration.yaml here does not set both of its keys."
    }
}

async fn limits<W: Write>(report: &mut Report<W>, client: &Client, identity: &Identity) {
    match probe::is_limited(client, &identity.bot).await {
        Ok(false) => report.ok("rate limit", "The homeserver does not slow the bridge down."),
        Ok(true) => report.warn(
            "rate limit",
            "The homeserver refuses a quick series of requests (429): its rate limits for people hold for the bridge.",
            "Set rate_limited to false in the homeserver's copy of registration.yaml, and restart it.",
        ),
        Err(error) => report.skip("rate limit", error),
    }
}

async fn media<W: Write>(report: &mut Report<W>, client: &Client) {
    match probe::media(client).await {
        Ok(Media::Authenticated) => report.ok("media", "The homeserver takes and gives files."),
        Ok(Media::Old) => report.fail(
            "media",
            "The homeserver does not know authenticated media (Matrix 1.11), by which the bridge fetches files.",
            "Upgrade the homeserver (Synapse to 1.111 or newer).",
        ),
        Ok(Media::Absent) => report.fail(
            "media",
            "The homeserver has no media repository: files and pictures cannot cross.",
            "Set enable_media_repo to true and add media to the listener's resources in homeserver.yaml, and let a proxy pass \
             /_matrix/client/v1/media and /_matrix/media on.",
        ),
        Err(error) => report.skip("media", error),
    }
}

/// An empty store and a bot that is in rooms do not go together.
pub async fn rooms<W: Write>(report: &mut Report<W>, config: &Config, client: &Client) {
    match recover::is_needed(client, config).await {
        Ok(false) => {}
        Ok(true) => report.fail(
            "rooms",
            "the store is empty, but the bot is in rooms of an earlier one, which recover finds again; begun anew, what is said in \
             them would be lost, and every contact would get a second room.",
            "Run messenger-bridge recover, or put the old store back to store.path.",
        ),
        Err(error) => report.skip("rooms", format!("the rooms that the bot is in cannot be looked at: {error}")),
    }
}

/// Double puppeting, where the operator wants it.
pub async fn puppets<W: Write>(report: &mut Report<W>, config: &Config, puppets: &Registration) {
    let Some(line) = run::double_puppet(config, puppets).await else { return };
    match &line.result {
        Ok(sentence) => report.ok(&line.check.to_string(), sentence),
        Err(finding) => report.fail(&line.check.to_string(), finding, finding.remedy()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_a_little() {
        for (ahead, level, says) in [
            (0, "ok", "agree"),
            (-29, "ok", "agree"),
            (30, "warn", "30 s ahead of"),
            (-299, "warn", "299 s behind"),
            (300, "FAIL", "300 s ahead of"),
            (i64::MIN, "FAIL", "behind"),
        ] {
            let mut out = Vec::new();
            skew(&mut Report::new(&mut out, false), ahead);
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with(level) && text.contains(says), "{ahead}: {text}");
        }
    }
}

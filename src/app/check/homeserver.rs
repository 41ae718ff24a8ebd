//! The homeserver: whether it knows us, reaches us, and does what the bridge needs of it.

use std::{io::Write, sync::Arc};

use rand::random;
use secrecy::ExposeSecret;
use tokio::sync::mpsc;

use super::{
    abilities::{clock, ephemeral, in_the_file, limits, media, presence},
    certificate,
    listener::{elsewhere, listen},
    report::Report,
};
use crate::{
    app::{recover, run},
    config::Config,
    domain::credentials::Secret,
    matrix::{
        appservice::AppService,
        client::Client,
        counters::Counters,
        start::{self, Check, Finding},
    },
    registration::Registration,
};

/// What the check of the homeserver has found.
pub struct Outcome {
    /// The client, if the homeserver knows us.
    pub client: Option<Client>,
    /// The homeserver answers at all.
    pub answers: bool,
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

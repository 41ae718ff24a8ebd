//! What the homeserver does for the bridge beside knowing it: presence, ephemeral events, files, the right time, no limits.

use std::io::Write;

use super::{certificate::now, listener::Listening, report::Report};
use crate::{
    config::Config,
    matrix::{
        client::Client,
        probe::{self, Media},
        start::{Check, Finding, Identity},
    },
    registration::Registration,
};

/// A difference between two clocks that spoils nothing yet, and one at which messages get wrong times and certificates seem to have
/// ended, in seconds.
const SKEW: u64 = 30;
const LARGE_SKEW: u64 = 300;
/// Presence, as the checks of the start have found it. `kept`: the homeserver keeps it.
pub fn presence<W: Write>(report: &mut Report<W>, config: &Config, result: &Result<String, Finding>, kept: bool) {
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

/// The homeserver's clock beside ours.
pub async fn clock<W: Write>(report: &mut Report<W>, client: &Client) {
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
pub async fn ephemeral<W: Write>(report: &mut Report<W>, listening: &Listening, before: u64) {
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

/// What the registration here says of it, where the homeserver could not be asked.
pub fn in_the_file(registration: &Registration) -> &'static str {
    if registration.receive_ephemeral && registration.push_ephemeral {
        "registration.yaml here sets both of its keys."
    } else {
        "registration.yaml here does not set both of its keys."
    }
}

/// Whether rate limits hold for us.
pub async fn limits<W: Write>(report: &mut Report<W>, client: &Client, identity: &Identity) {
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

/// Whether files can cross.
pub async fn media<W: Write>(report: &mut Report<W>, client: &Client) {
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

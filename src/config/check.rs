//! What types alone do not say: bounds, and what must fit together.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::fault::Fault;
use super::network;
use super::sections::Config;
use super::values::Span;

/// Ghosts' localparts begin with this; it is the registration's exclusive namespace.
pub const GHOST_PREFIX: &str = "messenger_";

/// An MXID may have so many bytes (Matrix spec, appendices, "User Identifiers").
const MAX_MXID: usize = 255;

/// Rooms per second and login.
const PORTALS_PER_SECOND: RangeInclusive<f64> = 0.01..=100.0;
/// Presence requests per second.
const PRESENCE_PER_SECOND: RangeInclusive<f64> = 0.1..=1000.0;
/// When a person is told of a message that waits.
const WARN_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
/// When a message is given up.
const EXPIRE: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(365 * 24);
/// Bytes of a file: a kilobyte, a terabyte.
const FILE_BYTES: RangeInclusive<u64> = 1024..=1024 * 1024 * 1024 * 1024;
/// How long a link to a file may last.
const LINK: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(365 * 24);
/// Logins of one person.
const MAX_LOGINS: RangeInclusive<u32> = 1..=1000;
/// Bytes of the API's secret: whoever guesses it acts for everybody.
const SHARED_SECRET: RangeInclusive<usize> = 16..=1024;
/// Messages per chat.
const MAX_HISTORY: u32 = 10_000;

/// Checks a configuration and makes its paths relative to `base`, the config file's folder.
pub(super) fn check(config: &mut Config, base: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |path: &[&str], text: String| faults.push(Fault::new(text).at_path(path));

    let bot = &config.appservice.bot;
    if let Err(text) = localpart(&bot.localpart, config.homeserver.domain.as_str()) {
        fault(&["appservice", "bot", "localpart"], text);
    }
    if bot.displayname.trim().is_empty() || bot.displayname.chars().count() > 100 {
        fault(&["appservice", "bot", "displayname"], "a name has 1 to 100 characters".to_owned());
    }
    if config.appservice.listen.port() == 0 {
        fault(&["appservice", "listen"], "the port must be between 1 and 65535".to_owned());
    }
    for (path, url) in [
        (["homeserver", "address"], config.homeserver.address.url()),
        (["appservice", "address"], config.appservice.address.url()),
    ] {
        if url.query().is_some() || url.fragment().is_some() {
            fault(&path, "an address has neither a query (?…) nor a fragment (#…)".to_owned());
        }
    }

    let store = &mut config.store;
    store.path = base.join(&store.path);
    store.key_file = base.join(&store.key_file);
    // Whoever copies the folder of the database must not get the key with it.
    if store.key_file.starts_with(&store.path) {
        fault(&["store", "key_file"], "must lie outside of store.path".to_owned());
    }
    if let Some(file) = &mut config.double_puppet.registration {
        *file = base.join(&*file);
    }

    if !PORTALS_PER_SECOND.contains(&config.portals.per_second) {
        fault(&["portals", "per_second"], out_of(&PORTALS_PER_SECOND));
    }
    if !PRESENCE_PER_SECOND.contains(&config.presence.updates_per_second) {
        fault(&["presence", "updates_per_second"], out_of(&PRESENCE_PER_SECOND));
    }
    let (Span(warn_after), Span(expire)) = (config.outbox.warn_after, config.outbox.expire);
    if !WARN_AFTER.contains(&warn_after) {
        fault(&["outbox", "warn_after"], "not between 1s and 1d".to_owned());
    }
    if !EXPIRE.contains(&expire) {
        fault(&["outbox", "expire"], "not between 1m and 365d".to_owned());
    }
    if expire < warn_after {
        fault(&["outbox", "expire"], "shorter than outbox.warn_after: nobody would be told in time".to_owned());
    }
    if !FILE_BYTES.contains(&config.files.max_bytes) {
        let text = format!("not between {} and {}", FILE_BYTES.start(), FILE_BYTES.end());
        fault(&["files", "max_bytes"], text);
    }
    let public = &config.public_media;
    let Span(lasts) = public.expires;
    if !LINK.contains(&lasts) {
        fault(&["public_media", "expires"], "not between 1s and 365d".to_owned());
    }
    match &public.address {
        None if public.enabled => {
            let text = "needed with public_media.enabled: the address at which contacts reach the bridge";
            fault(&["public_media", "address"], text.to_owned());
        }
        Some(address) if address.url().scheme() != "https" && !address.is_loopback() => {
            let text = "must begin with https://: whoever reads along on the way would have the files";
            fault(&["public_media", "address"], text.to_owned());
        }
        Some(address) if address.url().query().is_some() || address.url().fragment().is_some() => {
            fault(&["public_media", "address"], "must end with its path: links go on from there".to_owned());
        }
        _ => {}
    }
    match &config.web.public_address {
        Some(address) if address.url().scheme() != "https" && !address.is_loopback() => {
            let text = "must begin with https://: whoever reads along on the way would have the passwords";
            fault(&["web", "public_address"], text.to_owned());
        }
        Some(address)
            if address.url().path() != "/" || address.url().query().is_some() || address.url().fragment().is_some() =>
        {
            let text = "must be a host of its own without a path, such as https://bridge.example.org";
            fault(&["web", "public_address"], text.to_owned());
        }
        _ => {}
    }
    if !MAX_LOGINS.contains(&config.logins.max_logins) {
        let text = format!("not between {} and {}", MAX_LOGINS.start(), MAX_LOGINS.end());
        fault(&["logins", "max_logins"], text);
    }
    let secret = config.provisioning.shared_secret.as_ref().map(|secret| secret.expose_secret().len());
    if secret.is_some_and(|length| !SHARED_SECRET.contains(&length)) {
        let text = format!("not between {} and {} bytes long", SHARED_SECRET.start(), SHARED_SECRET.end());
        fault(&["provisioning", "shared_secret"], text);
    }
    for (key, value) in [("initial", config.history.initial), ("catch_up", config.history.catch_up)] {
        if value > MAX_HISTORY {
            fault(&["history", key], format!("not between 0 and {MAX_HISTORY}"));
        }
    }
    if config.networks.is_empty() {
        fault(&["networks"], "no network: people would have nothing to sign in to".to_owned());
    }
    faults.extend(config.permissions.check());
    for (name, entry) in &mut config.networks {
        faults.extend(network::check(name, entry, base));
    }
    faults
}

fn out_of(range: &RangeInclusive<f64>) -> String {
    format!("not between {} and {}", range.start(), range.end())
}

/// Whether a localpart may be the bot's.
fn localpart(localpart: &str, domain: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._=-/+".contains(c);
    if localpart.is_empty() || !localpart.chars().all(legal) {
        return Err("a localpart is written with a-z, 0-9 and . _ = - / +".to_owned());
    }
    if localpart.starts_with(GHOST_PREFIX) {
        return Err(format!("names that begin with {GHOST_PREFIX} are the ghosts'"));
    }
    if localpart.len() + domain.len() + 2 > MAX_MXID {
        return Err(format!("too long: @localpart:domain has at most {MAX_MXID} bytes"));
    }
    Ok(())
}

//! The machine that the bridge runs on: who may read its secrets, whether its store can grow, how much it may open.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::statvfs,
    process::{Resource, getrlimit},
};

use super::report::Report;
use crate::{
    app::cli::Files,
    config::{Config, Network},
};

/// Free space under which the store is about to be unable to grow, and under which that is not far, in bytes.
const LITTLE_SPACE: u64 = 100 * 1024 * 1024;
const SOME_SPACE: u64 = 1024 * 1024 * 1024;

/// Files and sockets that are open without any login: the store's, the homeserver's connections, files that are carried.
const OPEN_ANYWAY: u64 = 256;
/// The same for each login: its stream, its sync, what is fetched for it.
const OPEN_PER_LOGIN: u64 = 4;

/// The secrets' files. Gives whether the store's key can be used.
pub fn secrets<W: Write>(report: &mut Report<W>, files: &Files, config: &Config) -> bool {
    let oauth_secret = config.networks.values().any(|network| match network {
        Network::Messenger(network) => network.oauth.client_secret.is_some(),
        Network::Xmpp(_) => false,
    });
    let puppets = config.double_puppet.registration.iter().map(PathBuf::as_path);
    let tokens = [files.registration.as_path()].into_iter().chain(puppets);
    let open: Vec<&Path> =
        tokens.chain(oauth_secret.then_some(files.config.as_path())).filter(|file| may_others(file, 0o007)).collect();
    for file in &open {
        report.warn(
            "permissions",
            format!("{} holds secrets, and every user of this machine may read it.", file.display()),
            format!("Run chmod o-rwx {}.", file.display()),
        );
    }
    let key = &config.store.key_file;
    if may_others(key, 0o077) {
        report.fail(
            "permissions",
            format!(
                "{} (store.key_file) opens people's credentials, and others than its owner may read it.",
                key.display()
            ),
            format!("Run chmod 600 {}.", key.display()),
        );
        return false;
    }
    if open.is_empty() {
        report.ok("permissions", "the files that hold secrets are private.");
    }
    true
}

fn may_others(file: &Path, bits: u32) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & bits != 0)
}

/// The store's folder, or the one in which it will be made.
fn folder(config: &Config) -> PathBuf {
    let there = config.store.path.ancestors().find(|folder| folder.exists());
    there.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Whether the store can be written and can grow. Gives whether it makes sense to open it.
pub fn disk<W: Write>(report: &mut Report<W>, config: &Config) -> bool {
    let folder = folder(config);
    let shown = folder.display();
    if let Err(error) = tempfile::tempfile_in(&folder) {
        let why = super::without_number(&error);
        report.fail(
            "disk",
            format!("{shown} (store.path) cannot be written: {why}."),
            format!(
                "Give {shown} to the user that runs the bridge, or set store.path in config.yaml to a folder of theirs."
            ),
        );
        return false;
    }
    match statvfs(&folder) {
        Ok(disk) => space(report, &shown.to_string(), disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => report.skip("disk", format!("{shown}: its free space cannot be asked for: {error}.")),
    }
    true
}

fn space<W: Write>(report: &mut Report<W>, folder: &str, free: u64) {
    let found = format!("{} MiB are free at {folder} (store.path).", free / (1024 * 1024));
    let remedy =
        format!("Free space on the disk of {folder}, or set store.path in config.yaml to a folder on a larger one.");
    match free {
        0..LITTLE_SPACE => report.fail("disk", found, remedy),
        LITTLE_SPACE..SOME_SPACE => report.warn("disk", found, remedy),
        SOME_SPACE.. => report.ok("disk", found),
    }
}

/// How many files and sockets may be open. `logins`: how many the store has, if it could be asked.
pub fn open_files<W: Write>(report: &mut Report<W>, logins: Option<usize>) {
    let Some(most) = getrlimit(Resource::Nofile).current else {
        report.ok("open files", "as many as are wanted.");
        return;
    };
    limit(report, most, logins);
}

fn limit<W: Write>(report: &mut Report<W>, most: u64, logins: Option<usize>) {
    let count = u64::try_from(logins.unwrap_or(0)).unwrap_or(u64::MAX);
    let needed = OPEN_ANYWAY.saturating_add(count.saturating_mul(OPEN_PER_LOGIN));
    let of = match logins {
        Some(1) => "for 1 login".to_owned(),
        Some(count) => format!("for {count} logins"),
        None => "without any login".to_owned(),
    };
    if most < needed {
        report.fail(
            "open files",
            format!("{most} files and connections may be open at once, and {of} about {needed} are needed."),
            format!(
                "Set LimitNOFILE={} in the bridge's systemd unit (elsewhere: ulimit -n).",
                needed.next_multiple_of(1024)
            ),
        );
    } else {
        report.ok("open files", format!("{most} may be open at once, and {of} about {needed} are needed."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tell: impl FnOnce(&mut Report<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        tell(&mut Report::new(&mut out, false));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_told_before_it_is() {
        let mib = 1024 * 1024;
        for (free, level) in
            [(0, "FAIL"), (99 * mib, "FAIL"), (100 * mib, "warn"), (1024 * mib - 1, "warn"), (1024 * mib, "ok")]
        {
            let text = told(|report| space(report, "./data", free));
            assert!(text.starts_with(level), "{free}: {text}");
            assert_eq!(text.contains("store.path in config.yaml"), level != "ok", "{text}");
        }
    }

    #[test]
    fn each_login_needs_some_open_files() {
        for (most, logins, level) in
            [(1024, None, "ok"), (255, None, "FAIL"), (1024, Some(192), "ok"), (1024, Some(193), "FAIL")]
        {
            let text = told(|report| limit(report, most, logins));
            assert!(text.starts_with(level), "{most} {logins:?}: {text}");
        }
        assert!(told(|report| limit(report, 1024, Some(193))).contains("LimitNOFILE=2048"));
    }
}

//! `config upgrade`: the configuration file on this version's example, printed, shown as a difference, or written.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use similar::TextDiff;

use super::{
    cli::{self, ConfigAction, Failure},
    exit::Exit,
};
use crate::config::{self, Upgraded};

/// Carries out `config …`.
pub fn config(path: &Path, action: &ConfigAction) -> Result<Exit, Failure> {
    let ConfigAction::Upgrade { write, diff } = action;
    let done = config::upgrade(path).map_err(|error| cli::unusable(path, &error))?;
    let changed = done.before != done.after;
    if *write && changed {
        let backup = replace(path, &done.after)
            .map_err(|error| Failure::new(Exit::FileWrite, format!("{}: {error}", path.display())))?;
        tell(&format!("{} was upgraded; the old one is {}", path.display(), backup.display()));
    } else if *write {
        tell(&format!("{} has all that this version knows: nothing was written", path.display()));
    } else if *diff {
        print(&difference(path, &done));
    } else {
        print(&done.after);
    }
    for (from, to) in &done.moved {
        tell(&format!("`{from}` is now `{to}`"));
    }
    if !done.added.is_empty() {
        let added: Vec<String> = done.added.iter().map(|key| format!("`{key}`")).collect();
        tell(&format!("added with its default: {}", added.join(", ")));
    }
    for problem in &done.problems {
        tell(&problem.to_string());
    }
    Ok(if done.problems.is_empty() { Exit::Success } else { Exit::ConfigInvalid })
}

fn difference(path: &Path, done: &Upgraded) -> String {
    let name = path.display().to_string();
    let diff = TextDiff::from_lines(&done.before, &done.after);
    diff.unified_diff().context_radius(3).header(&name, &name).to_string()
}

/// Puts `text` in the place of the file, with the same mode and owner, and keeps the old one under the name that it returns.
/// At no time there is half of a file.
fn replace(path: &Path, text: &str) -> io::Result<PathBuf> {
    // A link is left, and what it leads to replaced.
    let path = &fs::canonicalize(path)?;
    let beside = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let (new, old, backup) = (
        beside(&format!(".{}.new", std::process::id())),
        beside(&format!(".{}.old", std::process::id())),
        beside(".bak"),
    );
    let result = (|| {
        let meta = fs::metadata(path)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        fchown(&file, Some(meta.uid()), Some(meta.gid()))?;
        file.set_permissions(fs::Permissions::from_mode(meta.mode() & 0o7777))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // The old file itself, under another name.
        fs::hard_link(path, &old)?;
        fs::rename(&old, &backup)?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    })();
    if result.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&new);
        let _ = fs::remove_file(&old);
    }
    result.map(|()| backup)
}

fn tell(text: &str) {
    // Nothing is left to be done if stderr is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

fn print(text: &str) {
    // Nothing is left to be done if stdout is closed.
    let _ = io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "\
# Ours.
homeserver:
  address: http://127.0.0.1:8008
  domain: example.org # the name
permissions:
  \"example.org\": user
networks:
  xmpp:
    profile: xmpp
";

    fn upgrade(write: bool, diff: bool) -> ConfigAction {
        ConfigAction::Upgrade { write, diff }
    }

    #[test]
    fn the_old_file_is_kept_and_the_new_one_has_its_mode() {
        let folder = tempfile::TempDir::new().unwrap();
        let (path, link) = (folder.path().join("config.yaml"), folder.path().join("link.yaml"));
        fs::write(&path, OLD).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for action in [upgrade(false, false), upgrade(false, true)] {
            assert_eq!(config(&path, &action).unwrap(), Exit::Success);
            assert_eq!(fs::read_to_string(&path).unwrap(), OLD);
        }
        assert_eq!(config(&link, &upgrade(true, false)).unwrap(), Exit::Success);
        let backup = folder.path().join("config.yaml.bak");
        assert_eq!(fs::read_to_string(&backup).unwrap(), OLD);
        let written = fs::read_to_string(&path).unwrap();
        assert!(written.starts_with("# Ours.\nhomeserver:\n") && written.contains("domain: example.org # the name\n"));
        for file in [&path, &backup] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o640, "{}", file.display());
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        // A second time there is nothing to do, and the backup stays.
        assert_eq!(config(&path, &upgrade(true, false)).unwrap(), Exit::Success);
        assert_eq!(fs::read_to_string(&backup).unwrap(), OLD);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "and nothing is left behind");
    }

    #[test]
    fn the_difference_is_a_unified_one() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("config.yaml");
        fs::write(&path, OLD).unwrap();
        let done = config::upgrade(&path).unwrap();
        let shown = difference(Path::new("config.yaml"), &done);
        assert!(shown.starts_with("--- config.yaml\n+++ config.yaml\n@@ -"), "{shown}");
        assert!(shown.contains("\n+portals:\n"), "{shown}");
        assert!(shown.lines().skip(2).all(|line| !line.starts_with('-')), "nothing is taken away: {shown}");
    }

    #[test]
    fn what_is_wrong_is_told_by_the_code_and_loses_nothing() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("config.yaml");
        let exit = |text: &str| {
            fs::write(&path, text).unwrap();
            match config(&path, &upgrade(true, false)) {
                Ok(exit) => exit,
                Err(failure) => {
                    assert_eq!(fs::read_to_string(&path).unwrap(), text);
                    failure.exit
                }
            }
        };
        assert_eq!(exit("homeserver: {address: http://h}\nappservice: {}\n"), Exit::ConfigInvalid);
        assert_eq!(exit("a: [\n"), Exit::ConfigInvalid);
        assert_eq!(exit(&format!("{OLD}historie:\n  initial: 5\n")), Exit::ConfigInvalid);
        assert!(fs::read_to_string(&path).unwrap().contains("\nhistorie:\n  initial: 5\n"));
        assert_eq!(config(&folder.path().join("absent"), &upgrade(true, false)).unwrap_err().exit, Exit::ConfigRead);
    }
}

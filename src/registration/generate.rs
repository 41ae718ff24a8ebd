//! Makes registrations with fresh tokens, each in a file that only its owner can read.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::{ExposeSecret, SecretString};

use super::{DOUBLE_PUPPET_FILE, ID, escape, ghosts};
use crate::config::Config;

/// Why registrations could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A file of that name is there already.
    #[error("{} exists already; nothing was written (--force replaces it, and makes new tokens)", .0.display())]
    Exists(PathBuf),
    /// Both files would have the same name.
    #[error("{DOUBLE_PUPPET_FILE} is the name of the second file; give the registration another one")]
    SameName,
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Random(String),
}

/// Writes a registration to `path` and `doublepuppet.yaml` beside it, both with fresh tokens, and returns the second's
/// path. Neither is written if either exists, unless `force` is set.
pub fn generate(config: &Config, path: &Path, force: bool) -> Result<PathBuf, GenerateError> {
    let beside = path.with_file_name(DOUBLE_PUPPET_FILE);
    if beside == path {
        return Err(GenerateError::SameName);
    }
    let files = [(path, bridge_text(config)?), (beside.as_path(), double_puppet_text(config)?)];
    if force {
        for (path, text) in &files {
            replace(path, text).map_err(|source| GenerateError::Write { path: (*path).to_owned(), source })?;
        }
    } else {
        create_all(&files)?;
    }
    Ok(beside)
}

fn bridge_text(config: &Config) -> Result<String, GenerateError> {
    let (as_token, hs_token) = (random_hex(32)?, random_hex(32)?);
    Ok(format!(
        "# The registration of messenger-bridge. Give the homeserver its path (Synapse: app_service_config_files) and\n\
         # restart it. Keep this file private: whoever has the tokens can act as the bridge.\n\
         id: {ID}\n\
         url: {url}\n\
         as_token: \"{as_token}\"\n\
         hs_token: \"{hs_token}\"\n\
         sender_localpart: \"{bot}\"\n\
         namespaces:\n  users:\n    - exclusive: true\n      regex: '{ghosts}'\n  aliases: []\n  rooms: []\n\
         rate_limited: false\n\
         # Typing, receipts and presence. The second is what Synapse before 1.156 reads; some versions want both.\n\
         receive_ephemeral: true\n\
         de.sorunome.msc2409.push_ephemeral: true\n\
         protocols: [messenger, xmpp]\n",
        url = quoted(config.appservice.address.as_str()),
        as_token = as_token.expose_secret(),
        hs_token = hs_token.expose_secret(),
        bot = config.appservice.bot.localpart,
        ghosts = ghosts(config),
    ))
}

fn double_puppet_text(config: &Config) -> Result<String, GenerateError> {
    let (as_token, hs_token, name) = (random_hex(32)?, random_hex(32)?, random_hex(8)?);
    Ok(format!(
        "# With this registration the bridge can act in the name of this homeserver's users. Install it beside the\n\
         # bridge's own, and name it under double_puppet.registration. Keep it private: its token opens every account.\n\
         id: {ID}-doublepuppet\n\
         url: null\n\
         as_token: \"{as_token}\"\n\
         hs_token: \"{hs_token}\"\n\
         # Never used; random so that it is nobody's name.\n\
         sender_localpart: \"doublepuppet_{name}\"\n\
         namespaces:\n  users:\n    - exclusive: false\n      regex: '@.*:{domain}'\n  aliases: []\n  rooms: []\n\
         rate_limited: false\n",
        as_token = as_token.expose_secret(),
        hs_token = hs_token.expose_secret(),
        name = name.expose_secret(),
        domain = escape(config.homeserver.domain.as_str()),
    ))
}

/// A double-quoted YAML scalar; a JSON string is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// So many random bytes from the operating system, in hexadecimal.
fn random_hex(bytes: usize) -> Result<SecretString, GenerateError> {
    let mut random = vec![0; bytes];
    SysRng.try_fill_bytes(&mut random).map_err(|error| GenerateError::Random(error.to_string()))?;
    let mut text = String::with_capacity(bytes * 2);
    for byte in random {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    Ok(text.into())
}

/// Makes all of the files or none. Nobody else can have made one of them in between.
fn create_all(files: &[(&Path, String)]) -> Result<(), GenerateError> {
    let mut made: Vec<(&Path, File)> = Vec::new();
    let result = (|| {
        for (path, _) in files {
            let file = private().create_new(true).open(path).map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => GenerateError::Exists((*path).to_owned()),
                _ => GenerateError::Write { path: (*path).to_owned(), source },
            })?;
            made.push((path, file));
        }
        for ((path, file), (_, text)) in made.iter_mut().zip(files) {
            let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
            written.map_err(|source| GenerateError::Write { path: (*path).to_owned(), source })?;
        }
        Ok(())
    })();
    if result.is_err() {
        for (path, _) in made {
            // The first error is the one to tell.
            let _ = std::fs::remove_file(path);
        }
    }
    result
}

/// Puts a new file in the place of what may be there, so that at no time there is half of one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    let mut file = private().create_new(true).open(&new)?;
    let result =
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&new, path));
    if result.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    result
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

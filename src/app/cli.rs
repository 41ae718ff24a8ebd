//! The command line.
//!
//! What needs no running bridge (`generate-config`, `generate-registration`, `health`) is done here; for the rest
//! [`dispatch`] calls a [`Handlers`].

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::describe;
use super::exit::Exit;
use super::health;
use super::upgrade;
use crate::config::{self, Config, ConfigError};
use crate::registration::{self, GenerateError, Registration};

/// A Matrix application service that bridges Messenger and every standards-following XMPP server.
#[derive(Debug, Parser)]
#[command(name = "messenger-bridge", version, after_help = Exit::table(), args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `run` where nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The files of `run` where nothing is said.
    #[command(flatten)]
    pub files: Files,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the bridge (the default)
    Run(Files),
    /// Write the commented example configuration
    GenerateConfig(ConfigFile),
    /// Write a registration with fresh tokens, and doublepuppet.yaml beside it
    GenerateRegistration {
        /// Where the configuration is, and where the registration goes.
        #[command(flatten)]
        files: Files,
        /// Replace files that are there already
        #[arg(long)]
        force: bool,
    },
    /// Check configuration, homeserver, networks and store, with the remedy for what fails
    Check(CheckArguments),
    /// Bring the configuration onto this version's example
    Config {
        /// What to do with it.
        #[command(subcommand)]
        action: ConfigAction,
        /// Where it is.
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Rebuild the store from the rooms that the bot is in; the bridge must not run
    Recover(Files),
    /// Export, import or verify the store; the bridge must not run
    Store {
        /// What to do with it.
        #[command(subcommand)]
        action: StoreAction,
        /// Where the configuration is.
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Ask the running bridge whether it lives
    Health(ConfigFile),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page
    Man {
        /// Write it there instead, with one for each command
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
}

/// What to check, and how it is told.
#[derive(Clone, Debug, Args)]
pub struct CheckArguments {
    /// The files of `run`.
    #[command(flatten)]
    pub files: Files,
    /// Print one JSON object a line: check, level, finding, remedy
    #[arg(long)]
    pub json: bool,
    /// Let warnings count as failures
    #[arg(long)]
    pub strict: bool,
}

/// What to do with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigAction {
    /// Add what is new since it was written, with its comments, and move what was renamed; no value is changed. Prints the result
    Upgrade {
        /// Write it to the file; the old one is kept as FILE.bak
        #[arg(long, conflicts_with = "diff")]
        write: bool,
        /// Print what would change instead
        #[arg(long)]
        diff: bool,
    },
}

/// What to do with the store.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum StoreAction {
    /// Write all of it to a file
    Export {
        /// The file, which must not exist
        file: PathBuf,
    },
    /// Fill an empty store from a file
    Import {
        /// A file that `export` wrote
        file: PathBuf,
    },
    /// Read all of it and tell what is damaged
    Verify,
}

/// The configuration file.
#[derive(Clone, Debug, Args)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "config.yaml",
        env = "MESSENGER_BRIDGE_CONFIG",
        global = true
    )]
    pub config: PathBuf,
}

/// The configuration and the registration file.
#[derive(Clone, Debug, Args)]
pub struct Files {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "config.yaml", env = "MESSENGER_BRIDGE_CONFIG")]
    pub config: PathBuf,
    /// The registration file
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "registration.yaml",
        env = "MESSENGER_BRIDGE_REGISTRATION"
    )]
    pub registration: PathBuf,
}

/// What the commands that need the bridge's parts do. Each gets what was read from the files.
pub struct Handlers<Run, Check, Recover, Store> {
    /// `run`; it also gets where the configuration is.
    pub run: Run,
    /// `check`. It reads the files itself: that they are right is the first thing that it checks.
    pub check: Check,
    /// `recover`.
    pub recover: Recover,
    /// `store …`.
    pub store: Store,
}

/// Does what the command line asks for. Errors are told on stderr.
pub fn dispatch<Run, Check, Recover, Store>(cli: Cli, handlers: Handlers<Run, Check, Recover, Store>) -> Exit
where
    Run: FnOnce(Config, Registration, &Path) -> Exit,
    Check: FnOnce(&CheckArguments) -> Exit,
    Recover: FnOnce(Config, Registration) -> Exit,
    Store: FnOnce(Config, StoreAction) -> Exit,
{
    let result = match cli.command.unwrap_or(Command::Run(cli.files)) {
        Command::Run(files) => {
            load(&files).map(|(config, registration)| (handlers.run)(config, registration, &files.config))
        }
        Command::Check(arguments) => Ok((handlers.check)(&arguments)),
        Command::Config { action, config } => upgrade::config(&config.config, &action),
        Command::Recover(files) => load(&files).map(|(config, registration)| (handlers.recover)(config, registration)),
        Command::Store { action, config } => load_config(&config.config).map(|config| (handlers.store)(config, action)),
        Command::GenerateConfig(file) => generate_config(&file.config).map(|()| Exit::Success),
        Command::GenerateRegistration { files, force } => generate_registration(&files, force).map(|()| Exit::Success),
        Command::Health(file) => load_config(&file.config).and_then(|config| {
            let listen = config.appservice.listen;
            health::probe(listen)
                .map(|()| Exit::Success)
                .map_err(|error| Failure::new(Exit::CheckFailed, format!("{listen}: {error}")))
        }),
        Command::Completions { shell } => {
            describe::completions(shell, &mut io::stdout());
            Ok(Exit::Success)
        }
        Command::Man { folder } => describe::man(folder.as_deref(), &mut io::stdout())
            .map(|()| Exit::Success)
            .map_err(|error| Failure::new(Exit::FileWrite, format!("the man page cannot be written: {error}"))),
    };
    result.unwrap_or_else(|failure| {
        // Nothing is left to be done if stderr is closed.
        let _ = writeln!(io::stderr(), "{}", failure.message);
        failure.exit
    })
}

/// Why a command ended, and what a person is told.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is told, perhaps on several lines.
    pub message: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

/// Reads the configuration.
pub fn load_config(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|error| unusable(path, &error))
}

/// Why a configuration cannot be used.
pub(super) fn unusable(path: &Path, error: &ConfigError) -> Failure {
    let exit = match error {
        ConfigError::Read { .. } => Exit::ConfigRead,
        ConfigError::Invalid(_) if error.is_domain_unset() => Exit::DomainUnset,
        ConfigError::Invalid(_) => Exit::ConfigInvalid,
    };
    let absent = !path.exists();
    let remedy = if absent { "\n  = messenger-bridge generate-config writes an example" } else { "" };
    Failure::new(exit, format!("{error}{remedy}"))
}

/// Reads the registration and holds it against the configuration.
pub fn load_registration(path: &Path, config: &Config) -> Result<Registration, Failure> {
    let registration = Registration::load(path).map_err(|error| {
        let exit = match &error {
            ConfigError::Read { .. } => Exit::RegistrationRead,
            ConfigError::Invalid(_) => Exit::RegistrationInvalid,
        };
        let absent = !path.exists();
        let remedy = if absent { "\n  = messenger-bridge generate-registration makes one" } else { "" };
        Failure::new(exit, format!("{error}{remedy}"))
    })?;
    let disagreements = registration.disagreements(config);
    if disagreements.is_empty() {
        return Ok(registration);
    }
    let lines: Vec<String> = disagreements.iter().map(|line| format!("{}: {line}", path.display())).collect();
    Err(Failure::new(Exit::RegistrationInvalid, lines.join("\n")))
}

/// Reads the registration for double puppeting, where the configuration names one.
pub fn load_puppets(config: &Config) -> Result<Option<Registration>, Failure> {
    let Some(path) = &config.double_puppet.registration else { return Ok(None) };
    let puppets = Registration::load(path).map_err(|error| {
        let remedy = "\n  = double_puppet.registration names it: generate-registration makes it, null does without";
        match &error {
            ConfigError::Read { .. } => Failure::new(Exit::RegistrationRead, format!("{error}{remedy}")),
            ConfigError::Invalid(_) => Failure::new(Exit::RegistrationInvalid, error.to_string()),
        }
    })?;
    let lines: Vec<String> =
        puppets.puppet_disagreements(config).iter().map(|line| format!("{}: {line}", path.display())).collect();
    if lines.is_empty() { Ok(Some(puppets)) } else { Err(Failure::new(Exit::RegistrationInvalid, lines.join("\n"))) }
}

/// Reads both files.
pub fn load(files: &Files) -> Result<(Config, Registration), Failure> {
    let config = load_config(&files.config)?;
    let registration = load_registration(&files.registration, &config)?;
    Ok((config, registration))
}

/// Writes the commented example, never over an existing file. Secrets may go into it, so its mode is 0600.
pub fn generate_config(path: &Path) -> Result<(), Failure> {
    let told = |error: io::Error| {
        let reason = match error.kind() {
            io::ErrorKind::AlreadyExists => "exists already; nothing was written".to_owned(),
            _ => error.to_string(),
        };
        Failure::new(Exit::FileWrite, format!("{}: {reason}", path.display()))
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(told)?;
    file.write_all(config::EXAMPLE.as_bytes()).and_then(|()| file.sync_all()).map_err(told)
}

/// Writes `registration.yaml` and `doublepuppet.yaml`.
pub fn generate_registration(files: &Files, force: bool) -> Result<(), Failure> {
    let config = load_config(&files.config)?;
    registration::generate(&config, &files.registration, force).map(drop).map_err(|error| {
        let exit = match error {
            GenerateError::Exists(_) | GenerateError::Write { .. } => Exit::FileWrite,
            GenerateError::SameName => Exit::Usage,
            GenerateError::Random(_) => Exit::Internal,
        };
        Failure::new(exit, error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt;

    use clap::CommandFactory;
    use tempfile::TempDir;

    use super::*;

    fn parse(arguments: &[&str]) -> Cli {
        Cli::try_parse_from(["messenger-bridge"].iter().chain(arguments)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a command line whose handlers must not be called.
    fn dispatch_local(arguments: &[&str]) -> Exit {
        let handlers = Handlers {
            run: |_, _, _: &Path| panic!("run"),
            check: |_: &CheckArguments| panic!("check"),
            recover: |_, _| panic!("recover"),
            store: |_, _| panic!("store"),
        };
        dispatch(parse(arguments), handlers)
    }

    struct Folder(TempDir);

    impl Folder {
        fn path(&self, name: &str) -> String {
            self.0.path().join(name).to_str().unwrap().to_owned()
        }

        fn with_files() -> Self {
            let folder = Self(TempDir::new().unwrap());
            let (config, registration) = (folder.path("c"), folder.path("r"));
            assert_eq!(dispatch_local(&["generate-config", "-c", &config]), Exit::Success);
            let generate = ["generate-registration", "-c", &config, "-r", &registration];
            assert_eq!(dispatch_local(&generate), Exit::Success);
            folder
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
        let help = Cli::command().render_help().to_string();
        assert!(help.contains(&Exit::table()), "{help}");
        for command in
            ["run", "generate-config", "generate-registration", "check", "config", "recover", "store", "health", "man"]
        {
            assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        }
    }

    #[test]
    fn run_is_the_default_and_has_default_files() {
        for (arguments, config) in [(&["-c", "a"][..], "a"), (&[], "config.yaml"), (&["run", "--config", "a"], "a")] {
            let cli = parse(arguments);
            let files = match cli.command {
                None => cli.files,
                Some(Command::Run(files)) => files,
                Some(other) => panic!("{other:?}"),
            };
            assert_eq!((files.config, files.registration), (config.into(), "registration.yaml".into()));
        }
        assert!(Cli::try_parse_from(["messenger-bridge", "sing"]).is_err());
    }

    #[test]
    fn handlers_get_what_the_files_hold() {
        let folder = Folder::with_files();
        let (config, registration) = (folder.path("c"), folder.path("r"));
        let call = |arguments: &[&str]| {
            let mut called = String::new();
            let exit = dispatch(
                parse(arguments),
                Handlers {
                    run: |config: Config, registration: Registration, file: &Path| {
                        assert_eq!(file.file_name().unwrap(), "c");
                        assert_eq!(config.appservice.bot.localpart, registration.sender_localpart);
                        Exit::Listener
                    },
                    check: |arguments: &CheckArguments| {
                        called = arguments.files.config.display().to_string();
                        Exit::CheckFailed
                    },
                    recover: |_: Config, _: Registration| Exit::HomeserverUnreachable,
                    store: |_: Config, action: StoreAction| {
                        assert_eq!(action, StoreAction::Export { file: "out".into() });
                        Exit::StoreTransfer
                    },
                },
            );
            (exit, called)
        };
        assert_eq!(call(&["-c", &config, "-r", &registration]).0, Exit::Listener);
        assert_eq!(call(&["run", "-c", &config, "-r", &registration]).0, Exit::Listener);
        assert_eq!(call(&["check", "-c", "absent"]), (Exit::CheckFailed, "absent".to_owned()));
        assert_eq!(call(&["recover", "-c", &config, "-r", &registration]).0, Exit::HomeserverUnreachable);
        assert_eq!(call(&["store", "export", "out", "-c", &config]).0, Exit::StoreTransfer);
        assert_eq!(call(&["store", "-c", &config, "export", "out"]).0, Exit::StoreTransfer);
    }

    #[test]
    fn each_cause_has_its_code() {
        let folder = Folder::with_files();
        let (config, registration) = (folder.path("c"), folder.path("r"));
        let run = |config: &str, registration: &str| dispatch_local(&["run", "-c", config, "-r", registration]);
        let edited = |file: &str, from: &str, to: &str| {
            let path = folder.path("edited");
            std::fs::write(&path, std::fs::read_to_string(file).unwrap().replacen(from, to, 1)).unwrap();
            path
        };
        assert_eq!(run(&folder.path("absent"), &registration), Exit::ConfigRead);
        assert_eq!(run(&edited(&config, "homeserver:", "homesever:"), &registration), Exit::ConfigInvalid);
        assert_eq!(run(&edited(&config, "domain: example.org", "domain:"), &registration), Exit::DomainUnset);
        assert_eq!(run(&config, &folder.path("absent")), Exit::RegistrationRead);
        assert_eq!(run(&config, &edited(&registration, "id:", "idea:")), Exit::RegistrationInvalid);
        assert_eq!(
            run(&edited(&config, "domain: example.org", "domain: b.test"), &registration),
            Exit::RegistrationInvalid
        );
    }

    #[test]
    fn files_are_made_once() {
        let folder = Folder::with_files();
        let (config, registration) = (folder.path("c"), folder.path("r"));
        assert_eq!(std::fs::read_to_string(&config).unwrap(), config::EXAMPLE);
        assert_eq!(std::fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
        let first = std::fs::read_to_string(&registration).unwrap();
        assert_eq!(dispatch_local(&["generate-config", "-c", &config]), Exit::FileWrite);
        let again = ["generate-registration", "-c", &config, "-r", &registration];
        assert_eq!(dispatch_local(&again), Exit::FileWrite);
        assert_eq!(std::fs::read_to_string(&registration).unwrap(), first);
        assert_eq!(dispatch_local(&[&again[..], &["--force"]].concat()), Exit::Success);
        assert_ne!(std::fs::read_to_string(&registration).unwrap(), first);
        let puppet = folder.path(registration::DOUBLE_PUPPET_FILE);
        assert_eq!(dispatch_local(&["generate-registration", "-c", &config, "-r", &puppet, "--force"]), Exit::Usage);
    }

    #[test]
    fn health_of_a_bridge_that_does_not_run() {
        let folder = Folder::with_files();
        let config = folder.path("c");
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = config::EXAMPLE.replace("listen: 127.0.0.1:29340", &format!("listen: {free}"));
        std::fs::write(&config, text).unwrap();
        assert_eq!(dispatch_local(&["health", "-c", &config]), Exit::CheckFailed);
    }
}

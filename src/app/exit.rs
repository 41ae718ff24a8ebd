//! How the program ends: one code per cause, so that whoever supervises it can tell them apart.

use std::fmt::{self, Display};
use std::process::ExitCode;

/// Why the program ended. Where mautrix bridges have a code for the cause, ours is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well; `run` was asked to stop, and stopped in order.
    Success,
    /// `check` or `health`: at least one check did not pass.
    CheckFailed,
    /// The command line is wrong.
    Usage,
    /// A configuration file cannot be read.
    ConfigRead,
    /// The configuration is wrong.
    ConfigInvalid,
    /// Logging cannot be set up.
    Logging,
    /// The homeserver cannot reach us, or its ping did not come back with the right token.
    PingFailed,
    /// The store cannot be opened, or is corrupt.
    StoreOpen,
    /// The store is of a version that cannot be brought to ours.
    StoreUpgrade,
    /// The homeserver cannot be reached.
    HomeserverUnreachable,
    /// Another process has the store.
    StoreInUse,
    /// The store is empty, and the bot is in rooms of an earlier one.
    StoreUnrecovered,
    /// The homeserver takes our token for that of somebody else.
    WhoamiMismatch,
    /// The homeserver does not know our token: the registration is not installed, or another one is.
    RegistrationUnknown,
    /// `homeserver.domain` is not set.
    DomainUnset,
    /// A file cannot be written, or exists already.
    FileWrite,
    /// The listening port cannot be opened.
    Listener,
    /// The registration cannot be read.
    RegistrationRead,
    /// The registration is wrong, or does not fit the configuration.
    RegistrationInvalid,
    /// The key file that seals credentials cannot be read or made, or does not fit the store.
    StoreKey,
    /// `store export`, `import` or `verify` failed.
    StoreTransfer,
    /// Work that was under way could not be ended within 10 s of the signal.
    ShutdownTimedOut,
    /// A fault of the program itself.
    Internal,
    /// `recover`, `store`: somebody ended it with Ctrl-C or SIGTERM before it was done.
    Cancelled,
}

impl Exit {
    /// Every cause, by its code.
    pub const ALL: [Self; 24] = [
        Self::Success,
        Self::CheckFailed,
        Self::Usage,
        Self::ConfigRead,
        Self::ConfigInvalid,
        Self::Logging,
        Self::PingFailed,
        Self::StoreOpen,
        Self::StoreUpgrade,
        Self::HomeserverUnreachable,
        Self::WhoamiMismatch,
        Self::RegistrationUnknown,
        Self::DomainUnset,
        Self::FileWrite,
        Self::Listener,
        Self::RegistrationRead,
        Self::RegistrationInvalid,
        Self::StoreKey,
        Self::StoreTransfer,
        Self::StoreInUse,
        Self::StoreUnrecovered,
        Self::ShutdownTimedOut,
        Self::Internal,
        Self::Cancelled,
    ];

    /// The process' exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::CheckFailed => 1,
            Self::Usage => 2,
            Self::ConfigRead => 10,
            Self::ConfigInvalid => 11,
            Self::Logging => 12,
            Self::PingFailed => 13,
            Self::StoreOpen => 14,
            Self::StoreUpgrade => 15,
            Self::HomeserverUnreachable => 16,
            Self::WhoamiMismatch => 17,
            Self::RegistrationUnknown => 19,
            Self::DomainUnset => 20,
            Self::FileWrite => 21,
            Self::Listener => 23,
            Self::RegistrationRead => 24,
            Self::RegistrationInvalid => 25,
            Self::StoreKey => 26,
            Self::StoreTransfer => 27,
            Self::StoreInUse => 28,
            Self::StoreUnrecovered => 29,
            Self::ShutdownTimedOut => 31,
            Self::Internal => 40,
            // What shells give for Ctrl-C.
            Self::Cancelled => 130,
        }
    }

    /// The cause, in a few words.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::CheckFailed => "check, health: something did not pass",
            Self::Usage => "the command line is wrong",
            Self::ConfigRead => "the configuration cannot be read",
            Self::ConfigInvalid => "the configuration is wrong",
            Self::Logging => "logging cannot be set up",
            Self::PingFailed => "the homeserver's ping did not come back to us",
            Self::StoreOpen => "the store cannot be opened, or is corrupt",
            Self::StoreUpgrade => "the store cannot be brought to this version",
            Self::HomeserverUnreachable => "the homeserver cannot be reached",
            Self::WhoamiMismatch => "the homeserver takes our token for somebody else's",
            Self::RegistrationUnknown => "the homeserver does not know our token",
            Self::DomainUnset => "homeserver.domain is not set",
            Self::FileWrite => "a file cannot be written, or exists already",
            Self::Listener => "the listening port cannot be opened",
            Self::RegistrationRead => "the registration cannot be read",
            Self::RegistrationInvalid => "the registration is wrong, or does not fit the configuration",
            Self::StoreKey => "the store's key cannot be read or made, or does not fit",
            Self::StoreTransfer => "store export, import or verify failed",
            Self::StoreInUse => "another process has the store open",
            Self::StoreUnrecovered => "the store is empty beside old rooms: `recover` first",
            Self::ShutdownTimedOut => "shutting down took more than 10 s",
            Self::Internal => "a fault of the program itself",
            Self::Cancelled => "recover, store: ended before it was done",
        }
    }

    /// Another try of `run` does not mend it: a person has to change a file, the command line or the store first.
    pub const fn needs_a_hand(self) -> bool {
        match self {
            Self::Usage
            | Self::ConfigRead
            | Self::ConfigInvalid
            | Self::StoreOpen
            | Self::StoreUpgrade
            | Self::DomainUnset
            | Self::RegistrationRead
            | Self::RegistrationInvalid
            | Self::StoreKey
            | Self::StoreUnrecovered => true,
            // The homeserver, a port or another process may be ready the next time.
            Self::Success
            | Self::CheckFailed
            | Self::Logging
            | Self::PingFailed
            | Self::HomeserverUnreachable
            | Self::StoreInUse
            | Self::WhoamiMismatch
            | Self::RegistrationUnknown
            | Self::FileWrite
            | Self::Listener
            | Self::StoreTransfer
            | Self::ShutdownTimedOut
            | Self::Internal
            | Self::Cancelled => false,
        }
    }

    /// The table of codes for `--help`.
    pub fn table() -> String {
        let rows: Vec<String> =
            Self::ALL.iter().map(|exit| format!("  {:>2}  {}", exit.code(), exit.cause())).collect();
        format!("Exit codes:\n{}", rows.join("\n"))
    }
}

impl Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.cause())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_code_of_its_own_in_the_table() {
        assert!(Exit::ALL.windows(2).all(|pair| pair[0].code() < pair[1].code()), "sorted, and none twice");
        let table = Exit::table();
        for exit in Exit::ALL {
            assert!(table.contains(&format!("{:>2}  {exit}", exit.code())), "{exit}");
        }
        assert!(table.lines().all(|line| line.chars().count() <= 78), "{table}");
    }
}

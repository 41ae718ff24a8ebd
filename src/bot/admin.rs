//! The commands of administrators: a table and a language of their own, which nobody else is told of.

use super::{CONFIRM, Command, Entry, escape, first_word, parse as parse_command};
use crate::domain::{effect::Notice, verbosity::Verbosity};

/// The word that ends a broadcast on its way.
pub const STOP: &str = "stop";

/// What an administrator can ask of the bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminCommand {
    /// Who has logins, and how they are.
    ListUsers {
        /// Only those whose MXID holds this.
        text: Option<String>,
    },
    /// Run a command as somebody.
    Sudo {
        /// Whom: an MXID, as typed.
        user: String,
        /// What they would have said; an error is what they would have been answered.
        command: Result<Box<Command>, String>,
    },
    /// Say something to everybody.
    Broadcast {
        /// What.
        text: String,
        /// They have said that they mean it.
        confirmed: bool,
    },
    /// End the broadcast that is on its way.
    StopBroadcast,
    /// How the bridge is, in numbers.
    Stats,
    /// How much the log shows.
    SetLogLevel(Verbosity),
    /// It cannot be understood so; what to answer.
    Misused(String),
}

impl AdminCommand {
    /// Does the text hold a secret that must be removed?
    pub fn holds_secret(&self) -> bool {
        matches!(self, Self::Sudo { command: Ok(command), .. } if command.holds_secret())
    }
}

/// Every command of administrators, in the order of `help`.
pub const ADMIN_COMMANDS: [Entry; 5] = [
    Entry {
        name: "list-users",
        arguments: "[text]",
        help: "Show who uses this bridge, with how many accounts, and how these are.",
    },
    Entry {
        name: "sudo",
        arguments: "<MXID> <command>",
        help: "Run `list-logins`, `ping`, `logout`, `sync` or `cancel` as somebody, who is told (also `doas`).",
    },
    Entry {
        name: "broadcast",
        arguments: "[confirm] <text>",
        help: "Say something to everybody in their rooms with me; `broadcast stop` ends it.",
    },
    Entry { name: "stats", arguments: "", help: "Show how the bridge is, in numbers." },
    Entry {
        name: "set-log-level",
        arguments: "<error | warn | info | debug | trace>",
        help: "Let the log show more or less, until the bridge starts again.",
    },
];

/// Reads a command of administrators; `None` if it is none.
pub fn parse(name: &str, rest: &str) -> Option<AdminCommand> {
    let name = if name == "doas" { "sudo" } else { name };
    let entry = ADMIN_COMMANDS.iter().find(|entry| entry.name == name)?;
    let misused = || AdminCommand::Misused(format!("Use it like this: `{name} {}`", entry.arguments));
    let text = rest.trim();
    Some(match name {
        "list-users" => AdminCommand::ListUsers { text: (!text.is_empty()).then(|| text.to_lowercase()) },
        "sudo" => {
            // A password within it is taken exactly as typed.
            let (user, command) = first_word(rest);
            if command.trim().is_empty() {
                return Some(misused());
            }
            AdminCommand::Sudo { user: user.to_owned(), command: parse_command(command).map(Box::new) }
        }
        "broadcast" if text == STOP => AdminCommand::StopBroadcast,
        "broadcast" => {
            let (text, confirmed) = match first_word(text) {
                (CONFIRM, said) => (said.trim(), true),
                _ => (text, false),
            };
            if text.is_empty() {
                return Some(misused());
            }
            AdminCommand::Broadcast { text: text.to_owned(), confirmed }
        }
        "stats" => AdminCommand::Stats,
        "set-log-level" => Verbosity::parse(text).map_or_else(misused, AdminCommand::SetLogLevel),
        _ => return None,
    })
}

/// The list of commands, with those of administrators behind the others.
pub fn extend_help(notice: &mut Notice) {
    use std::fmt::Write as _;
    notice.text.push_str("\nFor administrators, here alone:");
    let mut html = "<p>For administrators, here alone:</p><ul>".to_owned();
    for entry in &ADMIN_COMMANDS {
        let call = format!("{} {}", entry.name, entry.arguments);
        let _ = write!(notice.text, "\n- {}: {}", call.trim(), entry.help);
        let _ = write!(html, "<li><code>{}</code>: {}</li>", escape(call.trim()), escape(entry.help).replace('`', ""));
    }
    html.push_str("</ul>");
    if let Some(shown) = &mut notice.html {
        shown.push_str(&html);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bot;

    fn read(text: &str) -> AdminCommand {
        match bot::parse(text) {
            Ok(Command::Admin(command)) => command,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn commands_of_administrators_are_read() {
        assert_eq!(read("list-users"), AdminCommand::ListUsers { text: None });
        assert_eq!(read("LIST-USERS Example.org"), AdminCommand::ListUsers { text: Some("example.org".to_owned()) });
        assert_eq!(read("stats"), AdminCommand::Stats);
        assert_eq!(read("set-log-level DEBUG"), AdminCommand::SetLogLevel(Verbosity::Debug));
        assert_eq!(read("broadcast stop"), AdminCommand::StopBroadcast);
        let said = |text: &str, confirmed| AdminCommand::Broadcast { text: text.to_owned(), confirmed };
        assert_eq!(read("broadcast The bridge rests\nat noon."), said("The bridge rests\nat noon.", false));
        assert_eq!(read("broadcast confirm stop it"), said("stop it", true));
        for (text, usage) in [
            ("sudo @a:b", "sudo <MXID> <command>"),
            ("sudo", "sudo <MXID> <command>"),
            ("broadcast confirm", "broadcast [confirm] <text>"),
            ("set-log-level loud", "set-log-level <error"),
        ] {
            assert!(matches!(read(text), AdminCommand::Misused(said) if said.contains(usage)), "{text}");
        }
    }

    #[test]
    fn sudo_and_doas_are_one_and_a_secret_within_is_known() {
        let ping = AdminCommand::Sudo { user: "@a:b".to_owned(), command: Ok(Box::new(Command::Ping)) };
        assert_eq!((read("sudo @a:b ping"), read("doas @a:b ping")), (ping.clone(), ping.clone()));
        assert!(!ping.holds_secret());
        assert!(read("sudo @a:b login xmpp a@b hunter2").holds_secret());
        let Ok(command) = bot::parse("doas @a:b login xmpp a@b hunter2") else { panic!() };
        assert!(command.holds_secret());
        let AdminCommand::Sudo { command: Err(answer), .. } = read("sudo @a:b dance") else { panic!() };
        assert!(answer.contains("don't know"));
    }
}

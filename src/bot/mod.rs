//! The bot's language: text -> [`Command`], and what it says of itself. It knows nothing of what commands do.

pub mod admin;

pub use self::admin::{ADMIN_COMMANDS, AdminCommand};
use crate::domain::{credentials::Secret, effect::Notice, request::RoomsAfterLogout, time::Lifetime};

/// What a command begins with outside the management room.
pub const PREFIX: &str = "!msgr";

/// The word that confirms what cannot be undone.
pub const CONFIRM: &str = "confirm";

/// What a person can ask of the bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// What there is.
    Help,
    /// Begin to sign in.
    Login {
        /// The network's name.
        network: Option<String>,
        /// The rest: a JID, a password, `--token` and a token.
        account: Option<String>,
        /// How the account proves itself.
        proof: Proof,
    },
    /// Let a login sign in again.
    Relogin {
        /// Which login, by its address or id.
        login: String,
        /// How the account proves itself.
        proof: Proof,
    },
    /// Sign out and forget.
    Logout {
        /// Which login, by its address or id.
        login: String,
        /// What becomes of the rooms; `None`: as configured.
        rooms: Option<RoomsAfterLogout>,
    },
    /// One's logins and how they are.
    ListLogins,
    /// Open a chat.
    StartChat {
        /// Of which login.
        login: Option<String>,
        /// With whom: a JID, or an e-mail address where the network can look it up.
        who: String,
    },
    /// Find contacts.
    Search {
        /// Part of a name or address.
        text: String,
    },
    /// Answer a subscription request.
    Decide {
        /// Of which login.
        login: Option<String>,
        /// Whose.
        who: String,
        /// Yes or no.
        accept: bool,
    },
    /// Fetch the roster again.
    Sync,
    /// Ask the contact of this room for attention.
    Nudge,
    /// Let the account show one's name and picture in Matrix.
    PublishProfile {
        /// Of which login.
        login: Option<String>,
        /// From now on, or no longer.
        on: bool,
    },
    /// After which time messages of this room's chat disappear.
    Disappearing {
        /// `None`: only asks.
        wish: Option<Lifetime>,
    },
    /// Let go of this room; the next message of its contact makes a new one.
    DeletePortal,
    /// The same for every room of the person.
    DeleteAllPortals {
        /// The person has said that they mean it.
        confirmed: bool,
    },
    /// Set this room right again.
    SyncPortal,
    /// Make this room the management room.
    SetManagementRoom,
    /// What is this room?
    Id,
    /// Block someone, or no longer.
    Block {
        /// Of which login.
        login: Option<String>,
        /// Whom; `None`: the contact of this room.
        who: Option<String>,
        /// They are to be blocked.
        blocked: bool,
    },
    /// Is everything well?
    Ping,
    /// Stop what was begun.
    Cancel,
    /// Which version is this?
    Version,
    /// What only administrators may.
    Admin(AdminCommand),
}

/// How an account proves itself at sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It will be asked for.
    Ask,
    /// A password, exactly as typed.
    Password(Secret),
    /// A token will be asked for.
    AskToken,
    /// A token.
    Token(Secret),
}

impl Command {
    /// Does the text hold a secret that must be removed?
    pub fn holds_secret(&self) -> bool {
        match self {
            Self::Login { proof, .. } | Self::Relogin { proof, .. } => {
                matches!(proof, Proof::Password(_) | Proof::Token(_))
            }
            Self::Admin(command) => command.holds_secret(),
            _ => false,
        }
    }
}

/// A row of the table of commands.
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What comes after it.
    pub arguments: &'static str,
    /// What it does.
    pub help: &'static str,
}

/// Every command, in the order of `help`.
pub const COMMANDS: [Entry; 23] = [
    Entry { name: "help", arguments: "", help: "Show this list." },
    Entry {
        name: "login",
        arguments: "<network> [JID] [password | --token [token]]",
        help: "Sign in to your account. I ask for what is missing, and remove your message if it held a secret.",
    },
    Entry {
        name: "logout",
        arguments: "<login> [leave | delete | nothing]",
        help: "Sign out. Of the account's rooms I and your contacts leave (`leave`), you are taken out too (`delete`), or they stay \
               for when you sign in again (`nothing`).",
    },
    Entry { name: "list-logins", arguments: "", help: "Show your accounts and how they are." },
    Entry { name: "start-chat", arguments: "[login] <address>", help: "Open the room of a contact (also `pm`)." },
    Entry { name: "search", arguments: "<text>", help: "Find your contacts by name or address." },
    Entry { name: "accept", arguments: "[login] <JID>", help: "Accept a contact's request." },
    Entry { name: "deny", arguments: "[login] <JID>", help: "Deny a contact's request." },
    Entry {
        name: "sync",
        arguments: "",
        help: "Fetch your contact lists again, and make rooms that `cancel` put off.",
    },
    Entry { name: "nudge", arguments: "", help: "In a contact's room (`!msgr nudge`): ask the contact for attention." },
    Entry {
        name: "sync-portal",
        arguments: "",
        help: "In a contact's room (`!msgr sync-portal`): set its name, picture, topic and members right again.",
    },
    Entry {
        name: "delete-portal",
        arguments: "",
        help: "In a contact's room (`!msgr delete-portal`): let go of it. The next message makes a new room.",
    },
    Entry { name: "delete-all-portals", arguments: "confirm", help: "Let go of all your contacts' rooms." },
    Entry {
        name: "set-management-room",
        arguments: "",
        help: "In a room with me alone (`!msgr set-management-room`): talk with me there from now on.",
    },
    Entry { name: "id", arguments: "", help: "Show what a room is to me: its account, contact, room and ghost." },
    Entry { name: "ping", arguments: "", help: "Show whether I am there and how your accounts are." },
    Entry { name: "cancel", arguments: "", help: "Stop a sign-in, or making rooms and fetching history." },
    Entry { name: "version", arguments: "", help: "Show which version of the bridge this is." },
    Entry {
        name: "block",
        arguments: "[login] [JID]",
        help: "Block someone: nothing of theirs reaches you, and nothing of yours reaches them. In a contact's room \
               (`!msgr block`) that contact; here without an address: list who is blocked.",
    },
    Entry {
        name: "unblock",
        arguments: "[login] [JID]",
        help: "Let someone reach you again; in a contact's room (`!msgr unblock`) that contact.",
    },
    Entry {
        name: "publish-profile",
        arguments: "[login] <on | off>",
        help: "Let your account show your name and picture in Matrix, or no longer.",
    },
    Entry {
        name: "disappearing",
        arguments: "[time | off]",
        help: "In a contact's room (`!msgr disappearing 7d`): let messages disappear so long after they were read.",
    },
    Entry {
        name: "relogin",
        arguments: "<login> [password | --token [token]]",
        help: "Let an account that you have here sign in again, with a new password for instance.",
    },
];

/// What follows the prefix; `None` if the text does not begin with it.
pub fn after_prefix(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(PREFIX)?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| rest.trim_start())
}

/// Reads a command. The error is what to answer.
pub fn parse(text: &str) -> Result<Command, String> {
    let (name, rest) = first_word(text);
    let arguments: Vec<&str> = rest.split_whitespace().collect();
    let usage = |name: &str| {
        let entry = COMMANDS.iter().find(|entry| entry.name == name);
        format!("Use it like this: `{name} {}`", entry.map_or("", |entry| entry.arguments))
    };
    let login_and_who = |name: &str| match arguments.as_slice() {
        [who] => Ok((None, (*who).to_owned())),
        [login, who] => Ok((Some((*login).to_owned()), (*who).to_owned())),
        _ => Err(usage(name)),
    };
    Ok(match name.to_lowercase().as_str() {
        "help" | "" => Command::Help,
        "login" => read_login(rest),
        "relogin" => read_relogin(rest).ok_or_else(|| usage("relogin"))?,
        "logout" => {
            let rooms = match arguments.get(1).map(|word| word.to_lowercase()).as_deref() {
                None => None,
                Some("leave") => Some(RoomsAfterLogout::Leave),
                Some("delete") => Some(RoomsAfterLogout::Delete),
                Some("nothing") => Some(RoomsAfterLogout::Nothing),
                Some(_) => return Err(usage("logout")),
            };
            match arguments.as_slice() {
                [login] | [login, _] => Command::Logout { login: (*login).to_owned(), rooms },
                _ => return Err(usage("logout")),
            }
        }
        "list-logins" => Command::ListLogins,
        "start-chat" | "pm" => {
            let (login, who) = login_and_who("start-chat")?;
            Command::StartChat { login, who }
        }
        "search" if rest.is_empty() => return Err(usage("search")),
        "search" => Command::Search { text: rest.trim().to_owned() },
        name @ ("accept" | "deny") => {
            let (login, who) = login_and_who(name)?;
            Command::Decide { login, who, accept: name == "accept" }
        }
        name @ ("block" | "unblock") => {
            let (login, who) = match arguments.as_slice() {
                [] => (None, None),
                _ => login_and_who(name).map(|(login, who)| (login, Some(who)))?,
            };
            Command::Block { login, who, blocked: name == "block" }
        }
        "sync" => Command::Sync,
        "nudge" => Command::Nudge,
        "publish-profile" => {
            let (login, on) = login_and_who("publish-profile")?;
            match on.to_lowercase().as_str() {
                on @ ("on" | "off") => Command::PublishProfile { login, on: on == "on" },
                _ => return Err(usage("publish-profile")),
            }
        }
        "disappearing" if rest.trim().is_empty() => Command::Disappearing { wish: None },
        "disappearing" => match read_time(rest) {
            Some(wish) => Command::Disappearing { wish: Some(wish) },
            None => return Err(usage("disappearing") + ", with a time such as 30s, 5m, 12h, 7d or 4w."),
        },
        "delete-portal" => Command::DeletePortal,
        "delete-all-portals" => Command::DeleteAllPortals { confirmed: rest.trim() == CONFIRM },
        "sync-portal" => Command::SyncPortal,
        "set-management-room" => Command::SetManagementRoom,
        "id" => Command::Id,
        "ping" => Command::Ping,
        "cancel" => Command::Cancel,
        "version" => Command::Version,
        other => {
            if let Some(command) = admin::parse(other, rest) {
                return Ok(Command::Admin(command));
            }
            let near = COMMANDS
                .iter()
                .map(|entry| entry.name)
                .min_by_key(|name| strsim::levenshtein(name, other))
                .filter(|name| strsim::levenshtein(name, other) <= 3);
            let hint = near.map(|name| format!(" Did you mean `{name}`?")).unwrap_or_default();
            return Err(format!("I don't know that command.{hint} `help` lists what I know."));
        }
    })
}

/// `login <network> [JID] [password | --token [token]]`. The password is all that follows the blank behind the JID.
fn read_login(rest: &str) -> Command {
    let (network, rest) = first_word(rest);
    let (account, rest) = first_word(rest);
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Command::Login { network: given(network), account: given(account), proof: read_proof(rest) }
}

/// `relogin <login> [password | --token [token]]`.
fn read_relogin(rest: &str) -> Option<Command> {
    let (login, rest) = first_word(rest);
    (!login.is_empty()).then(|| Command::Relogin { login: login.to_owned(), proof: read_proof(rest) })
}

/// `[password | --token [token]]`: all that follows the blank behind the account.
fn read_proof(rest: &str) -> Proof {
    match rest.strip_prefix("--token") {
        Some("") => Proof::AskToken,
        Some(token) if token.starts_with(char::is_whitespace) => match token.trim() {
            "" => Proof::AskToken,
            token => Proof::Token(Secret::new(token)),
        },
        _ if rest.is_empty() => Proof::Ask,
        _ => Proof::Password(Secret::new(rest)),
    }
}

/// Reads a length of time as people type it: `30s`, `5m`, `12h`, `7d`, `4w`, or `off`.
fn read_time(text: &str) -> Option<Lifetime> {
    let text = text.trim().to_lowercase();
    if text == "off" {
        return Some(Lifetime::Unlimited);
    }
    let unit = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let number: u32 = text.get(..text.len() - 1)?.trim().parse().ok()?;
    number.checked_mul(unit).filter(|timer| *timer > 0).map(Lifetime::Seconds)
}

/// The first word, and all that follows the one blank behind it.
fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest),
        None => (text, ""),
    }
}

/// What the bot says first.
pub fn welcome(name: &str) -> Notice {
    Notice::plain(format!(
        "Hello, I'm {name}. With me you chat from here with everyone you know on Messenger or XMPP. \
         Use `login` to sign in to your account, or `help` to see what else I can do. \
         This room has been marked as your management room: commands need no prefix here."
    ))
}

/// The list of commands.
pub fn help(networks: &[String]) -> Notice {
    use std::fmt::Write as _;
    let (mut text, mut html) = ("Commands:\n".to_owned(), "<p>Commands:</p><ul>".to_owned());
    for entry in &COMMANDS {
        let call = if entry.arguments.is_empty() {
            entry.name.to_owned()
        } else {
            format!("{} {}", entry.name, entry.arguments)
        };
        let _ = writeln!(text, "- {call}: {}", entry.help);
        let _ = write!(html, "<li><code>{}</code>: {}</li>", escape(&call), escape(entry.help).replace('`', ""));
    }
    let outside = format!("Elsewhere begin with {PREFIX}. Networks: {}.", networks.join(", "));
    let _ = write!(text, "{outside}");
    let _ = write!(html, "</ul><p>{}</p>", escape(&outside));
    Notice { text, html: Some(html) }
}

/// What the bot says, with what stands between backticks as code. `None` where nothing does.
pub fn html_of(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len() < 3 || parts.len().is_multiple_of(2) {
        return None;
    }
    let marked = parts.iter().enumerate().map(|(place, part)| {
        let part = escape(part).replace('\n', "<br>");
        if place % 2 == 1 { format!("<code>{part}</code>") } else { part }
    });
    Some(marked.collect())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str) -> (Option<String>, Option<String>, Proof) {
        match parse(text) {
            Ok(Command::Login { network, account, proof }) => (network, account, proof),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn commands_stand_as_code_in_what_the_bot_says() {
        let html = html_of("Use `login <network>` & `help`.\nAnd so on.");
        let shown = "Use <code>login &lt;network&gt;</code> &amp; <code>help</code>.<br>And so on.";
        assert_eq!(html.as_deref(), Some(shown));
        for plain in ["nothing", "one ` alone", "two `and` one ` more"] {
            assert_eq!(html_of(plain), None);
        }
    }

    #[test]
    fn a_password_is_taken_exactly_as_typed() {
        let (network, account, proof) = login("login xmpp alice@example.org  two  blanks ");
        assert_eq!((network.as_deref(), account.as_deref()), (Some("xmpp"), Some("alice@example.org")));
        assert_eq!(proof, Proof::Password(Secret::new(" two  blanks ")));
        assert_eq!(login("login xmpp a@b").2, Proof::Ask);
        assert_eq!(login("login xmpp a@b --token").2, Proof::AskToken);
        assert_eq!(login("login xmpp a@b --token abc").2, Proof::Token(Secret::new("abc")));
        assert_eq!(login("login messenger"), (Some("messenger".to_owned()), None, Proof::Ask));
        assert_eq!(login("login"), (None, None, Proof::Ask));
    }

    #[test]
    fn commands_and_their_arguments() {
        assert_eq!(
            parse("accept juliet@capulet.lit"),
            Ok(Command::Decide { login: None, who: "juliet@capulet.lit".to_owned(), accept: true })
        );
        assert_eq!(
            parse("PM a@b c@d"),
            Ok(Command::StartChat { login: Some("a@b".to_owned()), who: "c@d".to_owned() })
        );
        let block = |login: Option<&str>, who: Option<&str>, blocked| Command::Block {
            login: login.map(str::to_owned),
            who: who.map(str::to_owned),
            blocked,
        };
        assert_eq!(parse("block"), Ok(block(None, None, true)));
        assert_eq!(parse("unblock c@d"), Ok(block(None, Some("c@d"), false)));
        assert_eq!(parse("block a@b c@d"), Ok(block(Some("a@b"), Some("c@d"), true)));
        assert!(parse("block a@b c@d e@f").unwrap_err().contains("block [login] [JID]"));
        assert_eq!(parse("search  my love "), Ok(Command::Search { text: "my love".to_owned() }));
        assert!(parse("logout").unwrap_err().contains("logout <login>"));
        assert!(parse("list-login").unwrap_err().contains("list-logins"));
        assert!(!parse("hunter2 is my password").unwrap_err().contains("hunter2"));
    }

    #[test]
    fn every_command_of_the_table_is_known() {
        for entry in &COMMANDS {
            let text = format!("{} a@b", entry.name);
            let unknown = parse(&text).is_err_and(|error| !error.contains(entry.name));
            assert!(!unknown, "{text}");
        }
    }

    #[test]
    fn times_as_people_type_them() {
        let all = ["30s", " 5 M", "12h", "7d", "4w", "off", "0s", "99999w", "d", "7", "", "7y", "é"].map(read_time);
        let some = |seconds| Some(Lifetime::Seconds(seconds));
        assert_eq!(
            all[..6],
            [some(30), some(300), some(43_200), some(604_800), some(2_419_200), Some(Lifetime::Unlimited)]
        );
        assert_eq!(all[6..], [None; 7]);
        assert_eq!(parse("disappearing 7d"), Ok(Command::Disappearing { wish: some(604_800) }));
        assert_eq!(parse("disappearing"), Ok(Command::Disappearing { wish: None }));
        assert_eq!(parse("publish-profile on"), Ok(Command::PublishProfile { login: None, on: true }));
        assert_eq!(
            parse("publish-profile a@b off"),
            Ok(Command::PublishProfile { login: Some("a@b".to_owned()), on: false })
        );
        assert!(parse("publish-profile").unwrap_err().contains("on | off"));
        assert!(parse("disappearing soon").unwrap_err().contains("7d"));
    }

    #[test]
    fn the_prefix_is_a_word() {
        assert_eq!(after_prefix("!msgr help"), Some("help"));
        assert_eq!(after_prefix("!msgr"), Some(""));
        assert_eq!(after_prefix("!msgrhelp"), None);
        assert_eq!(after_prefix("hello"), None);
    }
}

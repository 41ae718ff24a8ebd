//! What `check` and the start of `run` ask the homeserver: is it there, does it know our registration, can it reach us,
//! does it keep presence. Each answer is a line; each finding says what to do about it.

use std::{fmt, time::Duration};

use ruma::{OwnedUserId, UserId, presence::PresenceState};

use super::{
    appservice::AppService,
    client::{CallError, Client, Refusal},
};

/// Who we are, from the configuration and the registration.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `id` of the registration.
    pub appservice: String,
    /// `appservice.address`: where the homeserver is told to reach us.
    pub address: String,
    /// The bot.
    pub bot: OwnedUserId,
    /// `appservice.bot.displayname`.
    pub displayname: String,
}

/// What the homeserver can do, for [`crate::domain::Input::Homeserver`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// It keeps presence.
    pub presence: bool,
    /// It knows the `busy` state (MSC3026).
    pub busy: bool,
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The homeserver answers.
    Homeserver,
    /// It knows our `as_token`, as our bot's.
    Registration,
    /// The bot's account and name.
    Bot,
    /// It reaches us, with the right `hs_token`.
    Ping,
    /// It keeps presence.
    Presence,
    /// It lets us act in its users' names.
    DoublePuppet,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Homeserver => "homeserver",
            Self::Registration => "registration",
            Self::Bot => "bot",
            Self::Ping => "ping",
            Self::Presence => "presence",
            Self::DoublePuppet => "double puppet",
        })
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Nothing answers, or not as a homeserver.
    #[error("No Matrix homeserver answers at homeserver.address. {0}")]
    NoHomeserver(CallError),
    /// `M_UNKNOWN_TOKEN`.
    #[error(
        "The homeserver does not know the as_token: the registration is not installed there, or another version of it is."
    )]
    NotInstalled,
    /// The token is somebody else's.
    #[error("The homeserver takes the as_token for {0}, which is not the configured bot.")]
    OtherBot(OwnedUserId),
    /// `M_EXCLUSIVE` and the like.
    #[error("The bot's account cannot be made. {0}")]
    NoBot(CallError),
    /// `M_FORBIDDEN` of the ping.
    #[error("The homeserver knows our as_token under another id than the registration's.")]
    OtherId,
    /// `M_URL_NOT_SET`.
    #[error("The registration that is installed on the homeserver has no url.")]
    UrlNotSet,
    /// `M_BAD_STATUS` with 401 or 403.
    #[error("The bridge refused the homeserver's ping ({0}): the hs_token that the homeserver uses is not ours.")]
    WrongHsToken(u16),
    /// `M_BAD_STATUS` with anything else.
    #[error("The homeserver's ping was answered with status {0}: something else than this bridge listens at {1}.")]
    BadStatus(u16, String),
    /// `M_CONNECTION_TIMEOUT`.
    #[error("The homeserver's ping to {0} ran into a time-out.")]
    PingTimeout(String),
    /// `M_CONNECTION_FAILED`.
    #[error("The homeserver cannot connect to {0}.")]
    PingFailed(String),
    /// The ping succeeded without reaching this process.
    #[error("The homeserver's ping reached another process than this one at {0}.")]
    PingElsewhere(String),
    /// `M_UNKNOWN_TOKEN` for the registration for double puppeting.
    #[error("The homeserver does not know the as_token of double_puppet.registration.")]
    PuppetsNotInstalled,
    /// `M_FORBIDDEN` for one of its users.
    #[error("The homeserver knows double_puppet.registration, but does not let it act for {0}.")]
    PuppetsNotAllowed(OwnedUserId),
    /// Any other failure.
    #[error("{0}")]
    Other(CallError),
}

impl Finding {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoHomeserver(_) => "Check homeserver.address, and that the homeserver runs.",
            Self::NotInstalled => {
                "Put registration.yaml into the homeserver's app_service_config_files and restart it. After every \
                 change of the file, copy it again and restart."
            }
            Self::OtherBot(_) => "Let appservice.bot.localpart and the registration's sender_localpart be the same.",
            Self::NoBot(_) => {
                "Let homeserver.domain be the homeserver's server_name and the bot's name lie within the \
                 registration."
            }
            Self::OtherId => "Install this registration.yaml on the homeserver, and no other with the same tokens.",
            Self::UrlNotSet => "Set url in the registration to appservice.address and restart the homeserver.",
            Self::WrongHsToken(_) => {
                "Install this very registration.yaml on the homeserver and restart it; the bridge must run with the \
                 same file."
            }
            Self::BadStatus(..) => {
                "Let url in the registration lead to this bridge, and see what proxy stands between."
            }
            Self::PingTimeout(_) => "Look for a firewall between the homeserver and that address.",
            Self::PingFailed(_) => {
                "Set appservice.address (and url in the registration) to an address that the homeserver can reach; \
                 within containers 127.0.0.1 is each container itself."
            }
            Self::PingElsewhere(_) => "Stop the other bridge, or let url in the registration lead to this one.",
            Self::PuppetsNotInstalled => {
                "Put doublepuppet.yaml into the homeserver's app_service_config_files and restart it, or set \
                 double_puppet.registration to null."
            }
            Self::PuppetsNotAllowed(_) => {
                "Let its users namespace cover all users of homeserver.domain, not exclusively, and restart the homeserver."
            }
            Self::Other(_) => "See the homeserver's log.",
        }
    }

    /// Time may cure it: the homeserver starts, or is not reachable just now.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NoHomeserver(error) | Self::NoBot(error) | Self::Other(error) => error.is_transient(),
            Self::PingTimeout(_) | Self::PingFailed(_) => true,
            Self::NotInstalled
            | Self::OtherBot(_)
            | Self::OtherId
            | Self::UrlNotSet
            | Self::WrongHsToken(_)
            | Self::BadStatus(..)
            | Self::PingElsewhere(_)
            | Self::PuppetsNotInstalled
            | Self::PuppetsNotAllowed(_) => false,
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What was checked.
    pub check: Check,
    /// What is well, or what is wrong.
    pub result: Result<String, Finding>,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of the checks; a check that could not be made for an earlier finding has no line.
    pub lines: Vec<Line>,
    /// What the homeserver can do; `false` where it could not be asked.
    pub facts: Facts,
}

impl Report {
    /// Nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.lines.iter().all(|line| line.result.is_ok())
    }

    fn note<T>(&mut self, check: Check, result: Result<(String, T), Finding>) -> Option<T> {
        let (result, value) = match result {
            Ok((sentence, value)) => (Ok(sentence), Some(value)),
            Err(finding) => (Err(finding), None),
        };
        self.lines.push(Line { check, result });
        value
    }
}

/// Makes all checks. The listener of `service` must be open already, for the homeserver calls it; `nonce` names this ping
/// (any text that no earlier one had).
pub async fn check(client: &Client, identity: &Identity, service: &AppService, nonce: &str) -> Report {
    let mut report = Report::default();
    let Some(busy) = report.note(Check::Homeserver, homeserver(client).await) else { return report };
    if report.note(Check::Registration, registration(client, identity).await).is_none() {
        return report;
    }
    let bot = report.note(Check::Bot, bot(client, identity).await);
    report.note(Check::Ping, ping(client, identity, service, nonce).await);
    if bot.is_some() {
        let presence = report.note(Check::Presence, presence(client, &identity.bot).await).unwrap_or(false);
        report.facts = Facts { presence, busy: presence && busy };
    }
    report
}

async fn homeserver(client: &Client) -> Result<(String, bool), Finding> {
    let features = client.features().await.map_err(Finding::NoHomeserver)?;
    let busy = features.iter().any(|feature| feature == "org.matrix.msc3026.busy_presence");
    Ok(("The homeserver answers.".to_owned(), busy))
}

/// Does the homeserver take our token for our bot's?
///
/// # Errors
/// What is wrong.
pub async fn registration(client: &Client, identity: &Identity) -> Result<(String, ()), Finding> {
    match client.whoami().await {
        Ok(user) if user == identity.bot => Ok(("The homeserver knows the registration.".to_owned(), ())),
        Ok(user) => Err(Finding::OtherBot(user)),
        Err(error) => Err(finding(error)),
    }
}

/// Does the homeserver let the registration for double puppeting act for its users? `client` speaks with its token alone, and
/// asks for `bot`, who is one of them and certainly there. What is wrong harms nothing: a ghost speaks instead.
pub async fn double_puppet(client: &Client, bot: &UserId) -> Line {
    let result = match client.whoami_of(bot).await {
        Ok(user) if user == *bot => Ok("The homeserver lets the bridge act in its users' names.".to_owned()),
        Ok(_) => Err(Finding::PuppetsNotAllowed(bot.to_owned())),
        Err(error) => Err(match error.errcode() {
            Some("M_UNKNOWN_TOKEN" | "M_MISSING_TOKEN") => Finding::PuppetsNotInstalled,
            Some("M_FORBIDDEN" | "M_EXCLUSIVE") => Finding::PuppetsNotAllowed(bot.to_owned()),
            _ => Finding::Other(error),
        }),
    };
    Line { check: Check::DoublePuppet, result }
}

fn finding(error: CallError) -> Finding {
    match error.errcode() {
        Some("M_UNKNOWN_TOKEN" | "M_MISSING_TOKEN") => Finding::NotInstalled,
        _ => Finding::Other(error),
    }
}

async fn bot(client: &Client, identity: &Identity) -> Result<(String, ()), Finding> {
    match client.register(identity.bot.localpart()).await {
        Err(error) if error.errcode() != Some("M_USER_IN_USE") => return Err(Finding::NoBot(error)),
        _ => {}
    }
    client.set_display_name(&identity.bot, &identity.displayname).await.map_err(Finding::NoBot)?;
    Ok((format!("The bot is {}.", identity.bot), ()))
}

async fn ping(
    client: &Client,
    identity: &Identity,
    service: &AppService,
    nonce: &str,
) -> Result<(String, ()), Finding> {
    match client.ping(&identity.appservice, nonce).await {
        Ok(took) if service.last_ping().as_deref() == Some(nonce) => {
            Ok((format!("The homeserver reaches the bridge in {} ms.", took.as_millis()), ()))
        }
        Ok(_) => Err(Finding::PingElsewhere(identity.address.clone())),
        Err(error) => Err(explain(error, &identity.address)),
    }
}

/// The errors of `POST /appservice/{id}/ping` (Matrix CS API, "Homeserver -> Application Service ping").
fn explain(error: CallError, address: &str) -> Finding {
    let CallError::Refused(refusal) = &error else { return Finding::Other(error) };
    let Refusal { errcode, ping_status, .. } = &**refusal;
    match (errcode.as_deref(), ping_status) {
        (Some("M_URL_NOT_SET"), _) => Finding::UrlNotSet,
        (Some("M_BAD_STATUS"), Some(status @ (401 | 403))) => Finding::WrongHsToken(*status),
        (Some("M_BAD_STATUS"), status) => Finding::BadStatus(status.unwrap_or_default(), address.to_owned()),
        (Some("M_CONNECTION_TIMEOUT"), _) => Finding::PingTimeout(address.to_owned()),
        (Some("M_CONNECTION_FAILED"), _) => Finding::PingFailed(address.to_owned()),
        (Some("M_FORBIDDEN"), _) => Finding::OtherId,
        _ => finding(error),
    }
}

/// A homeserver without presence takes an update and forgets it, so the bot's own is set and looked at. It ends offline.
async fn presence(client: &Client, bot: &UserId) -> Result<(String, bool), Finding> {
    let kept = kept(client, bot).await;
    let restored = client.set_presence(bot, PresenceState::Offline, None).await;
    match (kept, restored) {
        (Ok(true), Ok(())) => Ok(("The homeserver keeps presence.".to_owned(), true)),
        (Ok(_), _) => Ok(("The homeserver keeps no presence: none is sent to it.".to_owned(), false)),
        (Err(error), _) => Err(finding(error)),
    }
}

async fn kept(client: &Client, bot: &UserId) -> Result<bool, CallError> {
    /// With workers, what was set may be seen a moment later.
    const LOOKS: [u64; 3] = [0, 200, 600];
    match client.set_presence(bot, PresenceState::Online, None).await {
        // A refusal for good means that it has no such endpoint or lets nobody set it.
        Err(error) if error.status().is_some() && !error.is_transient() => return Ok(false),
        other => other?,
    }
    for pause in LOOKS {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if client.presence(bot).await? == PresenceState::Online {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, errcode: &str, ping_status: Option<u16>) -> CallError {
        CallError::Refused(Box::new(Refusal {
            status,
            errcode: Some(errcode.to_owned()),
            ping_status,
            ..Refusal::default()
        }))
    }

    #[test]
    fn each_error_of_the_ping_is_its_own_finding_with_a_remedy() {
        let address = "http://127.0.0.1:29340";
        let at = || address.to_owned();
        for (error, expected) in [
            (refused(400, "M_URL_NOT_SET", None), Finding::UrlNotSet),
            (refused(502, "M_BAD_STATUS", Some(403)), Finding::WrongHsToken(403)),
            (refused(502, "M_BAD_STATUS", Some(404)), Finding::BadStatus(404, at())),
            (refused(504, "M_CONNECTION_TIMEOUT", None), Finding::PingTimeout(at())),
            (refused(502, "M_CONNECTION_FAILED", None), Finding::PingFailed(at())),
            (refused(403, "M_FORBIDDEN", None), Finding::OtherId),
            (refused(401, "M_UNKNOWN_TOKEN", None), Finding::NotInstalled),
            (CallError::Timeout, Finding::Other(CallError::Timeout)),
        ] {
            let found = explain(error, address);
            assert_eq!(found, expected);
            assert!(!found.remedy().is_empty() && !found.to_string().is_empty());
        }
    }
}

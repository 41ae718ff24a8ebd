//! What `check` and the start of `run` ask the homeserver: is it there, does it know our registration, can it reach us,
//! does it keep presence. Each answer is a line; each finding says what to do about it.

use std::{fmt, time::Duration};

use ruma::{OwnedServerName, OwnedUserId, UserId, presence::PresenceState};

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
    /// `M_MISSING_TOKEN`, though it was sent.
    #[error(
        "The homeserver says that our requests carry no token: a proxy between takes their Authorization header away."
    )]
    TokenTaken,
    /// The token is our bot's, on a homeserver of another name.
    #[error("The homeserver's name is {0}, which is not homeserver.domain of the configuration.")]
    OtherDomain(OwnedServerName),
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
    /// `M_BAD_STATUS` with 403.
    #[error("The bridge refused the homeserver's ping ({0}): the hs_token that the homeserver uses is not ours.")]
    WrongHsToken(u16),
    /// `M_BAD_STATUS` with 401.
    #[error("The homeserver's ping came without its hs_token: a proxy before {0} takes the Authorization header away.")]
    HsTokenTaken(String),
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
    #[error(
        "The homeserver's ping was taken at {0}, but not by this bridge: another runs there with the same registration."
    )]
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
    /// What to do about it, in a sentence that names file and key.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoHomeserver(_) => {
                "Set homeserver.address in config.yaml to where the homeserver listens for clients, and start it."
            }
            Self::NotInstalled => {
                "Copy registration.yaml to the homeserver, name the copy in its app_service_config_files, and restart it; do so \
                 again after every change of the file."
            }
            Self::TokenTaken => "Let the proxy at homeserver.address of config.yaml pass the Authorization header on.",
            Self::OtherDomain(domain) => {
                return format!(
                    "Set homeserver.domain in config.yaml to {domain}, and generate and install the registration again."
                );
            }
            Self::OtherBot(_) => {
                "Set appservice.bot.localpart in config.yaml to sender_localpart of the registration that is installed."
            }
            Self::NoBot(_) => {
                "Set appservice.bot.localpart in config.yaml to a name that the homeserver lets the registration have."
            }
            Self::OtherId => "Install this registration.yaml on the homeserver, and no other with the same tokens.",
            Self::UrlNotSet => {
                "Set url in registration.yaml to appservice.address of config.yaml, copy it to the homeserver and restart that."
            }
            Self::WrongHsToken(_) => {
                "Copy this very registration.yaml to the homeserver and restart that, so that hs_token is the same in both."
            }
            Self::HsTokenTaken(_) => {
                "Let the proxy at appservice.address of config.yaml pass the Authorization header on."
            }
            Self::BadStatus(..) => {
                "Set appservice.address in config.yaml and url in registration.yaml to where this bridge is reached, and install \
                 the registration again."
            }
            Self::PingTimeout(_) => {
                "Open the way from the homeserver to appservice.address of config.yaml in the firewall between."
            }
            Self::PingFailed(_) => {
                "Set appservice.address in config.yaml and url in registration.yaml to an address at which the homeserver \
                 reaches this bridge (within containers 127.0.0.1 is each container itself), and install the registration again."
            }
            Self::PingElsewhere(_) => {
                "Stop the other bridge, or give it a registration.yaml with an id, tokens and a url of its own."
            }
            Self::PuppetsNotInstalled => {
                "Put doublepuppet.yaml into the homeserver's app_service_config_files and restart it, or set \
                 double_puppet.registration in config.yaml to null."
            }
            Self::PuppetsNotAllowed(_) => {
                "Let the users namespace of doublepuppet.yaml cover all users of homeserver.domain, not exclusively, and restart \
                 the homeserver."
            }
            Self::Other(_) => "Look for the cause in the homeserver's log.",
        }
        .to_owned()
    }

    /// Time may cure it: the homeserver starts, or is not reachable just now.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NoHomeserver(error) | Self::NoBot(error) | Self::Other(error) => error.is_transient(),
            Self::PingTimeout(_) | Self::PingFailed(_) => true,
            Self::NotInstalled
            | Self::TokenTaken
            | Self::OtherDomain(_)
            | Self::HsTokenTaken(_)
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
        Ok(user) if user.localpart() == identity.bot.localpart() => {
            Err(Finding::OtherDomain(user.server_name().to_owned()))
        }
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
        Some("M_UNKNOWN_TOKEN") => Finding::NotInstalled,
        Some("M_MISSING_TOKEN") => Finding::TokenTaken,
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
    let refusal = match &error {
        CallError::Refused(refusal) => refusal,
        // It waits as long for us as we for it.
        CallError::Timeout => return Finding::PingTimeout(address.to_owned()),
        _ => return Finding::Other(error),
    };
    let Refusal { errcode, ping_status, .. } = &**refusal;
    match (errcode.as_deref(), ping_status) {
        (Some("M_URL_NOT_SET"), _) => Finding::UrlNotSet,
        (Some("M_BAD_STATUS"), Some(401)) => Finding::HsTokenTaken(address.to_owned()),
        (Some("M_BAD_STATUS"), Some(status @ 403)) => Finding::WrongHsToken(*status),
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
        // It took the first and thinks that the second came too soon: it forgets the first by itself.
        (Ok(true), Err(error)) if error.limited().is_some() => Ok(("The homeserver keeps presence.".to_owned(), true)),
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
            (refused(502, "M_BAD_STATUS", Some(401)), Finding::HsTokenTaken(at())),
            (refused(502, "M_BAD_STATUS", Some(404)), Finding::BadStatus(404, at())),
            (refused(504, "M_CONNECTION_TIMEOUT", None), Finding::PingTimeout(at())),
            (refused(502, "M_CONNECTION_FAILED", None), Finding::PingFailed(at())),
            (refused(403, "M_FORBIDDEN", None), Finding::OtherId),
            (refused(401, "M_UNKNOWN_TOKEN", None), Finding::NotInstalled),
            (refused(401, "M_MISSING_TOKEN", None), Finding::TokenTaken),
            (CallError::Timeout, Finding::PingTimeout(at())),
            (CallError::TooLarge, Finding::Other(CallError::TooLarge)),
        ] {
            let found = explain(error, address);
            assert_eq!(found, expected);
            assert!(!found.remedy().is_empty() && !found.to_string().is_empty());
        }
    }
}

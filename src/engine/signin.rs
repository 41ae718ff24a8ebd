//! Signing in: from a command to a login, and renewing what a login signs in with.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

use super::{Carrier, Engine, Timer, session::Phase};
use crate::{
    bot::Proof,
    domain::{
        BareJid, LoginId, Output, StreamId, Timestamp,
        credentials::{Credentials, Secret, Tokens},
        effect::{Effect, Lane, Notice},
        input::Answer,
        output::{Ask, AskId},
        stream::{ConnectOrder, StreamEnd, StreamOrder, StreamReport, StreamUp},
    },
    store::{StoreError, login::Login},
};

/// A token is renewed when it ends within this, in milliseconds.
const RENEW_BEFORE: i64 = 5 * 60 * 1_000;

/// What the bot waits for from a person.
#[derive(Debug)]
pub(super) enum Conversation {
    /// A password.
    Password { network: String, account: BareJid },
    /// A token for an account.
    Token { network: String, account: BareJid },
    /// The authorize link is being made.
    Link { ask: AskId },
    /// The page to which the OAuth provider sent the person.
    Redirect { network: String, state: String, verifier: Secret },
    /// The code is being redeemed.
    Redeeming { ask: AskId },
    /// The account is signing in.
    SigningIn { stream: StreamId },
}

/// Someone who is signing in.
pub(super) struct Candidate {
    pub owner: OwnedUserId,
    pub network: String,
    pub account: Option<BareJid>,
    pub credentials: Credentials,
    pub resource: String,
}

/// What a question to the outside is for.
pub(super) enum Asked {
    /// A person's authorize link.
    Begin { owner: OwnedUserId, network: String },
    /// A person's tokens.
    Redeem { owner: OwnedUserId, network: String },
    /// A login's new tokens.
    Renew { login: LoginId },
}

impl Engine {
    fn ask_outside(&mut self, asked: Asked, question: Ask) -> AskId {
        self.next_soft += 1;
        let ask = AskId(self.next_soft);
        self.asks.insert(ask, asked);
        self.outputs.push(Output::Ask { ask, question });
        ask
    }

    /// `login …`.
    pub(super) fn begin_login(
        &mut self,
        owner: &OwnedUserId,
        network: Option<String>,
        account: Option<String>,
        proof: Proof,
    ) -> Result<(), StoreError> {
        let names: Vec<&String> = self.bridge.settings.networks.keys().collect();
        let listed = names.iter().map(|name| format!("`login {name}`")).collect::<Vec<_>>().join(" or ");
        let network = match (network, names.as_slice()) {
            (Some(network), _) if self.bridge.settings.networks.contains_key(&network) => network,
            (Some(_), _) => return self.bridge.say(owner, format!("I don't know that network. Use {listed}.")),
            (None, [only]) => (*only).clone(),
            (None, _) => return self.bridge.say(owner, format!("Which network? Use {listed}.")),
        };
        let Some(settings) = self.bridge.settings.networks.get(&network).cloned() else { return Ok(()) };
        self.end_conversation(owner);
        if settings.profile.token_decides_account {
            let ask = self.ask_outside(
                Asked::Begin { owner: owner.clone(), network: network.clone() },
                Ask::BeginOAuth { network, redirect: None },
            );
            self.person(owner).conversation = Some(Conversation::Link { ask });
            return Ok(());
        }
        let Some(account) = account else {
            return self.bridge.say(owner, format!("Which account? Use `login {network} you@example.org`."));
        };
        let account = match BareJid::parse(&account) {
            Ok(account) if account.localpart().is_some() => account,
            Ok(_) => {
                return self.bridge.say(owner, "An account looks like you@example.org: a name, an @ and a server.");
            }
            Err(error) => return self.bridge.say(owner, format!("That is not an address: {error}.")),
        };
        if settings.domains.as_ref().is_some_and(|domains| !domains.iter().any(|domain| domain == account.domain())) {
            return self.bridge.say(owner, format!("This bridge does not connect to {}.", account.domain()));
        }
        match proof {
            Proof::Ask => {
                self.person(owner).conversation = Some(Conversation::Password { network, account: account.clone() });
                self.bridge.say(owner, format!("Please send the password of {account} as your next message. I remove it at once. `cancel` stops."))
            }
            Proof::AskToken => {
                self.person(owner).conversation = Some(Conversation::Token { network, account: account.clone() });
                self.bridge.say(owner, format!("Please send the OAuth token of {account} as your next message. I remove it at once. `cancel` stops."))
            }
            Proof::Password(password) => self.sign_in(owner, network, Some(account), Credentials::Password(password)),
            Proof::Token(token) => self.sign_in(owner, network, Some(account), Credentials::Token(token)),
        }
    }

    /// Does the person's next message belong to a conversation, whatever it says?
    pub(super) fn awaits_secret(&self, owner: &OwnedUserId) -> bool {
        let conversation = self.people.get(owner).and_then(|person| person.conversation.as_ref());
        matches!(
            conversation,
            Some(Conversation::Password { .. } | Conversation::Token { .. } | Conversation::Redirect { .. })
        )
    }

    /// The message that the bot waited for.
    pub(super) fn on_secret(&mut self, owner: &OwnedUserId, text: &str) -> Result<(), StoreError> {
        let Some(conversation) = self.person(owner).conversation.take() else { return Ok(()) };
        match conversation {
            Conversation::Password { network, account } => {
                self.sign_in(owner, network, Some(account), Credentials::Password(Secret::new(text)))
            }
            Conversation::Token { network, account } => {
                self.sign_in(owner, network, Some(account), Credentials::Token(Secret::new(text.trim())))
            }
            Conversation::Redirect { network, state, verifier } => {
                self.on_redirect(owner, network, state, verifier, text.trim())
            }
            other @ (Conversation::Link { .. } | Conversation::Redeeming { .. } | Conversation::SigningIn { .. }) => {
                self.person(owner).conversation = Some(other);
                Ok(())
            }
        }
    }

    /// What the person pasted: the page that the provider sent them to, or a bare token.
    fn on_redirect(
        &mut self,
        owner: &OwnedUserId,
        network: String,
        state: String,
        verifier: Secret,
        pasted: &str,
    ) -> Result<(), StoreError> {
        match read_redirect(pasted) {
            Redirect::Code { code, state: given } if given.as_deref() == Some(state.as_str()) => {
                let ask = self.ask_outside(
                    Asked::Redeem { owner: owner.clone(), network: network.clone() },
                    Ask::RedeemCode { network, redirect: None, code, verifier },
                );
                self.person(owner).conversation = Some(Conversation::Redeeming { ask });
                Ok(())
            }
            Redirect::Code { .. } => self.bridge.say(
                owner,
                format!(
                    "That link does not belong to the sign-in that I began. Please start again with `login {network}`."
                ),
            ),
            Redirect::Token { token, expires_in } => {
                self.bridge.say(
                    owner,
                    "This token cannot be renewed: when it ends I will have to ask you to sign in again.",
                )?;
                let expires_at = expires_in
                    .map(|seconds| Timestamp(self.bridge.now.wall.0.saturating_add(seconds.saturating_mul(1000))));
                self.sign_in(
                    owner,
                    network,
                    None,
                    Credentials::OAuth(Tokens { access: token, refresh: None, expires_at }),
                )
            }
            Redirect::Refused => {
                self.bridge.say(owner, format!("The sign-in was refused there. Start again with `login {network}`."))
            }
            Redirect::Unreadable => {
                self.person(owner).conversation = Some(Conversation::Redirect { network, state, verifier });
                self.bridge.say(owner, "I cannot find a sign-in in that. Please paste the whole address of the page that you were sent to, or `cancel`.")
            }
        }
    }

    fn sign_in(
        &mut self,
        owner: &OwnedUserId,
        network: String,
        account: Option<BareJid>,
        credentials: Credentials,
    ) -> Result<(), StoreError> {
        let Some(settings) = self.bridge.settings.networks.get(&network) else { return Ok(()) };
        let domain = settings
            .domain
            .clone()
            .or_else(|| account.as_ref().map(|account| account.domain().to_owned()))
            .unwrap_or_default();
        let stream = self.bridge.store.take_stream_id()?;
        let resource = format!(
            "bridge-{:08x}",
            crate::bridge::outbox::scatter(stream.0 ^ u64::from_str_radix(&self.bridge.instance, 16).unwrap_or(0))
                >> 32
        );
        // Whoever is in between may make a person type the password anew; then too it goes to no weaker mechanism.
        let known = account.as_ref().map(|account| LoginId::derive(owner.as_str(), &network, account.as_str()));
        let scram_only = match known {
            Some(login) => matches!(self.bridge.store.credentials(&login)?, Some(Credentials::Scram(_))),
            None => false,
        };
        let order = ConnectOrder {
            network: network.clone(),
            account: account.clone(),
            domain,
            resource: resource.clone(),
            credentials: credentials.clone(),
            scram_only,
            resume: None,
            delay: 0,
        };
        let candidate = Candidate { owner: owner.clone(), network, account, credentials, resource };
        self.streams.insert(stream, Carrier::Candidate(Box::new(candidate)));
        self.person(owner).conversation = Some(Conversation::SigningIn { stream });
        self.order(stream, StreamOrder::Connect(Box::new(order)));
        Ok(())
    }

    pub(super) fn on_candidate(&mut self, stream: StreamId, report: StreamReport) -> Result<(), StoreError> {
        match report {
            StreamReport::Up(up) => self.signed_in(stream, &up),
            StreamReport::Down(end) => {
                let Some(Carrier::Candidate(candidate)) = self.streams.remove(&stream) else { return Ok(()) };
                self.person(&candidate.owner).conversation = None;
                if end == StreamEnd::Closed {
                    return Ok(());
                }
                let account = candidate.account.map_or(candidate.network, |account| account.to_string());
                self.bridge.say(&candidate.owner, format!("Could not sign in to {account}: {}.", explain(&end)))
            }
            StreamReport::Stanza(_) | StreamReport::Acked(_) => Ok(()),
        }
    }

    fn signed_in(&mut self, stream: StreamId, up: &StreamUp) -> Result<(), StoreError> {
        let Some(Carrier::Candidate(candidate)) = self.streams.remove(&stream) else { return Ok(()) };
        let Candidate { owner, network, credentials, resource, .. } = *candidate;
        self.person(&owner).conversation = None;
        let id = LoginId::derive(owner.as_str(), &network, up.account.as_str());
        let known = self.bridge.store.login(&id)?;
        let again = known.is_some();
        let login = match known {
            Some(login) => Login { suspended: None, resource, ..login },
            None => Login {
                id: id.clone(),
                owner: owner.clone(),
                network,
                account: up.account.clone(),
                resource,
                made: self.bridge.now.wall,
                suspended: None,
                archive_after: None,
                roster_version: None,
                own_name: None,
            },
        };
        self.bridge.store.put_login(&login)?;
        self.bridge.store.put_credentials(&id, up.keep.as_ref().unwrap_or(&credentials))?;
        // One stream a login: the one before is closed, and what was on its way on it goes out anew.
        if let Some(old) = self.lives.get_mut(&id).and_then(|live| {
            live.phase = Phase::Down;
            live.stream.take()
        }) {
            self.streams.remove(&old);
            self.order(old, StreamOrder::Close);
        }
        self.timers.retain(|(_, timer)| !matches!(timer, Timer::Connect(login) if *login == id));
        let unconfirmed = self.bridge.store.unconfirmed(&id)?;
        let held = self.bridge.store.held_size(&id)?;
        let live = self.lives.entry(id.clone()).or_default();
        live.unconfirmed = unconfirmed.into_iter().map(|(number, what)| (number, (what.lane, what.debt))).collect();
        live.held = held;
        self.load_newcomers(&id)?;
        self.streams.insert(stream, Carrier::Login(id.clone()));
        self.wake_person(&owner)?;
        let text = if again {
            format!("Signed in to {} again.", login.account)
        } else {
            format!("Signed in to {}. Your contacts are on their way.", login.account)
        };
        self.bridge.say(&owner, text)?;
        self.come_up(&id, stream, up)
    }

    /// `cancel`, or a new `login`.
    pub(super) fn end_conversation(&mut self, owner: &OwnedUserId) -> bool {
        let Some(conversation) = self.person(owner).conversation.take() else { return false };
        match conversation {
            Conversation::SigningIn { stream } => {
                self.streams.remove(&stream);
                self.order(stream, StreamOrder::Close);
            }
            Conversation::Link { ask } | Conversation::Redeeming { ask } => {
                self.asks.remove(&ask);
            }
            Conversation::Password { .. } | Conversation::Token { .. } | Conversation::Redirect { .. } => {}
        }
        true
    }

    pub(super) fn on_answer(&mut self, ask: AskId, answer: Answer) -> Result<(), StoreError> {
        match (self.asks.remove(&ask), answer) {
            (Some(Asked::Begin { owner, network }), Answer::OAuthBegun { url, state, verifier }) => {
                self.person(&owner).conversation = Some(Conversation::Redirect { network, state, verifier });
                let text = format!(
                    "Open this link and sign in: {url}\n\nThen copy the whole address of the page that you end on, and send it here. I remove it at once. `cancel` stops."
                );
                let escaped = url.replace('&', "&amp;").replace('"', "&quot;");
                let html = format!(
                    "<p>Open this link and sign in: <a href=\"{escaped}\">{escaped}</a></p><p>Then copy the whole address of the page that you end on, and send it here. I remove it at once. <code>cancel</code> stops.</p>"
                );
                self.bridge.say_notice(&owner, Notice { text, html: Some(html) }, None)
            }
            (Some(Asked::Redeem { owner, network }), Answer::Tokens(tokens)) => {
                if tokens.refresh.is_none() {
                    self.bridge.say(&owner, "The provider gave a token that cannot be renewed: when it ends I will have to ask you to sign in again.")?;
                }
                self.sign_in(&owner, network, None, Credentials::OAuth(tokens))
            }
            (Some(Asked::Begin { owner, .. } | Asked::Redeem { owner, .. }), Answer::OAuthFailed { sentence, .. }) => {
                self.person(&owner).conversation = None;
                self.bridge.say(&owner, format!("Could not sign in: {sentence}"))
            }
            (Some(Asked::Renew { login }), Answer::Tokens(mut tokens)) => {
                if self.bridge.store.login(&login)?.is_none() {
                    // Signed out meanwhile: nothing of it may come back.
                    return Ok(());
                }
                if let Some(Credentials::OAuth(old)) = self.bridge.store.credentials(&login)?
                    && tokens.refresh.is_none()
                {
                    tokens.refresh.clone_from(&old.refresh);
                }
                self.bridge.store.put_credentials(&login, &Credentials::OAuth(tokens))?;
                self.connect(&login)
            }
            (Some(Asked::Renew { login }), Answer::OAuthFailed { refused: true, .. }) => {
                self.suspend_login(&login, "the sign-in has ended and could not be renewed".to_owned())
            }
            (Some(Asked::Renew { login }), _) => {
                if let Some(live) = self.lives.get_mut(&login) {
                    live.failures = live.failures.saturating_add(1);
                    live.renewed = false;
                }
                self.connect_in(&login, 30_000)
            }
            (Some(Asked::Begin { .. } | Asked::Redeem { .. }) | None, _) => Ok(()),
        }
    }

    /// Renews a token that is about to end, before it is used. `true`: the connection waits for that.
    pub(super) fn renew_if_due(
        &mut self,
        login: &LoginId,
        row: &Login,
        credentials: &Credentials,
    ) -> Result<bool, StoreError> {
        let Credentials::OAuth(Tokens { refresh: Some(refresh), expires_at: Some(at), .. }) = credentials else {
            return Ok(false);
        };
        if at.since(self.bridge.now.wall) > RENEW_BEFORE
            || self.asks.values().any(|asked| matches!(asked, Asked::Renew { login } if *login == row.id))
        {
            return Ok(false);
        }
        // A provider whose tokens last no longer than this is asked once, not for ever.
        if self.lives.get(login).is_some_and(|live| live.renewed) {
            return Ok(false);
        }
        if let Some(live) = self.lives.get_mut(login) {
            live.renewed = true;
        }
        self.renew(login, refresh.clone())?;
        Ok(true)
    }

    pub(super) fn renew(&mut self, login: &LoginId, refresh: Secret) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(()) };
        self.ask_outside(Asked::Renew { login: login.clone() }, Ask::Refresh { network: row.network, refresh });
        Ok(())
    }

    /// Removes a message that held a secret.
    pub(super) fn redact(
        &mut self,
        owner: &OwnedUserId,
        room: &OwnedRoomId,
        event: Option<&OwnedEventId>,
    ) -> Result<(), StoreError> {
        if let Some(event) = event {
            self.bridge
                .owe(Lane::Management(owner.clone()), Effect::Redact { room: room.clone(), event: event.clone() })?;
        }
        Ok(())
    }
}

/// Why a sign-in did not work, with what the person can do.
fn explain(end: &StreamEnd) -> String {
    use crate::domain::stream::Refusal;
    match end {
        StreamEnd::Refused(Refusal::NotAuthorized) => {
            "the name or password is wrong, or the token is not valid".to_owned()
        }
        StreamEnd::Refused(Refusal::Expired) => "the password or token has expired".to_owned(),
        StreamEnd::Refused(Refusal::Disabled) => "the account is disabled".to_owned(),
        StreamEnd::Refused(Refusal::Temporary) => {
            "the server cannot check the sign-in just now; please try again later".to_owned()
        }
        StreamEnd::Refused(Refusal::Other(condition)) => format!("the server refused it ({condition})"),
        StreamEnd::Downgraded { .. } => {
            format!("{end}. If its operator changed that on purpose, sign out with `logout` first")
        }
        other => other.to_string(),
    }
}

/// What a pasted text is.
#[derive(Debug, PartialEq, Eq)]
enum Redirect {
    Code { code: Secret, state: Option<String> },
    Token { token: Secret, expires_in: Option<i64> },
    Refused,
    Unreadable,
}

/// Reads the address that the provider sent the person to (RFC 6749 sections 4.1.2 and 4.2.2), or a bare token.
fn read_redirect(pasted: &str) -> Redirect {
    let Ok(url) = url::Url::parse(pasted) else {
        // A token is one long word; anything else is talk.
        let token = pasted.len() >= 20 && !pasted.contains(char::is_whitespace);
        return if token {
            Redirect::Token { token: Secret::new(pasted), expires_in: None }
        } else {
            Redirect::Unreadable
        };
    };
    let fragment: Vec<(String, String)> =
        url::form_urlencoded::parse(url.fragment().unwrap_or_default().as_bytes()).into_owned().collect();
    let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let find = |pairs: &[(String, String)], name: &str| {
        pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    // A `+` of the token that stands raw in the fragment is a `+`: form decoding would make a blank of it, which no token holds.
    if let Some(token) = find(&fragment, "access_token") {
        let expires_in = find(&fragment, "expires_in").and_then(|seconds| seconds.parse().ok());
        return Redirect::Token { token: Secret::new(token.replace(' ', "+")), expires_in };
    }
    if let Some(code) = find(&query, "code") {
        return Redirect::Code { code: Secret::new(code), state: find(&query, "state") };
    }
    if find(&query, "error").or(find(&fragment, "error")).is_some() { Redirect::Refused } else { Redirect::Unreadable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_paste() {
        let code = read_redirect("https://login.live.com/oauth20_desktop.srf?code=a%2Fb&state=xyz&lc=1033");
        assert_eq!(code, Redirect::Code { code: Secret::new("a/b"), state: Some("xyz".to_owned()) });
        let token = read_redirect(
            "https://login.live.com/oauth20_desktop.srf#access_token=EwA%2B1%2F%3d+x&token_type=bearer&expires_in=3600",
        );
        assert_eq!(token, Redirect::Token { token: Secret::new("EwA+1/=+x"), expires_in: Some(3600) });
        assert_eq!(
            read_redirect("EwAIA61DBAAUG3bhj2oWUXhI0kCQJPR2"),
            Redirect::Token { token: Secret::new("EwAIA61DBAAUG3bhj2oWUXhI0kCQJPR2"), expires_in: None }
        );
        assert_eq!(read_redirect("https://x.test/?error=access_denied"), Redirect::Refused);
        assert_eq!(read_redirect("what link?"), Redirect::Unreadable);
    }
}

//! Signing in: the stream on which an account signs in, the login that comes of it, and renewing what a login signs in with.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

use super::{Carrier, Engine, Timer, process::State, session::Phase};
use crate::{
    domain::{
        BareJid, LoginId, Output, StreamId,
        credentials::{Credentials, Secret, Tokens},
        effect::{Effect, Lane},
        input::Answer,
        output::{Ask, AskId},
        stream::{ConnectOrder, StreamEnd, StreamOrder, StreamReport, StreamUp},
    },
    store::{StoreError, login::Login},
};

/// A token is renewed when it ends within this, in milliseconds.
const RENEW_BEFORE: i64 = 5 * 60 * 1_000;

/// Someone who is signing in.
pub(super) struct Candidate {
    /// The sign-in that it is for.
    pub process: u64,
    pub credentials: Credentials,
    pub resource: String,
}

/// What a question to the outside is for.
pub(super) enum Asked {
    /// A sign-in's authorize link.
    Begin { process: u64 },
    /// A sign-in's tokens.
    Redeem { process: u64 },
    /// A login's new tokens.
    Renew { login: LoginId },
}

impl Engine {
    pub(super) fn ask_outside(&mut self, asked: Asked, question: Ask) -> AskId {
        self.next_soft += 1;
        let ask = AskId(self.next_soft);
        self.asks.insert(ask, asked);
        self.outputs.push(Output::Ask { ask, question });
        ask
    }

    /// Connects for a sign-in.
    pub(super) fn sign_in(
        &mut self,
        process: u64,
        account: Option<BareJid>,
        credentials: Credentials,
    ) -> Result<(), StoreError> {
        let Some((owner, network)) =
            self.processes.get(process).map(|process| (process.owner.clone(), process.network.clone()))
        else {
            return Ok(());
        };
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
            network,
            account,
            domain,
            resource: resource.clone(),
            credentials: credentials.clone(),
            scram_only,
            resume: None,
            delay: 0,
        };
        let candidate = Candidate { process, credentials, resource };
        self.streams.insert(stream, Carrier::Candidate(Box::new(candidate)));
        self.set_process(process, State::SigningIn(stream));
        self.order(stream, StreamOrder::Connect(Box::new(order)));
        Ok(())
    }

    pub(super) fn on_candidate(&mut self, stream: StreamId, report: StreamReport) -> Result<(), StoreError> {
        match report {
            StreamReport::Up(up) => self.signed_in(stream, &up),
            StreamReport::Down(end) => {
                let Some(Carrier::Candidate(candidate)) = self.streams.remove(&stream) else { return Ok(()) };
                if end == StreamEnd::Closed {
                    // The bridge is ending.
                    return Ok(());
                }
                self.process_refused(candidate.process, &explain(&end), Some(&end))
            }
            StreamReport::Stanza(_) | StreamReport::Acked(_) => Ok(()),
        }
    }

    /// What was signed in to may not be: the stream is closed again.
    fn turn_away(&mut self, stream: StreamId, process: u64, sentence: String) -> Result<(), StoreError> {
        self.order(stream, StreamOrder::Close);
        self.fail_process(process, sentence)
    }

    fn signed_in(&mut self, stream: StreamId, up: &StreamUp) -> Result<(), StoreError> {
        let Some(Carrier::Candidate(candidate)) = self.streams.remove(&stream) else { return Ok(()) };
        let Candidate { process: number, credentials, resource } = *candidate;
        let Some(process) = self.processes.get(number) else { return Ok(()) };
        let (owner, network) = (process.owner.clone(), process.network.clone());
        if let Some((_, meant)) = &process.again
            && *meant != up.account
        {
            let text = format!(
                "You have signed in as {}, but {meant} was to sign in again. Nothing was changed. For another account begin with `login`.",
                up.account
            );
            return self.turn_away(stream, number, text);
        }
        if let Err(refusal) = self.has_room_for(&owner, &network, &up.account)? {
            return self.turn_away(stream, number, refusal.sentence);
        }
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
        self.set_process(number, State::Done { login: id.clone(), account: up.account.clone() });
        self.process_changed(number)?;
        self.come_up(&id, stream, up)
    }

    pub(super) fn on_answer(&mut self, ask: AskId, answer: Answer) -> Result<(), StoreError> {
        match (self.asks.remove(&ask), answer) {
            (Some(Asked::Begin { process }), Answer::OAuthBegun { url, state, verifier }) => {
                self.on_link_begun(process, url, state, verifier)
            }
            (Some(Asked::Redeem { process }), Answer::Tokens(tokens)) => {
                let owner = self.processes.get(process).map(|process| process.owner.clone());
                if let (None, Some(owner)) = (&tokens.refresh, owner) {
                    self.bridge.say(&owner, "The provider gave a token that cannot be renewed: when it ends I will have to ask you to sign in again.")?;
                }
                self.sign_in(process, None, Credentials::OAuth(tokens))
            }
            // Without a link there is nothing to try again with.
            (Some(Asked::Begin { process }), Answer::OAuthFailed { sentence, .. }) => {
                self.fail_process(process, format!("Could not sign in: {}.", sentence.trim_end_matches('.')))
            }
            (Some(Asked::Redeem { process }), Answer::OAuthFailed { sentence, .. }) => {
                self.process_refused(process, sentence.trim_end_matches('.'), None)
            }
            (Some(Asked::Renew { login }), Answer::Tokens(mut tokens)) => {
                if self.bridge.store.login(&login)?.is_none_or(|login| login.suspended.is_some()) {
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

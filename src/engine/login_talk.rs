//! Signing in by talking with the bot: what it asks, and what of a person's words belongs to that.

use std::collections::BTreeMap;

use ruma::OwnedUserId;

use super::{
    Engine,
    process::{Beginning, Door, State, read_account},
};
use crate::{
    bot::Proof,
    bridge::page_link,
    domain::{
        BareJid, LoginId,
        credentials::Secret,
        effect::Notice,
        request::{FieldId, Step},
    },
    store::StoreError,
};

impl Engine {
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
        let Some(settings) = self.bridge.settings.networks.get(&network) else { return Ok(()) };
        let account = match account.filter(|_| !settings.profile.token_decides_account) {
            Some(account) => match read_account(&account) {
                Ok(account) => Some(account),
                Err(sentence) => return self.bridge.say(owner, sentence),
            },
            None if settings.profile.token_decides_account || self.bridge.settings.page.is_some() => None,
            None => {
                return self.bridge.say(owner, format!("Which account? Use `login {network} you@example.org`."));
            }
        };
        self.talk_of_login(owner, network, account, None, proof)
    }

    /// `relogin …`.
    pub(super) fn begin_relogin(&mut self, owner: &OwnedUserId, login: &str, proof: Proof) -> Result<(), StoreError> {
        let Some(login) = self.login_named(owner, login)? else {
            return self.bridge.say(owner, "You have no such login. `list-logins` shows yours.");
        };
        let oauth = self.bridge.profile(&login.network).is_some_and(|profile| profile.token_decides_account);
        let account = (!oauth).then(|| login.account.clone());
        self.talk_of_login(owner, login.network, account, Some((login.id, login.account)), proof)
    }

    fn talk_of_login(
        &mut self,
        owner: &OwnedUserId,
        network: String,
        account: Option<BareJid>,
        again: Option<(LoginId, BareJid)>,
        proof: Proof,
    ) -> Result<(), StoreError> {
        self.end_conversation(owner);
        let (secret, given) = match proof {
            Proof::Ask => (FieldId::Password, None),
            Proof::Password(password) => (FieldId::Password, Some(password)),
            Proof::AskToken => (FieldId::Token, None),
            Proof::Token(token) => (FieldId::Token, Some(token)),
        };
        let beginning = Beginning { network, token: secret == FieldId::Token, again, account, door: Door::Bot };
        let number = match self.begin_process(owner, beginning)? {
            Ok(number) => number,
            Err(refusal) => return self.bridge.say(owner, refusal.sentence),
        };
        self.person(owner).conversation = Some(number);
        match given {
            Some(given) if self.awaits_secret(owner) => self.answer_by_bot(owner, number, secret, given),
            _ => self.ask_for_step(number),
        }
    }

    /// Says what the person is to do.
    pub(super) fn ask_for_step(&mut self, number: u64) -> Result<(), StoreError> {
        let Some(process) = self.processes.get(number) else { return Ok(()) };
        let owner = process.owner.clone();
        let link = self.bridge.settings.page.as_ref().map(|page| page_link::link(page, process.id));
        let link = link.as_ref().map(Secret::expose);
        let once = "It is for you alone, works once, and ends in 15 minutes. `cancel` stops.";
        let text = match (self.step_of(process).step, &process.account) {
            (Step::Fields(fields), Some(account)) => {
                let token = fields.iter().any(|field| field.id == FieldId::Token);
                let what = if token { "OAuth token" } else { "password" };
                let mut text = format!(
                    "Please send the {what} of {account} as your next message. I remove it at once. `cancel` stops."
                );
                if let Some(link) = link {
                    text.push_str("\n\nOr give it on this page, and it never enters this room: ");
                    text.push_str(link);
                    text.push_str("\nThe page works once, and ends in 15 minutes.");
                }
                text
            }
            (Step::Fields(_), None) => {
                let network = &process.network;
                format!(
                    "Open this page to sign in: {}\n\n{once} Or write `login {network} you@example.org`, and I ask for the password here.",
                    link.unwrap_or_default()
                )
            }
            (Step::Link { returns: true, .. }, _) => {
                format!("Open this page to sign in: {}\n\n{once}", link.unwrap_or_default())
            }
            (Step::Link { authorize, .. }, _) => {
                let text = format!(
                    "Open this link and sign in: {authorize}\n\nThen copy the whole address of the page that you end on, and send it here. I remove it at once. `cancel` stops."
                );
                let escaped = authorize.replace('&', "&amp;").replace('"', "&quot;");
                let html = format!(
                    "<p>Open this link and sign in: <a href=\"{escaped}\">{escaped}</a></p><p>Then copy the whole address of the page that you end on, and send it here. I remove it at once. <code>cancel</code> stops.</p>"
                );
                return self.bridge.say_notice(&owner, Notice { text, html: Some(html) }, None);
            }
            (Step::Wait | Step::Done { .. } | Step::Failed { .. }, _) => return Ok(()),
        };
        self.bridge.say(&owner, text)
    }

    /// The sign-in that the person talks with the bot about, if their next message belongs to it whatever it says: the field that
    /// it is for.
    fn awaited(&self, owner: &OwnedUserId) -> Option<(u64, FieldId)> {
        let number = self.people.get(owner)?.conversation?;
        let process = self.processes.get(number)?;
        let field = match &process.state {
            State::Fields if process.account.is_some() => process.secret(),
            State::Link { .. } if self.bridge.settings.page.is_none() => FieldId::Redirect,
            _ => return None,
        };
        Some((number, field))
    }

    /// Does the person's next message belong to a sign-in, whatever it says?
    pub(super) fn awaits_secret(&self, owner: &OwnedUserId) -> bool {
        self.awaited(owner).is_some()
    }

    /// The message that the bot waited for.
    pub(super) fn on_secret(&mut self, owner: &OwnedUserId, text: &str) -> Result<(), StoreError> {
        let Some((number, field)) = self.awaited(owner) else { return Ok(()) };
        self.answer_by_bot(owner, number, field, Secret::new(text))
    }

    fn answer_by_bot(
        &mut self,
        owner: &OwnedUserId,
        number: u64,
        field: FieldId,
        given: Secret,
    ) -> Result<(), StoreError> {
        match self.answer_process(number, None, BTreeMap::from([(field, given)]), Door::Bot)? {
            Ok(()) => Ok(()),
            Err(refusal) => self.bridge.say(owner, refusal.sentence),
        }
    }

    /// `cancel`, or a new `login`. `false`: there was nothing to end.
    pub(super) fn end_conversation(&mut self, owner: &OwnedUserId) -> bool {
        let Some(number) = self.person(owner).conversation.take() else { return false };
        self.cancel_process(number)
    }

    /// A sign-in has ended: the person's messages no longer belong to it.
    pub(super) fn conversation_ended(&mut self, owner: &OwnedUserId, number: u64) {
        let conversation = &mut self.person(owner).conversation;
        if *conversation == Some(number) {
            *conversation = None;
        }
    }
}

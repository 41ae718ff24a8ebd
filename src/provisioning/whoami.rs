//! Who one is to the bridge, and what it can do.

use axum::{Extension, extract::State, http::StatusCode, response::Response};
use serde_json::{Value, json};

use super::{
    Api, Caller, PATIENCE, Provisioning, Who,
    reply::{Problem, answer},
};
use crate::{
    bot,
    domain::{
        bridge_state::{BridgeState, Remote, profile},
        request::{Flow, LoginState, Overview, Response as Told, Wish},
    },
};
use ruma::OwnedUserId;

/// What tells this bridge from others.
const BRIDGE_TYPE: &str = "org.messenger_bridge";

impl Provisioning {
    async fn overview(&self, owner: &OwnedUserId) -> Result<Overview, Problem> {
        match self.ask(owner, Wish::Overview, PATIENCE).await? {
            Told::Overview(overview) => Ok(overview),
            _ => Err(Problem::unexpected()),
        }
    }

    async fn login_flows(&self, owner: &OwnedUserId) -> Result<Vec<Value>, Problem> {
        let write = |flow: Flow| json!({ "id": flow.id, "name": flow.name, "description": flow.description });
        match self.ask(owner, Wish::Flows, PATIENCE).await? {
            Told::Flows(flows) => Ok(flows.into_iter().map(write).collect()),
            _ => Err(Problem::unexpected()),
        }
    }

    /// The networks behind this bridge, as one `BridgeName`.
    fn network(&self) -> Value {
        let mut networks: Vec<_> = self
            .settings
            .networks
            .values()
            .map(|network| (network.profile.protocol, network.profile.display_name))
            .collect();
        networks.sort_unstable();
        networks.dedup();
        let names: Vec<&str> = networks.iter().map(|(_, name)| *name).collect();
        let id = match networks.as_slice() {
            [(protocol, _)] => protocol,
            _ => "messenger-bridge",
        };
        json!({
            "displayname": names.join(" and "),
            "network_url": "",
            "network_icon": "",
            "network_id": id,
            "beeper_bridge_type": BRIDGE_TYPE,
        })
    }

    /// A login with its state: as it was told last, or as the overview has it.
    fn login(&self, owner: &OwnedUserId, login: LoginState) -> Value {
        let remote = Remote {
            login: login.id.clone(),
            owner: owner.clone(),
            account: login.account.clone(),
            name: login.name.clone(),
        };
        let state = self.board.latest(&login.id).unwrap_or_else(|| BridgeState {
            remote: Some(remote),
            event: login.connection.into(),
            at: login.since.unwrap_or_default(),
            error: None,
            message: login.reason,
        });
        let mut written = state.to_json();
        if let Some(fields) = written.as_object_mut() {
            // They stand beside it.
            for redundant in ["user_id", "remote_id", "remote_name", "remote_profile"] {
                fields.remove(redundant);
            }
        }
        let mut json = json!({
            "state_event": written["state_event"],
            "state_ts": written["timestamp"],
            "state": written,
            "id": login.id.as_str(),
            "name": login.account.as_str(),
            "profile": profile(&login.account, login.name.as_deref()),
        });
        if let Some(space) = login.space {
            json["space_room"] = space.as_str().into();
        }
        json
    }
}

pub(super) async fn whoami(State(api): Api, Extension(Caller(owner)): Who) -> Result<Response, Problem> {
    let overview = api.overview(&owner).await?;
    let mut json = json!({
        "network": api.network(),
        "login_flows": api.login_flows(&owner).await?,
        "homeserver": api.homeserver.name,
        "bridge_bot": api.homeserver.bot,
        "command_prefix": bot::PREFIX,
        "logins": overview.logins.into_iter().map(|login| api.login(&owner, login)).collect::<Vec<_>>(),
    });
    if let Some(room) = overview.management {
        json["management_room"] = room.as_str().into();
    }
    Ok(answer(StatusCode::OK, &json))
}

pub(super) async fn capabilities(State(api): Api) -> Response {
    let email = api.settings.networks.values().any(|network| network.profile.jid_lookup.is_some());
    let json = json!({
        "resolve_identifier": {
            "create_dm": true,
            "lookup_phone": false,
            "lookup_email": email,
            "lookup_username": true,
            "any_phone": false,
            "contact_list": true,
            "search": true,
        },
        "group_creation": {},
    });
    answer(StatusCode::OK, &json)
}

pub(super) async fn flows(State(api): Api, Extension(Caller(owner)): Who) -> Result<Response, Problem> {
    Ok(answer(StatusCode::OK, &json!({ "flows": api.login_flows(&owner).await? })))
}

pub(super) async fn logins(State(api): Api, Extension(Caller(owner)): Who) -> Result<Response, Problem> {
    let overview = api.overview(&owner).await?;
    let ids: Vec<String> = overview.logins.iter().map(|login| login.id.to_string()).collect();
    Ok(answer(StatusCode::OK, &json!({ "login_ids": ids })))
}

//! The bridge's doors for programs: the provisioning API, and where states are told.

use std::sync::Arc;

use secrecy::ExposeSecret as _;

use crate::{
    bridge::{Homeserver, Settings},
    config::Config,
    desk::Desk,
    domain::credentials::Secret,
    provisioning::{
        Keys, Provisioning,
        identity::Identity,
        status::{Endpoint, StatusBoard, starting},
    },
    registration::Registration,
};

/// Opens them, in a runtime: the first state is that the bridge starts.
///
/// # Errors
/// No client for HTTP can be made.
pub fn open(
    config: &Config,
    registration: &Registration,
    desk: &Arc<Desk>,
    settings: Settings,
    homeserver: Homeserver,
) -> Result<(Arc<StatusBoard>, Arc<Provisioning>), reqwest::Error> {
    let board = Arc::new(StatusBoard::default());
    board.put(starting());
    match &config.homeserver.status_endpoint {
        Some(address) => {
            let as_token = Secret::new(registration.as_token.expose_secret());
            tokio::spawn(Arc::clone(&board).tell(Endpoint::new(address.as_str(), as_token)?));
        }
        None => drop(tokio::spawn(Arc::clone(&board).keep())),
    }
    let wanted = &config.provisioning;
    let client = config.homeserver.address.as_str();
    let federation = wanted.federation_address.as_ref().map_or(client, |address| address.as_str());
    let keys = Keys {
        secret: wanted.shared_secret.as_ref().map(|secret| Secret::new(secret.expose_secret())),
        allow_matrix_auth: wanted.allow_matrix_auth,
        identity: Identity::new(homeserver.name.clone(), client, federation)?,
    };
    let api = Provisioning::new(Arc::clone(desk), Arc::clone(&board), keys, homeserver, settings);
    Ok((board, api))
}

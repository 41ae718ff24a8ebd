//! Every key of the configuration, in the order of the example. The tests of [`super`] hold it to the structs and to
//! `config.yaml.example`.

/// One key. `*` in the path stands for a name that the operator chose.
pub struct Key {
    /// Sections and key, joined by dots.
    pub path: &'static str,
    /// Whether it may come from the environment: a scalar whose path can be spelled as a variable's name.
    pub env: bool,
}

const fn scalar(path: &'static str) -> Key {
    Key { path, env: true }
}

const fn file_only(path: &'static str) -> Key {
    Key { path, env: false }
}

/// The keys that hold a value: a scalar, a list, or a map whose keys are the operator's.
pub const KEYS: &[Key] = &[
    scalar("homeserver.address"),
    scalar("homeserver.domain"),
    scalar("homeserver.status_endpoint"),
    scalar("appservice.listen"),
    scalar("appservice.address"),
    scalar("appservice.bot.localpart"),
    scalar("appservice.bot.displayname"),
    scalar("store.path"),
    scalar("store.key_file"),
    file_only("permissions.*"),
    scalar("double_puppet.registration"),
    scalar("networks.*.profile"),
    scalar("networks.*.domain"),
    scalar("networks.*.address"),
    scalar("networks.*.tls.mode"),
    scalar("networks.*.tls.ca_file"),
    scalar("networks.*.tls.accept_name"),
    scalar("networks.*.oauth.client_id"),
    scalar("networks.*.oauth.client_secret"),
    scalar("networks.*.oauth.authorize_url"),
    scalar("networks.*.oauth.token_url"),
    scalar("networks.*.oauth.redirect_url"),
    file_only("networks.*.oauth.scopes"),
    scalar("networks.*.domains"),
    file_only("networks.*.domains.*.address"),
    file_only("networks.*.domains.*.tls.mode"),
    file_only("networks.*.domains.*.tls.ca_file"),
    file_only("networks.*.domains.*.tls.accept_name"),
    scalar("portals.create"),
    scalar("portals.per_second"),
    scalar("portals.strangers"),
    scalar("portals.space"),
    scalar("history.initial"),
    scalar("history.catch_up"),
    scalar("outbox.warn_after"),
    scalar("outbox.expire"),
    scalar("presence.to_matrix"),
    scalar("presence.from_matrix"),
    scalar("presence.offline_as"),
    scalar("presence.updates_per_second"),
    file_only("fetch.allow_private"),
    scalar("files.max_bytes"),
    scalar("public_media.enabled"),
    scalar("public_media.address"),
    scalar("public_media.expires"),
    scalar("logging.level"),
    scalar("logging.format"),
    scalar("web.public_address"),
    scalar("logins.max_logins"),
    scalar("logins.after_logout"),
    scalar("logins.status_notices"),
    scalar("provisioning.shared_secret"),
    scalar("provisioning.allow_matrix_auth"),
    scalar("provisioning.federation_address"),
    scalar("metrics.listen"),
];

/// Maps whose keys are names that the operator chose.
pub(super) const NAMED: &[&str] = &["permissions", "networks", "networks.*.domains"];

/// The path with `*` where a name is the operator's.
pub(super) fn pattern(path: &[String]) -> String {
    let mut pattern = String::new();
    for part in path {
        let named = NAMED.contains(&pattern.as_str());
        if !pattern.is_empty() {
            pattern.push('.');
        }
        pattern.push_str(if named { "*" } else { part });
    }
    pattern
}

/// Whether a key, or one below it, has this pattern.
pub(super) fn is_known(pattern: &str) -> bool {
    KEYS.iter()
        .any(|key| key.path == pattern || key.path.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('.')))
}

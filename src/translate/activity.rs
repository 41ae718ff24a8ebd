//! Client state indication (XEP-0352): whether the person is there, by their Matrix presence -> `<active/>` and `<inactive/>`.
//!
//! It is for the server alone, which shows nobody. What it does with it is its own: Prosody's `csi_simple` and ejabberd's
//! `mod_client_state` hold back presence and chat states until something important comes, or the person does; never a message.

use ruma::presence::PresenceState;

/// Does this person look?
pub fn from_matrix(state: &PresenceState) -> bool {
    !matches!(state, PresenceState::Unavailable | PresenceState::Offline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_idle_or_gone_does_not_look() {
        let all = ["online", "org.matrix.msc3026.busy", "unavailable", "offline"];
        assert_eq!(all.map(|state| from_matrix(&PresenceState::from(state))), [true, true, false, false]);
    }
}

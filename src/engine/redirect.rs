//! Signing in at an OAuth provider's page: the link, and the address of the page that it sends the person to, as they paste it or as it
//! brings them back.

use super::{
    Engine,
    process::{Door, State},
    signin::Asked,
};
use crate::{
    bridge::page_link,
    domain::{
        Timestamp,
        credentials::{Credentials, Secret, Tokens},
        output::Ask,
        request::FieldId,
    },
    store::StoreError,
};

impl Engine {
    /// Where the provider is to send the person back to; `None`: as configured, and they paste where they end.
    fn redirect(&self) -> Option<String> {
        self.bridge.settings.page.as_ref().map(page_link::return_address)
    }

    /// Asks for the authorize link.
    pub(super) fn begin_link(&mut self, number: u64) {
        let redirect = self.redirect();
        let Some(network) = self.processes.get(number).map(|process| process.network.clone()) else { return };
        let ask = self.ask_outside(Asked::Begin { process: number }, Ask::BeginOAuth { network, redirect });
        if let Some(process) = self.processes.all.get_mut(&number) {
            process.state = State::Linking(ask);
        }
    }

    /// The authorize link is there.
    pub(super) fn on_link_begun(
        &mut self,
        number: u64,
        authorize: String,
        state: String,
        verifier: Secret,
    ) -> Result<(), StoreError> {
        if let Some(process) = self.processes.all.get_mut(&number) {
            process.state = State::Link { authorize, state, verifier };
        }
        self.process_changed(number)
    }

    /// What the person pasted, or the provider sent them back with: the page that they were sent to, or a bare token.
    pub(super) fn on_redirect(&mut self, number: u64, pasted: &str) -> Result<(), StoreError> {
        let redirect = self.redirect();
        let Some(process) = self.processes.get(number) else { return Ok(()) };
        let State::Link { state, verifier, .. } = &process.state else { return Ok(()) };
        let (network, page) = (process.network.clone(), process.answered == Door::Page);
        match read_redirect(pasted) {
            Redirect::Code { code, state: given } if given.as_deref() == Some(state.as_str()) => {
                let question = Ask::RedeemCode { network, redirect, code, verifier: verifier.clone() };
                let ask = self.ask_outside(Asked::Redeem { process: number }, question);
                if let Some(process) = self.processes.all.get_mut(&number) {
                    process.state = State::Redeeming(ask);
                }
                Ok(())
            }
            // Any site can send the person's browser to our page: that ends nothing.
            Redirect::Code { .. } if page => {
                self.complain(number, FieldId::Redirect, "That does not belong to this sign-in. Please try again.")
            }
            Redirect::Code { .. } => {
                let text = "That link does not belong to the sign-in that I began. Please start again with";
                self.fail_process(number, format!("{text} `login {network}`."))
            }
            Redirect::Token { token, expires_in } => {
                let owner = process.owner.clone();
                self.bridge.say(
                    &owner,
                    "This token cannot be renewed: when it ends I will have to ask you to sign in again.",
                )?;
                let expires_at = expires_in
                    .map(|seconds| Timestamp(self.bridge.now.wall.0.saturating_add(seconds.saturating_mul(1000))));
                self.sign_in(number, None, Credentials::OAuth(Tokens { access: token, refresh: None, expires_at }))
            }
            Redirect::Refused if page => {
                self.complain(number, FieldId::Redirect, "The sign-in was refused there. You can try again.")
            }
            Redirect::Refused => {
                self.fail_process(number, format!("The sign-in was refused there. Start again with `login {network}`."))
            }
            Redirect::Unreadable if page => {
                self.complain(number, FieldId::Redirect, "No sign-in came back with that. Please try again.")
            }
            Redirect::Unreadable => {
                let text =
                    "I cannot find a sign-in in that. Please paste the whole address of the page that you were sent to";
                self.complain(number, FieldId::Redirect, format!("{text}, or `cancel`."))
            }
        }
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

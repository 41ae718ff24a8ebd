//! What is changed in lists that a person keeps in Matrix, each read first: what else is in them stays as it is.

use ruma::UserId;
use serde_json::Value;

use super::client::{CallError, Client};
use crate::translate::blocking;

impl Client {
    /// Puts a ghost into the person's `m.ignored_user_list`, or takes it out.
    pub async fn ignore(&self, user: &UserId, ghost: &UserId, ignored: bool) -> Result<(), CallError> {
        let known = self.account_data(user, None, blocking::IGNORED).await?;
        let known = known.as_ref().map_or("{}", |known| known.get());
        let known: Value = serde_json::from_str(known).map_err(|_| CallError::BadAnswer("account_data"))?;
        match blocking::with_ignored(&known, ghost, ignored) {
            Some(changed) => self.set_account_data(user, None, blocking::IGNORED, &changed.to_string()).await,
            None => Ok(()),
        }
    }
}

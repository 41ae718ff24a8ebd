//! What is changed in lists that a person keeps in Matrix, each read first: what else is in them stays as it is.

use http::Method;
use ruma::{RoomId, UserId};
use serde_json::Value;

use super::client::{CallError, Client};
use crate::{
    domain::choice::Notify,
    translate::{blocking, notify},
};

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

    /// Sets the person's push rules with this room's id, as Element does: an override rule for "off", a room rule for mentions. A
    /// room rule that says something is the person's own and stays, unless one that does not takes its place.
    pub async fn silence(&self, user: &UserId, room: &RoomId, notify: Notify) -> Result<(), CallError> {
        let id = room.as_str();
        match notify {
            Notify::Never => self.set_push_rule(user, "override", id, Some(&notify::off(room))).await,
            Notify::OnMention => {
                self.set_push_rule(user, "room", id, Some(&notify::mentions())).await?;
                self.set_push_rule(user, "override", id, None).await
            }
            Notify::Always => {
                let path = ["pushrules", "global", "room", id];
                let of_room = match self.json("pushrules", user, Method::GET, &path, &[], None).await {
                    Ok(rule) => serde_json::from_str::<Value>(rule.get()).ok(),
                    Err(error) if error.errcode() == Some("M_NOT_FOUND") => None,
                    Err(error) => return Err(error),
                };
                if of_room.as_ref().is_some_and(notify::is_silent) {
                    self.set_push_rule(user, "room", id, None).await?;
                }
                self.set_push_rule(user, "override", id, None).await
            }
        }
    }
}

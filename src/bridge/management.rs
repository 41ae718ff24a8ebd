//! What the bot says to a person in their management room.

use ruma::UserId;

use super::Bridge;
use crate::{
    domain::effect::{Effect, Lane, Notice},
    store::StoreError,
};

impl Notice {
    /// A plain notice.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), html: None }
    }
}

impl Bridge {
    /// Says something in a person's management room. If they have none, it is not said.
    pub fn say(&mut self, owner: &UserId, text: impl Into<String>) -> Result<(), StoreError> {
        self.say_notice(owner, Notice::plain(text), None)
    }

    /// Says something, as an edit of the last notice with the same key where one is given.
    pub fn say_notice(&mut self, owner: &UserId, notice: Notice, key: Option<String>) -> Result<(), StoreError> {
        if self.store.management(owner)?.room.is_some() {
            self.owe(Lane::Management(owner.to_owned()), Effect::Say { notice, replaces: key })?;
        }
        Ok(())
    }
}

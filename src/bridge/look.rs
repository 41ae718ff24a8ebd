//! The look of a portal's room: the contact's name, picture and topic, unless the person has given it their own.

use serde_json::json;

use super::Bridge;
use crate::{
    domain::effect::{ContactKey, Effect, Lane},
    store::{StoreError, look::Decided},
};

/// The event type of a room's name.
pub const NAME: &str = "m.room.name";
/// The event type of a room's picture.
pub const AVATAR: &str = "m.room.avatar";
/// The event type of a room's topic.
pub const TOPIC: &str = "m.room.topic";

impl Bridge {
    /// Owes a state event of a portal's room.
    pub fn set_room_state(
        &mut self,
        portal: &ContactKey,
        kind: &str,
        key: &str,
        content: String,
    ) -> Result<(), StoreError> {
        let effect = Effect::SetRoomState { kind: kind.to_owned(), key: key.to_owned(), content };
        self.owe(Lane::ToMatrix(portal.clone()), effect)?;
        Ok(())
    }

    /// The ghost has another photo, or none any more: so has the room, where its picture is the contact's.
    pub fn picture_room(&mut self, contact: &ContactKey, photo: Option<&str>) -> Result<(), StoreError> {
        let mut look = self.store.look(contact)?;
        look.photo = photo.map(str::to_owned);
        let shows = self.store.portal(contact)?.is_some() && look.avatar_by == Decided::Bridge;
        if shows && look.avatar != look.photo {
            look.avatar.clone_from(&look.photo);
            self.set_room_state(contact, AVATAR, "", avatar(photo))?;
        }
        self.store.put_look(contact, &look)
    }

    /// Who decides the part of a portal's look that is set by events of this type; `None` for any other event.
    pub fn decided(&self, portal: &ContactKey, kind: &str) -> Result<Option<Decided>, StoreError> {
        let look = self.store.look(portal)?;
        Ok(match kind {
            NAME => Some(look.name_by),
            AVATAR => Some(look.avatar_by),
            TOPIC => Some(look.topic_by),
            _ => None,
        })
    }
}

/// The content of a room's picture.
pub fn avatar(url: Option<&str>) -> String {
    match url {
        Some(url) => json!({ "url": url }),
        None => json!({}),
    }
    .to_string()
}

/// The content of a portal's topic: the contact's address. A name and a picture are what the contact says of itself, and can
/// be anyone's; the address is who it is.
pub fn topic(contact: &ContactKey) -> String {
    json!({ "topic": contact.contact.as_str() }).to_string()
}

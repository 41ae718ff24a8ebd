//! What is done in a person's own name beside speaking, one method per call: their account data, tags, push rules and read
//! markers (double puppeting). Content goes as it is, for clients keep in it what they alone know.

use http::Method;
use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::{Value, json, value::RawValue};

use super::client::{CallError, Client};

impl Client {
    /// `POST /rooms/{room}/read_markers`: `m.fully_read` and `m.read.private`. Privately, for whom a public receipt would
    /// tell of it beside us the other device has told already, or was told not to.
    pub async fn read_markers(&self, user: &UserId, room: &RoomId, event: &ruma::EventId) -> Result<(), CallError> {
        let body = json!({ "m.fully_read": event, "m.read.private": event }).to_string();
        let path = ["rooms", room.as_str(), "read_markers"];
        self.json("read_markers", user, Method::POST, &path, &[], Some(&body)).await.map(drop)
    }

    /// `GET /user/{user}/account_data/{kind}`, or of a room; `None` where there is none.
    pub async fn account_data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        kind: &str,
    ) -> Result<Option<Box<RawValue>>, CallError> {
        match self.json("account_data", user, Method::GET, &account_data_path(user, room, kind), &[], None).await {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.errcode() == Some("M_NOT_FOUND") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `PUT /user/{user}/account_data/{kind}`, or of a room.
    pub async fn set_account_data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        kind: &str,
        content: &str,
    ) -> Result<(), CallError> {
        let path = account_data_path(user, room, kind);
        self.json("account_data", user, Method::PUT, &path, &[], Some(content)).await.map(drop)
    }

    /// `PUT` or `DELETE /user/{user}/rooms/{room}/tags/{tag}`. Having no such tag is success.
    pub async fn set_tag(
        &self,
        user: &UserId,
        room: &RoomId,
        tag: &str,
        content: Option<&str>,
    ) -> Result<(), CallError> {
        let path = ["user", user.as_str(), "rooms", room.as_str(), "tags", tag];
        self.put_or_delete("tags", user, &path, content).await
    }

    /// `PUT` or `DELETE /pushrules/global/{kind}/{rule}`. Having no such rule is success.
    pub async fn set_push_rule(
        &self,
        user: &UserId,
        kind: &str,
        rule: &str,
        content: Option<&str>,
    ) -> Result<(), CallError> {
        self.put_or_delete("pushrules", user, &["pushrules", "global", kind, rule], content).await
    }

    async fn put_or_delete(
        &self,
        name: &'static str,
        user: &UserId,
        path: &[&str],
        content: Option<&str>,
    ) -> Result<(), CallError> {
        let method = if content.is_some() { Method::PUT } else { Method::DELETE };
        match self.json(name, user, method, path, &[], content).await {
            Err(error) if content.is_none() && error.errcode() == Some("M_NOT_FOUND") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Puts a room into `m.direct` for a ghost, or takes it out. The rest stays as it is.
    pub async fn list_direct(
        &self,
        user: &UserId,
        room: &OwnedRoomId,
        ghost: &UserId,
        listed: bool,
    ) -> Result<(), CallError> {
        const KIND: &str = "m.direct";
        let known = self.account_data(user, None, KIND).await?;
        let known = known.as_ref().map_or("{}", |known| known.get());
        let known: Value = serde_json::from_str(known).map_err(|_| CallError::BadAnswer("account_data"))?;
        match with_direct(&known, room, ghost, listed) {
            Some(changed) => self.set_account_data(user, None, KIND, &changed.to_string()).await,
            None => Ok(()),
        }
    }
}

fn account_data_path<'a>(user: &'a UserId, room: Option<&'a RoomId>, kind: &'a str) -> Vec<&'a str> {
    let mut path = vec!["user", user.as_str()];
    if let Some(room) = room {
        path.extend(["rooms", room.as_str()]);
    }
    path.extend(["account_data", kind]);
    path
}

/// `m.direct` (Matrix CS API, "Direct Messaging") with a room listed for a ghost, or no longer; `None` where it is so already. What
/// is no list of rooms stays as it is, unless it stands in the way.
fn with_direct(known: &Value, room: &RoomId, ghost: &UserId, listed: bool) -> Option<Value> {
    let mut lists = known.as_object().cloned().unwrap_or_default();
    let is = |value: &Value| value.as_str() == Some(room.as_str());
    let there = lists.get(ghost.as_str()).and_then(Value::as_array).cloned().unwrap_or_default();
    if there.iter().any(is) == listed {
        return None;
    }
    let mut rooms: Vec<Value> = there.into_iter().filter(|value| !is(value)).collect();
    if listed {
        rooms.push(json!(room));
    }
    if rooms.is_empty() {
        lists.remove(ghost.as_str());
    } else {
        lists.insert(ghost.to_string(), Value::Array(rooms));
    }
    Some(Value::Object(lists))
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, user_id};

    use super::*;

    #[test]
    fn a_room_is_put_into_m_direct_and_taken_out_and_the_rest_stays() {
        let (room, ghost) = (room_id!("!r:h"), user_id!("@messenger_x:h"));
        let known = json!({ "@friend:h": ["!a:h"], "odd": 7 });
        let listed = with_direct(&known, room, ghost, true).unwrap();
        assert_eq!(listed, json!({ "@friend:h": ["!a:h"], "odd": 7, "@messenger_x:h": ["!r:h"] }));
        assert_eq!(with_direct(&listed, room, ghost, true), None);
        assert_eq!(with_direct(&listed, room, ghost, false).unwrap(), known);
        assert_eq!(with_direct(&known, room, ghost, false), None);
        // Another client has written there what is no list.
        let odd = json!({ "@messenger_x:h": "!a:h" });
        assert_eq!(with_direct(&odd, room, ghost, true).unwrap(), json!({ "@messenger_x:h": ["!r:h"] }));
    }
}

//! Follows people's account data and private receipts, which no transaction holds: `GET /sync` in the person's name with the
//! registration for double puppeting. Synapse gives it to an application service for any user of its namespace but its own
//! bot, without a device: nothing of it shows among the person's sessions. Nothing of what is said is asked for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::Method;
use rand::random_range;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::sleep,
};

use super::client::{CallError, Client};
use crate::domain::Input;

/// What is told of a person beside their rooms.
const GLOBAL: [&str; 3] = ["m.direct", "m.ignored_user_list", "m.push_rules"];
/// What is told of a room.
const OF_ROOMS: [&str; 2] = ["m.fully_read", "m.tag"];
/// How long the homeserver holds a request when there is nothing new.
const HELD: Duration = Duration::from_secs(30);
/// Pause between two answers: receipts of busy rooms answer a request at once.
const PACE: Duration = Duration::from_secs(1);
/// First and longest pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Pause where the homeserver does not let us.
const REFUSED: Duration = Duration::from_mins(10);
/// People whose account data is read as a whole at once.
const WHOLE_AT_ONCE: usize = 4;

/// Follows people, each by a task of its own.
#[derive(Debug)]
pub struct Followers {
    client: Client,
    mailbox: mpsc::Sender<Input>,
    runtime: Handle,
    /// One for each person who has a login.
    tasks: Mutex<HashMap<OwnedUserId, AbortHandle>>,
    whole: Arc<Semaphore>,
}

impl Followers {
    /// With a client that may act for people, reporting into the engine's mailbox.
    pub fn new(client: Client, mailbox: mpsc::Sender<Input>, runtime: Handle) -> Self {
        let whole = Arc::new(Semaphore::new(WHOLE_AT_ONCE));
        Self { client, mailbox, runtime, tasks: Mutex::default(), whole }
    }

    /// Follows a person from where an earlier process had got to, or from the whole on. One who is followed is followed on.
    pub fn follow(&self, owner: &OwnedUserId, since: Option<String>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.get(owner).is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (client, mailbox, whole) = (self.client.clone(), self.mailbox.clone(), Arc::clone(&self.whole));
        let task = self.runtime.spawn(follow(client, mailbox, whole, owner.clone(), since));
        tasks.insert(owner.clone(), task.abort_handle());
    }

    /// Follows a person no longer.
    pub fn unfollow(&self, owner: &UserId) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = tasks.remove(owner) {
            task.abort();
        }
    }
}

async fn follow(
    client: Client,
    mailbox: mpsc::Sender<Input>,
    whole: Arc<Semaphore>,
    owner: OwnedUserId,
    mut since: Option<String>,
) {
    let mut failures = 0_u32;
    loop {
        let answer = if since.is_none() {
            let _place = whole.acquire().await;
            ask(&client, &owner, None).await
        } else {
            ask(&client, &owner, since.as_deref()).await
        };
        match answer {
            Ok(answer) => {
                failures = 0;
                let next = answer.next_batch.clone();
                let followed = Input::Followed { owner: owner.clone(), since: next.clone(), whole: since.is_none() };
                for input in answer.into_inputs(&owner).into_iter().chain([followed]) {
                    if mailbox.send(input).await.is_err() {
                        // The process is ending.
                        return;
                    }
                }
                since = Some(next);
                sleep(PACE).await;
            }
            Err(error) => {
                tracing::debug!(user = %owner, %error, "account data cannot be followed");
                failures = failures.saturating_add(1);
                if since.is_some() && matches!(error.status(), Some(400 | 404)) {
                    // The homeserver does not know the place any more.
                    since = None;
                }
                sleep(pause(&error, failures)).await;
            }
        }
    }
}

/// Grows with each failure, and is spread so that people who failed together do not come back together.
fn pause(error: &CallError, failures: u32) -> Duration {
    let most = match error {
        CallError::NotAs(_) => REFUSED,
        _ if !error.is_transient() => LONGEST_PAUSE,
        _ => (PAUSE * 2_u32.saturating_pow(failures.saturating_sub(1).min(16))).min(LONGEST_PAUSE),
    };
    let asked = error.limited().flatten().map(Duration::from_millis).unwrap_or_default();
    asked.max(most.mul_f64(random_range(0.5..1.0)))
}

async fn ask(client: &Client, owner: &UserId, since: Option<&str>) -> Result<Answer, CallError> {
    // The whole holds no receipts: those of all people in all rooms would come, and old ones tell nothing.
    let receipts: &[&str] = if since.is_some() { &["m.receipt"] } else { &[] };
    let nothing = json!({ "types": [] });
    let filter = json!({
        "presence": nothing,
        "account_data": { "types": GLOBAL },
        "room": {
            "timeline": { "types": [], "limit": 0 },
            "state": { "types": [], "lazy_load_members": true },
            "ephemeral": { "types": receipts },
            "account_data": { "types": OF_ROOMS },
        },
    })
    .to_string();
    let held = if since.is_some() { HELD.as_millis().to_string() } else { "0".to_owned() };
    let mut query = vec![("set_presence", "offline"), ("filter", filter.as_str()), ("timeout", held.as_str())];
    query.extend(since.map(|since| ("since", since)));
    let answer = client.json("sync", owner, Method::GET, &["sync"], &query, None).await?;
    serde_json::from_str(answer.get()).map_err(|_| CallError::BadAnswer("sync"))
}

/// As much of the answer as was asked for.
#[derive(Debug, Deserialize)]
struct Answer {
    next_batch: String,
    #[serde(default)]
    account_data: Events,
    #[serde(default)]
    rooms: Rooms,
}

#[derive(Debug, Default, Deserialize)]
struct Rooms {
    #[serde(default)]
    join: HashMap<OwnedRoomId, Joined>,
}

#[derive(Debug, Default, Deserialize)]
struct Joined {
    #[serde(default)]
    account_data: Events,
    #[serde(default)]
    ephemeral: Events,
}

#[derive(Debug, Default, Deserialize)]
struct Events {
    #[serde(default)]
    events: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    content: Box<RawValue>,
}

impl Events {
    /// Those of these types; what is no event is left out.
    fn of(self, kinds: &[&str]) -> impl Iterator<Item = (String, Box<RawValue>)> {
        self.events.into_iter().filter_map(|raw| {
            let Event { kind, content } = serde_json::from_str(raw.get()).ok()?;
            (kinds.contains(&kind.as_str()) && content.get().starts_with('{')).then_some((kind, content))
        })
    }
}

impl Answer {
    fn into_inputs(self, owner: &OwnedUserId) -> Vec<Input> {
        let mut inputs = Vec::new();
        let global = self.account_data.of(&GLOBAL);
        inputs.extend(global.map(|(kind, content)| Input::AccountData {
            owner: owner.clone(),
            room: None,
            kind,
            content,
        }));
        for (room, joined) in self.rooms.join {
            let of_room = joined.account_data.of(&OF_ROOMS);
            inputs.extend(of_room.map(|(kind, content)| Input::AccountData {
                owner: owner.clone(),
                room: Some(room.clone()),
                kind,
                content,
            }));
            let receipts = joined.ephemeral.of(&["m.receipt"]).filter_map(|(_, content)| read_by(owner, &content));
            let read = |event| Input::ReadPrivately { owner: owner.clone(), room: room.clone(), event };
            inputs.extend(receipts.map(read));
        }
        inputs
    }
}

/// Up to where this person has read privately, of the content of an `m.receipt`.
fn read_by(owner: &UserId, content: &RawValue) -> Option<OwnedEventId> {
    let events: HashMap<String, Value> = serde_json::from_str(content.get()).ok()?;
    let own = |types: &Value| types["m.read.private"].get(owner.as_str()).is_some();
    events.into_iter().find(|(_, types)| own(types)).and_then(|(event, _)| event.try_into().ok())
}

#[cfg(test)]
mod tests {
    use ruma::owned_user_id;

    use super::*;

    #[test]
    fn of_an_answer_only_what_was_asked_for_is_told() {
        let answer = r#"{"next_batch":"s2","account_data":{"events":[
            {"type":"m.direct","content":{"@a:h":["!r:h"]}},{"type":"org.example.secret","content":{}},7,{"type":"m.push_rules"},
            {"type":"m.ignored_user_list","content":[]}]},
            "rooms":{"join":{"!r:h":{"timeline":{"events":[{"type":"m.room.message","content":{}}]},
                "account_data":{"events":[{"type":"m.tag","content":{"tags":{}}},{"type":"m.direct","content":{}}]},
                "ephemeral":{"events":[{"type":"m.receipt","content":{
                    "$1":{"m.read":{"@me:h":{"ts":1}},"m.read.private":{"@other:h":{"ts":1}}},
                    "$2":{"m.read.private":{"@me:h":{"ts":2}}}}},{"type":"m.receipt","content":{"$3":{"m.read":{"@me:h":{}}}}}]}}}}}"#;
        let answer: Answer = serde_json::from_str(answer).unwrap();
        let told = answer.into_inputs(&owned_user_id!("@me:h"));
        let [
            Input::AccountData { room: None, kind: direct, .. },
            Input::AccountData { room: Some(_), kind: tag, content, .. },
            Input::ReadPrivately { room, event, .. },
        ] = &told[..]
        else {
            panic!("{told:?}")
        };
        assert_eq!((direct.as_str(), tag.as_str(), content.get()), ("m.direct", "m.tag", r#"{"tags":{}}"#));
        assert_eq!((room.as_str(), event.as_str()), ("!r:h", "$2"));
        let nothing: Answer = serde_json::from_str(r#"{"next_batch":"s3"}"#).unwrap();
        assert!(nothing.into_inputs(&owned_user_id!("@me:h")).is_empty());
    }

    #[test]
    fn pauses_grow_to_a_bound_and_a_refusal_is_left_alone_for_longer() {
        let timeout = |failures| pause(&CallError::Timeout, failures);
        assert!(timeout(1) <= PAUSE && timeout(4) >= PAUSE * 4 && timeout(99) <= LONGEST_PAUSE);
        assert!(timeout(99) >= LONGEST_PAUSE / 2);
        assert!(pause(&CallError::NotAs(Box::default()), 1) >= REFUSED / 2);
    }
}

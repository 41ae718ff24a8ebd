//! Pays what is owed to the homeserver: one [`MatrixWork`] in, one [`Outcome`] out, and each call safe to repeat.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use ruma::{OwnedEventId, OwnedRoomId, RoomId, UserId};
use serde_json::Value;
use tokio::{
    sync::{Mutex, Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};
use tracing::{Instrument, field::Empty};

use super::{
    client::{CallError, Client, millis},
    counters::{Count, Counters},
    presence_task::PresenceKeeper,
};
use crate::domain::{
    Input, Timestamp,
    address::GHOST_PREFIX,
    input::{Cause, Failure, Outcome, Receipt},
    output::{CreateRoom, MatrixCall, MatrixWork, WorkId},
};

/// Requests in flight at once if nothing else is configured: where Synapse on one core answers most in all.
pub const REQUESTS_AT_ONCE: usize = 32;

/// Work in hand at once, most of it waiting for a place. More stays in the channel.
pub const IN_HAND: usize = 1024;

/// The largest upload: avatars are all that is uploaded so far.
pub const UPLOAD_LIMIT: usize = 1024 * 1024;

/// A homeserver may ask one kind of call to wait so long; what it asks beyond that is left to the work's own retry.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Where a 429 says nothing.
const USUAL_PAUSE: u64 = 1000;

/// Rooms asked at once when a room is looked for.
const ROOMS_AT_ONCE: usize = 8;

/// What a homeserver limits separately.
#[derive(Clone, Copy)]
enum Kind {
    Register,
    Profile,
    Media,
    Create,
    Membership,
    Invite,
    Event,
    Person,
}

const KINDS: usize = 8;

/// Runs Matrix work.
#[derive(Debug)]
pub struct MatrixSender {
    client: Client,
    counters: Arc<Counters>,
    presence: Arc<PresenceKeeper>,
    places: Semaphore,
    /// One search for a room at a time, so that its requests stay within [`ROOMS_AT_ONCE`].
    search: Mutex<()>,
    started: Instant,
    /// Until when each kind of call waits, in milliseconds since `started`.
    paused: [AtomicU64; KINDS],
}

impl MatrixSender {
    /// `at_once`: requests in flight at once, at least one ([`REQUESTS_AT_ONCE`] is usual).
    pub fn new(client: Client, counters: Arc<Counters>, presence: Arc<PresenceKeeper>, at_once: usize) -> Self {
        Self {
            client,
            counters,
            presence,
            places: Semaphore::new(at_once.max(1)),
            search: Mutex::new(()),
            started: Instant::now(),
            paused: Default::default(),
        }
    }

    /// Does one piece of work. Never panics, always ends: each request has a time-out.
    pub async fn run(&self, call: &MatrixCall) -> Outcome {
        let kind = kind(call);
        let _place = loop {
            self.wait(kind).await;
            // The semaphore is never closed.
            let place = self.places.acquire().await;
            if self.pause_left(kind).is_none() {
                break place;
            }
        };
        match self.perform(call).await {
            Ok(receipt) => Outcome::Done(receipt),
            Err(error) => {
                if let Some(retry_after) = error.limited() {
                    self.pause(kind, Duration::from_millis(retry_after.unwrap_or(USUAL_PAUSE)));
                }
                let failure = error.into_failure();
                let (count, cause) = match &failure {
                    Failure::Transient { cause, .. } => (Count::CallTransient, cause),
                    Failure::Permanent(cause) => (Count::CallPermanent, cause),
                };
                self.counters.add(count);
                let sentence = without_ghosts(&cause.sentence);
                tracing::debug!(code = cause.code, sentence, "a call to the homeserver failed");
                Outcome::Failed(failure)
            }
        }
    }

    async fn perform(&self, call: &MatrixCall) -> Result<Receipt, CallError> {
        let client = &self.client;
        match call {
            MatrixCall::Register { localpart } => match client.register(localpart).await {
                Err(error) if error.errcode() == Some("M_USER_IN_USE") => Ok(Receipt::Nothing),
                other => other.map(|()| Receipt::Nothing),
            },
            MatrixCall::SetDisplayName { user, name } => {
                client.set_display_name(user, name).await.map(|()| Receipt::Nothing)
            }
            MatrixCall::SetAvatar { user, url } => client.set_avatar(user, url).await.map(|()| Receipt::Nothing),
            MatrixCall::Upload { user, mime, bytes } => {
                if bytes.len() > UPLOAD_LIMIT {
                    return Err(CallError::BadRequest("the file is larger than 1 MiB".to_owned()));
                }
                client.upload(user, mime, bytes.clone()).await.map(Receipt::Media)
            }
            MatrixCall::CreateRoom(room) => self.create_room(room).await.map(Receipt::Room),
            MatrixCall::Join { room, user } => self.join(user, room).await.map(|()| Receipt::Nothing),
            MatrixCall::CountMembers { room, user } => client.count_members(user, room).await.map(Receipt::Members),
            MatrixCall::Leave { room, user } => self.leave(user, room).await.map(|()| Receipt::Nothing),
            MatrixCall::Invite { room, user, target } => {
                self.invite(user, room, target).await.map(|()| Receipt::Nothing)
            }
            MatrixCall::Send { room, user, kind, txn, content, at, look_first } => {
                let event = match self.find_sent(room, user, kind, look_first.as_deref(), *at).await? {
                    Some(event) => event,
                    None => client.send(user, room, kind, txn, content, *at).await?,
                };
                if kind == "m.room.message" {
                    self.presence.note_activity(user);
                }
                Ok(Receipt::Event(event))
            }
            MatrixCall::SetState { room, user, kind, key, content } => {
                client.set_state(user, room, kind, key, content).await.map(Receipt::Event)
            }
            MatrixCall::GetState { room, user, kind, key } => {
                client.state(user, room, kind, key).await.map(|content| Receipt::Content(content.to_string()))
            }
            MatrixCall::Redact { room, user, event, txn, reason } => {
                client.redact(user, room, event, txn, *reason).await.map(Receipt::Event)
            }
            MatrixCall::Read { room, user, event } => {
                client.read(user, room, event).await?;
                self.presence.note_activity(user);
                Ok(Receipt::Nothing)
            }
            MatrixCall::GetProfile { user } => client.profile(user).await.map(Receipt::Content),
            MatrixCall::GetPicture { url, most } => client.picture(url, *most).await.map(Receipt::Bytes),
            MatrixCall::GetEvent { room, user, event } => {
                client.event_content(user, room, event).await.map(Receipt::Content)
            }
            MatrixCall::ReadMarkers { room, user, event } => {
                client.read_markers(user, room, event).await.map(|()| Receipt::Nothing)
            }
            MatrixCall::GetAccountData { user, room, kind } => {
                let content = client.account_data(user, room.as_deref(), kind).await?;
                Ok(Receipt::Content(content.map_or_else(|| "{}".to_owned(), |content| content.get().to_owned())))
            }
            MatrixCall::SetAccountData { user, room, kind, content } => {
                client.set_account_data(user, room.as_deref(), kind, content).await.map(|()| Receipt::Nothing)
            }
            MatrixCall::SetTag { user, room, tag, content } => {
                client.set_tag(user, room, tag, content.as_deref()).await.map(|()| Receipt::Nothing)
            }
            MatrixCall::SetPushRule { user, kind, rule, content } => {
                client.set_push_rule(user, kind, rule, content.as_deref()).await.map(|()| Receipt::Nothing)
            }
            MatrixCall::ListDirect { user, room, ghost, listed } => {
                client.list_direct(user, room, ghost, *listed).await.map(|()| Receipt::Nothing)
            }
            MatrixCall::Silence { user, room, notify } => {
                client.silence(user, room, *notify).await.map(|()| Receipt::Nothing)
            }
            MatrixCall::Ignore { user, ghost, ignored } => {
                client.ignore(user, ghost, *ignored).await.map(|()| Receipt::Nothing)
            }
        }
    }

    /// The event of an earlier try, if it is in the room. A refusal to show the room is no reason not to try again.
    async fn find_sent(
        &self,
        room: &RoomId,
        user: &UserId,
        kind: &str,
        mark: Option<&str>,
        at: Option<Timestamp>,
    ) -> Result<Option<OwnedEventId>, CallError> {
        let Some(mark) = mark else { return Ok(None) };
        match self.client.find_sent(user, room, kind, mark, at).await {
            // Not knowing is not the same as its not being there: it would be said twice.
            Err(error) if error.is_transient() => Err(error),
            found => Ok(found.unwrap_or(None)),
        }
    }

    /// Homeservers differ in how they answer a join that changes nothing, so a refusal is checked against the room.
    async fn join(&self, user: &UserId, room: &RoomId) -> Result<(), CallError> {
        let Err(refused) = self.client.join(user, room).await else { return Ok(()) };
        if refused.status().is_some_and(|status| matches!(status, 400 | 403)) {
            let membership = self.client.membership(user, room, user).await;
            if matches!(membership, Ok(Some(membership)) if membership == "join") {
                return Ok(());
            }
        }
        Err(refused)
    }

    /// A refusal to leave a room that the user is not in is success. Someone who is not in the room may not see it, so
    /// that is what a refused look at their own membership means.
    async fn leave(&self, user: &UserId, room: &RoomId) -> Result<(), CallError> {
        let Err(refused) = self.client.leave(user, room).await else { return Ok(()) };
        if refused.status().is_some_and(|status| matches!(status, 400 | 403 | 404)) {
            match self.client.membership(user, room, user).await {
                Ok(Some(membership)) if membership != "join" && membership != "invite" => return Ok(()),
                Err(error) if matches!(error.status(), Some(403 | 404)) => return Ok(()),
                _ => {}
            }
        }
        Err(refused)
    }

    /// Synapse says `M_FORBIDDEN` both to "is already in the room" and to a real refusal.
    async fn invite(&self, user: &UserId, room: &RoomId, target: &UserId) -> Result<(), CallError> {
        let Err(refused) = self.client.invite(user, room, target).await else { return Ok(()) };
        if refused.status().is_some_and(|status| matches!(status, 400 | 403)) {
            let membership = self.client.membership(user, room, target).await;
            if matches!(membership, Ok(Some(membership)) if membership == "join" || membership == "invite") {
                return Ok(());
            }
        }
        Err(refused)
    }

    async fn create_room(&self, room: &CreateRoom) -> Result<OwnedRoomId, CallError> {
        if let Some((kind, key)) = &room.look_first
            && let Some(found) = self.find_room(room, kind, key).await?
        {
            return Ok(found);
        }
        self.client.create_room(room).await
    }

    /// Among the creator's joined rooms, the one that an earlier [`MatrixCall::CreateRoom`] made whose answer was lost. Only
    /// state that the creator set itself counts: anybody can invite the bot to a room with state that looks the same.
    async fn find_room(&self, room: &CreateRoom, kind: &str, key: &str) -> Result<Option<OwnedRoomId>, CallError> {
        let wanted = room.state.iter().find(|(k, s, _)| k == kind && s == key).map(|(_, _, content)| content);
        let Some(wanted) = wanted.and_then(|content| serde_json::from_str::<Value>(content).ok()) else {
            return Err(CallError::BadRequest("the state to look for is not among the room's".to_owned()));
        };
        let _alone = self.search.lock().await;
        let rooms = self.client.joined_rooms(&room.creator).await?;
        let wanted = &wanted;
        let mut answers = stream::iter(rooms)
            .map(async |candidate| {
                let state = self.client.state_event(&room.creator, &candidate, kind, key).await;
                match state {
                    Ok(Some(event)) if event.sender == room.creator && event.content == *wanted => Ok(Some(candidate)),
                    Ok(_) => Ok(None),
                    Err(error) if matches!(error.status(), Some(403 | 404)) => Ok(None),
                    // Not knowing is not the same as its not being there: a second room would be made.
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(ROOMS_AT_ONCE);
        while let Some(answer) = answers.next().await {
            if let Some(found) = answer? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn now(&self) -> u64 {
        millis(self.started.elapsed())
    }

    fn pause(&self, kind: Kind, pause: Duration) {
        let until = self.now().saturating_add(millis(pause.min(LONGEST_PAUSE)));
        self.paused[kind as usize].fetch_max(until, Ordering::Relaxed);
    }

    fn pause_left(&self, kind: Kind) -> Option<Duration> {
        let left = self.paused[kind as usize].load(Ordering::Relaxed).checked_sub(self.now())?;
        (left > 0).then(|| Duration::from_millis(left))
    }

    async fn wait(&self, kind: Kind) {
        while let Some(left) = self.pause_left(kind) {
            tokio::time::sleep(left).await;
        }
    }
}

fn kind(call: &MatrixCall) -> Kind {
    match call {
        MatrixCall::Register { .. } => Kind::Register,
        MatrixCall::SetDisplayName { .. } | MatrixCall::SetAvatar { .. } | MatrixCall::GetProfile { .. } => {
            Kind::Profile
        }
        MatrixCall::Upload { .. } | MatrixCall::GetPicture { .. } => Kind::Media,
        MatrixCall::CreateRoom(_) => Kind::Create,
        MatrixCall::Join { .. } | MatrixCall::CountMembers { .. } | MatrixCall::Leave { .. } => Kind::Membership,
        MatrixCall::Invite { .. } => Kind::Invite,
        MatrixCall::Send { .. }
        | MatrixCall::SetState { .. }
        | MatrixCall::GetState { .. }
        | MatrixCall::Redact { .. }
        | MatrixCall::Read { .. }
        | MatrixCall::GetEvent { .. } => Kind::Event,
        MatrixCall::ReadMarkers { .. }
        | MatrixCall::GetAccountData { .. }
        | MatrixCall::SetAccountData { .. }
        | MatrixCall::SetTag { .. }
        | MatrixCall::SetPushRule { .. }
        | MatrixCall::ListDirect { .. }
        | MatrixCall::Ignore { .. }
        | MatrixCall::Silence { .. } => Kind::Person,
    }
}

/// Takes work from the engine and reports each outcome into its mailbox, until `work` is closed and everything in hand is
/// finished, or the engine is gone. A piece of work whose task died is reported as transient, so that no lane waits for
/// ever.
///
/// At most [`IN_HAND`] pieces are in hand. An engine that waits for room in `work` while this waits for room in
/// `mailbox` would wait for ever: the engine must not block on `work`.
pub async fn pump(sender: Arc<MatrixSender>, mut work: mpsc::Receiver<MatrixWork>, mailbox: mpsc::Sender<Input>) {
    let mut in_hand = JoinSet::new();
    let mut open = true;
    while open || !in_hand.is_empty() {
        tokio::select! {
            next = work.recv(), if open && in_hand.len() < IN_HAND => match next {
                None => open = false,
                Some(work) => {
                    let (sender, mailbox) = (Arc::clone(&sender), mailbox.clone());
                    let span = tracing::debug_span!("request", debt = Empty);
                    if let WorkId::Debt(debt) = work.id {
                        span.record("debt", debt.0);
                    }
                    in_hand.spawn(async move {
                        let call = work.call;
                        let outcome = tokio::spawn(async move { sender.run(&call).await }.instrument(span)).await;
                        let outcome = outcome.unwrap_or_else(|_| Outcome::Failed(Failure::Transient {
                            cause: Cause { code: "internal".to_owned(), sentence: "The bridge failed inside.".to_owned() },
                            retry_after: None,
                        }));
                        mailbox.send(Input::Done { work: work.id, outcome }).await.is_ok()
                    });
                }
            },
            Some(reported) = in_hand.join_next(), if !in_hand.is_empty() => {
                if !reported.unwrap_or(false) {
                    // Nobody listens any more; what is unpaid is still owed in the store.
                    return;
                }
            }
        }
    }
}

/// A homeserver's sentence for the log: it likes to name whom it refuses, and a ghost's name is a contact's address.
fn without_ghosts(sentence: &str) -> String {
    let mark = format!("@{GHOST_PREFIX}");
    let mut parts = sentence.split(mark.as_str());
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.find(|c: char| c == ':' || c.is_whitespace()).map_or("", |end| &part[end..]);
        shown.push_str(&mark);
        shown.push('\u{2026}');
        shown.push_str(rest);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_in_the_log_names_no_contact() {
        for (sentence, shown) in [
            (
                "User @messenger_abcde23456_juliet=40capulet.lit:h.test not in room !r:h.test",
                "User @messenger_\u{2026}:h.test not in room !r:h.test",
            ),
            ("@messenger_a_b=40c:h and @messenger_a_d=40e", "@messenger_\u{2026}:h and @messenger_\u{2026}"),
            ("@romeo:h.test may not", "@romeo:h.test may not"),
            ("", ""),
        ] {
            assert_eq!(without_ghosts(sentence), shown);
        }
    }
}

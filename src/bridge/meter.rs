//! What becomes of messages, in numbers, and the single steps of each where somebody wants to read them. Kept as it happens, so that
//! giving it out costs the same however much is owed. It holds no clock: times are those of the inputs.

use ruma::EventId;

use crate::domain::{
    DebtId, LoginId, Timestamp,
    effect::{Debt, Effect, Lane, Sender},
    input::Cause,
};

/// The upper ends of a [`Spread`]'s ranges, in milliseconds; what takes longer is beyond all of them.
pub const BOUNDS: [u64; 13] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 3_600_000, 86_400_000];

/// Steps that are kept between two times that they are taken; more are counted alone.
pub const STEPS: usize = 1_024;

/// Characters of a stanza's id that are shown.
const SHOWN: usize = 64;

const DAY: i64 = 86_400_000;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From a contact, or the person's other device, into a room.
    ToMatrix,
    /// From the person to a contact.
    ToXmpp,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ToMatrix, Self::ToXmpp];

    /// The label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::ToMatrix => "to_matrix",
            Self::ToXmpp => "to_xmpp",
        }
    }

    /// The way of a debt that is a message: what somebody said, edited, took back or reacted with. `None` for all else: rooms,
    /// profiles, receipts, and what the bot says.
    pub fn of(debt: &Debt) -> Option<Self> {
        match (&debt.lane, &debt.effect) {
            (
                Lane::ToMatrix(_),
                Effect::SendEvent { sender, .. }
                | Effect::SendAbout { sender, .. }
                | Effect::RedactNamed { sender, .. },
            ) => (*sender != Sender::Bot).then_some(Self::ToMatrix),
            (Lane::ToMatrix(_), Effect::ShowFile(_) | Effect::ShowMedia(_)) => Some(Self::ToMatrix),
            (
                Lane::ToXmpp(_),
                Effect::SendMessage(_) | Effect::SendComposed(_) | Effect::SendFile(_) | Effect::SendMedia(_),
            ) => Some(Self::ToXmpp),
            _ => None,
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It was taken in, and is owed.
    Accepted,
    /// The other side has it.
    Delivered,
    /// The other side will not take it.
    Refused,
    /// It waited too long and was given up.
    Expired,
    /// There was nothing left to send: its chat or login is gone, or what it refers to is.
    Dropped,
    /// It was delivered, and an error came back for it.
    Bounced,
}

impl Fate {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::Delivered, Self::Refused, Self::Expired, Self::Dropped, Self::Bounced];

    /// The label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
            Self::Bounced => "bounced",
        }
    }
}

/// How long things took, by ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many fell into each range of [`BOUNDS`]; the last are those beyond.
    pub ranges: [u64; BOUNDS.len() + 1],
    /// Milliseconds, all together.
    pub sum: u64,
}

impl Spread {
    fn add(&mut self, millis: u64) {
        let place = BOUNDS.iter().position(|end| millis <= *end).unwrap_or(BOUNDS.len());
        self.ranges[place] += 1;
        self.sum = self.sum.saturating_add(millis);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.ranges.iter().sum()
    }
}

/// Messages of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    fates: [u64; Fate::ALL.len()],
    /// From being taken in on one side to being taken by the other.
    pub took: Spread,
}

impl Messages {
    /// How many came to this.
    pub fn of(&self, fate: Fate) -> u64 {
        self.fates[fate as usize]
    }
}

/// One thing that happened to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The debt that it is.
    pub debt: DebtId,
    /// Whose.
    pub login: LoginId,
    /// Which way it goes.
    pub direction: Direction,
    /// What happened.
    pub what: What,
}

/// What happened to a message. It names ids alone: never an address, nor anything that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was taken in; as which event, or stanza, where that has an id that can be shown.
    Accepted(Option<String>),
    /// It is on its way, as a stanza or a transaction with this id.
    Sent(String),
    /// It stands in its room as this event.
    Became(String),
    /// It did not work, and is tried again: a short code.
    Failed(String),
    /// It is over, after so many milliseconds.
    Ended(Fate, u64),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Meter {
    messages: [Messages; 2],
    /// The day (UTC, since 1970) that `today` is of, and how many were delivered on it.
    day: i64,
    today: [u64; 2],
    /// Somebody reads the steps.
    pub watched: bool,
    steps: Vec<Step>,
    missed: u64,
}

impl Meter {
    /// The messages of a direction since the start.
    pub fn messages(&self, direction: Direction) -> &Messages {
        &self.messages[direction as usize]
    }

    /// How many were delivered on this day (UTC), as far as this process has run on it.
    pub fn delivered_today(&self, direction: Direction, now: Timestamp) -> u64 {
        if self.day == now.0.div_euclid(DAY) { self.today[direction as usize] } else { 0 }
    }

    /// The steps since they were last taken, and how many more there were.
    pub fn take_steps(&mut self) -> (Vec<Step>, u64) {
        (std::mem::take(&mut self.steps), std::mem::take(&mut self.missed))
    }

    pub(super) fn accepted(&mut self, debt: &Debt) {
        if let Some(direction) = Direction::of(debt) {
            self.messages[direction as usize].fates[Fate::Accepted as usize] += 1;
            self.note(debt, || What::Accepted(said_as(&debt.effect)));
        }
    }

    /// A message is on its way under this id.
    pub fn sent(&mut self, debt: &Debt, id: &str) {
        self.note(debt, || What::Sent(id.to_owned()));
    }

    /// A message stands in its room.
    pub fn became(&mut self, debt: &Debt, event: &EventId) {
        self.note(debt, || What::Became(event.to_string()));
    }

    /// A message is tried again later.
    pub fn failed(&mut self, debt: &Debt, cause: &Cause) {
        self.note(debt, || What::Failed(showable(&cause.code).unwrap_or_else(|| "other".to_owned())));
    }

    /// An error came back for a message to a contact.
    pub fn bounced(&mut self) {
        self.messages[Direction::ToXmpp as usize].fates[Fate::Bounced as usize] += 1;
    }

    /// A debt is over.
    pub fn ended(&mut self, debt: &Debt, fate: Fate, now: Timestamp) {
        let Some(direction) = Direction::of(debt) else { return };
        let took = u64::try_from(now.since(debt.made)).unwrap_or(0);
        let messages = &mut self.messages[direction as usize];
        messages.fates[fate as usize] += 1;
        if fate == Fate::Delivered {
            messages.took.add(took);
            let day = now.0.div_euclid(DAY);
            if day != self.day {
                (self.day, self.today) = (day, [0; 2]);
            }
            self.today[direction as usize] += 1;
        }
        self.note(debt, || What::Ended(fate, took));
    }

    fn note(&mut self, debt: &Debt, what: impl FnOnce() -> What) {
        let (true, Some(direction)) = (self.watched, Direction::of(debt)) else { return };
        let (Lane::ToMatrix(contact) | Lane::ToXmpp(contact)) = &debt.lane else { return };
        if self.steps.len() >= STEPS {
            self.missed += 1;
            return;
        }
        self.steps.push(Step { debt: debt.id, login: contact.login.clone(), direction, what: what() });
    }
}

/// The id of the event or stanza that a message was.
fn said_as(effect: &Effect) -> Option<String> {
    if let Some((event, _)) = effect.said() {
        return Some(event.to_string());
    }
    let name = match effect {
        Effect::SendEvent { binds, .. } | Effect::SendAbout { binds, .. } => binds.first(),
        Effect::ShowFile(file) => file.binds.first(),
        Effect::ShowMedia(media) => media.file.binds.first(),
        Effect::RedactNamed { name, .. } => Some(name),
        _ => None,
    };
    showable(name?)
}

/// An id that a stranger chose can be made to say anything: one that does not look like an id is not shown.
fn showable(id: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+=/$#".contains(&byte);
    (id.len() <= SHOWN && id.bytes().all(fits)).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{BareJid, effect::ContactKey, effect::MatrixEvent};

    fn said(sender: Sender, name: &str) -> Debt {
        let login = LoginId::derive("@a:h", "xmpp", "a@b");
        let event = MatrixEvent { kind: "m.room.message".to_owned(), content: "{}".to_owned() };
        Debt {
            id: DebtId(7),
            lane: Lane::ToMatrix(ContactKey { login, contact: BareJid::parse("c@d").unwrap() }),
            effect: Effect::SendEvent { sender, event, at: None, binds: vec![name.to_owned()] },
            after: None,
            made: Timestamp(1_000),
            tried: false,
        }
    }

    #[test]
    fn a_message_is_counted_once_on_either_end_with_what_it_took() {
        let mut meter = Meter::default();
        let debt = said(Sender::Ghost(BareJid::parse("c@d").unwrap()), "c:1");
        meter.accepted(&debt);
        meter.ended(&debt, Fate::Delivered, Timestamp(1_240));
        let messages = meter.messages(Direction::ToMatrix);
        assert_eq!((messages.of(Fate::Accepted), messages.of(Fate::Delivered), messages.of(Fate::Refused)), (1, 1, 0));
        assert_eq!((messages.took.ranges[2], messages.took.sum, messages.took.count()), (1, 240, 1));
        assert_eq!(meter.delivered_today(Direction::ToMatrix, Timestamp(DAY - 1)), 1);
        assert_eq!(meter.delivered_today(Direction::ToMatrix, Timestamp(DAY)), 0);
        assert_eq!(meter.messages(Direction::ToXmpp), &Messages::default());
        // A clock that went back makes no time negative.
        meter.ended(&debt, Fate::Delivered, Timestamp(0));
        assert_eq!(meter.messages(Direction::ToMatrix).took.ranges[0], 1);
    }

    #[test]
    fn what_the_bot_says_is_no_message() {
        let mut meter = Meter { watched: true, ..Meter::default() };
        let debt = said(Sender::Bot, "c:1");
        meter.accepted(&debt);
        meter.ended(&debt, Fate::Delivered, Timestamp(1_000));
        assert_eq!(meter.messages(Direction::ToMatrix), &Messages::default());
        assert_eq!(meter.take_steps(), (Vec::new(), 0));
    }

    #[test]
    fn steps_are_kept_for_whom_reads_them_and_bounded() {
        let mut meter = Meter::default();
        let debt = said(Sender::Owner, "d:abc-1");
        meter.accepted(&debt);
        assert_eq!(meter.take_steps(), (Vec::new(), 0));
        meter.watched = true;
        for _ in 0..STEPS + 3 {
            meter.accepted(&debt);
        }
        let (steps, missed) = meter.take_steps();
        assert_eq!((steps.len(), missed), (STEPS, 3));
        assert_eq!(steps[0].what, What::Accepted(Some("d:abc-1".to_owned())));
        assert_eq!(meter.take_steps(), (Vec::new(), 0));
    }

    #[test]
    fn an_id_that_could_say_something_is_not_shown() {
        for (id, shown) in [
            ("c:0f2e-77_a.b", true),
            ("c:juliet@capulet.lit", false),
            ("c:two words", false),
            ("c:\n", false),
            (&"x".repeat(65), false),
        ] {
            assert_eq!(showable(id).is_some(), shown, "{id}");
        }
    }
}

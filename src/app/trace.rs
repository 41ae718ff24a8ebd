//! One span for each message, from its being taken in to its end: whoever reads the log at `debug` can follow it by its debt, its event
//! or its stanza. The engine gives the steps out; it names ids alone.

use std::collections::HashMap;

use tracing::{Span, debug, debug_span, field::Empty};

use crate::{
    bridge::meter::{Step, What},
    domain::DebtId,
};

/// Messages on their way whose span is kept; the steps of further ones stand in spans of their own, with the same fields.
const KEPT: usize = 4_096;

/// The spans of the messages that are on their way.
#[derive(Debug, Default)]
pub struct Messages {
    spans: HashMap<DebtId, Span>,
}

impl Messages {
    /// Tells the log what happened; `missed`: so much more did.
    pub fn tell(&mut self, (steps, missed): (Vec<Step>, u64)) {
        for step in &steps {
            self.step(step);
        }
        if missed > 0 {
            debug!(missed, "steps of messages that are not shown, for there were too many at once");
        }
    }

    fn step(&mut self, step: &Step) {
        let span = self.spans.get(&step.debt).cloned().unwrap_or_else(|| {
            let (login, direction) = (step.login.as_str(), step.direction.label());
            let span = debug_span!("message", debt = step.debt.0, login, direction, id = Empty);
            let over = matches!(step.what, What::Ended(..));
            if !over && self.spans.len() < KEPT {
                self.spans.insert(step.debt, span.clone());
            }
            span
        });
        if let What::Accepted(Some(id)) = &step.what {
            span.record("id", id.as_str());
        }
        let _within = span.enter();
        match &step.what {
            What::Accepted(_) => debug!("accepted"),
            What::Sent(wire) => debug!(wire, "sent"),
            What::Became(event) => debug!(event, "became an event"),
            What::Failed(code) => debug!(code, "failed, and is tried again"),
            What::Ended(fate, millis) => debug!(outcome = fate.label(), millis, "over"),
        }
        if matches!(step.what, What::Ended(..)) {
            self.spans.remove(&step.debt);
        }
    }

    /// Nobody reads them any more.
    pub fn forget(&mut self) {
        self.spans.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bridge::meter::{Direction, Fate},
        domain::LoginId,
    };

    fn step(debt: u64, what: What) -> Step {
        let login = LoginId::derive("@a:h", "xmpp", "a@b");
        Step { debt: DebtId(debt), login, direction: Direction::ToXmpp, what }
    }

    #[test]
    fn spans_are_kept_up_to_a_bound_and_go_with_their_message() {
        let mut messages = Messages::default();
        for debt in 0..5_000 {
            messages.tell((vec![step(debt, What::Accepted(None))], 0));
        }
        assert_eq!(messages.spans.len(), KEPT);
        messages.tell((vec![step(7, What::Ended(Fate::Delivered, 3)), step(4_999, What::Ended(Fate::Dropped, 3))], 1));
        assert_eq!(messages.spans.len(), KEPT - 1);
        messages.forget();
        assert!(messages.spans.is_empty());
    }
}

//! What is asked through the bridge's own doors.

use super::Engine;
use crate::{
    domain::{
        Output, Ticket,
        request::{Refusal, RefusalCode, Request, Response, Wish},
    },
    store::StoreError,
};

impl Engine {
    pub(super) fn on_requested(&mut self, ticket: Ticket, request: Request) -> Result<(), StoreError> {
        if let Request::Person {
            owner,
            wish: wish @ (Wish::Contacts { .. } | Wish::Search { .. } | Wish::Resolve { .. }),
        } = request
        {
            return self.look_up(ticket, &owner, wish);
        }
        let refusal = Refusal { code: RefusalCode::NotNow, sentence: "Not yet.".to_owned() };
        self.outputs.push(Output::Respond { ticket, response: Response::Refused(refusal) });
        Ok(())
    }
}

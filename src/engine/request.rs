//! What is asked through the bridge's own doors.

use super::Engine;
use crate::{
    domain::{
        Output, Ticket,
        request::{Refusal, RefusalCode, Request, Response},
    },
    store::StoreError,
};

impl Engine {
    pub(super) fn on_requested(&mut self, ticket: Ticket, request: Request) -> Result<(), StoreError> {
        let _ = request;
        let refusal = Refusal { code: RefusalCode::NotNow, sentence: "Not yet.".to_owned() };
        self.outputs.push(Output::Respond { ticket, response: Response::Refused(refusal) });
        Ok(())
    }
}

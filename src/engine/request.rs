//! What is asked through the bridge's own doors.

use ruma::OwnedUserId;

use super::{
    Engine,
    process::{Beginning, Door, GONE, Process, refusal},
};
use crate::{
    bridge::{Permission, page_link},
    domain::{
        Output, Ticket,
        request::{
            Flow, Overview, PageWish, ProcessId, Refusal, RefusalCode, Request, Response, RoomsAfterLogout, StepAnswer,
            Wish,
        },
    },
    store::StoreError,
};

/// Behind a network's name in a [`Flow::id`]: by a token. No network's name holds a dot.
const BY_TOKEN: &str = ".token";
/// What is said of a login that is not there.
pub(super) const NO_LOGIN: &str = "You have no such login.";

impl Engine {
    pub(super) fn respond(&mut self, ticket: Ticket, response: Response) {
        self.outputs.push(Output::Respond { ticket, response });
    }

    pub(super) fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        self.respond(ticket, Response::Refused(refusal));
    }

    pub(super) fn on_requested(&mut self, ticket: Ticket, request: Request) -> Result<(), StoreError> {
        match request {
            Request::Person { owner, .. } if self.bridge.settings.permission(&owner) < Permission::User => {
                let sentence = "You have no permission to use this bridge. Its operator can give it to you.";
                self.refuse(ticket, refusal(RefusalCode::NoPermission, sentence));
                Ok(())
            }
            Request::Person { owner, wish } => self.on_wish(ticket, &owner, wish),
            Request::Page(wish) => self.on_page_wish(ticket, wish),
        }
    }

    fn on_wish(&mut self, ticket: Ticket, owner: &OwnedUserId, wish: Wish) -> Result<(), StoreError> {
        match wish {
            Wish::Overview => {
                let overview = self.overview(owner)?;
                self.respond(ticket, Response::Overview(overview));
            }
            Wish::Flows => {
                let flows = self.flows();
                self.respond(ticket, Response::Flows(flows));
            }
            Wish::StartLogin { flow, again } => match self.start_by_flow(owner, &flow, again)? {
                Ok(number) => self.wait_for(ticket, number, false),
                Err(refusal) => self.refuse(ticket, refusal),
            },
            Wish::ContinueLogin { process, step, answer } => match self.process_of(process) {
                Some(found) if found.owner == *owner => {
                    self.go_on(ticket, process.number, step, answer, Door::Api)?;
                }
                _ => self.refuse(ticket, refusal(RefusalCode::NoSuchProcess, GONE)),
            },
            Wish::CancelLogin { process } => match self.process_of(process) {
                Some(found) if found.owner == *owner => self.give_up(ticket, process),
                _ => self.refuse(ticket, refusal(RefusalCode::NoSuchProcess, GONE)),
            },
            Wish::Logout { login, rooms } => self.log_out_named(ticket, owner, login, rooms)?,
            wish @ (Wish::Contacts { .. } | Wish::Search { .. } | Wish::Resolve { .. }) => {
                self.look_up(ticket, owner, wish)?;
            }
        }
        Ok(())
    }

    fn on_page_wish(&mut self, ticket: Ticket, wish: PageWish) -> Result<(), StoreError> {
        let Some(page) = self.bridge.settings.page.clone() else {
            self.refuse(ticket, refusal(RefusalCode::WrongLink, GONE));
            return Ok(());
        };
        let (found, unknown) = match &wish {
            PageWish::See { link } | PageWish::Enter { link } => {
                (page_link::read_link(&page, link.expose()), RefusalCode::WrongLink)
            }
            PageWish::Look { session } | PageWish::Continue { session, .. } | PageWish::Cancel { session } => {
                (page_link::read_session(&page, session.expose()), RefusalCode::NoSuchProcess)
            }
        };
        let Some(id) = found.filter(|id| self.process_of(*id).is_some()) else {
            self.refuse(ticket, refusal(unknown, GONE));
            return Ok(());
        };
        match wish {
            PageWish::See { .. } | PageWish::Enter { .. } if self.process_of(id).is_some_and(Process::was_entered) => {
                let sentence = "This link was used already. Please begin a new sign-in.";
                self.refuse(ticket, refusal(RefusalCode::UsedLink, sentence));
            }
            PageWish::See { .. } => {
                if let Some(step) = self.process_of(id).map(|process| self.step_of(process)) {
                    self.respond(ticket, Response::Link(Box::new(step)));
                }
            }
            PageWish::Enter { .. } => {
                self.enter(id.number);
                self.respond(ticket, Response::Entered { session: page_link::session(&page, id) });
            }
            PageWish::Look { .. } => {
                if let Some(step) = self.process_of(id).map(|process| self.step_of(process)) {
                    self.respond(ticket, Response::Step(Box::new(step)));
                }
            }
            PageWish::Continue { step, answer, .. } => self.go_on(ticket, id.number, step, answer, Door::Page)?,
            PageWish::Cancel { .. } => self.give_up(ticket, id),
        }
        Ok(())
    }

    fn go_on(
        &mut self,
        ticket: Ticket,
        number: u64,
        step: u32,
        answer: StepAnswer,
        door: Door,
    ) -> Result<(), StoreError> {
        match answer {
            StepAnswer::Fields(fields) => match self.answer_process(number, Some(step), fields, door)? {
                Ok(()) => self.wait_for(ticket, number, false),
                Err(refusal) => self.refuse(ticket, refusal),
            },
            StepAnswer::Wait => self.wait_for(ticket, number, true),
        }
        Ok(())
    }

    fn give_up(&mut self, ticket: Ticket, process: ProcessId) {
        let Some(owner) = self.process_of(process).map(|process| process.owner.clone()) else { return };
        self.conversation_ended(&owner, process.number);
        self.cancel_process(process.number);
        self.respond(ticket, Response::Done);
    }

    /// The ways to sign in.
    fn flows(&self) -> Vec<Flow> {
        let mut flows = Vec::new();
        for (name, network) in &self.bridge.settings.networks {
            let mut add = |id: String, name: String, description: &str| {
                flows.push(Flow { id, name, description: description.to_owned() });
            };
            if network.profile.token_decides_account {
                add(name.clone(), name.clone(), "Sign in on the provider's own page.");
            } else {
                add(name.clone(), name.clone(), "Sign in with the address and the password of your account.");
                let text = "Sign in with an OAuth token that your server takes in place of the password.";
                add(format!("{name}{BY_TOKEN}"), format!("{name} by token"), text);
            }
        }
        flows
    }

    fn start_by_flow(
        &mut self,
        owner: &OwnedUserId,
        flow: &str,
        again: Option<String>,
    ) -> Result<Result<u64, Refusal>, StoreError> {
        if !self.flows().iter().any(|known| known.id == flow) {
            return Ok(Err(refusal(RefusalCode::NoSuchFlow, "There is no such way to sign in.")));
        }
        let (network, token) = match flow.strip_suffix(BY_TOKEN) {
            Some(network) => (network, true),
            None => (flow, false),
        };
        let again = match again {
            None => None,
            Some(named) => match self.login_named(owner, &named)? {
                Some(login) if login.network == network => Some(login),
                Some(_) => {
                    let sentence = "That login is on another network than this way to sign in.";
                    return Ok(Err(refusal(RefusalCode::NoSuchFlow, sentence)));
                }
                None => return Ok(Err(refusal(RefusalCode::NoSuchLogin, NO_LOGIN))),
            },
        };
        let oauth = self.bridge.profile(network).is_some_and(|profile| profile.token_decides_account);
        let account = again.as_ref().filter(|_| !oauth).map(|login| login.account.clone());
        let again = again.map(|login| (login.id, login.account));
        let beginning = Beginning { network: network.to_owned(), token, again, account, door: Door::Api };
        self.begin_process(owner, beginning)
    }

    fn log_out_named(
        &mut self,
        ticket: Ticket,
        owner: &OwnedUserId,
        login: Option<String>,
        rooms: Option<RoomsAfterLogout>,
    ) -> Result<(), StoreError> {
        let logins = match login {
            None => self.logins_of(owner)?,
            Some(named) => {
                let Some(login) = self.login_named(owner, &named)? else {
                    self.refuse(ticket, refusal(RefusalCode::NoSuchLogin, NO_LOGIN));
                    return Ok(());
                };
                vec![login]
            }
        };
        let rooms = rooms.unwrap_or(self.bridge.settings.after_logout);
        for login in logins {
            self.log_out(&login, rooms)?;
            self.bridge.say(owner, format!("Signed out of {}.", login.account))?;
        }
        self.respond(ticket, Response::Done);
        Ok(())
    }

    fn overview(&self, owner: &OwnedUserId) -> Result<Overview, StoreError> {
        let mut logins = Vec::new();
        for login in self.logins_of(owner)? {
            logins.push(self.login_state(&login)?);
        }
        Ok(Overview {
            management: self.bridge.store.management(owner)?.room,
            admin: self.bridge.settings.permission(owner) == Permission::Admin,
            logins,
        })
    }
}

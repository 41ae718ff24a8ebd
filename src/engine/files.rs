//! Files: a debt that owes a transfer first. The transfer is made by a shell; then the debt is what says where the file is, and
//! is paid as any other. A transfer that was under way when the process ended is made again.

use std::collections::{BTreeSet, HashMap};

use minidom::Element;

use super::{Engine, talk::Untold};
use crate::{
    bridge::question::Question,
    domain::{
        DebtId, LoginId, Output, Timestamp,
        effect::{About, Composed, ContactKey, Debt, Effect, Lane, Relation, Sender},
        feature::Feature,
        file::{FileInfo, IncomingFile, Job, OutgoingFile, Side, Slot, Transfer, TransferOutcome},
        input::{Failure, RoomEvent},
    },
    store::StoreError,
    translate::{
        failure,
        file::{self, Media, Shared, bytes},
        message::Message,
        stable_id,
        stanza::to_xml,
        upload::{self, NoSlot},
    },
};

/// Transfers of one login at once: slow ones hold up no other login's.
const PER_LOGIN: usize = 4;
/// Transfers at once in all. A chat whose file finds no place waits for one.
pub const TRANSFERS: usize = 32;
/// How often a transfer is tried that fails at the web's side, before it is said in words.
const TRIES: u32 = 6;
/// The same where the homeserver fails: nothing else of the chat could be shown meanwhile.
const HOMESERVER_TRIES: u32 = 30;
/// How long a server that did not say where files go is not asked again, in milliseconds.
const ASK_AGAIN: u64 = 60_000;
/// What has no known type.
const OCTETS: &str = "application/octet-stream";

/// Where a login's server takes files, as far as it is known on this stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Upload {
    /// Not asked yet.
    #[default]
    Unasked,
    /// So many services have not answered yet; one has not in time.
    Asking { open: usize, silent: bool },
    /// Nowhere; `silent`: somebody did not answer, so it is asked again after this uptime.
    Missing { silent: Option<u64> },
    /// Here, and at most so many bytes.
    Found { service: String, most: Option<u64> },
}

/// Transfers that shells have in hand.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    running: HashMap<DebtId, Running>,
    /// Lanes whose file found no place.
    waiting: BTreeSet<Lane>,
    /// A file was given up while debts were paid: what is owed for that is to be paid yet.
    pub(super) gave_up: bool,
}

#[derive(Debug)]
struct Running {
    lane: Lane,
    /// Where the file can be had once it is in its slot.
    get: Option<String>,
}

/// What may be done for a file now.
enum Next {
    /// Something else goes on, or wakes the lane.
    Wait,
    /// It is given up; the lane goes on.
    Dropped,
}

impl Engine {
    // ---- from Matrix

    /// The owner sends a file into the portal.
    pub(super) fn say_file(&mut self, portal: &ContactKey, event: &RoomEvent, media: Media) -> Result<(), Untold> {
        let Some(profile) = self.profile_of(&portal.login)? else { return Ok(()) };
        if !profile.discovers {
            return Err(Untold::Sentence("this network carries no files; send a link instead".to_owned()));
        }
        if let Some(why) = self.too_large(media.info.size, None) {
            return Err(Untold::Sentence(why));
        }
        let mut payloads = Vec::new();
        // What quotes would no longer be a file for the contact's app, so an answer is only said where it needs no words.
        if let Some(target) = crate::translate::reply::from_matrix(&event.content)
            && self.features_of(portal)?.has(Feature::Replies)
        {
            payloads = self.answer_to(portal, event, &target)?.payloads;
        }
        let Media { media, info, caption } = media;
        let file = OutgoingFile { media, info, measured: false, payloads, event: event.id.clone(), written: event.at };
        let debt = self.bridge.owe(Lane::ToXmpp(portal.clone()), Effect::SendFile(file))?;
        if let Some(text) = caption {
            // Apps take a message for a file only if its address is all that it says, so what is said to it follows.
            self.owe_message(portal, event, &Message::plain(text), None)?;
        }
        // Bound last, so that what refers to the event means the file.
        let name = stable_id::sent(&self.bridge.wire_id(debt));
        Ok(self.bridge.store.bind(portal, &name, Some(&event.id))?)
    }

    /// Of a file only what is said to it can change; that is said anew.
    pub(super) fn say_file_edit(&mut self, portal: &ContactKey, event: &RoomEvent, media: Media) -> Result<(), Untold> {
        let Some(caption) = media.caption else {
            return Err(Untold::Sentence("a file that was sent cannot be changed".to_owned()));
        };
        Ok(self.owe_message(portal, event, &Message::plain(format!("* {caption}")), None)?)
    }

    /// The size that is known is over a limit: the end of a sentence.
    fn too_large(&self, size: Option<u64>, theirs: Option<u64>) -> Option<String> {
        let most = theirs.unwrap_or(u64::MAX).min(self.bridge.settings.max_file);
        let size = size.filter(|size| *size > most)?;
        let whose = if theirs == Some(most) { "your server takes" } else { "I carry" };
        Some(format!("the file has {}, and {whose} at most {}", bytes(size), bytes(most)))
    }

    /// A file is the next of its lane. `true`: it was given up, and the lane goes on.
    pub(super) fn prepare_file(
        &mut self,
        login: &LoginId,
        debt: &Debt,
        file: &OutgoingFile,
    ) -> Result<bool, StoreError> {
        Ok(matches!(self.next_for_file(login, debt, file)?, Next::Dropped))
    }

    fn next_for_file(&mut self, login: &LoginId, debt: &Debt, file: &OutgoingFile) -> Result<Next, StoreError> {
        let Lane::ToXmpp(portal) = &debt.lane else { return Ok(Next::Wait) };
        if self.transfers.running.contains_key(&debt.id)
            || !self.bridge.outbox.may_go(&debt.lane, self.bridge.now.uptime)
        {
            return Ok(Next::Wait);
        }
        let Some((service, most)) = self.upload_service(login)? else {
            return match self.lives.get(login).map(|live| &live.upload) {
                Some(Upload::Missing { silent }) => {
                    let why = match silent {
                        Some(_) => "your server did not say in time where files can be put",
                        None => "your server takes no files (it has no XEP-0363 upload service)",
                    };
                    self.refuse_file(debt, file, why)?;
                    Ok(Next::Dropped)
                }
                _ => Ok(Next::Wait),
            };
        };
        if let Some(why) = self.too_large(file.info.size, most) {
            self.refuse_file(debt, file, &why)?;
            return Ok(Next::Dropped);
        }
        let asked = |live: &super::session::Live| {
            live.questions.values().filter(|pending| matches!(pending.question, Question::Slot { .. })).count()
        };
        let pending = self.lives.get(login).map_or(0, asked);
        let is_asked = self.lives.get(login).is_some_and(|live| {
            live.questions.values().any(|p| matches!(&p.question, Question::Slot { debt: of, .. } if *of == debt.id))
        });
        if is_asked {
            return Ok(Next::Wait);
        }
        if !self.has_place(login, pending) {
            self.transfers.waiting.insert(debt.lane.clone());
            return Ok(Next::Wait);
        }
        let Some(size) = file.info.size else {
            let job = Job::Measure { media: file.media.clone() };
            self.begin_transfer(login, debt, job, None)?;
            return Ok(Next::Wait);
        };
        let question = Question::Slot {
            service,
            contact: portal.contact.clone(),
            debt: debt.id,
            name: file.info.name.clone(),
            size,
            mime: mime_of(&file.info).to_owned(),
        };
        self.ask(login, question)?;
        Ok(Next::Wait)
    }

    fn has_place(&self, login: &LoginId, pending: usize) -> bool {
        let of = |lane: &Lane| match lane {
            Lane::ToMatrix(contact) | Lane::ToXmpp(contact) => contact.login == *login,
            Lane::Ghost(_) | Lane::Login(_) | Lane::Management(_) | Lane::Space(_) | Lane::Person(_) => false,
        };
        let own = self.transfers.running.values().filter(|running| of(&running.lane)).count();
        self.transfers.running.len() < TRANSFERS && own + pending < PER_LOGIN
    }

    fn begin_transfer(
        &mut self,
        login: &LoginId,
        debt: &Debt,
        job: Job,
        get: Option<String>,
    ) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(()) };
        self.transfers.running.insert(debt.id, Running { lane: debt.lane.clone(), get });
        let domain = row.account.domain().to_owned();
        self.outputs.push(Output::Transfer(Transfer { debt: debt.id, network: row.network, domain, job }));
        Ok(())
    }

    /// Where the login's server takes files; asks it if that is not known.
    fn upload_service(&mut self, login: &LoginId) -> Result<Option<(String, Option<u64>)>, StoreError> {
        let now = self.bridge.now.uptime;
        let Some(live) = self.lives.get_mut(login) else { return Ok(None) };
        match &live.upload {
            Upload::Found { service, most } => return Ok(Some((service.clone(), *most))),
            Upload::Missing { silent: Some(at) } if *at <= now => {}
            Upload::Asking { .. } | Upload::Missing { .. } => return Ok(None),
            Upload::Unasked => {}
        }
        live.upload = Upload::Asking { open: 1, silent: false };
        self.ask(login, Question::Services)?;
        Ok(None)
    }

    /// The server has named its services: each is asked, and the server itself.
    pub(super) fn on_services(
        &mut self,
        login: &LoginId,
        answer: Option<&Element>,
        heard: bool,
    ) -> Result<(), StoreError> {
        let Some(account) = self.lives.get(login).and_then(|live| live.account.clone()) else { return Ok(()) };
        let mut services = answer.map(upload::read_services).unwrap_or_default();
        services.retain(|service| service != account.domain());
        services.push(account.domain().to_owned());
        if let Some(live) = self.lives.get_mut(login) {
            live.upload = Upload::Asking { open: services.len(), silent: !heard };
        }
        for service in services {
            self.ask(login, Question::Service { service })?;
        }
        Ok(())
    }

    /// A service has said what it is, or has not.
    pub(super) fn on_service(&mut self, login: &LoginId, service: String, answer: Option<&Element>, heard: bool) {
        let again = self.bridge.now.uptime.saturating_add(ASK_AGAIN);
        let Some(live) = self.lives.get_mut(login) else { return };
        let Upload::Asking { open, silent } = &mut live.upload else { return };
        *open = open.saturating_sub(1);
        *silent |= !heard;
        if let Some(most) = answer.and_then(upload::read_service) {
            live.upload = Upload::Found { service, most };
        } else if *open == 0 {
            live.upload = Upload::Missing { silent: silent.then_some(again) };
        } else {
            return;
        }
        self.wake_files(login);
    }

    /// A place has become free, or may have.
    fn wake_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.transfers.waiting) {
            self.bridge.outbox.wake(&waiting);
        }
    }

    fn wake_files(&mut self, login: &LoginId) {
        self.bridge.outbox.wake_where(|lane| matches!(lane, Lane::ToXmpp(contact) if contact.login == *login));
    }

    /// The service has given a slot, or not: `None` is no answer in time.
    pub(super) fn on_slot(
        &mut self,
        contact: &ContactKey,
        debt: DebtId,
        answer: Option<&Element>,
    ) -> Result<(), StoreError> {
        self.wake_waiting();
        let lane = Lane::ToXmpp(contact.clone());
        let Some(debt) = self.bridge.store.debt(&lane, debt)? else { return Ok(()) };
        let Effect::SendFile(file) = debt.effect.clone() else { return Ok(()) };
        let slot = match answer {
            Some(answer) if answer.attr("type") == Some("result") => {
                upload::read_slot(answer).ok_or(NoSlot::Refused(None))
            }
            Some(answer) => Err(upload::read_refusal(answer)),
            None => Err(NoSlot::Later),
        };
        match slot {
            Ok(slot) => self.put_file(contact, &debt, &file, slot),
            Err(NoSlot::TooLarge(most)) => {
                let most = most.map(|most| format!(": it takes at most {}", bytes(most))).unwrap_or_default();
                self.refuse_file(&debt, &file, &format!("it is too large for your server{most}"))
            }
            Err(NoSlot::Later) => self.file_later(&debt, &file, "your server does not take it now"),
            Err(NoSlot::Refused(words)) => {
                let words = words.map(|words| format!(" (\u{201c}{words}\u{201d})")).unwrap_or_default();
                self.refuse_file(&debt, &file, &format!("your server does not take it{words}"))
            }
        }
    }

    fn put_file(
        &mut self,
        contact: &ContactKey,
        debt: &Debt,
        file: &OutgoingFile,
        slot: Slot,
    ) -> Result<(), StoreError> {
        let Some(size) = file.info.size else { return Ok(()) };
        let get = slot.get.clone();
        let job = Job::Put { media: file.media.clone(), size, mime: mime_of(&file.info).to_owned(), slot };
        self.begin_transfer(&contact.login, debt, job, Some(get))
    }

    /// The file will not be sent, nor what was said to it: a message is sent whole or not at all.
    fn refuse_file(&mut self, debt: &Debt, file: &OutgoingFile, why: &str) -> Result<(), StoreError> {
        let Lane::ToXmpp(portal) = &debt.lane else { return Ok(()) };
        while let Some(next) = self.bridge.store.next_debt(&debt.lane, Some(debt.id))? {
            match &next.effect {
                Effect::SendMessage(outgoing) if outgoing.event == file.event => self.settle(&next)?,
                _ => break,
            }
        }
        self.settle(debt)?;
        self.transfers.gave_up = true;
        let notice = failure::to_matrix(&format!("Your file was not sent: {why}."), Some(file.event.clone()));
        self.bridge.owe_event(portal, Sender::Bot, notice, None, Vec::new())
    }

    /// The whole transfer is tried again after a pause, a few times. What was sent before the file stays as it is.
    fn file_later(&mut self, debt: &Debt, file: &OutgoingFile, why: &str) -> Result<(), StoreError> {
        self.bridge.outbox.pause(&debt.lane, debt.id, self.bridge.now.uptime, None);
        if self.bridge.outbox.failures(&debt.lane) >= TRIES {
            return self.refuse_file(debt, file, why);
        }
        Ok(())
    }

    // ---- from XMPP

    /// Shows a file of the contact, or of the account's other clients.
    pub(super) fn show_file(
        &mut self,
        contact: &ContactKey,
        own: bool,
        shared: Shared,
        answers: Option<String>,
        at: Option<Timestamp>,
        binds: Vec<String>,
    ) -> Result<(), StoreError> {
        let answers = match answers {
            Some(id) => self.name_of(contact, &id)?,
            None => None,
        };
        let Shared { url, info, caption } = shared;
        let sender = self.voice(contact, own)?;
        let at = at.map(|at| at.min(self.bridge.now.wall));
        let why = self.too_large(info.size, None);
        let file = IncomingFile { url, info, caption, sender, answers, at, binds };
        self.bridge.owe_file(
            contact,
            &file.sender.clone(),
            &file.binds.clone(),
            match why {
                Some(why) => in_words(&file, &why),
                None => Effect::ShowFile(file),
            },
        )
    }

    /// The transfer of a file that is the next of its lane into a room. `false`: there is no place for it yet.
    pub(super) fn fetch_file(&mut self, debt: &Debt, file: &IncomingFile) -> Result<bool, StoreError> {
        let Lane::ToMatrix(portal) = &debt.lane else { return Ok(false) };
        if !self.has_place(&portal.login, 0) {
            self.transfers.waiting.insert(debt.lane.clone());
            return Ok(false);
        }
        let (name, mime) = (file.info.name.clone(), file.info.mime.clone());
        self.begin_transfer(&portal.login, debt, Job::Take { url: file.url.clone(), name, mime }, None)?;
        Ok(true)
    }

    // ---- from the shell

    /// A transfer has ended.
    pub(super) fn on_transferred(&mut self, id: DebtId, outcome: TransferOutcome) -> Result<(), StoreError> {
        let Some(Running { lane, get }) = self.transfers.running.remove(&id) else { return Ok(()) };
        self.wake_waiting();
        let Some(debt) = self.bridge.store.debt(&lane, id)? else {
            self.bridge.outbox.wake(&lane);
            return Ok(());
        };
        match debt.effect.clone() {
            Effect::SendFile(file) => self.put_done(debt, file, get, outcome),
            Effect::ShowFile(file) => self.take_done(debt, &file, outcome),
            _ => Ok(()),
        }
    }

    fn put_done(
        &mut self,
        mut debt: Debt,
        mut file: OutgoingFile,
        get: Option<String>,
        outcome: TransferOutcome,
    ) -> Result<(), StoreError> {
        match (outcome, get) {
            (TransferOutcome::Uploaded, Some(url)) => {
                let mut payloads: Vec<String> = file::to_xmpp(&url, &file.info).iter().filter_map(to_xml).collect();
                payloads.append(&mut file.payloads);
                let (event, written) = (file.event, file.written);
                let composed = Composed { body: url, payloads, event, written, quotes: None, stands_for: None };
                debt.effect = Effect::SendComposed(composed);
            }
            (TransferOutcome::Size(size), _) if !file.measured => {
                file.info.size = Some(size);
                file.measured = true;
                debt.effect = Effect::SendFile(file);
            }
            (TransferOutcome::Failed { failure: Failure::Permanent(cause), .. }, _) => {
                return self.refuse_file(&debt, &file, &cause.sentence);
            }
            (TransferOutcome::Failed { failure: Failure::Transient { cause, .. }, .. }, _) => {
                return self.file_later(&debt, &file, &cause.sentence);
            }
            (TransferOutcome::Uploaded | TransferOutcome::Size(_) | TransferOutcome::Stored(_), _) => {
                return self.file_later(&debt, &file, "the homeserver says another size each time");
            }
        }
        self.bridge.store.put_debt(&debt)?;
        self.bridge.outbox.wake(&debt.lane);
        Ok(())
    }

    fn take_done(&mut self, mut debt: Debt, file: &IncomingFile, outcome: TransferOutcome) -> Result<(), StoreError> {
        debt.effect = match outcome {
            TransferOutcome::Stored(stored) => as_event(file, file::to_matrix(file, &stored)),
            TransferOutcome::Uploaded | TransferOutcome::Size(_) => {
                self.bridge.outbox.failed(&debt.lane, debt.id, self.bridge.now.uptime, None);
                return Ok(());
            }
            TransferOutcome::Failed { failure: Failure::Permanent(cause), .. } => in_words(file, &cause.sentence),
            TransferOutcome::Failed { at, failure: Failure::Transient { cause, retry_after } } => {
                let tries = if at == Side::Web { TRIES } else { HOMESERVER_TRIES };
                self.bridge.outbox.failed(&debt.lane, debt.id, self.bridge.now.uptime, retry_after);
                if self.bridge.outbox.failures(&debt.lane) < tries {
                    return Ok(());
                }
                in_words(file, &cause.sentence)
            }
        };
        self.bridge.store.put_debt(&debt)?;
        // The request that sends it is another piece of work of the same debt.
        self.bridge.outbox.take_back(&debt.lane);
        Ok(())
    }
}

fn mime_of(info: &FileInfo) -> &str {
    info.mime.as_deref().unwrap_or(OCTETS)
}

fn in_words(file: &IncomingFile, why: &str) -> Effect {
    as_event(file, file::to_words(file, why))
}

fn as_event(file: &IncomingFile, event: crate::domain::effect::MatrixEvent) -> Effect {
    let (sender, at, binds) = (file.sender.clone(), file.at, file.binds.clone());
    match file.answers.clone() {
        Some(name) => Effect::SendAbout { sender, event, about: About { name, relation: Relation::Reply }, at, binds },
        None => Effect::SendEvent { sender, event, at, binds },
    }
}

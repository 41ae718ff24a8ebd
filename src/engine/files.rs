//! Files of the person: a debt that owes a transfer first. The transfer is made by a shell; then the debt is what says where the file
//! is, and is paid as any other. A transfer that was under way when the process ended is made again. A small picture of the file
//! goes the same way before it; that it does not get there holds nothing up. Files of contacts are [`super::fetch`]'s.

use std::collections::{BTreeSet, HashMap};

use minidom::Element;

use super::{Engine, talk::Untold};
use crate::{
    bridge::{meter::Fate, question::Question},
    domain::{
        DebtId, LoginId, Output,
        effect::{Composed, ContactKey, Debt, Effect, Lane, Sender},
        feature::Feature,
        file::{FileInfo, Job, OutgoingFile, OutgoingMedia, Slot, Transfer, TransferOutcome},
        input::{Failure, RoomEvent},
    },
    store::StoreError,
    translate::{
        failure,
        file::{self, Media, bytes},
        file_name,
        message::Message,
        stable_id,
        stanza::to_xml,
        upload::{self, NoSlot},
        voice,
    },
};

/// Transfers of one login at once: slow ones hold up no other login's.
const PER_LOGIN: usize = 4;
/// Transfers at once in all. A chat whose file finds no place waits for one.
pub const TRANSFERS: usize = 32;
/// How often a transfer is tried that fails at the web's side, before it is said in words.
pub(super) const TRIES: u32 = 6;
/// The same where the homeserver fails: nothing else of the chat could be shown meanwhile.
pub(super) const HOMESERVER_TRIES: u32 = 30;
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
    pub(super) waiting: BTreeSet<Lane>,
    /// A file was given up while debts were paid: what is owed for that is to be paid yet.
    pub(super) gave_up: bool,
}

#[derive(Debug)]
struct Running {
    lane: Lane,
    /// Where the file can be had once it is in its slot.
    get: Option<Put>,
}

/// What is being put into a slot.
#[derive(Debug)]
pub(super) struct Put {
    /// Where it can be had then.
    get: String,
    /// It is the small picture of the file.
    preview: bool,
}

/// What may be done for a file now.
enum Next {
    /// Something else goes on, or wakes the lane.
    Wait,
    /// It is given up, or another debt; the lane goes on.
    Changed,
}

impl Engine {
    // ---- from Matrix

    /// The owner sends a file into the portal.
    pub(super) fn say_file(&mut self, portal: &ContactKey, event: &RoomEvent, media: Media) -> Result<(), Untold> {
        let Some(profile) = self.profile_of(&portal.login)? else { return Ok(()) };
        if !profile.discovers && self.bridge.settings.public_media.is_none() {
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
        let Media { media, mut info, caption, voice, preview } = media;
        if voice {
            info.name = file_name::with_extension(&voice::to_xmpp(event.at), info.mime.as_deref());
        }
        let file = OutgoingFile { media, info, measured: false, payloads, event: event.id.clone(), written: event.at };
        let effect = Effect::SendMedia(Box::new(OutgoingMedia { file, preview }));
        let debt = self.bridge.owe(Lane::ToXmpp(portal.clone()), effect)?;
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
    pub(super) fn too_large(&self, size: Option<u64>, theirs: Option<u64>) -> Option<String> {
        let most = theirs.unwrap_or(u64::MAX).min(self.bridge.settings.max_file);
        let size = size.filter(|size| *size > most)?;
        let whose = if theirs == Some(most) { "your server takes" } else { "I carry" };
        Some(format!("the file has {}, and {whose} at most {}", bytes(size), bytes(most)))
    }

    /// A file is the next of its lane. `true`: it was given up or is a link now, and the lane goes on.
    pub(super) fn prepare_file(
        &mut self,
        login: &LoginId,
        debt: &Debt,
        media: &OutgoingMedia,
    ) -> Result<bool, StoreError> {
        Ok(matches!(self.next_for_file(login, debt, media)?, Next::Changed))
    }

    fn next_for_file(&mut self, login: &LoginId, debt: &Debt, media: &OutgoingMedia) -> Result<Next, StoreError> {
        let Lane::ToXmpp(portal) = &debt.lane else { return Ok(Next::Wait) };
        let file = &media.file;
        if self.transfers.running.contains_key(&debt.id)
            || !self.bridge.outbox.may_go(&debt.lane, self.bridge.now.uptime)
        {
            return Ok(Next::Wait);
        }
        if !self.profile_of(login)?.is_some_and(|profile| profile.discovers) {
            if !self.link_file(login, debt, media)? {
                self.refuse_file(debt, file, "this network carries no files")?;
            }
            return Ok(Next::Changed);
        }
        let Some((service, most)) = self.upload_service(login)? else {
            return match self.lives.get(login).map(|live| live.upload.clone()) {
                Some(Upload::Missing { .. }) if self.link_file(login, debt, media)? => Ok(Next::Changed),
                Some(Upload::Missing { silent }) => {
                    let why = match silent {
                        Some(_) => "your server did not say in time where files can be put",
                        None => "your server takes no files (it has no XEP-0363 upload service)",
                    };
                    self.refuse_file(debt, file, why)?;
                    Ok(Next::Changed)
                }
                _ => Ok(Next::Wait),
            };
        };
        if let Some(why) = self.too_large(file.info.size, most) {
            self.refuse_file(debt, file, &why)?;
            return Ok(Next::Changed);
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
        let small = media.preview.as_ref().filter(|preview| {
            // One that is no smaller than the file is of no use.
            preview.url.is_none() && preview.size < size && self.too_large(Some(preview.size), most).is_none()
        });
        let (name, size, mime) = match small {
            Some(preview) => ("thumbnail", preview.size, preview.mime.as_str()),
            None => (file.info.name.as_str(), size, mime_of(&file.info)),
        };
        let question = Question::Slot {
            service,
            contact: portal.contact.clone(),
            debt: debt.id,
            name: file_name::with_extension(name, small.map(|preview| preview.mime.as_str())),
            size,
            mime: mime.to_owned(),
            preview: small.is_some(),
        };
        self.ask(login, question)?;
        Ok(Next::Wait)
    }

    pub(super) fn has_place(&self, login: &LoginId, pending: usize) -> bool {
        let of = |lane: &Lane| match lane {
            Lane::ToMatrix(contact) | Lane::ToXmpp(contact) => contact.login == *login,
            Lane::Ghost(_) | Lane::Login(_) | Lane::Management(_) | Lane::Space(_) | Lane::Person(_) => false,
        };
        let own = self.transfers.running.values().filter(|running| of(&running.lane)).count();
        self.transfers.running.len() < TRANSFERS && own + pending < PER_LOGIN
    }

    pub(super) fn begin_transfer(
        &mut self,
        login: &LoginId,
        debt: &Debt,
        job: Job,
        get: Option<Put>,
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
    pub(super) fn on_service(
        &mut self,
        login: &LoginId,
        service: String,
        answer: Option<&Element>,
        heard: bool,
    ) -> Result<(), StoreError> {
        let again = self.bridge.now.uptime.saturating_add(ASK_AGAIN);
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        let Upload::Asking { open, silent } = &mut live.upload else { return Ok(()) };
        *open = open.saturating_sub(1);
        *silent |= !heard;
        if let Some(most) = answer.and_then(upload::read_service) {
            live.upload = Upload::Found { service, most };
        } else if *open == 0 {
            live.upload = Upload::Missing { silent: silent.then_some(again) };
        } else {
            return Ok(());
        }
        self.wake_files(login);
        self.upload_found(login)
    }

    /// A place has become free, or may have.
    pub(super) fn wake_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.transfers.waiting) {
            self.bridge.outbox.wake(&waiting);
        }
    }

    fn wake_files(&mut self, login: &LoginId) {
        self.bridge.outbox.wake_stream(login);
    }

    /// The service has given a slot, or not: `None` is no answer in time.
    pub(super) fn on_slot(
        &mut self,
        contact: &ContactKey,
        (debt, preview): (DebtId, bool),
        answer: Option<&Element>,
    ) -> Result<(), StoreError> {
        self.wake_waiting();
        let lane = Lane::ToXmpp(contact.clone());
        let Some(debt) = self.bridge.store.debt(&lane, debt)? else { return Ok(()) };
        let Some(media) = outgoing(&debt.effect) else { return Ok(()) };
        let slot = match answer {
            Some(answer) if answer.attr("type") == Some("result") => {
                upload::read_slot(answer).ok_or(NoSlot::Refused(None))
            }
            Some(answer) => Err(upload::read_refusal(answer)),
            None => Err(NoSlot::Later),
        };
        let file = media.file.clone();
        match slot {
            Ok(slot) => self.put_file(contact, &debt, &media, slot, preview),
            Err(_) if preview => self.go_without_preview(debt, media),
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
        media: &OutgoingMedia,
        slot: Slot,
        preview: bool,
    ) -> Result<(), StoreError> {
        let file = &media.file;
        let put = Put { get: slot.get.clone(), preview };
        let job = match (&media.preview, file.info.size) {
            (Some(small), _) if preview => {
                Job::Put { media: small.media.clone(), size: small.size, mime: small.mime.clone(), slot }
            }
            (_, Some(size)) if !preview => {
                Job::Put { media: file.media.clone(), size, mime: mime_of(&file.info).to_owned(), slot }
            }
            _ => return Ok(()),
        };
        self.begin_transfer(&contact.login, debt, job, Some(put))
    }

    /// The small picture cannot be put anywhere: the file goes without.
    fn go_without_preview(&mut self, mut debt: Debt, mut media: OutgoingMedia) -> Result<(), StoreError> {
        media.preview = None;
        debt.effect = Effect::SendMedia(Box::new(media));
        self.bridge.store.put_debt(&debt)?;
        self.bridge.outbox.wake(&debt.lane);
        Ok(())
    }

    /// The file will not be sent, nor what was said to it: a message is sent whole or not at all.
    fn refuse_file(&mut self, debt: &Debt, file: &OutgoingFile, why: &str) -> Result<(), StoreError> {
        let Lane::ToXmpp(portal) = &debt.lane else { return Ok(()) };
        while let Some(next) = self.bridge.next_debt(&debt.lane, Some(debt.id))? {
            match &next.effect {
                Effect::SendMessage(outgoing) if outgoing.event == file.event => {
                    self.settle_as(&next, Fate::Refused)?;
                }
                _ => break,
            }
        }
        self.settle_as(debt, Fate::Refused)?;
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

    // ---- from the shell

    /// A transfer has ended.
    pub(super) fn on_transferred(&mut self, id: DebtId, outcome: TransferOutcome) -> Result<(), StoreError> {
        let Some(Running { lane, get }) = self.transfers.running.remove(&id) else { return Ok(()) };
        self.wake_waiting();
        let Some(debt) = self.bridge.store.debt(&lane, id)? else {
            self.bridge.outbox.wake(&lane);
            return Ok(());
        };
        if let Some(media) = outgoing(&debt.effect) {
            return self.put_done(debt, media, get, outcome);
        }
        match debt.effect.clone() {
            Effect::ShowMedia(media) => self.take_done(debt, &media, outcome),
            Effect::ShowFile(file) => self.take_done(debt, &file.into(), outcome),
            _ => Ok(()),
        }
    }

    fn put_done(
        &mut self,
        mut debt: Debt,
        mut media: OutgoingMedia,
        put: Option<Put>,
        outcome: TransferOutcome,
    ) -> Result<(), StoreError> {
        if put.as_ref().is_some_and(|put| put.preview) {
            let (Some(small), Some(put), TransferOutcome::Uploaded) = (&mut media.preview, put, outcome) else {
                return self.go_without_preview(debt, media);
            };
            small.url = Some(put.get);
            debt.effect = Effect::SendMedia(Box::new(media));
            self.bridge.store.put_debt(&debt)?;
            self.bridge.outbox.wake(&debt.lane);
            return Ok(());
        }
        let OutgoingMedia { mut file, preview } = media;
        match (outcome, put) {
            (TransferOutcome::Uploaded, Some(Put { get: url, .. })) => {
                let said = file::to_xmpp(&url, &file.info, preview.as_ref());
                let mut payloads: Vec<String> = said.iter().filter_map(to_xml).collect();
                payloads.append(&mut file.payloads);
                let (event, written) = (file.event, file.written);
                let composed = Composed { body: url, payloads, event, written, quotes: None, stands_for: None };
                debt.effect = Effect::SendComposed(composed);
            }
            (TransferOutcome::Size(size), _) if !file.measured => {
                file.info.size = Some(size);
                file.measured = true;
                debt.effect = Effect::SendMedia(Box::new(OutgoingMedia { file, preview }));
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
}

/// The file that a debt is to send; of whatever version of the program.
pub(super) fn outgoing(effect: &Effect) -> Option<OutgoingMedia> {
    match effect {
        Effect::SendMedia(media) => Some((**media).clone()),
        Effect::SendFile(file) => Some(file.clone().into()),
        _ => None,
    }
}

fn mime_of(info: &FileInfo) -> &str {
    info.mime.as_deref().unwrap_or(OCTETS)
}

//! Files of contacts, and pictures in their texts: brought into the homeserver's media before they are shown. Each is a debt of its
//! own in the lane into the room, so several of one stanza come in order. A bit of binary that did not come with its stanza is asked
//! of the client that named it, once.

use std::collections::VecDeque;

use minidom::Element;

use super::{
    Engine,
    files::{HOMESERVER_TRIES, TRIES},
    session::{Live, Phase},
};
use crate::{
    bridge::question::Question,
    domain::{
        BareJid, DebtId, LoginId, Timestamp,
        effect::{About, ContactKey, Debt, Effect, Lane, MatrixEvent, Relation, Sender},
        file::{FileInfo, FileKind, IncomingFile, IncomingMedia, Job, Side, Stored, TransferOutcome},
        input::Failure,
    },
    store::StoreError,
    translate::{
        bits::{self, Picture},
        content::Content,
        file::{self, Shared},
        file_name,
        message::{self, Message},
        stable_id,
    },
};

/// Bits of binary that are asked for at once on one stream.
const ASKED: usize = 4;
/// Bits of one login that are remembered as being in the homeserver's media: people use the same ones again and again.
const KEPT: usize = 128;
/// What a picture without words is called.
const NAMELESS: &str = "picture";

/// Pictures of a login that are in the homeserver's media already, by the name that their hash makes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Kept(VecDeque<(String, Stored)>);

impl Kept {
    fn get(&self, cid: &str) -> Option<&Stored> {
        self.0.iter().find(|(known, _)| known == cid).map(|(_, stored)| stored)
    }

    fn put(&mut self, cid: &str, stored: Stored) {
        if self.get(cid).is_none() {
            self.0.push_back((cid.to_owned(), stored));
        }
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }
}

/// Clients that did not answer when they were asked for a bit: on this stream they are not asked again, for what is said after it
/// waits meanwhile.
#[derive(Debug, Default)]
pub(super) struct Deaf(VecDeque<String>);

impl Deaf {
    /// Notes one, by its whole address.
    pub(super) fn note(&mut self, client: String) {
        self.0.push_back(client);
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }
}

/// What became of a file that is the next of its lane.
pub(super) enum Next {
    /// Its transfer is under way.
    Begun,
    /// Something else wakes the lane.
    Waits,
    /// The debt is another now, or is gone.
    Changed,
}

impl Engine {
    /// Shows files of the contact, or of the account's other clients. The first stands for the stanza.
    pub(super) fn show_files(
        &mut self,
        contact: &ContactKey,
        own: bool,
        files: Vec<Shared>,
        mut answers: Option<String>,
        at: Option<Timestamp>,
        binds: &[String],
    ) -> Result<(), StoreError> {
        for (number, shared) in files.into_iter().enumerate() {
            let Shared { url, info, caption, voice, preview } = shared;
            let file = self.incoming(contact, own, (url, info, caption), answers.take(), at, part(binds, number))?;
            self.owe_media(contact, IncomingMedia { voice, preview, ..file.into() })?;
        }
        Ok(())
    }

    /// Shows a text with pictures in it, or the pictures alone.
    pub(super) fn show_pictures(
        &mut self,
        contact: &ContactKey,
        own: bool,
        (text, pictures): (Option<Message>, Vec<Picture>),
        mut answers: Option<String>,
        at: Option<Timestamp>,
        binds: &[String],
    ) -> Result<(), StoreError> {
        let alone = text.is_none();
        if let Some(message) = text {
            let text = Content::Message { message, answers: answers.take() };
            self.show(contact, own, text, at, binds.to_vec())?;
        }
        for (number, picture) in pictures.into_iter().enumerate() {
            let Picture { cid, alt, bytes, from } = picture;
            let info = FileInfo {
                kind: FileKind::Image,
                name: file_name::clean(alt.trim_matches(':'), NAMELESS),
                mime: None,
                size: None,
                width: None,
                height: None,
                duration: None,
            };
            let words = alone.then(|| if alt.is_empty() { format!("[{NAMELESS}]") } else { alt });
            let binds = part(binds, if alone { number } else { number + 1 });
            let url = format!("cid:{cid}");
            let file = self.incoming(contact, own, (url, info, None), answers.take(), at, binds)?;
            self.owe_media(contact, IncomingMedia { data: bytes, from, words, ..file.into() })?;
        }
        Ok(())
    }

    fn incoming(
        &mut self,
        contact: &ContactKey,
        own: bool,
        (url, info, caption): (String, FileInfo, Option<String>),
        answers: Option<String>,
        at: Option<Timestamp>,
        binds: Vec<String>,
    ) -> Result<IncomingFile, StoreError> {
        let answers = match answers {
            Some(id) => self.name_of(contact, &id)?,
            None => None,
        };
        let sender = self.voice(contact, own)?;
        let at = at.map(|at| at.min(self.bridge.now.wall));
        Ok(IncomingFile { url, info, caption, sender, answers, at, binds })
    }

    fn owe_media(&mut self, contact: &ContactKey, media: IncomingMedia) -> Result<(), StoreError> {
        let (sender, binds) = (media.file.sender.clone(), media.file.binds.clone());
        let effect = match self.too_large(media.file.info.size, None) {
            Some(why) => in_words(&media.file, &why),
            None => Effect::ShowMedia(Box::new(media)),
        };
        self.bridge.owe_file(contact, &sender, &binds, effect)
    }

    /// A file is the next of its lane into a room.
    pub(super) fn fetch_file(&mut self, debt: &Debt, media: &IncomingMedia) -> Result<Next, StoreError> {
        let Lane::ToMatrix(portal) = &debt.lane else { return Ok(Next::Waits) };
        let file = &media.file;
        let job = match (bits::cid_of(&file.url), &media.data) {
            (None, _) => Job::Take {
                url: file.url.clone(),
                name: file.info.name.clone(),
                mime: file.info.mime.clone(),
                preview: media.preview.clone(),
            },
            (Some(cid), data) => {
                let kept = self.lives.get(&portal.login).and_then(|live| live.kept.get(cid)).cloned();
                match (kept, data) {
                    (Some(stored), _) => {
                        self.become_event(debt.clone(), as_event(file, file::to_matrix(media, &stored)))?;
                        return Ok(Next::Changed);
                    }
                    (None, Some(bytes)) => Job::Keep { name: file.info.name.clone(), bytes: bytes.clone() },
                    (None, None) => return self.ask_for_bit(portal, debt, media, cid),
                }
            }
        };
        if !self.has_place(&portal.login, 0) {
            self.transfers.waiting.insert(debt.lane.clone());
            return Ok(Next::Waits);
        }
        self.begin_transfer(&portal.login, debt, job, None)?;
        Ok(Next::Begun)
    }

    /// Asks the client that named a bit for it: that client alone, and only if it can answer and knows when the person is there.
    fn ask_for_bit(
        &mut self,
        portal: &ContactKey,
        debt: &Debt,
        media: &IncomingMedia,
        cid: &str,
    ) -> Result<Next, StoreError> {
        let Some(to) = media.from.clone() else { return self.without_bit(debt, media) };
        let own = media.file.sender != Sender::Ghost(portal.contact.clone());
        let there = own || self.is_there(portal, &to)?;
        let Some(live) =
            self.lives.get(&portal.login).filter(|live| there && live.phase == Phase::Up && !live.deaf.0.contains(&to))
        else {
            return self.without_bit(debt, media);
        };
        let of = |live: &Live, debt: Option<DebtId>| {
            let asked = live.questions.values().filter_map(|pending| match &pending.question {
                Question::Bit { debt, .. } => Some(*debt),
                _ => None,
            });
            asked.filter(|asked| debt.is_none_or(|debt| debt == *asked)).count()
        };
        if of(live, Some(debt.id)) > 0 {
            return Ok(Next::Waits);
        }
        if of(live, None) >= ASKED {
            self.transfers.waiting.insert(debt.lane.clone());
            return Ok(Next::Waits);
        }
        let question = Question::Bit { to, cid: cid.to_owned(), contact: portal.contact.clone(), debt: debt.id };
        self.ask(&portal.login, question)?;
        Ok(Next::Waits)
    }

    /// Whether a client of a contact is on line, as far as the contact lets it be seen.
    fn is_there(&self, contact: &ContactKey, client: &str) -> Result<bool, StoreError> {
        let on_roster = self.bridge.store.contact(contact)?.is_some_and(|row| row.on_roster);
        let resource = client.split_once('/').map(|(_, resource)| resource);
        let clients = self.bridge.store.resources(contact)?.map(|row| row.list).unwrap_or_default();
        Ok(on_roster && clients.iter().any(|client| Some(client.name.as_str()) == resource))
    }

    /// A client has given a bit, or has not: `None` is an error, or no answer in time.
    pub(super) fn on_bit(
        &mut self,
        contact: &ContactKey,
        debt: DebtId,
        cid: &str,
        answer: Option<&Element>,
    ) -> Result<(), StoreError> {
        self.wake_waiting();
        let lane = Lane::ToMatrix(contact.clone());
        let Some(mut debt) = self.bridge.store.debt(&lane, debt)? else { return Ok(()) };
        let Effect::ShowMedia(mut media) = debt.effect.clone() else { return Ok(()) };
        match answer.and_then(|answer| bits::read_answer(answer, cid)) {
            Some(bytes) => {
                media.data = Some(bytes);
                debt.effect = Effect::ShowMedia(media);
                self.bridge.store.put_debt(&debt)?;
            }
            None => {
                self.without_bit(&debt, &media)?;
            }
        }
        self.bridge.outbox.wake(&lane);
        Ok(())
    }

    /// The stream on which bits were asked for is gone.
    pub(super) fn wake_bits(&mut self, login: &LoginId) {
        let Some(live) = self.lives.get(login) else { return };
        let asked: Vec<BareJid> = live
            .questions
            .values()
            .filter_map(|pending| match &pending.question {
                Question::Bit { contact, .. } => Some(contact.clone()),
                _ => None,
            })
            .collect();
        for contact in asked {
            self.bridge.outbox.wake(&Lane::ToMatrix(ContactKey { login: login.clone(), contact }));
        }
    }

    /// A picture does not come: its words are shown, unless a text says them already.
    fn without_bit(&mut self, debt: &Debt, media: &IncomingMedia) -> Result<Next, StoreError> {
        self.bridge.ignore("picture in a text that could not be had");
        match &media.words {
            Some(words) => {
                self.become_event(debt.clone(), as_event(&media.file, message::to_matrix(&Message::plain(words))))?;
            }
            None => self.settle(debt)?,
        }
        Ok(Next::Changed)
    }

    /// The request that sends it is another piece of work of the same debt.
    fn become_event(&mut self, mut debt: Debt, effect: Effect) -> Result<(), StoreError> {
        debt.effect = effect;
        self.bridge.store.put_debt(&debt)?;
        self.bridge.outbox.take_back(&debt.lane);
        Ok(())
    }

    /// The transfer of a file into the homeserver's media has ended.
    pub(super) fn take_done(
        &mut self,
        debt: Debt,
        media: &IncomingMedia,
        outcome: TransferOutcome,
    ) -> Result<(), StoreError> {
        let cid = bits::cid_of(&media.file.url);
        let why = match outcome {
            TransferOutcome::Stored(stored) => {
                let event = as_event(&media.file, file::to_matrix(media, &stored));
                if let (Some(cid), Lane::ToMatrix(portal)) = (cid, &debt.lane)
                    && let Some(live) = self.lives.get_mut(&portal.login)
                {
                    live.kept.put(cid, stored);
                }
                return self.become_event(debt, event);
            }
            TransferOutcome::Uploaded | TransferOutcome::Size(_) => {
                self.bridge.outbox.failed(&debt.lane, debt.id, self.bridge.now.uptime, None);
                return Ok(());
            }
            TransferOutcome::Failed { failure: Failure::Permanent(cause), .. } => cause.sentence,
            TransferOutcome::Failed { at, failure: Failure::Transient { cause, retry_after } } => {
                let tries = if at == Side::Web { TRIES } else { HOMESERVER_TRIES };
                self.bridge.outbox.failed(&debt.lane, debt.id, self.bridge.now.uptime, retry_after);
                if self.bridge.outbox.failures(&debt.lane) < tries {
                    return Ok(());
                }
                cause.sentence
            }
        };
        if cid.is_some() {
            self.bridge.outbox.take_back(&debt.lane);
            return self.without_bit(&debt, media).map(drop);
        }
        self.become_event(debt, in_words(&media.file, &why))
    }
}

/// The names that one of several events of a stanza is bound under: the first has the stanza's own.
fn part(binds: &[String], number: usize) -> Vec<String> {
    match number {
        0 => binds.to_vec(),
        number => binds.last().map(|name| stable_id::part(name, number)).into_iter().collect(),
    }
}

fn in_words(file: &IncomingFile, why: &str) -> Effect {
    as_event(file, file::to_words(file, why))
}

fn as_event(file: &IncomingFile, event: MatrixEvent) -> Effect {
    let (sender, at, binds) = (file.sender.clone(), file.at, file.binds.clone());
    match file.answers.clone() {
        Some(name) => Effect::SendAbout { sender, event, about: About { name, relation: Relation::Reply }, at, binds },
        None => Effect::SendEvent { sender, event, at, binds },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_of_pictures_is_bounded() {
        let stored = |number: usize| Stored {
            url: format!("mxc://h/{number}"),
            mime: "image/png".to_owned(),
            size: 1,
            dimensions: None,
            preview: None,
        };
        let (mut kept, mut deaf) = (Kept::default(), Deaf::default());
        for number in 0..KEPT + 10 {
            kept.put(&number.to_string(), stored(number));
            kept.put(&number.to_string(), stored(0));
            deaf.note(number.to_string());
        }
        assert_eq!((kept.0.len(), deaf.0.len()), (KEPT, KEPT));
        assert_eq!(
            (kept.get("9"), kept.get("10")),
            (None, Some(&stored(10))),
            "the oldest goes, and nothing is kept twice"
        );
        assert!(!deaf.0.contains(&"9".to_owned()) && deaf.0.contains(&"10".to_owned()));
    }

    #[test]
    fn the_first_of_several_has_the_stanzas_names_and_others_have_one_of_their_own() {
        let binds = ["a:archive".to_owned(), "c:id".to_owned()];
        assert_eq!(part(&binds, 0), binds);
        assert_eq!(part(&binds, 2), ["f:2:c:id"]);
        assert!(part(&[], 1).is_empty());
    }
}

//! The person's own Matrix name and picture, to their account: only where they asked for it (`publish-profile on`), and each change
//! once. What is wanted and what is there are compared; the next step follows from that, after a restart too.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidom::Element;
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;

use super::{Engine, Soft};
use crate::{
    bridge::question::{OwnPicture, Publish, Question},
    domain::{
        LoginId, Output,
        effect::Notice,
        input::{Outcome, Receipt},
        output::{MatrixCall, MatrixWork, WorkId},
        text::{MAX_NAME, one_line},
    },
    store::{
        StoreError,
        published::{Avatar, Published},
    },
    translate::{
        avatar, nickname,
        vcard::{self, Photo},
    },
};

/// Room in a stanza for what stands around a picture, in bytes.
const AROUND: usize = 2_048;

/// A person's profile, or what a membership says of it.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    displayname: Option<String>,
    #[serde(default)]
    avatar_url: Option<String>,
}

impl Told {
    fn name(&self) -> Option<String> {
        self.displayname.as_deref().map(|name| one_line(name, MAX_NAME)).filter(|name| !name.is_empty())
    }

    fn picture(&self) -> Option<String> {
        self.avatar_url.clone().filter(|url| url.starts_with("mxc://") && url.len() <= 512)
    }
}

impl Engine {
    /// The command `publish-profile`.
    pub(super) fn publish_profile(
        &mut self,
        owner: &OwnedUserId,
        login: Option<&str>,
        on: bool,
    ) -> Result<Notice, StoreError> {
        let login = match self.only_login(owner, login, None)? {
            Ok(login) => login,
            Err(sentence) => return Ok(Notice::plain(sentence)),
        };
        if !self.publishes(&login.id)? {
            return Ok(Notice::plain("On this network the profile of an account can only be read."));
        }
        let mut row = self.bridge.store.published(&login.id)?;
        row.on = on;
        self.bridge.store.put_published(&login.id, &row)?;
        if let Some(live) = self.lives.get_mut(&login.id) {
            live.publishing.stopped = false;
        }
        if on {
            self.read_profile(owner);
            return Ok(Notice::plain(format!(
                "Your name and picture in Matrix are those of {} from now on, also when they change. `publish-profile off` takes them back.",
                login.account
            )));
        }
        self.publish_next(&login.id)?;
        Ok(Notice::plain(format!("What I have published of you to {} is taken back.", login.account)))
    }

    /// A membership of a person says something of their profile: if it is news, the profile itself is read, for a room may have a
    /// name of its own.
    pub(super) fn note_own_profile(
        &mut self,
        owner: &OwnedUserId,
        content: &serde_json::value::RawValue,
    ) -> Result<(), StoreError> {
        let Ok(told) = serde_json::from_str::<Told>(content.get()) else { return Ok(()) };
        for login in self.logins_of(owner)? {
            let row = self.bridge.store.published(&login.id)?;
            if row.on && (row.name != told.name() || row.picture != told.picture()) {
                self.read_profile(owner);
                break;
            }
        }
        Ok(())
    }

    fn read_profile(&mut self, owner: &UserId) {
        let same = |soft: &Soft| matches!(soft, Soft::Profile { owner: asked, .. } if asked == owner);
        if let Some(Soft::Profile { again, .. }) = self.soft.values_mut().find(|soft| same(soft)) {
            // What is on its way may be older than this news.
            *again = true;
            return;
        }
        let call = MatrixCall::GetProfile { user: owner.to_owned() };
        self.soft_work(Soft::Profile { owner: owner.to_owned(), again: false }, call);
    }

    pub(super) fn soft_work(&mut self, soft: Soft, call: MatrixCall) {
        self.next_soft += 1;
        self.soft.insert(self.next_soft, soft);
        self.outputs.push(Output::Matrix(MatrixWork { id: WorkId::Soft(self.next_soft), call }));
    }

    pub(super) fn on_own_profile(
        &mut self,
        owner: &OwnedUserId,
        again: bool,
        outcome: &Outcome,
    ) -> Result<(), StoreError> {
        if again {
            self.read_profile(owner);
        }
        let told = match outcome {
            Outcome::Done(Receipt::Content(content)) => serde_json::from_str::<Told>(content).ok(),
            _ => None,
        };
        let Some(told) = told else {
            // It is read again when a stream has caught up the next time.
            self.bridge.ignore("own profile not read");
            return Ok(());
        };
        for login in self.logins_of(owner)? {
            let mut row = self.bridge.store.published(&login.id)?;
            if row.on {
                (row.name, row.picture) = (told.name(), told.picture());
                self.bridge.store.put_published(&login.id, &row)?;
                self.publish_next(&login.id)?;
            }
        }
        Ok(())
    }

    /// What the person calls themselves to contacts, where they want that to be told.
    pub(super) fn own_nickname(&self, login: &LoginId) -> Result<Option<String>, StoreError> {
        Ok(wanted(&self.bridge.store.published(login)?).0)
    }

    /// A stream has caught up: what was not published yet, or changed meanwhile, is.
    pub(super) fn resume_publishing(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let row = self.bridge.store.published(login)?;
        if let Some(live) = self.lives.get_mut(login) {
            live.publishing.stopped = false;
        }
        if row.on
            && let Some(owner) = self.owner_of(login)?
        {
            self.read_profile(&owner);
        }
        self.publish_next(login)
    }

    /// The next step from what is published to what is wanted; one at a time.
    fn publish_next(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(live) = self.lives.get(login).filter(|live| live.caught_up() && !live.publishing.stopped) else {
            return Ok(());
        };
        if live.questions.values().any(|pending| matches!(pending.question, Question::Publish(_))) {
            return Ok(());
        }
        let row = self.bridge.store.published(login)?;
        let (name, picture) = wanted(&row);
        if row.nick != name {
            return self.ask(login, Question::Publish(Publish::Nick(name)));
        }
        let there = row.avatar.as_ref().map(|avatar| &avatar.url);
        match (picture, there) {
            (None, Some(_)) => return self.ask(login, Question::Publish(Publish::NoAvatar)),
            (Some(url), there) if there != Some(&url) => return self.fetch_own(login, url),
            _ => {}
        }
        if row.vcard != name {
            return self.ask(login, Question::Publish(Publish::ReadVCard(name)));
        }
        Ok(())
    }

    /// Asks the homeserver for the person's picture, as small as the account's server takes it.
    fn fetch_own(&mut self, login: &LoginId, url: String) -> Result<(), StoreError> {
        if self.soft.values().any(|soft| matches!(soft, Soft::Own(whose, what) if whose == login && *what == url)) {
            return Ok(());
        }
        let Some(profile) = self.profile_of(login)? else { return Ok(()) };
        let announced = self.lives.get(login).and_then(|live| live.session.as_ref()?.max_bytes);
        let stanza = usize::try_from(announced.unwrap_or(profile.max_stanza)).unwrap_or(usize::MAX);
        let most = (stanza.saturating_sub(AROUND) / 4 * 3).min(vcard::MAX_PHOTO);
        self.soft_work(Soft::Own(login.clone(), url.clone()), MatrixCall::GetPicture { url, most });
        Ok(())
    }

    pub(super) fn on_own_picture(&mut self, login: &LoginId, url: String, outcome: Outcome) -> Result<(), StoreError> {
        if wanted(&self.bridge.store.published(login)?).1.as_ref() != Some(&url) {
            return self.publish_next(login);
        }
        let picture = match outcome {
            Outcome::Done(Receipt::Bytes(bytes)) => vcard::picture(&STANDARD.encode(bytes)),
            Outcome::Done(_) => Photo::None,
            Outcome::Failed(crate::domain::input::Failure::Permanent(_)) => Photo::Unusable,
            Outcome::Failed(crate::domain::input::Failure::Transient { .. }) => {
                self.bridge.ignore("own picture not read");
                return Ok(());
            }
        };
        let Photo::Picture { mime, hash, bytes } = picture else {
            return self.no_picture(login, url, "the homeserver gives it in no size and kind that I could publish");
        };
        self.ask(login, Question::Publish(Publish::AvatarData { url, own: OwnPicture { mime, hash, bytes } }))
    }

    /// The picture cannot be published; it is not tried again.
    fn no_picture(&mut self, login: &LoginId, url: String, why: &str) -> Result<(), StoreError> {
        let mut row = self.bridge.store.published(login)?;
        row.avatar = Some(Avatar { url, hash: None });
        self.bridge.store.put_published(login, &row)?;
        if let Some(row) = self.bridge.store.login(login)? {
            self.bridge.say(&row.owner, format!("Your picture could not be published to {}: {why}.", row.account))?;
        }
        self.publish_next(login)
    }

    /// A step is done, or refused.
    pub(super) fn on_published(
        &mut self,
        login: &LoginId,
        step: Publish,
        answer: Option<&Element>,
        heard: Option<&Element>,
    ) -> Result<(), StoreError> {
        let none = heard.is_some_and(vcard::is_none);
        let mut row = self.bridge.store.published(login)?;
        match (step, answer) {
            (Publish::Nick(name), Some(_)) => row.nick = name,
            (Publish::AvatarData { url, own }, Some(_)) => {
                return self.ask(login, Question::Publish(Publish::AvatarMetadata { url, own }));
            }
            (Publish::AvatarMetadata { url, own }, Some(_)) => {
                row.avatar = Some(Avatar { url, hash: Some(own.hash) });
            }
            (Publish::AvatarData { url, .. } | Publish::AvatarMetadata { url, .. }, None) if heard.is_some() => {
                return self.no_picture(login, url, "its server refuses it");
            }
            (Publish::NoAvatar, Some(_)) => row.avatar = None,
            // No vCard is an empty one; any other error could hide one that must not be overwritten.
            (Publish::ReadVCard(name), answer) if answer.is_some() || none => {
                if let Some(card) = vcard::with_nickname(answer, name.as_deref(), row.vcard.as_deref()) {
                    return self.ask(login, Question::Publish(Publish::WriteVCard { name, card }));
                }
                row.vcard = name;
            }
            (Publish::WriteVCard { name, .. }, Some(_)) => row.vcard = name,
            (Publish::Nick(_), None) if heard.is_some() => {
                return self.stop_publishing(login, true);
            }
            (_, _) => return self.stop_publishing(login, false),
        }
        self.bridge.store.put_published(login, &row)?;
        self.publish_next(login)
    }

    /// Not on this stream any more: the server does not want it, or does not answer.
    fn stop_publishing(&mut self, login: &LoginId, tell: bool) -> Result<(), StoreError> {
        self.bridge.ignore("own profile not published");
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        live.publishing.stopped = true;
        if tell
            && !std::mem::replace(&mut live.publishing.told, true)
            && let Some(row) = self.bridge.store.login(login)?
        {
            let text = format!("Your name could not be published to {}: its server refuses it.", row.account);
            return self.bridge.say(&row.owner, text);
        }
        Ok(())
    }
}

/// The question that carries out a step: kind and payload, to one's own account.
pub(super) fn payload(step: &Publish) -> (Option<&'static str>, &'static str, Element) {
    let (kind, payload) = match step {
        Publish::Nick(name) => ("set", nickname::publish(name.as_deref())),
        Publish::AvatarData { own, .. } => ("set", avatar::publish_data(own)),
        Publish::AvatarMetadata { own, .. } => ("set", avatar::publish_metadata(own)),
        Publish::NoAvatar => ("set", avatar::publish_none()),
        Publish::ReadVCard(_) => ("get", vcard::get()),
        Publish::WriteVCard { card, .. } => ("set", card.parse().unwrap_or_else(|_| vcard::get())),
    };
    (None, kind, payload)
}

/// How publishing goes on a login's streams.
#[derive(Debug, Default)]
pub(super) struct Publishing {
    /// Not on this stream any more.
    stopped: bool,
    /// The owner knows that the server refuses.
    told: bool,
}

/// The name and the picture that are to be there.
fn wanted(row: &Published) -> (Option<String>, Option<String>) {
    if row.on { (row.name.clone(), row.picture.clone()) } else { (None, None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_of_a_profile() {
        let told: Told =
            serde_json::from_str(r#"{"displayname":" Romeo\n","avatar_url":"https://evil/","x":1}"#).unwrap();
        assert_eq!((told.name().as_deref(), told.picture()), (Some("Romeo"), None));
        let row =
            Published { on: true, name: told.name(), picture: Some("mxc://h/1".to_owned()), ..Published::default() };
        assert_eq!(wanted(&row), (Some("Romeo".to_owned()), Some("mxc://h/1".to_owned())));
        assert_eq!(wanted(&Published { on: false, ..row }), (None, None));
    }
}

//! Links that the bridge serves itself (`public_media`), where the person's server takes no files: what they lead to, and when they end.

use super::Engine;
use crate::{
    domain::{
        LoginId, Output, Ticket,
        effect::{Composed, ContactKey, Debt, Effect},
        file::{LinkId, OutgoingMedia, PublicFile},
    },
    store::StoreError,
    translate::{file, public_link, stanza::to_xml},
};

impl Engine {
    /// Makes a link of a file that would be put elsewhere. `false`: the operator wants none.
    pub(super) fn link_file(
        &mut self,
        login: &LoginId,
        debt: &Debt,
        media: &OutgoingMedia,
    ) -> Result<bool, StoreError> {
        let Some(public) = self.bridge.settings.public_media.clone() else { return Ok(false) };
        let now = self.bridge.now.wall;
        let expires = now.after(public.expires);
        let outgoing = &media.file;
        let id = LinkId { login: login.clone(), debt: debt.id };
        let row = PublicFile {
            media: outgoing.media.clone(),
            name: outgoing.info.name.clone(),
            mime: outgoing.info.mime.clone(),
            event: outgoing.event.clone(),
            expires,
        };
        self.bridge.store.put_public_file(&id, &row, now)?;
        let url = public_link::write(&public.address, &public.key, &id, expires, &row.name);
        let extensible = self.profile_of(login)?.is_some_and(|profile| profile.extensible);
        let (body, payloads) = if extensible {
            let mut payloads: Vec<String> =
                file::to_xmpp(&url, &outgoing.info, None).iter().filter_map(to_xml).collect();
            payloads.extend(outgoing.payloads.clone());
            (url, payloads)
        } else {
            // Of a text alone one sees what is there, and where.
            (format!("{}\n{url}", row.name), Vec::new())
        };
        let (event, written) = (outgoing.event.clone(), outgoing.written);
        let composed = Composed { body, payloads, event, written, quotes: None, stands_for: None };
        self.bridge.store.put_debt(&Debt { effect: Effect::SendComposed(composed), ..debt.clone() })?;
        Ok(true)
    }

    /// The owner takes back an event: the link to its file ends. `true`: there was one.
    pub(super) fn end_link(&mut self, portal: &ContactKey, event: &ruma::EventId) -> Result<bool, StoreError> {
        self.bridge.store.erase_public_files_of(&portal.login, event)
    }

    /// Someone has come with a link whose signature is ours.
    pub(super) fn on_link(&mut self, ticket: Ticket, link: &LinkId) -> Result<(), StoreError> {
        let file = self.bridge.store.public_file(link)?.filter(|file| file.expires > self.bridge.now.wall);
        self.outputs.push(Output::PublicFile { ticket, file });
        Ok(())
    }
}

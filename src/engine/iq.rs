//! Questions and answers on a stream (IQ, RFC 6120 section 8.2.3): ours, each known by its id until it is answered, and
//! those that others ask us.

use minidom::Element;

use super::{
    Engine, Timer, publish,
    session::{Pending, Phase},
};
use crate::{
    bridge::question::Question,
    domain::{LoginId, effect::ContactKey},
    store::StoreError,
    translate::{
        avatar, bits, blocking, carbon, chats, discovery,
        displayed::{self, Displayed},
        history, pep, roster,
        stanza::{Stanza, addressed, element, set},
        upload, vcard, vcard4,
    },
};

/// How long an answer may take, in milliseconds; then it counts as an error.
const PATIENCE: u64 = 60_000;
/// The same where a chat waits for it.
const SHORT_PATIENCE: u64 = 10_000;

impl Engine {
    /// Asks a question on the login's stream; it is dropped if the stream is not up.
    pub(super) fn ask(&mut self, login: &LoginId, question: Question) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.login(login)? else { return Ok(()) };
        let uptime = self.bridge.now.uptime;
        let Some(live) = self.lives.get_mut(login).filter(|live| live.phase == Phase::Up) else { return Ok(()) };
        let Some(session) = live.session.clone() else { return Ok(()) };
        live.next_question += 1;
        let id = format!("q{}-{}", session.stream, live.next_question);
        let (account, domain) = (row.account.as_str(), row.account.domain());
        let (to, kind, payload) = match &question {
            Question::Roster => (None, "get", roster::get(row.roster_version.as_deref())),
            Question::RosterAdd { contact } => (None, "set", roster::add(contact)),
            Question::ServerFeatures => (Some(domain), "get", discovery::ask(None)),
            Question::AccountFeatures => (Some(account), "get", discovery::ask(None)),
            Question::Carbons => (None, "set", carbon::enable()),
            Question::CatchUp { after, since, fetched, newest } => {
                let left = self.bridge.settings.history_catch_up.saturating_sub(*fetched).clamp(1, history::PAGE);
                let since = (after.is_none() || *newest).then_some(*since);
                let after = after.as_deref().filter(|_| !newest);
                (
                    None,
                    "set",
                    history::query(
                        &id,
                        &history::Query { since, after, newest: *newest, limit: left, ..history::Query::default() },
                    ),
                )
            }
            Question::History { contact } => {
                let limit = self.bridge.settings.history_initial;
                (
                    None,
                    "set",
                    history::query(
                        &id,
                        &history::Query { with: Some(contact), newest: true, limit, ..history::Query::default() },
                    ),
                )
            }
            Question::Recent { contact } => (None, "get", history::query_recent(contact)),
            Question::Barrier | Question::Delivery { .. } => (Some(domain), "get", element("ping", discovery::PING)),
            Question::VCard { contact, .. } => (Some(contact.as_str()), "get", vcard::get()),
            Question::Avatar { contact, hash } => (Some(contact.as_str()), "get", avatar::ask(hash)),
            Question::VCard4 { contact } => (Some(contact.as_str()), "get", vcard4::get()),
            Question::Publish(step) => publish::payload(step),
            Question::Caps { client, caps, .. } => (Some(client.as_str()), "get", discovery::ask(Some(caps))),
            Question::Services => (Some(domain), "get", upload::ask_services()),
            Question::Service { service } => (Some(service.as_str()), "get", discovery::ask(None)),
            Question::Slot { service, name, size, mime, .. } => {
                (Some(service.as_str()), "get", upload::ask_slot(name, *size, mime))
            }
            Question::Bit { to, cid, .. } => (Some(to.as_str()), "get", bits::ask(cid)),
            Question::Chats => (None, "get", chats::ask()),
            Question::KeepChat { contact, chat, step, .. } => (None, "set", chats::keep(contact, chat.as_ref(), *step)),
            Question::BlockList => (None, "get", blocking::ask()),
            Question::Block { contact, blocked, .. } => (None, "set", blocking::to_xmpp(contact, *blocked)),
            Question::Displayed => (None, "get", displayed::get()),
            Question::PublishDisplayed { contact, id } => {
                let displayed = Displayed { contact: contact.clone(), id: id.clone() };
                (None, "set", displayed::to_xmpp(&displayed, &row.account, !live.read.few))
            }
            Question::JidLookup { email } => {
                let namespace =
                    self.bridge.profile(&row.network).and_then(|profile| profile.jid_lookup).unwrap_or_default();
                (Some(email.as_str()), "get", element("getjid", namespace))
            }
        };
        let mut iq = addressed("iq", to, Some(kind), Some(&id));
        iq.append_child(payload);
        let patience = if matches!(question, Question::Bit { .. }) { SHORT_PATIENCE } else { PATIENCE };
        let deadline = uptime + patience;
        live.questions
            .insert(id.clone(), Pending { to: to.map(str::to_owned), question, deadline, results: Vec::new() });
        self.set_timer(patience, Timer::Question(login.clone(), id));
        self.send(login, iq);
        Ok(())
    }

    pub(super) fn question_timed_out(&mut self, login: &LoginId, id: &str) -> Result<(), StoreError> {
        let uptime = self.bridge.now.uptime;
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        if live.questions.get(id).is_none_or(|pending| pending.deadline > uptime) {
            return Ok(());
        }
        let Some(pending) = live.questions.remove(id) else { return Ok(()) };
        self.bridge.ignore("question not answered");
        self.on_answered(login, pending, None, None)
    }

    pub(super) fn on_iq(&mut self, login: &LoginId, iq: &Element) -> Result<(), StoreError> {
        let mut stanza = Stanza::read(iq);
        match stanza.kind.as_str() {
            "result" | "error" => {
                let Some(id) = stanza.id.as_deref() else { return Ok(()) };
                let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
                let (Some(pending), Some(account)) = (live.questions.get(id), live.account.as_ref()) else {
                    return Ok(());
                };
                // An answer counts only from whom it was asked of. Servers answer what was asked of nobody as one's account or
                // as their domain (RFC 6120 section 8.1.2.1 and habit).
                let from = stanza.from.as_ref();
                let own_server = iq.attr("from").is_none()
                    || from.is_some_and(|from| from.bare == *account || from.bare.as_str() == account.domain());
                let fits = match &pending.to {
                    None => own_server,
                    Some(to) => {
                        iq.attr("from") == Some(to.as_str())
                            || from.is_some_and(|from| from.to_text() == *to)
                            || own_server && (to == account.as_str() || to == account.domain())
                    }
                };
                if !fits {
                    self.bridge.ignore("answer from someone who was not asked");
                    return Ok(());
                }
                let Some(pending) = live.questions.remove(id) else { return Ok(()) };
                if live.questions.is_empty() {
                    live.questions.shrink_to_fit();
                }
                self.timers.remove(&(pending.deadline, Timer::Question(login.clone(), id.to_owned())));
                let answer = (stanza.kind == "result").then_some(iq);
                self.on_answered(login, pending, answer, Some(iq))
            }
            "get" | "set" => {
                if let Some(push) = (stanza.kind == "set").then(|| stanza.take("query", roster::NS)).flatten() {
                    if self.is_from_own_server(login, iq, &stanza) {
                        self.on_roster(login, &push, true)?;
                        self.reply(login, iq, Ok(None));
                        return Ok(());
                    }
                    self.bridge.ignore("forged roster push");
                }
                let pushed = stanza.leftovers().first().filter(|_| stanza.kind == "set");
                if let Some(push) = pushed.and_then(blocking::push) {
                    if self.is_from_own_server(login, iq, &stanza) {
                        self.on_block_push(login, push)?;
                        self.reply(login, iq, Ok(None));
                        return Ok(());
                    }
                    self.bridge.ignore("forged push of a block");
                }
                let answer =
                    stanza.leftovers().first().filter(|_| stanza.kind == "get").and_then(|payload| {
                        discovery::answer(payload, self.bridge.now.wall, self.bridge.settings.version)
                    });
                self.reply(login, iq, answer.unwrap_or(Err("service-unavailable")));
                Ok(())
            }
            _ => {
                self.bridge.ignore("iq of unknown type");
                Ok(())
            }
        }
    }

    /// Does it come from the account itself (RFC 6121 section 2.1.6), or from its server's domain, as older ones say? A `from`
    /// that is no address is someone's.
    fn is_from_own_server(&self, login: &LoginId, iq: &Element, stanza: &Stanza) -> bool {
        let account = self.lives.get(login).and_then(|live| live.account.as_ref());
        iq.attr("from").is_none()
            || stanza.from.as_ref().zip(account).is_some_and(|(from, own)| {
                from.resource.is_none() && (from.bare == *own || from.bare.as_str() == own.domain())
            })
    }

    fn reply(&mut self, login: &LoginId, iq: &Element, answer: Result<Option<Element>, &'static str>) {
        let mut reply = addressed("iq", iq.attr("from"), Some(if answer.is_ok() { "result" } else { "error" }), None);
        if let Some(id) = iq.attr("id") {
            set(&mut reply, "id", id);
        }
        match answer {
            Ok(Some(payload)) => {
                reply.append_child(payload);
            }
            Ok(None) => {}
            Err(condition) => {
                reply.append_child(discovery::error(condition, "cancel"));
            }
        }
        self.send(login, reply);
    }

    /// A question has its answer: `None` is an error, or none in time, which `heard`, whatever came, tells apart.
    fn on_answered(
        &mut self,
        login: &LoginId,
        pending: Pending,
        answer: Option<&Element>,
        heard: Option<&Element>,
    ) -> Result<(), StoreError> {
        let Pending { question, results, .. } = pending;
        match question {
            Question::Roster => {
                if let Some(query) = answer.and_then(|answer| answer.get_child("query", roster::NS)) {
                    self.on_roster(login, query, false)?;
                }
            }
            Question::RosterAdd { contact } => {
                if answer.is_none() {
                    self.bridge.ignore("contact not added");
                    if let Some(owner) = self.owner_of(login)? {
                        self.bridge.say(&owner, format!("{contact} could not be added to your contacts: the server does not allow it. You can chat all the same."))?;
                    }
                }
            }
            Question::ServerFeatures => {
                self.on_blocking_found(login, answer)?;
                if answer.is_some_and(|answer| discovery::has_feature(answer, carbon::NS)) {
                    self.ask(login, Question::Carbons)?;
                }
            }
            Question::AccountFeatures => {
                self.on_chats_found(login, answer)?;
                let archive = answer.is_some_and(|answer| discovery::has_feature(answer, history::MAM));
                if let Some(live) = self.lives.get_mut(login)
                    && let Some(session) = &mut live.session
                {
                    // One that was resumed knows its archive already.
                    session.archive |= archive;
                    live.session_changed = true;
                    live.read.supported =
                        Some(answer.is_some_and(|answer| discovery::has_feature(answer, pep::PUBLISH_OPTIONS)));
                }
                self.ask_displayed(login)?;
            }
            Question::CatchUp { fetched, since, newest, .. } => {
                self.on_caught_up_page(login, results, answer, (fetched, since, newest))?;
            }
            Question::History { contact } => {
                let contact = ContactKey { login: login.clone(), contact };
                self.on_history(&contact, results)?;
            }
            Question::Recent { contact } => {
                let contact = ContactKey { login: login.clone(), contact };
                self.on_recent(&contact, answer.map(history::read_recent).unwrap_or_default())?;
            }
            Question::Delivery { through } => {
                // Any answer, an error too, proves that the server has read what was sent before it.
                if heard.is_some() {
                    self.on_acked(login, through)?;
                }
                self.confirm_by_ping(login)?;
            }
            Question::VCard { contact, hash } => {
                let contact = ContactKey { login: login.clone(), contact };
                self.on_vcard(&contact, hash, answer)?;
                self.next_vcard(login)?;
            }
            Question::Avatar { contact, hash } => {
                let contact = ContactKey { login: login.clone(), contact };
                self.on_avatar(&contact, &hash, answer, heard.is_some())?;
                self.next_wish(login)?;
            }
            Question::VCard4 { contact } => {
                self.on_vcard4(&ContactKey { login: login.clone(), contact }, answer, heard.is_some())?;
                self.next_wish(login)?;
            }
            Question::Publish(step) => self.on_published(login, step, answer, heard)?,
            Question::Caps { caps, contact, .. } => self.on_caps(login, &contact, &caps, answer)?,
            Question::Services => self.on_services(login, answer, heard.is_some())?,
            Question::Service { service } => self.on_service(login, service, answer, heard.is_some())?,
            Question::Slot { contact, debt, preview, .. } => {
                self.on_slot(&ContactKey { login: login.clone(), contact }, (debt, preview), heard)?;
            }
            Question::Bit { to, cid, contact, debt } => {
                if let (None, Some(live)) = (heard, self.lives.get_mut(login)) {
                    live.deaf.note(to);
                }
                self.on_bit(&ContactKey { login: login.clone(), contact }, debt, &cid, answer)?;
            }
            Question::Chats => self.on_chats(login, answer, heard)?,
            question @ Question::KeepChat { .. } => self.on_chat_kept(login, question, heard)?,
            Question::BlockList => self.on_block_list(login, answer)?,
            Question::Block { contact, blocked, debt } => {
                self.on_block_answer(login, (&contact, blocked), debt, heard)?;
            }
            Question::Displayed => {
                if let Some(account) = self.lives.get(login).and_then(|live| live.account.clone()) {
                    let told = answer.map(|answer| displayed::read_answer(answer, &account)).unwrap_or_default();
                    self.on_displayed_elsewhere(login, told)?;
                }
            }
            Question::PublishDisplayed { contact, id } => {
                if answer.is_none() {
                    self.not_published(login, contact, id)?;
                }
            }
            Question::JidLookup { email } => self.on_jid_lookup(login, &email, answer, heard.is_some())?,
            Question::Carbons | Question::Barrier => {}
        }
        self.after_answer(login)
    }
}

//! The roster and subscriptions (RFC 6121 2 and 3). Adding a contact is the only change, and only from April 2012.
use super::journal::Event;
use super::presence::Presence;
use super::settings::{MAX_PENDING, MAX_ROSTER, Status};
use super::wire::{Node, attr, bare, element, error_reply, esc};
use super::world::{ServiceError, World};

/// `jabber:iq:roster`
pub const ROSTER: &str = "jabber:iq:roster";
const NICK: &str = "http://jabber.org/protocol/nick";

/// A contact in someone's roster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    /// The name that the owner gave.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// The owner sees the contact's presence.
    pub to: bool,
    /// The contact sees the owner's presence.
    pub from: bool,
    /// The owner asked and waits.
    pub asked: bool,
}

impl Item {
    fn to_xml(&self, jid: &str) -> String {
        let subscription = match (self.to, self.from) {
            (true, true) => "both",
            (true, false) => "to",
            (false, true) => "from",
            (false, false) => "none",
        };
        let groups: String = self.groups.iter().map(|group| element("group", group)).collect();
        format!(
            "<item jid='{}'{} subscription='{subscription}'{}>{groups}</item>",
            esc(jid),
            attr("name", Some(self.name.as_str()).filter(|name| !name.is_empty())),
            attr("ask", self.asked.then_some("subscribe"))
        )
    }
}

impl World {
    /// Makes two accounts contacts of each other; `name` is what `owner` calls `contact`.
    pub fn befriend(&mut self, owner: &str, contact: &str, name: &str) -> Result<(), ServiceError> {
        let owner = self.resolve(owner)?;
        let contact = self.resolve(contact)?;
        let owner_name = self.person(&owner)?.account.name.clone();
        for (one, other, name) in [(&owner, &contact, name), (&contact, &owner, &owner_name)] {
            let roster = &mut self.person(one)?.roster;
            if roster.len() >= MAX_ROSTER {
                return Err(ServiceError::Full("roster"));
            }
            let item = Item { name: name.to_owned(), to: true, from: true, ..Item::default() };
            roster.insert(other.clone(), item);
            self.push(one, other);
        }
        for (one, other) in [(&owner, &contact), (&contact, &owner)] {
            for (from, presence) in self.presences_of(one) {
                self.show_to(other, &from, &presence);
            }
        }
        Ok(())
    }

    /// Answers a roster request.
    pub fn roster_get(&mut self, id: u64, request: &Node) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.interested = true;
        let account = session.account.clone();
        self.count(&account, |counters| counters.roster_gets += 1);
        let items: String = self
            .people
            .get(&account)
            .map(|person| person.roster.iter().map(|(jid, item)| item.to_xml(jid)).collect())
            .unwrap_or_default();
        let attrs = self.reply_attrs(id, request);
        self.send(id, format!("<iq type='result'{attrs}><query xmlns='{ROSTER}'>{items}</query></iq>"));
    }

    /// Answers a roster change: adding one new contact, from April 2012 on, and nothing else.
    pub fn roster_set(&mut self, id: u64, request: &Node, query: &Node) {
        let Some(account) = self.sessions.get(&id).map(|session| session.account.clone()) else { return };
        self.count(&account, |counters| counters.roster_sets += 1);
        let item = query.children.first().filter(|item| item.is("item", ROSTER) && query.children.len() == 1);
        let Some((item, contact)) = item.and_then(|item| Some((item, bare(item.attr("jid")?)))) else {
            self.refuse(id, request, "modify", "bad-request");
            return;
        };
        let Some(person) = self.people.get(&account) else { return };
        let new = !person.roster.contains_key(&contact) && item.attr("subscription").is_none_or(|it| it != "remove");
        if !new || !self.switches.is_april_2012() || contact == account {
            self.refuse(id, request, "cancel", "not-allowed");
        } else if !self.people.contains_key(&contact) {
            self.refuse(id, request, "cancel", "item-not-found");
        } else if person.roster.len() >= MAX_ROSTER {
            self.refuse(id, request, "wait", "resource-constraint");
        } else {
            let groups = item.children.iter().filter(|child| child.is("group", ROSTER));
            let groups = groups.take(16).map(|group| group.text.clone()).collect();
            let name = item.attr("name").unwrap_or_default().to_owned();
            if let Some(person) = self.people.get_mut(&account) {
                person.roster.insert(contact.clone(), Item { name, groups, ..Item::default() });
            }
            let attrs = self.reply_attrs(id, request);
            self.send(id, format!("<iq type='result'{attrs}/>"));
            self.push(&account, &contact);
        }
    }

    /// Tells an account's clients about one item of its roster.
    fn push(&mut self, account: &str, contact: &str) {
        let Some(item) = self.people.get(account).and_then(|person| person.roster.get(contact)) else { return };
        let item = item.to_xml(contact);
        let number = self.journal.len();
        for id in self.sessions_of(account) {
            let Some(session) = self.sessions.get(&id).filter(|session| session.interested) else { continue };
            let to = esc(&session.jid);
            let push =
                format!("<iq type='set' id='push-{number}' to='{to}'><query xmlns='{ROSTER}'>{item}</query></iq>");
            self.send(id, push);
        }
    }

    /// A subscription stanza between two accounts, with the asker's nickname where the release has that.
    pub fn subscription_xml(&self, from: &str, to: &str, kind: &str) -> String {
        let nick = self.people.get(from).map(|person| person.account.name.as_str());
        let nick = nick.filter(|_| kind == "subscribe" && self.switches.is_april_2012());
        let nick = nick.map_or_else(String::new, |nick| format!("<nick xmlns='{NICK}'>{}</nick>", esc(nick)));
        format!("<presence type='{kind}' from='{}' to='{}'>{nick}</presence>", esc(from), esc(to))
    }

    fn deliver_subscription(&mut self, from: &str, to: &str, kind: &str) {
        let stanza = self.subscription_xml(from, to, kind);
        for id in self.available_sessions(to) {
            self.send(id, stanza.clone());
        }
        self.tell_script(to, Event::Subscription { to: to.into(), from: from.into(), kind: kind.into() });
    }

    /// A client asks to see someone. Asking someone outside the roster is adding a contact.
    pub fn subscribe(&mut self, id: u64, account: &str, to: &str, stanza: &Node) {
        let contact = bare(to);
        let known = self.people.get(account).is_some_and(|person| person.roster.contains_key(&contact));
        let condition = if !self.people.contains_key(&contact) {
            "item-not-found"
        } else if !known && !self.switches.is_april_2012() {
            "not-allowed"
        } else {
            self.invite(account, &contact);
            return;
        };
        let reply = error_reply(stanza, Some(&contact), account, "cancel", condition);
        self.send(id, reply);
    }

    /// One account asks another; both exist.
    pub fn invite(&mut self, account: &str, contact: &str) {
        let Some(other) = self.people.get(contact) else { return };
        let name = other.account.name.clone();
        let granted = other.roster.get(account).is_some_and(|item| item.from);
        let Some(person) = self.people.get_mut(account) else { return };
        if account == contact || (person.roster.len() >= MAX_ROSTER && !person.roster.contains_key(contact)) {
            return;
        }
        let item = person.roster.entry(contact.to_owned()).or_insert_with(|| Item { name, ..Item::default() });
        if item.to || granted {
            item.to = true;
            self.push(account, contact);
            self.deliver_subscription(contact, account, "subscribed");
            return;
        }
        item.asked = true;
        self.push(account, contact);
        let Some(other) = self.people.get_mut(contact) else { return };
        if other.invitations.len() >= MAX_PENDING {
            return;
        }
        other.invitations.insert(account.to_owned());
        self.deliver_subscription(account, contact, "subscribe");
        self.accept_by_itself(contact);
    }

    /// A scripted contact that is there and welcoming accepts whoever asked, and asks back.
    pub fn accept_by_itself(&mut self, contact: &str) {
        let Some(person) = self.people.get(contact) else { return };
        if !person.welcoming || person.had_client || person.stage.status == Status::Offline {
            return;
        }
        for asker in person.invitations.clone() {
            self.subscribed(contact, &asker);
            if !self.people.get(contact).and_then(|it| it.roster.get(&asker)).is_some_and(|item| item.to) {
                self.invite(contact, &asker);
            }
        }
    }

    /// `by` lets `asker` see them. Without an invitation nothing happens.
    pub fn subscribed(&mut self, by: &str, asker: &str) {
        let Some(name) = self.people.get(asker).map(|person| person.account.name.clone()) else { return };
        let Some(person) = self.people.get_mut(by) else { return };
        if !person.invitations.remove(asker) {
            return;
        }
        person.roster.entry(asker.to_owned()).or_insert_with(|| Item { name, ..Item::default() }).from = true;
        self.push(by, asker);
        if let Some(item) = self.people.get_mut(asker).and_then(|person| person.roster.get_mut(by)) {
            item.to = true;
            item.asked = false;
        }
        self.push(asker, by);
        self.deliver_subscription(by, asker, "subscribed");
        for (from, presence) in self.presences_of(by) {
            self.show_to(asker, &from, &presence);
        }
    }

    /// `by` refuses `asker`, or no longer lets them see.
    pub fn unsubscribed(&mut self, by: &str, asker: &str) {
        self.part(asker, by, "unsubscribed", (by, asker));
    }

    /// `account` no longer wants to see `contact`.
    pub fn unsubscribe(&mut self, account: &str, contact: &str) {
        self.part(account, contact, "unsubscribe", (account, contact));
    }

    /// Ends that `watcher` sees `shown`, and tells the other side if that changed anything.
    fn part(&mut self, watcher: &str, shown: &str, kind: &str, (from, to): (&str, &str)) {
        let mut changed = false;
        if let Some(person) = self.people.get_mut(shown) {
            changed |= person.invitations.remove(watcher);
            changed |= person.roster.get_mut(watcher).is_some_and(|item| std::mem::take(&mut item.from));
        }
        if let Some(item) = self.people.get_mut(watcher).and_then(|person| person.roster.get_mut(shown)) {
            changed |= std::mem::take(&mut item.to) | std::mem::take(&mut item.asked);
        }
        if !changed {
            return;
        }
        self.push(watcher, shown);
        self.push(shown, watcher);
        self.deliver_subscription(from, to, kind);
        let gone = Presence { status: Status::Offline, text: String::new() };
        for (from, _) in self.presences_of(shown) {
            self.show_to(watcher, &from, &gone);
        }
    }
}

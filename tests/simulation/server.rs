//! An XMPP server as the bridge sees it: sessions with or without stream management, an archive or none, offline
//! storage, carbons, and the contacts at its other end.

use std::collections::VecDeque;

use messenger_bridge::domain::{
    BareJid, Timestamp,
    stream::{ConnectOrder, Management, StreamReport, StreamUp},
};
use minidom::Element;

use super::{
    config::Config,
    world::{Conn, wall},
};

pub const ACCOUNT: &str = "me@x.test";
/// Where files lie; what follows is the name.
pub const FILES: &str = "https://f.test/";
const UPLOAD: &str = "upload.x.test";

pub struct Session {
    pub id: String,
    resource: String,
    pub conn: Option<Conn>,
    pub dead: bool,
    available: bool,
    carbons: bool,
    /// Stanzas handled, stanzas sent, and those of them that were not acknowledged.
    pub handled: u32,
    sent: u32,
    pub unacked: VecDeque<(u32, Element)>,
    /// Counts detachments, so that an expiry knows whether it still applies.
    pub detached: u32,
}

struct Archived {
    id: u64,
    at: u64,
    own: bool,
    with: String,
    message: Element,
}

/// What a contact got.
pub struct Got {
    pub conn: Conn,
    pub id: String,
    pub body: String,
}

pub struct Contact {
    pub jid: String,
    pub on_roster: bool,
    pub got: Vec<Got>,
    pub show: u64,
}

pub struct Server {
    config: Config,
    pub sessions: Vec<Session>,
    archive: Vec<Archived>,
    offline: Vec<(u64, Element)>,
    pub contacts: Vec<Contact>,
    /// What goes out now: to which connection, what.
    pub out: Vec<(Conn, StreamReport)>,
    next: u64,
    pub violations: Vec<String>,
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What stands beside the text of a message: that it is a file, where it is one.
fn beside(body: &str) -> String {
    let oob = || format!("<x xmlns='jabber:x:oob'><url>{}</url></x>", escape(body));
    body.starts_with(FILES).then(oob).unwrap_or_default()
}

fn parse(xml: &str) -> Element {
    xml.parse().unwrap()
}

pub fn show_of(number: u64) -> (&'static str, bool) {
    match number % 4 {
        0 => ("", true),
        1 => ("<show>away</show>", true),
        2 => ("<show>dnd</show>", true),
        _ => ("", false),
    }
}

impl Server {
    pub fn new(config: Config, contacts: Vec<Contact>) -> Self {
        Self {
            config,
            sessions: Vec::new(),
            archive: Vec::new(),
            offline: Vec::new(),
            contacts,
            out: Vec::new(),
            next: 0,
            violations: Vec::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn session_of(&self, conn: Conn) -> Option<usize> {
        self.sessions.iter().position(|session| session.conn == Some(conn) && !session.dead)
    }

    fn push(&mut self, at: usize, stanza: Element) {
        let session = &mut self.sessions[at];
        session.sent += 1;
        if self.config.sm {
            session.unacked.push_back((session.sent, stanza.clone()));
        }
        if let Some(conn) = session.conn {
            self.out.push((conn, StreamReport::Stanza(Box::new(stanza))));
        }
    }

    /// Signs a connection in: resumes a session, or opens one.
    pub fn dial(&mut self, conn: Conn, order: &ConnectOrder, now: u64) {
        let mut failed_h = None;
        if let Some(resume) = &order.resume {
            let found = self.sessions.iter().position(|session| session.id == resume.id);
            if let Some(at) = found.filter(|at| !self.sessions[*at].dead) {
                let session = &mut self.sessions[at];
                session.conn = Some(conn);
                if resume.inbound > session.sent || session.sent - resume.inbound > session.unacked.len() as u32 {
                    self.violations.push(format!(
                        "resumed with h={} of {}, {} kept",
                        resume.inbound,
                        session.sent,
                        session.unacked.len()
                    ));
                }
                session.unacked.retain(|(number, _)| *number > resume.inbound);
                let up = self.up(at, Some(self.sessions[at].handled), None);
                self.out.push((conn, StreamReport::Up(Box::new(up))));
                for (_, stanza) in self.sessions[at].unacked.clone() {
                    self.out.push((conn, StreamReport::Stanza(Box::new(stanza))));
                }
                return;
            }
            failed_h = found.filter(|_| self.config.says_h).map(|at| self.sessions[at].handled);
        }
        for at in 0..self.sessions.len() {
            if self.sessions[at].resource == order.resource && !self.sessions[at].dead {
                self.end(at, now);
            }
        }
        let id = format!("s{}", self.number());
        self.sessions.push(Session {
            id,
            resource: order.resource.clone(),
            conn: Some(conn),
            dead: false,
            available: false,
            carbons: false,
            handled: 0,
            sent: 0,
            unacked: VecDeque::new(),
            detached: 0,
        });
        let up = self.up(self.sessions.len() - 1, None, failed_h);
        self.out.push((conn, StreamReport::Up(Box::new(up))));
    }

    fn up(&self, at: usize, resumed: Option<u32>, failed_h: Option<u32>) -> StreamUp {
        let session = &self.sessions[at];
        StreamUp {
            account: BareJid::parse(ACCOUNT).unwrap(),
            resource: session.resource.clone(),
            resumed,
            failed_h,
            management: self.config.sm.then(|| Management { id: Some(session.id.clone()), location: None }),
            max_bytes: None,
            roster_versioning: false,
            csi: true,
            keep: None,
            mechanism: "PLAIN".to_owned(),
        }
    }

    /// The server sees that a connection is gone. Gives the session that may still be resumed.
    pub fn noticed(&mut self, conn: Conn, now: u64) -> Option<usize> {
        let at = self.session_of(conn)?;
        if !self.config.sm {
            self.end(at, now);
            return None;
        }
        self.sessions[at].conn = None;
        self.sessions[at].detached += 1;
        Some(at)
    }

    /// A session is over: what nobody acknowledged goes where messages for absent people go.
    pub fn end(&mut self, at: usize, now: u64) {
        let session = &mut self.sessions[at];
        session.dead = true;
        session.conn = None;
        for (_, stanza) in std::mem::take(&mut session.unacked) {
            let said = stanza.name() == "message" && stanza.children().any(|child| child.name() == "body");
            if said {
                self.keep(stanza, now);
            }
        }
    }

    fn keep(&mut self, stanza: Element, now: u64) {
        if self.config.keeps_offline {
            self.offline.push((now, stanza));
        }
    }

    pub fn acknowledged(&mut self, conn: Conn, h: u32) {
        if let Some(at) = self.session_of(conn) {
            let session = &mut self.sessions[at];
            if h > session.sent {
                self.violations.push(format!("acknowledged {h} of {}", session.sent));
            }
            session.unacked.retain(|(number, _)| *number > h);
        }
    }

    fn archived(&mut self, own: bool, with: &str, message: &Element, now: u64) -> Option<u64> {
        if !self.config.archive && !self.config.messenger {
            return None;
        }
        let id = self.number();
        let with = with.to_owned();
        self.archive.push(Archived { id, at: now, own, with, message: message.clone() });
        Some(id)
    }

    /// A contact writes to the account.
    pub fn contact_says(&mut self, contact: usize, body: &str, now: u64) {
        let jid = self.contacts[contact].jid.clone();
        let id = if self.config.messenger { String::new() } else { format!(" id='c{}'", self.number()) };
        let xml = format!(
            "<message xmlns='jabber:client' from='{jid}/phone' to='{ACCOUNT}' type='chat'{id}><body>{}</body>{}</message>",
            escape(body),
            beside(body)
        );
        let mut message = parse(&xml);
        if let (Some(id), true) = (self.archived(false, &jid, &message, now), self.config.archive) {
            message.append_child(parse(&format!("<stanza-id xmlns='urn:xmpp:sid:0' by='{ACCOUNT}' id='a{id}'/>")));
        }
        let targets: Vec<usize> =
            (0..self.sessions.len()).filter(|at| !self.sessions[*at].dead && self.sessions[*at].available).collect();
        if targets.is_empty() {
            self.keep(message, now);
            return;
        }
        for at in targets {
            self.push(at, message.clone());
        }
    }

    /// The person writes to a contact from another device.
    pub fn device_says(&mut self, contact: usize, body: &str, now: u64) {
        let jid = self.contacts[contact].jid.clone();
        let xml = format!(
            "<message xmlns='jabber:client' from='{ACCOUNT}/desk' to='{jid}' type='chat' id='d{}'><body>{}</body>{}</message>",
            self.number(),
            escape(body),
            beside(body)
        );
        let mut message = parse(&xml);
        let id = self.archived(true, &jid, &message, now);
        if let (Some(id), true, true) = (id, self.config.archive, self.config.carbon_ids) {
            message.append_child(parse(&format!("<stanza-id xmlns='urn:xmpp:sid:0' by='{ACCOUNT}' id='a{id}'/>")));
        }
        for at in 0..self.sessions.len() {
            if self.sessions[at].carbons && !self.sessions[at].dead {
                let mut carbon = parse(&format!("<message xmlns='jabber:client' from='{ACCOUNT}' type='chat'/>"));
                let mut sent = Element::bare("sent", "urn:xmpp:carbons:2");
                let mut forwarded = Element::bare("forwarded", "urn:xmpp:forward:0");
                forwarded.append_child(message.clone());
                sent.append_child(forwarded);
                carbon.append_child(sent);
                self.push(at, carbon);
            }
        }
    }

    fn presence_of(&self, contact: usize) -> Element {
        let (show, there) = show_of(self.contacts[contact].show);
        let kind = if there { "" } else { " type='unavailable'" };
        let jid = &self.contacts[contact].jid;
        parse(&format!("<presence xmlns='jabber:client' from='{jid}/phone' to='{ACCOUNT}'{kind}>{show}</presence>"))
    }

    pub fn contact_changes(&mut self, contact: usize, show: u64) {
        self.contacts[contact].show = show;
        if !self.contacts[contact].on_roster {
            return;
        }
        let stanza = self.presence_of(contact);
        for at in 0..self.sessions.len() {
            if self.sessions[at].available && !self.sessions[at].dead {
                self.push(at, stanza.clone());
            }
        }
    }

    /// The bridge's stanza.
    pub fn receive(&mut self, conn: Conn, stanza: &Element, now: u64) {
        let Some(at) = self.session_of(conn) else { return };
        self.sessions[at].handled += 1;
        match stanza.name() {
            "message" => self.relay(conn, stanza, now),
            "presence" if stanza.attr("to").is_none() => {
                let there = stanza.attr("type").is_none();
                let first = there && !self.sessions[at].available;
                self.sessions[at].available = there;
                if first {
                    for (when, mut kept) in std::mem::take(&mut self.offline) {
                        let stamp = wall(when).to_xmpp();
                        kept.append_child(parse(&format!("<delay xmlns='urn:xmpp:delay' stamp='{stamp}'/>")));
                        self.push(at, kept);
                    }
                    for contact in 0..self.contacts.len() {
                        if self.contacts[contact].on_roster && show_of(self.contacts[contact].show).1 {
                            let stanza = self.presence_of(contact);
                            self.push(at, stanza);
                        }
                    }
                }
            }
            "iq" if matches!(stanza.attr("type"), Some("get" | "set")) => self.question(at, stanza),
            _ => {}
        }
    }

    fn relay(&mut self, conn: Conn, stanza: &Element, now: u64) {
        let to = stanza.attr("to").unwrap_or_default().to_owned();
        let Some(body) = stanza.children().find(|child| child.name() == "body").map(Element::text) else { return };
        let mut stored = stanza.clone();
        let name = minidom::rxml::NcName::try_from("from").unwrap();
        stored.set_attr(minidom::rxml::Namespace::NONE, name, ACCOUNT);
        self.archived(true, &to, &stored, now);
        let id = stanza.attr("id").unwrap_or_default().to_owned();
        if let Some(contact) = self.contacts.iter_mut().find(|contact| contact.jid == to) {
            contact.got.push(Got { conn, id, body });
        }
    }

    fn question(&mut self, at: usize, iq: &Element) {
        let id = escape(iq.attr("id").unwrap_or_default());
        let from = iq.attr("to").map(|to| format!(" from='{to}'")).unwrap_or_default();
        let Some(payload) = iq.children().next() else { return };
        let head = format!("<iq xmlns='jabber:client' type='result' id='{id}'{from}>");
        let answer = match (payload.name(), payload.ns().as_str()) {
            ("query", "jabber:iq:roster") => {
                let items: String = self
                    .contacts
                    .iter()
                    .filter(|contact| contact.on_roster)
                    .map(|contact| format!("<item jid='{}' subscription='both'/>", contact.jid))
                    .collect();
                format!("{head}<query xmlns='jabber:iq:roster'>{items}</query></iq>")
            }
            ("query", "http://jabber.org/protocol/disco#info") => {
                let mut features = "<feature var='urn:xmpp:carbons:2'/>".to_owned();
                if self.config.archive && iq.attr("to") == Some(ACCOUNT) {
                    features.push_str("<feature var='urn:xmpp:mam:2'/>");
                }
                if iq.attr("to") == Some(UPLOAD) {
                    features.push_str("<feature var='urn:xmpp:http:upload:0'/>");
                }
                format!("{head}<query xmlns='http://jabber.org/protocol/disco#info'>{features}</query></iq>")
            }
            ("query", "http://jabber.org/protocol/disco#items") => format!(
                "{head}<query xmlns='http://jabber.org/protocol/disco#items'><item jid='muc.x.test'/><item jid='{UPLOAD}'/></query></iq>"
            ),
            ("request", "urn:xmpp:http:upload:0") => {
                let name = escape(payload.attr("filename").unwrap_or_default());
                let slot = format!("<put url='{FILES}{name}'/><get url='{FILES}{name}'/>");
                format!("{head}<slot xmlns='urn:xmpp:http:upload:0'>{slot}</slot></iq>")
            }
            ("query", "urn:xmpp:mam:2") => {
                let fin = self.search(at, payload);
                format!("{head}{fin}</iq>")
            }
            ("retrieve", "urn:xmpp:archive") => {
                let chat = self.recent(payload.attr("with").unwrap_or_default());
                format!("{head}{chat}</iq>")
            }
            ("enable", "urn:xmpp:carbons:2") => {
                self.sessions[at].carbons = true;
                format!("{head}</iq>")
            }
            ("ping", _) => format!("{head}</iq>"),
            _ => format!(
                "<iq xmlns='jabber:client' type='error' id='{id}'{from}><error type='cancel'>\
                 <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
            ),
        };
        self.push(at, parse(&answer));
    }

    /// XEP-0313: sends a page, and gives its `<fin/>`.
    fn search(&mut self, at: usize, query: &Element) -> String {
        let mut with = None;
        let mut start = None;
        for field in query.children().filter(|c| c.name() == "x").flat_map(Element::children) {
            let value = field.children().next().map(Element::text).unwrap_or_default();
            match field.attr("var") {
                Some("with") => with = Some(value),
                Some("start") => start = Timestamp::parse(&value),
                _ => {}
            }
        }
        let set = query.children().find(|c| c.name() == "set").unwrap();
        let of = |name: &str| set.children().find(|c| c.name() == name).map(Element::text);
        let most: usize = of("max").and_then(|max| max.parse().ok()).unwrap_or(10);
        let after: Option<u64> = of("after").and_then(|after| after.strip_prefix('a')?.parse().ok());
        let newest = of("before").is_some();
        let fits: Vec<usize> = (0..self.archive.len())
            .filter(|row| {
                let row = &self.archive[*row];
                with.as_ref().is_none_or(|with| row.with == *with)
                    && start.is_none_or(|start| wall(row.at) >= start)
                    && after.is_none_or(|after| row.id > after)
            })
            .collect();
        // A small page, so that several are needed.
        let most = most.min(if newest { 50 } else { 3 });
        let complete = fits.len() <= most;
        let page: Vec<usize> = if newest {
            fits[fits.len().saturating_sub(most)..].to_vec()
        } else {
            fits.into_iter().take(most).collect()
        };
        let query_id = query.attr("queryid").unwrap_or_default().to_owned();
        let mut last = String::new();
        for row in page {
            let row = &self.archive[row];
            let mut result = parse(&format!(
                "<message xmlns='jabber:client' from='{ACCOUNT}'><result xmlns='urn:xmpp:mam:2' queryid='{query_id}' id='a{}'>\
                 <forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='{}'/></forwarded></result></message>",
                row.id,
                wall(row.at).to_xmpp()
            ));
            result
                .get_child_mut("result", "urn:xmpp:mam:2")
                .and_then(|result| result.get_child_mut("forwarded", "urn:xmpp:forward:0"))
                .unwrap()
                .append_child(row.message.clone());
            last = format!("<last>a{}</last>", row.id);
            self.push(at, result);
        }
        format!(
            "<fin xmlns='urn:xmpp:mam:2' complete='{complete}'><set xmlns='http://jabber.org/protocol/rsm'>{last}</set></fin>"
        )
    }

    /// XEP-0136: the last ten messages with a contact.
    fn recent(&self, with: &str) -> String {
        let rows: Vec<&Archived> = self.archive.iter().filter(|row| row.with == with).collect();
        let rows = &rows[rows.len().saturating_sub(10)..];
        let start = wall(rows.first().map_or(0, |row| row.at)).to_xmpp();
        let mut chat = format!("<chat xmlns='urn:xmpp:archive' with='{with}' start='{start}'>");
        for row in rows {
            let name = if row.own { "to" } else { "from" };
            let body = row.message.children().find(|c| c.name() == "body").map(Element::text).unwrap_or_default();
            chat.push_str(&format!("<{name} utc='{}'><body>{}</body></{name}>", wall(row.at).to_xmpp(), escape(&body)));
        }
        chat + "</chat>"
    }

    /// When each archived message was said, by its text.
    pub fn said_at(&self) -> impl Iterator<Item = (String, u64)> {
        self.archive.iter().map(|row| {
            (row.message.children().find(|c| c.name() == "body").map(Element::text).unwrap_or_default(), row.at)
        })
    }
}

//! Requests: the few that the service knows; anything else is `service-unavailable`.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::archive::ARCHIVE;
use super::roster::ROSTER;
use super::wire::{Node, bare, element, error_reply, esc};
use super::world::World;

const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
const PING: &str = "urn:xmpp:ping";
const VCARD: &str = "vcard-temp";
const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// The look-up of a JID by e-mail address.
pub const JID_LOOKUP: &str = "http://messenger.live.com/xmpp/jidlookup";

/// What is to become of the stream after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It goes on.
    Goes,
    /// The server's parser broke on the request.
    Breaks,
}

impl World {
    /// A client's IQ.
    pub fn iq(&mut self, id: u64, request: &Node) -> After {
        let kind = request.attr("type").unwrap_or_default();
        if kind == "result" || kind == "error" {
            return After::Goes;
        }
        let Some(account) = self.sessions.get(&id).map(|session| session.account.clone()) else { return After::Goes };
        let (get, set) = (kind == "get", kind == "set");
        let query = match request.children.as_slice() {
            [query] if get || set => query,
            _ => {
                self.refuse(id, request, "modify", "bad-request");
                return After::Goes;
            }
        };
        let to = request.attr("to").unwrap_or_default();
        let own = to.is_empty() || bare(to) == account;
        let server = own || to == self.domain;
        match (query.ns.as_str(), query.name.as_str()) {
            (SESSION, "session") if set && server => self.result(id, request, ""),
            (PING, "ping") if get && server => {
                self.count(&account, |counters| counters.pings += 1);
                self.result(id, request, "");
            }
            (ROSTER, "query") if get && own => self.roster_get(id, request),
            (ROSTER, "query") if set && own => self.roster_set(id, request, query),
            (DISCO_INFO, "query") if get && server => self.disco_info(id, request),
            (VCARD, "vCard") if get => self.vcard(id, request, if to.is_empty() { &account } else { to }),
            // What killed the stream is not recorded; a photo brings the stanza near the size that broke the parser.
            (VCARD, "vCard") if set && own && query.child("PHOTO", VCARD).is_some() => return After::Breaks,
            (VCARD, "vCard") if set && own => self.refuse(id, request, "cancel", "not-allowed"),
            (ARCHIVE, "retrieve" | "list") if get && server && self.switches.has_archive() => {
                self.archive_request(id, request, query);
            }
            (JID_LOOKUP, "getjid") if get && self.switches.is_april_2012() => self.get_jid(id, request, to),
            _ => self.refuse(id, request, "cancel", "service-unavailable"),
        }
        After::Goes
    }

    /// Answers with an error.
    pub fn refuse(&mut self, id: u64, request: &Node, kind: &str, condition: &str) {
        let Some(session) = self.sessions.get(&id) else { return };
        let reply = error_reply(request, self.reply_from(id, request).as_deref(), &session.jid, kind, condition);
        self.send(id, reply);
    }

    fn result(&mut self, id: u64, request: &Node, inside: &str) {
        let attrs = self.reply_attrs(id, request);
        self.send(id, format!("<iq type='result'{attrs}>{inside}</iq>"));
    }

    fn disco_info(&mut self, id: u64, request: &Node) {
        let mut features = vec![DISCO_INFO, PING, VCARD, "http://jabber.org/protocol/chatstates"];
        if self.switches.is_april_2012() {
            features.extend([JID_LOOKUP, "http://jabber.org/protocol/nick"]);
        }
        if self.switches.has_archive() {
            features.push(ARCHIVE);
        }
        let features = features.join("'/><feature var='");
        let identity = "<identity category='server' type='im' name='Messenger'/>";
        self.result(id, request, &format!("<query xmlns='{DISCO_INFO}'>{identity}<feature var='{features}'/></query>"));
    }

    fn vcard(&mut self, id: u64, request: &Node, of: &str) {
        if let Some(account) = self.sessions.get(&id).map(|session| session.account.clone()) {
            self.count(&account, |counters| counters.vcard_gets += 1);
        }
        let Some(vcard) = self.people.get(&bare(of)).map(|person| person.vcard.clone()) else {
            self.refuse(id, request, "cancel", "item-not-found");
            return;
        };
        let photo = vcard
            .photo
            .map(|photo| format!("<PHOTO><TYPE>image/png</TYPE><BINVAL>{}</BINVAL></PHOTO>", STANDARD.encode(photo)));
        let names = element("FN", &vcard.full_name) + &element("NICKNAME", &vcard.nickname);
        self.result(id, request, &format!("<vCard xmlns='{VCARD}'>{names}{}</vCard>", photo.unwrap_or_default()));
    }

    fn get_jid(&mut self, id: u64, request: &Node, email: &str) {
        match self.resolve(email) {
            Ok(jid) if !email.is_empty() => {
                let jid = esc(&jid);
                self.result(id, request, &format!("<getjid xmlns='{JID_LOOKUP}'><jid>{jid}</jid></getjid>"));
            }
            _ => self.refuse(id, request, "cancel", "item-not-found"),
        }
    }
}

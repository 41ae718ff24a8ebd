"""An XMPP contact: slixmpp, told by JSON lines what to do (see driver.py)."""

import asyncio
import base64
import datetime
import hashlib
import io
import sys
import warnings
import xml.etree.ElementTree as ET

import aiohttp
import driver
import slixmpp
from slixmpp import JID
from slixmpp.exceptions import XMPPError
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath

warnings.filterwarnings("ignore", category=DeprecationWarning)

CLIENT = "{jabber:client}"
STATES = "{http://jabber.org/protocol/chatstates}"
PLUGINS = ["xep_0030", "xep_0054", "xep_0059", "xep_0066", "xep_0085", "xep_0092", "xep_0115", "xep_0172", "xep_0184", "xep_0198",
           "xep_0199", "xep_0203", "xep_0224", "xep_0231", "xep_0280", "xep_0297", "xep_0308", "xep_0313", "xep_0333", "xep_0359",
           "xep_0363", "xep_0424", "xep_0428", "xep_0444", "xep_0461", "xep_0084", "xep_0163", "xep_0292", "xep_0319"]
# What a client of about 2010 knew.
OLD_PLUGINS = ["xep_0030", "xep_0054", "xep_0059", "xep_0071", "xep_0085", "xep_0115", "xep_0199", "xep_0203"]


def text_of(xml, tag):
    child = xml.find(CLIENT + tag)
    return None if child is None else (child.text or "")


def describe_message(xml):
    """What a test asks of a message most often; `xml` holds the rest."""
    state = next((child.tag[len(STATES):] for child in xml if child.tag.startswith(STATES)), None)
    delay = xml.find("{urn:xmpp:delay}delay")
    receipt = xml.find("{urn:xmpp:receipts}received")
    oob = xml.find("{jabber:x:oob}x/{jabber:x:oob}url")
    error = xml.find(CLIENT + "error")
    condition = None
    if error is not None:
        condition = next((child.tag.split("}")[1] for child in error if child.tag.endswith("}text") is False), None)
    return {
        "from": xml.get("from"), "to": xml.get("to"), "id": xml.get("id"), "type": xml.get("type"),
        "body": text_of(xml, "body"), "chat_state": state, "stamp": None if delay is None else delay.get("stamp"),
        "oob": None if oob is None else oob.text,
        "receipt_for": None if receipt is None else receipt.get("id"), "error": condition,
        "xml": ET.tostring(xml, encoding="unicode"),
    }


class Slix:
    def __init__(self):
        self.xmpp = None
        self.how = {}
        self.keeping = None
        self.online = asyncio.Event()
        self.lost = asyncio.Event()
        self.saying = asyncio.Lock()

    async def do_connect(self, jid, password, host, port, ca, direct_tls=False, mechanism=None, presence=True,
                         stay=False, old=False):
        """Signs in; with `stay`, again whenever the connection is lost."""
        self.how = {"jid": jid, "password": password, "host": host, "port": port, "ca": ca, "direct_tls": direct_tls,
                    "mechanism": mechanism, "presence": presence, "old": old}
        answer = await self.sign_in(**self.how)
        if stay:
            self.keeping = asyncio.create_task(self.keep())
        return answer

    async def keep(self):
        while True:
            await self.lost.wait()
            self.online.clear()
            try:
                await self.sign_in(**self.how)
            except Exception:  # a server that restarts
                self.xmpp.cancel_connection_attempt()
                self.xmpp.abort()
                self.lost.set()
                await asyncio.sleep(0.2)

    async def sign_in(self, jid, password, host, port, ca, direct_tls, mechanism, presence, old):
        xmpp = self.xmpp = slixmpp.ClientXMPP(jid, password, sasl_mech=mechanism)
        lost = self.lost = asyncio.Event()
        xmpp.ca_certs = ca
        xmpp.enable_direct_tls, xmpp.enable_starttls, xmpp.enable_plaintext = direct_tls, not direct_tls, False
        xmpp.auto_authorize, xmpp.auto_subscribe = None, False
        for plugin in OLD_PLUGINS if old else PLUGINS:
            xmpp.register_plugin(plugin)
        xmpp.register_handler(Callback("driver messages", StanzaPath("message"), self.on_message))
        xmpp.register_handler(Callback("driver presences", StanzaPath("presence"), self.on_presence))
        ready = asyncio.get_running_loop().create_future()

        def done(error=None):
            if not ready.done():
                ready.set_exception(error) if error else ready.set_result(None)

        xmpp.add_event_handler("session_start", lambda _: done())
        xmpp.add_event_handler("failed_all_auth", lambda _: done(PermissionError("not authorized")))
        xmpp.add_event_handler("connection_failed", lambda why: done(ConnectionError(str(why))))
        xmpp.add_event_handler("ssl_invalid_chain", lambda why: done(ConnectionError(str(why))))
        xmpp.add_event_handler("disconnected", lambda why: driver.emit("disconnected", why=str(why)))
        xmpp.add_event_handler("disconnected", lambda why: done(ConnectionError(str(why))))
        xmpp.add_event_handler("disconnected", lambda why: lost.set())
        xmpp.connect(host, port)
        await ready
        roster = await self.do_roster()
        if old:  # None of the old plugins does it of itself.
            await xmpp.plugin["xep_0115"].update_caps(broadcast=False)
        if presence:
            await self.do_presence()
        self.online.set()
        return {"jid": str(xmpp.boundjid), "roster": roster}

    def on_message(self, message):
        if message.xml.find("{urn:xmpp:mam:2}result") is None:
            driver.emit("message", **describe_message(message.xml))

    def on_presence(self, presence):
        xml = presence.xml
        driver.emit("presence", **{"from": xml.get("from")}, type=xml.get("type", "available"),
                    show=text_of(xml, "show"), status=text_of(xml, "status"), priority=text_of(xml, "priority"),
                    xml=ET.tostring(xml, encoding="unicode"))

    async def do_disconnect(self):
        await self.xmpp.disconnect()

    async def do_abort(self):
        """Cuts the connection without a word."""
        self.xmpp.abort()

    async def do_presence(self, show=None, status=None, priority=None, type=None, to=None):
        self.xmpp.send_presence(pshow=show, pstatus=status, ppriority=priority, ptype=type, pto=to)

    async def do_idle(self, since):
        """Presence of somebody who has not used their client since then (XEP-0082)."""
        presence = self.xmpp.make_presence()
        presence["idle"]["since"] = datetime.datetime.fromisoformat(since)
        presence.send()

    async def do_nick(self, nick):
        """Publishes a nickname (XEP-0172)."""
        await self.xmpp["xep_0172"].publish_nick(nick)

    async def do_avatar(self, picture=None, mime="image/png"):
        """Publishes an avatar (XEP-0084), base64, or that there is none any more. Returns its SHA-1 in hex."""
        if picture is None:
            await self.xmpp["xep_0084"].stop()
            return None
        data = base64.b64decode(picture)
        await self.xmpp["xep_0084"].publish_avatar(data)
        sha1 = hashlib.sha1(data).hexdigest()
        await self.xmpp["xep_0084"].publish_avatar_metadata({"id": sha1, "type": mime, "bytes": len(data)})
        return sha1

    async def do_vcard4(self, full_name):
        """Publishes a vCard4 (XEP-0292)."""
        await self.xmpp["xep_0292"].publish_vcard(full_name=full_name, node="urn:xmpp:vcard4")

    async def do_pep(self, jid, node):
        """The newest item of a node, as XML; null if there is none."""
        try:
            answer = await self.xmpp["xep_0060"].get_items(JID(jid), node, max_items=1)
        except XMPPError as error:
            if error.condition in ("item-not-found", "forbidden", "service-unavailable"):
                return None
            raise
        item = answer.xml.find(".//{http://jabber.org/protocol/pubsub}item")
        return None if item is None else ET.tostring(item, encoding="unicode")

    async def do_vcard_of(self, jid=None):
        """A vCard (XEP-0054) as XML."""
        answer = await self.xmpp["xep_0054"].get_vcard(JID(jid) if jid else None)
        return ET.tostring(answer.xml, encoding="unicode")

    async def do_subscribe(self, jid):
        self.xmpp.send_presence_subscription(pto=JID(jid), ptype="subscribe")

    async def do_accept(self, jid):
        self.xmpp.send_presence_subscription(pto=JID(jid), ptype="subscribed")

    async def do_deny(self, jid):
        self.xmpp.send_presence_subscription(pto=JID(jid), ptype="unsubscribed")

    async def do_roster(self):
        # Not get_roster, whose answer is empty when the server knows that nothing changed (roster versioning).
        answer = await self.xmpp.make_iq_get(queryxmlns="jabber:iq:roster").send()
        query = answer.xml.find("{jabber:iq:roster}query")
        items = [] if query is None else query
        return {item.get("jid"): {"name": item.get("name"), "subscription": item.get("subscription"),
                                  "ask": item.get("ask")} for item in items}

    async def do_roster_set(self, jid, name=None, groups=()):
        await self.xmpp.update_roster(JID(jid), name=name, groups=list(groups))

    async def do_roster_remove(self, jid):
        await self.xmpp.del_roster_item(JID(jid))

    async def do_send(self, to, body=None, type="chat", id=None, extra=()):
        """A message; `extra` are further children as XML text."""
        message = self.xmpp.make_message(mto=JID(to), mbody=body, mtype=type)
        if id:
            message["id"] = id
        for child in extra:
            message.xml.append(ET.fromstring(child))
        message.send()
        return message["id"]

    async def do_say_surely(self, to, body, name):
        """A message that the server has for certain once this returns. After a lost connection it is said again, unless
        the own archive has it. `name` is the stanza's id. Needs `stay`."""
        tried = False
        async with self.saying:
            while True:
                await self.online.wait()
                try:
                    if tried and any(message["id"] == name for message in await self.do_archive(to)):
                        return
                    tried = True
                    await self.do_send(to, body, id=name)
                    if await self.confirmed():
                        return
                except (XMPPError, ConnectionError, asyncio.TimeoutError):
                    await asyncio.sleep(0.2)

    async def confirmed(self):
        """Whether the server has read all that was sent on this connection; false if the connection is lost."""
        ping = asyncio.ensure_future(self.xmpp["xep_0199"].send_ping(JID(self.xmpp.boundjid.host), timeout=20))
        lost = asyncio.ensure_future(self.lost.wait())
        done, _ = await asyncio.wait({ping, lost}, return_when=asyncio.FIRST_COMPLETED)
        for one in (ping, lost):
            one.cancel()
        return ping in done and ping.exception() is None

    async def do_chat_state(self, to, state):
        return await self.do_send(to, extra=[f"<{state} xmlns='http://jabber.org/protocol/chatstates'/>"])

    async def do_upload(self, name, mime, content):
        data = driver.content_of(content)
        upload = self.xmpp["xep_0363"].upload_file
        url = await upload(name, size=len(data), content_type=mime, input_file=io.BytesIO(data))
        return {"url": url, **driver.describe(data, mime)}

    async def do_share(self, to, name, mime, content):
        """Uploads a file and sends its address, as clients do: as the body and as XEP-0066's."""
        uploaded = await self.do_upload(name, mime, content)
        message = self.xmpp.make_message(mto=JID(to), mbody=uploaded["url"], mtype="chat")
        message["oob"]["url"] = uploaded["url"]
        message.send()
        return {"id": message["id"], **uploaded}

    async def do_keep_bit(self, mime, content):
        """Keeps a bit of binary for whoever asks for it (XEP-0231); gives its name."""
        return await self.xmpp["xep_0231"].set_bob(driver.content_of(content), mime)

    async def do_fetch(self, url):
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            data = await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} {data[:200]}")
            return driver.describe(data, answer.content_type)

    async def do_raw(self, xml):
        self.xmpp.send_raw(xml)

    async def do_iq(self, type, payload, to=None):
        """Asks something, the payload as XML text; gives the answer as XML text."""
        iq = self.xmpp.make_iq(itype=type, ito=to)
        iq.xml.append(ET.fromstring(payload))
        answer = await iq.send(timeout=3600)  # the test has the deadline
        return ET.tostring(answer.xml, encoding="unicode")

    async def do_ping(self, to=None):
        """A server answers in order: once this returns, all that was sent before has been handled."""
        await self.xmpp["xep_0199"].send_ping(JID(to or self.xmpp.boundjid.host), timeout=3600)  # the test has the deadline

    async def do_archive(self, contact=None):
        """All that the own archive holds, oldest first."""
        found = []
        query = {"with_jid": JID(contact)} if contact else {}
        async for message in self.xmpp["xep_0313"].iterate(**query):
            forwarded = message.xml.find(".//{urn:xmpp:forward:0}forwarded")
            described = describe_message(forwarded.find(CLIENT + "message"))
            described["stamp"] = forwarded.find("{urn:xmpp:delay}delay").get("stamp")
            described["archive_id"] = message.xml.find("{urn:xmpp:mam:2}result").get("id")
            found.append(described)
        return found

    async def do_vcard(self, nickname=None, full_name=None, photo=None, photo_type="image/png"):
        """Sets the own vCard; `photo` is base64. Returns the photo's SHA-1 in hex."""
        vcard = self.xmpp["xep_0054"].make_vcard()
        if nickname:
            vcard["NICKNAME"] = nickname
        if full_name:
            vcard["FN"] = full_name
        data = base64.b64decode(photo) if photo else None
        if data:
            vcard["PHOTO"]["TYPE"], vcard["PHOTO"]["BINVAL"] = photo_type, data
        await self.xmpp["xep_0054"].publish_vcard(vcard)
        await self.do_presence()
        return hashlib.sha1(data).hexdigest() if data else None


asyncio.run(driver.obey(Slix()))

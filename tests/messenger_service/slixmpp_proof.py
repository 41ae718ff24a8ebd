"""slixmpp as a client of the loopback Messenger service.

Called with one argument, a JSON object: host, port, ca, token, jid, contact, roster_name, redirected.
Signs in with the token over STARTTLS with the certificate checked, reads the roster and a vCard, sees the contact's
presence and an offline message, types, writes, sees the contact type, and gets its answer. Exits 0 only when all of
that was seen.
"""
import asyncio
import json
import sys

import slixmpp

LIMIT = 20


class Client(slixmpp.ClientXMPP):
    def __init__(self, config):
        # The localpart is the service's choice: this one is overridden at bind.
        super().__init__("whoever@messenger.live.com/proof", "")
        self.config = config
        self.credentials["access_token"] = config["token"]
        self.plugin["feature_mechanisms"].use_mech = "X-MESSENGER-OAUTH2"
        self.ca_certs = config["ca"]
        self.enable_direct_tls = False
        self.enable_plaintext = False
        for plugin in ("xep_0030", "xep_0054", "xep_0085", "xep_0199", "xep_0203"):
            self.register_plugin(plugin)
        self.redirects = 0
        self.seen = {}
        for name in ("session", "presence", "offline", "typing", "answer"):
            self.seen[name] = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", lambda _: self.see("session", True))
        self.add_event_handler("changed_status", self.on_presence)
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("chatstate_composing", lambda message: self.see("typing", message["from"].bare))
        self.add_event_handler("stream_error", self.on_stream_error)
        self.add_event_handler("failed_auth", lambda _: self.fail("the token was refused"))
        self.add_event_handler("ssl_invalid_chain", lambda _: self.fail("the certificate was refused"))

    def see(self, name, value):
        if not self.seen[name].done():
            self.seen[name].set_result(value)

    def fail(self, why):
        for future in self.seen.values():
            if not future.done():
                future.set_exception(RuntimeError(why))

    def on_stream_error(self, error):
        # slixmpp follows redirects by itself, but not when it was given an address to connect to.
        if error["condition"] == "see-other-host":
            host, port = error["see_other_host"].rsplit(":", 1)
            self.custom_address = (host, int(port))
            self.redirects += 1

    def on_presence(self, presence):
        if presence["from"].bare == self.config["contact"]:
            self.see("presence", (presence["show"], presence["status"]))

    def on_message(self, message):
        if message["type"] != "chat" or not message["body"]:
            return
        if message["delay"]["stamp"]:
            self.see("offline", message["body"])
        else:
            self.see("answer", message["body"])

    async def until(self, name):
        return await asyncio.wait_for(self.seen[name], LIMIT)


def same(what, got, expected):
    if got != expected:
        raise RuntimeError(f"{what}: got {got!r}, expected {expected!r}")
    print(f"{what}: {got!r}", flush=True)


async def main(config):
    client = Client(config)
    client.connect(config["host"], config["port"])
    contact = config["contact"]
    await client.until("session")
    same("own JID", client.boundjid.full, config["jid"] + "/proof")
    same("redirects", client.redirects, int(config["redirected"]))
    roster = await client.get_roster()
    items = {str(jid): (item["name"], item["subscription"]) for jid, item in roster["roster"]["items"].items()}
    same("roster", items, {contact: (config["roster_name"], "both")})
    info = await client.plugin["xep_0030"].get_info(jid="messenger.live.com")
    jid_lookup = "http://messenger.live.com/xmpp/jidlookup"
    same("feature", jid_lookup in info["disco_info"]["features"], True)
    vcard = await client.plugin["xep_0054"].get_vcard(contact)
    same("vCard", vcard["vcard_temp"]["NICKNAME"], ["Heron"])

    client.send_presence(pshow="away", pstatus="slixmpp is here")
    same("presence", await client.until("presence"), ("away", "among the reeds"))
    same("offline message", await client.until("offline"), "while you were away")

    typing = client.make_message(mto=contact, mtype="chat")
    typing["chat_state"] = "composing"
    typing.send()
    client.send_message(mto=contact, mbody="Hello, größe ☃", mtype="chat")
    same("typing", await client.until("typing"), contact)
    same("answer", await client.until("answer"), "You said: Hello, größe ☃")
    await client.plugin["xep_0199"].send_ping("messenger.live.com", timeout=LIMIT)
    await client.disconnect()
    print("all seen", flush=True)


asyncio.run(asyncio.wait_for(main(json.loads(sys.argv[1])), 3 * LIMIT))

"""What happens in the demo, step by step. A step passes when both sides saw what had to be seen, and not before.

What is seen on the Matrix side comes from the homeserver's /sync, as in Element; what is seen on the Messenger side is what
the Messenger service delivered to its contacts.
"""

import asyncio
import datetime
import html.parser
import re
import secrets
import time
import urllib.parse

from person import Person
from processes import Broken
from servers import DOMAIN, Bridge, Messenger, Synapse

CONTACTS = 5
EMAIL = "you@messenger.example"
BOT = f"@messengerbot:{DOMAIN}"
PNG = b"\x89PNG\r\n\x1a\n"


class SignInPage(html.parser.HTMLParser):
    """The form of a page: where it goes, and its fields."""

    def __init__(self, text):
        super().__init__()
        self.action, self.fields = None, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form":
            self.action = attributes.get("action", "")
        elif tag == "input":
            self.fields.append(attributes.get("name"))


class Story:
    def __init__(self, screen, http, folder, patience):
        self.screen, self.http, self.patience = screen, http, patience
        self.messenger, self.synapse = Messenger(folder), Synapse(folder)
        self.bridge = Bridge(folder, self.synapse.address)
        self.person = Person(http, self.synapse.address)
        self.password, self.messenger_password = f"demo-{secrets.token_hex(4)}", secrets.token_hex(8)
        self.steps = []  # (title, seconds)
        self.contacts = {}  # bare JID -> name
        self.rooms, self.ghosts = {}, {}  # name -> room, ghost

    @property
    def processes(self):
        """In the order in which they are stopped."""
        return [self.bridge.process, self.synapse.process, self.messenger.process]

    async def step(self, title, action):
        self.screen.begin(title)
        began = time.monotonic()
        try:
            await action()
        except Exception as error:
            self.screen.end(title, time.monotonic() - began, passed=False)
            error.step = title
            raise
        self.steps.append((title, time.monotonic() - began))
        self.screen.end(title, self.steps[-1][1])

    async def play(self):
        screen = self.screen
        screen.title("Starting")
        await self.step(f"the Messenger service, with {CONTACTS} contacts that answer", self.start_messenger)
        await self.step("the bridge's registration, made by its own command", lambda: self.bridge.set_up(self.ready))
        await self.step("Synapse, with that registration", self.start_synapse)
        await self.step("the bridge, ready once the homeserver has reached it", lambda: self.bridge.start(self.http, self.patience))
        await self.step("a person with a Matrix account", self.sign_up)
        screen.title("Signing in to Messenger, in a chat with the bot")
        screen.heads()
        await self.step("the bot joins and says hello", self.meet_bot)
        await self.step("the bot answers 'login messenger' with a link", self.ask_for_link)
        await self.step("signed in on the provider's page, address pasted, and removed at once", self.sign_in)
        screen.title("The contacts arrive")
        screen.heads()
        await self.step("a room for every contact, each with its name", self.take_rooms)
        await self.step("every contact's photo", self.see_photos)
        await self.step("presence with its text, from Messenger to Matrix", self.see_presence)
        await self.step("presence with its text, from Matrix to Messenger", self.show_presence)
        screen.title("A conversation")
        screen.heads()
        await self.step("typing and messages, both ways", self.talk)
        await self.step("blanks, line breaks, emoji and code come through exactly", self.be_exact)
        await self.step("actions, both ways", self.act)
        await self.step("Messenger hangs up, the bridge calls back, and nothing is lost", self.be_cut_off)

    # Awaiting and showing

    async def matrix(self, wanted, what, since=0):
        return await self.person.watch.expect(wanted, what, self.patience, since)

    async def on_messenger(self, wanted, what, since=0):
        return await self.messenger.watch.expect(wanted, what, self.patience, since)

    def name_of(self, user):
        return {self.person.id: "You", BOT: "Bot"}.get(user) or self.person.names.get(user, user)

    async def bot_says(self, words, since):
        """The bot's next message that holds these words, shown."""
        event = await self.matrix(
            lambda event: event["kind"] == "event" and event["room"] == self.management and event["sender"] == BOT
            and event["type"] == "m.room.message" and words in event["content"].get("body", ""),
            f"the bot says '{words}'", since)
        self.screen.row(("Bot", shorten(event["content"]["body"])))
        return event["content"]["body"]

    async def tell_bot(self, text, shown=None):
        self.screen.row(("You", shown or text))
        return await self.person.say(self.management, text)

    # Starting

    async def start_messenger(self):
        self.ready = await self.messenger.start([EMAIL, "You", self.messenger_password], CONTACTS, self.patience)
        self.contacts = {contact["jid"]: contact["name"] for contact in self.ready["contacts"]}
        self.jids = {name: jid for jid, name in self.contacts.items()}

    async def start_synapse(self):
        await self.synapse.start(self.http, self.bridge.registration, self.patience * 2)

    async def sign_up(self):
        await self.synapse.register(self.http, "you", self.password)
        await self.person.login("you", self.password)

    # Signing in

    async def meet_bot(self):
        self.management = await self.person.create_direct(BOT)
        await self.bot_says("Use `login`", 0)

    async def ask_for_link(self):
        since = self.person.watch.mark
        await self.tell_bot("login messenger")
        body = await self.bot_says("http", since)
        self.link = re.search(r"https?://\S+", body).group()

    async def sign_in(self):
        pasted = await self.visit(self.link)
        since, signed_in = self.person.watch.mark, self.messenger.watch.mark
        secret = await self.tell_bot(pasted, "*pastes the address of the page that the sign-in ended on")
        event = await self.on_messenger(lambda event: event["event"] == "signed-in", "the account signs in", signed_in)
        await self.bot_says("Signed in to", since)
        self.screen.row(None, self.screen.to, ("You", f"*sign in as {event['account']}"))
        if event["account"] != self.ready["account"]["jid"]:
            raise Broken(f"another account signed in: {event['account']}")
        await self.matrix(
            lambda event: event["kind"] == "event" and event["type"] == "m.room.redaction"
            and secret in (event["redacts"], event["content"].get("redacts")), "the bot removes the pasted address", since)
        self.screen.row(("Bot", "*removed your message: it held a secret"))

    async def visit(self, link):
        """What the person does in the browser; the address of the page that they end on."""
        async with self.http.get(link) as response:
            page = SignInPage(await response.text())
            if response.status != 200 or page.action is None or not {"email", "password"} <= set(page.fields):
                raise Broken(f"the link of the bot shows no form to sign in with (status {response.status})")
        form = {"email": EMAIL, "password": self.messenger_password}
        target = urllib.parse.urljoin(link, page.action)
        async with self.http.post(target, data=form, allow_redirects=False) as response:
            address = response.headers.get("Location", "")
            if response.status != 302 or not address.startswith(self.ready["desktop_url"]):
                raise Broken(f"the provider answered {response.status} to the sign-in")
        return address

    # Contacts

    async def take_rooms(self):
        seen, rooms = set(), set()
        while len(rooms) < CONTACTS:
            invite = await self.matrix(
                lambda event: event["kind"] == "invite" and event["room"] not in seen and event["sender"] == BOT,
                f"an invitation to the room of contact {len(rooms) + 1} of {CONTACTS}")
            seen.add(invite["room"])
            await self.person.join(invite["room"])
            if invite["space"]:  # the account's, which holds the rooms
                continue
            rooms.add(invite["room"])
            if not invite["direct"]:
                raise Broken("an invitation to a contact's room is not marked direct")
            await self.recognise(invite["room"])
        if set(self.rooms) != set(self.jids):
            raise Broken(f"the rooms are of {sorted(self.rooms)} instead of {sorted(self.jids)}")

    async def recognise(self, room):
        """Whose room it is, by the state that the bridge put there, and that the contact is in it with their name."""
        state = await self.person.state(room)
        info = next((event["content"] for event in state if event["type"] == "m.bridge"), None)
        contact = self.contacts.get(((info or {}).get("channel") or {}).get("id"))
        if contact is None:
            raise Broken("a room's m.bridge state names none of the contacts")
        member = await self.matrix(
            lambda event: event["kind"] == "event" and event["room"] == room and event["type"] == "m.room.member"
            and event["content"].get("membership") == "join" and event["content"].get("displayname") == contact
            and event["state_key"].startswith("@messenger_"), f"{contact} is in the room with that name")
        self.rooms[contact], self.ghosts[contact] = room, member["state_key"]
        self.screen.row(("You", f"*join the room of {contact}"), self.screen.fro, (contact, "*is on your contact list"))

    async def see_photos(self):
        for name, ghost in self.ghosts.items():
            event = await self.matrix(
                lambda event: event["kind"] == "event" and event["type"] == "m.room.member"
                and event["state_key"] == ghost and event["content"].get("avatar_url"), f"the photo of {name}")
            picture = await self.person.media(event["content"]["avatar_url"])
            if not picture.startswith(PNG):
                raise Broken(f"the photo of {name} is no PNG")

    async def see_presence(self):
        await self.sees("Robin", "online", "Glad to chat", 0)
        await self.sees("Heron", "unavailable", "Out flying", 0)
        since = self.person.watch.mark
        await self.messenger.ask("presence", account=self.jids["Heron"], status="online", text="Back on the pond")
        await self.sees("Heron", "online", "Back on the pond", since)

    async def sees(self, name, presence, status, since):
        await self.matrix(
            lambda event: event["kind"] == "presence" and event["user"] == self.ghosts[name]
            and (event["presence"], event["status"]) == (presence, status), f"{name} is {presence}, '{status}'", since)
        self.screen.row((name, f"*{presence}: {status}"), self.screen.fro, (name, f"*shows: {status}"))

    async def show_presence(self):
        for presence, status, seen in [("unavailable", "Making tea", "away"), ("online", "Trying the bridge", "online")]:
            since = self.messenger.watch.mark
            await self.person.show(presence, status)
            await self.on_messenger(
                lambda event: event["event"] == "presence" and event["to"] == self.jids["Robin"]
                and (event["status"], event["text"]) == (seen, status), f"Robin sees you {seen}, '{status}'", since)
            self.screen.row(("You", f"*{presence}: {status}"), self.screen.to, ("Robin", f"*sees you {seen}: {status}"))

    # Conversation

    async def talk(self):
        await self.ask_and_hear("Robin", "Hello Robin! This comes from Matrix.", "Hello! How nice to hear from you.")
        await self.ask_and_hear("Robin", "How are you?", "Very well, thank you. And you?")
        await self.ask_and_hear("Wren", "I am well.", "You said: I am well.")
        await self.hear("Heron", "Are you there? I am back.")
        await self.send("Heron", "Here I am.")

    async def be_exact(self):
        text = "  Größe ≠ Grüße 🦉\n\n\tfn main() { let a = &b < c && \"d\"; }"
        await self.ask_and_hear("Wren", text, f"You said: {text}")

    async def act(self):
        await self.send("Robin", "waves", kind="m.emote")
        await self.hear("Heron", "/me dives for a fish")

    async def ask_and_hear(self, name, text, answer):
        """The person types and writes; the contact sees both, types, and answers."""
        messenger, matrix = self.messenger.watch.mark, self.person.watch.mark
        await self.person.type(self.rooms[name])
        await self.on_messenger(
            lambda event: event["event"] == "chat-state" and event["to"] == self.jids[name] and event["state"] == "composing",
            f"{name} sees you type", messenger)
        self.screen.row(("You", "*typing" + self.screen.dots), self.screen.to, (name, "*sees you type"))
        await self.send(name, text)
        await self.person.type(self.rooms[name], False)
        typing = await self.matrix(
            lambda event: event["kind"] == "typing" and event["room"] == self.rooms[name] and self.ghosts[name] in event["users"],
            f"{name} is seen typing", matrix)
        self.screen.row((name, "*typing" + self.screen.dots), self.screen.fro, (name, "*types"))
        await self.arrives(name, answer, matrix)
        self.screen.row((name, answer), self.screen.fro, (name, "*writes"))
        await self.matrix(
            lambda event: event["kind"] == "typing" and event["room"] == self.rooms[name]
            and self.ghosts[name] not in event["users"], f"{name} has stopped typing", typing["at"])

    async def send(self, name, text, kind="m.text"):
        """The person writes; the contact gets exactly that."""
        since, began = self.messenger.watch.mark, time.monotonic()
        expected = f"/me {text}" if kind == "m.emote" else text
        await self.person.say(self.rooms[name], text, kind)
        await self.on_messenger(
            lambda event: event["event"] == "message" and event["to"] == self.jids[name] and event["text"] == expected,
            f"{name} gets {text!r}", since)
        shown = f"* {text}" if kind == "m.emote" else text
        self.screen.row(("You", shown), self.screen.to, (name, "*gets it"), self.took(began))

    async def hear(self, name, text):
        """The contact writes unasked; the person gets exactly that."""
        since, began = self.person.watch.mark, time.monotonic()
        await self.messenger.ask("say", **{"from": self.jids[name]}, to=self.ready["account"]["jid"], text=text)
        event = await self.arrives(name, text, since)
        shown = f"* {event['content']['body']}" if text.startswith("/me ") else text
        self.screen.row((name, shown), self.screen.fro, (name, "*writes"), self.took(began))

    async def arrives(self, name, text, since):
        kind, body = ("m.emote", text.removeprefix("/me ")) if text.startswith("/me ") else ("m.text", text)
        return await self.matrix(
            lambda event: event["kind"] == "event" and event["room"] == self.rooms[name] and event["sender"] == self.ghosts[name]
            and (event["content"].get("msgtype"), event["content"].get("body")) == (kind, body),
            f"{name} says {text!r}", since)

    def took(self, began):
        return f"{(time.monotonic() - began) * 1000:.0f} ms"

    async def be_cut_off(self):
        account, name, text = self.ready["account"]["jid"], "Swift", "I wrote this while you were away."
        messenger, matrix = self.messenger.watch.mark, self.person.watch.mark
        an_hour_ago = int(time.time()) - 3600
        stamp = datetime.datetime.fromtimestamp(an_hour_ago, datetime.UTC).isoformat()
        old = "I wrote this an hour ago."
        await self.messenger.ask("store_offline", **{"from": self.jids["Kestrel"]}, to=account, text=old, stamp=stamp)
        await self.messenger.ask("cut", account=account)
        fate = await self.messenger.ask("say", **{"from": self.jids[name]}, to=account, text=text)
        self.screen.row(None, "", ("Service", "*hangs up without a word"))
        self.screen.row(None, "", (name, f"*writes while you are cut off ({fate})"))
        await self.person.say(self.rooms["Robin"], "And I this.")
        await self.on_messenger(lambda event: event["event"] == "signed-in", "the account signs in again", messenger)
        self.screen.row(None, self.screen.to, ("You", "*sign in again"))
        event = await self.arrives("Kestrel", old, matrix)
        if event["ts"] != an_hour_ago * 1000:
            raise Broken(f"a message of an hour ago shows the time {event['ts']} instead of {an_hour_ago * 1000}")
        self.screen.row(("Kestrel", old), self.screen.fro, ("Kestrel", "*wrote, and its time is kept"))
        await self.arrives(name, text, matrix)
        self.screen.row((name, text), self.screen.fro, (name, "*wrote"))
        await self.on_messenger(
            lambda event: event["event"] == "message" and event["text"] == "And I this.", "Robin gets what waited", messenger)
        self.screen.row(("You", "And I this."), self.screen.to, ("Robin", "*gets it"))
        await self.ask_and_hear("Swift", "Good night, Swift.", "See you soon!")
        said = [event["content"].get("body") for event in self.person.watch.events if event["kind"] == "event"]
        if (times := said.count(text)) != 1:
            raise Broken(f"what was written during the cut is there {times} times")

    # Staying

    async def stay(self):
        """Shows what crosses the bridge until one of the programs ends."""
        self.person.shown = "offline"  # from now on the person's presence is Element's to tell
        marks = {"matrix": self.person.watch.mark, "messenger": self.messenger.watch.mark}
        tasks = [asyncio.create_task(task) for task in (
            self.relay(self.person.watch, marks["matrix"], self.show_matrix),
            self.relay(self.messenger.watch, marks["messenger"], self.show_messenger),
            *(self.outlive(process) for process in self.processes))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def outlive(self, process):
        await process.child.wait()
        raise Broken(f"{process.name} ended with code {process.child.returncode}")

    async def relay(self, watch, seen, show):
        while True:
            async with watch.news:
                await watch.news.wait_for(lambda: watch.mark > seen or watch.failure)
                news = watch.events[max(0, seen - watch.forgotten):]
                seen = watch.mark
            for event in news:
                show(event)
            if watch.failure:
                raise Broken(watch.failure)

    def show_matrix(self, event):
        mine = event.get("sender") == self.person.id
        rooms = {room: name for name, room in self.rooms.items()}
        if event["kind"] == "event" and event["type"] == "m.room.message":
            body = shorten(str(event["content"].get("body", "")))
            if mine:
                to = rooms.get(event["room"])
                self.screen.row(("You", body), self.screen.to if to else "")
            elif event["room"] in rooms:
                name = self.name_of(event["sender"])
                self.screen.row((name, body), self.screen.fro, (name, "*writes"))
            else:
                self.screen.row((self.name_of(event["sender"]), body))
        elif event["kind"] == "typing" and (typing := [user for user in event["users"] if user != self.person.id]):
            self.screen.row((self.name_of(typing[0]), "*typing" + self.screen.dots), self.screen.fro)
        elif event["kind"] == "presence" and event["user"] in self.ghosts.values():
            self.screen.row((self.name_of(event["user"]), f"*{event['presence']}: {event['status']}"), self.screen.fro)

    def show_messenger(self, event):
        name = self.contacts.get(event.get("to"), "Service")
        if event["event"] == "message":
            self.screen.row(None, self.screen.to, (name, f"*gets: {shorten(event['text'])}"))
        elif event["event"] == "chat-state" and event["state"] == "composing":
            self.screen.row(None, self.screen.to, (name, "*sees you type"))
        elif event["event"] == "presence" and event["to"] == self.jids["Robin"]:
            self.screen.row(None, self.screen.to, (name, f"*sees you {event['status']}: {event['text']}"))
        elif event["event"] in ("signed-in", "signed-out"):
            self.screen.row(None, "", ("Service", f"*{event['event'].replace('-', ' ')}: {event['account']}"))


def shorten(text, limit=1000):
    return text if len(text) <= limit else text[:limit] + "…"

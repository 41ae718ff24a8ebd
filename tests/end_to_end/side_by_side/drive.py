"""Latency and pace through the bridge beside the same path without one, in one run, by one clock.

The path without a bridge: this process takes the place of the bridge, with an XMPP account and an application service of its own, and
passes on what it gets as it comes, without keeping it. Its registration asks for the same as the bridge's, and its room has the same
kinds of members. What the bridge adds is the difference. Reads its orders as one JSON object on
stdin, and prints one JSON object a line.
"""

import asyncio
import json
import random
import sys
import time
import warnings
from urllib.parse import quote

import aiohttp
import slixmpp
from aiohttp import web
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath

warnings.filterwarnings("ignore", category=DeprecationWarning)


def percentile(values, share):
    values = sorted(values)
    return values[round((len(values) - 1) * share)] * 1000 if values else None


def added(pairs, share):
    return percentile([a for a, _ in pairs], share) - percentile([b for _, b in pairs], share)


def sure(pairs, share):
    """Between what the added time lies in 95 of 100 draws of as many pairs out of these (the bootstrap)."""
    chance = random.Random(1)
    drawn = sorted(added(chance.choices(pairs, k=len(pairs)), share) for _ in range(1000))
    return [drawn[25], drawn[974]]


def shown(values):
    return {"count": len(values), "p50_ms": percentile(values, 0.5), "p95_ms": percentile(values, 0.95), "p99_ms": percentile(values, 0.99)}


class Heard:
    """When each body came, and in which order."""

    def __init__(self):
        self.at = {}
        self.order = []
        self.news = asyncio.Event()

    def hear(self, body):
        if body not in self.at:
            self.at[body] = time.perf_counter()
        self.order.append(body)
        self.news.set()

    async def until(self, bodies, patience=30):
        deadline = time.perf_counter() + patience
        while not all(body in self.at for body in bodies) and time.perf_counter() < deadline:
            self.news.clear()
            try:
                await asyncio.wait_for(self.news.wait(), 1)
            except asyncio.TimeoutError:
                pass
        return [body for body in bodies if body not in self.at]

    def turned(self, bodies):
        """Pairs of neighbours that came the other way round."""
        place = {body: number for number, body in enumerate(bodies)}
        came = [place[body] for body in self.order if body in place]
        return sum(1 for one, next in zip(came, came[1:]) if next < one)


class Xmpp(slixmpp.ClientXMPP):
    def __init__(self, jid, password, ca, heard):
        super().__init__(jid, password)
        self.ca_certs = ca
        self.enable_direct_tls, self.enable_starttls, self.enable_plaintext = False, True, False
        self.heard = heard
        self.passes_on = None
        self.register_handler(Callback("bodies", StanzaPath("message"), self.on_message))
        self.ready = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", lambda _: self.ready.set_result(None))

    async def begin(self, port):
        self.connect("127.0.0.1", port)
        await self.ready
        self.send_presence()
        return self

    def on_message(self, message):
        body = message["body"]
        if body and message["type"] != "error":
            self.heard.hear(body)
            if self.passes_on:
                self.passes_on(body)

    def say(self, to, body):
        self.send_message(mto=to, mbody=body, mtype="chat")


class Matrix:
    def __init__(self, http, address, token, user=None):
        self.http, self.address, self.token, self.user = http, address, token, user
        self.count = 0

    async def call(self, method, path, body=None):
        params = {"user_id": self.user} if self.user else {}
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.http.request(method, self.address + path, json=body, params=params, headers=headers) as answer:
            told = await answer.json()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {told}")
            return told

    async def say(self, room, body):
        self.count += 1
        txn = f"s{time.time_ns()}-{self.count}"
        # As every client says it; Synapse takes over a millisecond of processor time to check that it mentions nobody.
        content = {"msgtype": "m.text", "body": body, "m.mentions": {}}
        await self.call("PUT", f"/_matrix/client/v3/rooms/{quote(room)}/send/m.room.message/{txn}", content)

    async def follow(self, heard):
        since = (await self.call("GET", "/_matrix/client/v3/sync?timeout=0"))["next_batch"]

        async def go_on():
            nonlocal since
            while True:
                told = await self.call("GET", f"/_matrix/client/v3/sync?timeout=30000&since={since}")
                since = told["next_batch"]
                for room in told.get("rooms", {}).get("join", {}).values():
                    for event in room["timeline"]["events"]:
                        if event["type"] == "m.room.message" and event["sender"] != self.name:
                            heard.hear(event["content"].get("body", ""))

        self.name = (await self.call("GET", "/_matrix/client/v3/account/whoami"))["user_id"]
        return asyncio.create_task(go_on())


class Floor:
    """Takes the place of the bridge and does nothing but pass on."""

    def __init__(self, orders, http):
        self.orders = orders
        self.bot = Matrix(http, orders["homeserver"], orders["floor"]["as_token"], orders["floor"]["ghost"])
        self.room = None
        self.xmpp = None
        self.queue = asyncio.Queue()

    async def begin(self, person, xmpp, contact):
        self.xmpp, self.contact = xmpp, contact
        ghost = self.orders["floor"]["ghost"]
        plain = Matrix(self.bot.http, self.bot.address, self.bot.token)
        register = {"type": "m.login.application_service", "username": ghost[1:].split(":")[0], "inhibit_login": True}
        await plain.call("POST", "/_matrix/client/v3/register", register)
        made = await plain.call("POST", "/_matrix/client/v3/createRoom", {"preset": "private_chat", "is_direct": True, "invite": [person.name, ghost]})
        self.room = made["room_id"]
        for member in (self.bot, person):
            await member.call("POST", f"/_matrix/client/v3/rooms/{quote(self.room)}/join", {})
        xmpp.passes_on = self.queue.put_nowait
        app = web.Application()
        app.router.add_put("/_matrix/app/v1/transactions/{txn}", self.on_transaction)
        app.router.add_route("*", "/{rest:.*}", self.on_other)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.orders["floor"]["port"]).start()
        # Synapse backs off from an application service that was not there; a ping ends that.
        await plain.call("POST", "/_matrix/client/v1/appservice/floor/ping", {})
        return asyncio.create_task(self.pass_on())

    async def on_other(self, request):
        return web.json_response({})

    async def on_transaction(self, request):
        for event in (await request.json())["events"]:
            if event["type"] == "m.room.message" and event["room_id"] == self.room and event["sender"] != self.bot.user:
                self.xmpp.say(self.contact, event["content"]["body"])
        return web.json_response({})

    async def pass_on(self):
        """In order, as a bridge has to."""
        while True:
            await self.bot.say(self.room, await self.queue.get())


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def tell(**fields):
    print(json.dumps(fields), flush=True)


async def main():
    orders = json.load(sys.stdin)
    count, burst = orders["count"], orders["burst"]
    ca, port, password = orders["ca"], orders["port"], orders["password"]
    contact_heard, room_heard, floor_heard = Heard(), Heard(), Heard()
    bob = await Xmpp(orders["contact"], password, ca, contact_heard).begin(port)
    carol = await Xmpp(orders["floor"]["contact"], password, ca, contact_heard).begin(port)
    dave = await Xmpp(orders["floor"]["account"], password, ca, floor_heard).begin(port)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as http:
        login = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": orders["person"]}, "password": password}
        async with http.post(orders["homeserver"] + "/_matrix/client/v3/login", json=login) as answer:
            token = (await answer.json())["access_token"]
        person = Matrix(http, orders["homeserver"], token)
        following = await person.follow(room_heard)
        floor = Floor(orders, http)
        passing = await floor.begin(person, dave, orders["floor"]["contact"])
        account, room = orders["account"], orders["room"]
        # For a minute after its start the bridge holds each message against the room.
        await asyncio.sleep(orders["rest"])

        async def one(heard, say, body):
            await asyncio.sleep(0.05)  # what follows from the one before is over
            before = time.perf_counter()
            said = say(body)
            if asyncio.iscoroutine(said):
                said = asyncio.create_task(said)
            missing = await heard.until([body])
            if asyncio.isfuture(said):
                await said
            return None if missing else heard.at[body] - before

        to_bridge = lambda body: bob.say(account, body)
        to_floor = lambda body: carol.say(orders["floor"]["account"], body)
        ways = [
            ("XMPP to Matrix", room_heard, to_bridge, to_floor),
            ("Matrix to XMPP", contact_heard, lambda body: person.say(room, body), lambda body: person.say(floor.room, body)),
        ]
        for name, heard, bridged, bare in ways:
            for number in range(10):  # what is made once is made now
                await one(heard, bridged, f"warm {name} {number}")
                await one(heard, bare, f"cold {name} {number}")
            with_bridge, without = [], []
            before = cpu(orders["pid"])
            for number in range(count):
                turns = [("bridge", bridged, with_bridge), ("floor", bare, without)]
                for kind, say, took in turns if number % 2 else reversed(turns):
                    took.append(await one(heard, say, f"{kind} {name} {number}"))
            spent = cpu(orders["pid"]) - before
            pairs = [(a, b) for a, b in zip(with_bridge, without) if a is not None and b is not None]
            tell(scenario="side by side", way=name, bridge=shown([a for a, _ in pairs]), floor=shown([b for _, b in pairs]),
                 added_p50_ms=added(pairs, 0.5), added_p95_ms=added(pairs, 0.95),
                 added_p50_range_ms=sure(pairs, 0.5), added_p95_range_ms=sure(pairs, 0.95),
                 lost=count - len(pairs), cpu_ms_per_message=spent * 1000 / count)

        for round in range(3):
            for kind, say in (("bridge", to_bridge), ("floor", to_floor)):
                bodies = [f"burst {kind} {round} {number}" for number in range(burst)]
                before, spent = time.perf_counter(), cpu(orders["pid"])
                for body in bodies:
                    say(body)
                missing = await room_heard.until(bodies, 120)
                took = max((room_heard.at[body] for body in bodies if body in room_heard.at), default=before) - before
                tell(scenario="burst into one room", path=kind, count=burst, per_second=(burst - len(missing)) / took, lost=len(missing),
                     turned=room_heard.turned(bodies), cpu_ms_per_message=(cpu(orders["pid"]) - spent) * 1000 / burst)
            for kind, where in (("bridge", room), ("floor", floor.room)):
                bodies = [f"flight {kind} {round} {number}" for number in range(burst)]
                queue = iter(bodies)
                before, spent, put = time.perf_counter(), cpu(orders["pid"]), []

                async def speaker():
                    for body in queue:
                        await person.say(where, body)
                        put.append(body)

                await asyncio.gather(*(speaker() for _ in range(8)))
                missing = await contact_heard.until(bodies, 120)
                took = max((contact_heard.at[body] for body in bodies if body in contact_heard.at), default=before) - before
                tell(scenario="from Matrix, 8 in flight", path=kind, count=burst, per_second=(burst - len(missing)) / took,
                     lost=len(missing), cpu_ms_per_message=(cpu(orders["pid"]) - spent) * 1000 / burst)
        following.cancel()
        passing.cancel()
    for client in (bob, carol, dave):
        await client.disconnect()


asyncio.run(main())

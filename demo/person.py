"""A person with a Matrix account, through the client-server API alone: no more than what Element could do."""

import asyncio
import itertools
import urllib.parse

import aiohttp

from processes import Broken, Watch

LONG_POLL = 30_000  # milliseconds


def quote(part):
    return urllib.parse.quote(part, safe="")


class Person:
    """Follows everything in `watch`: dictionaries with `kind` and what belongs to it.

    invite: room, sender, direct, space · event: room, type, sender, content, id, ts, state_key · typing: room, users ·
    presence: user, presence, status
    """

    def __init__(self, http, address):
        self.http, self.address = http, address
        self.watch, self.names = Watch(), {}
        self.id = self.token = self.task = None
        self.shown = "online"
        self.counter = itertools.count(1)

    async def call(self, method, path, body=None, **query):
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"{self.address}/_matrix/client/v3{path}"
        async with self.http.request(method, url, json=body, params=query, headers=headers) as response:
            answer = await response.json(content_type=None)
            if response.status != 200:
                error = answer.get("error", "") if isinstance(answer, dict) else ""
                raise Broken(f"the homeserver answered {response.status} to {method} {path.split('?')[0]}: {error}")
            return answer

    async def login(self, name, password):
        answer = await self.call("POST", "/login", {
            "type": "m.login.password", "identifier": {"type": "m.id.user", "user": name}, "password": password,
            "initial_device_display_name": "messenger-bridge demo"})
        self.id, self.token = answer["user_id"], answer["access_token"]
        self.task = asyncio.create_task(self.follow())

    async def stop(self):
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def follow(self):
        since, failures = {}, 0
        while True:
            try:
                answer = await self.call("GET", "/sync", timeout=LONG_POLL if since else 0, set_presence=self.shown, **since)
            except (Broken, aiohttp.ClientError, TimeoutError) as error:
                failures += 1
                if failures > 3:
                    await self.watch.fail(f"/sync failed: {error}")
                    return
                await asyncio.sleep(0.5)
                continue
            failures, since = 0, {"since": answer["next_batch"]}
            await self.watch.add(*self.read(answer))

    def read(self, answer):
        rooms = answer.get("rooms", {})
        for room, state in rooms.get("invite", {}).items():
            events = state["invite_state"]["events"]
            space = any(event["type"] == "m.room.create" and event["content"].get("type") == "m.space" for event in events)
            for event in events:
                if event["type"] == "m.room.member" and event["state_key"] == self.id:
                    yield {"kind": "invite", "room": room, "sender": event["sender"],
                           "direct": event["content"].get("is_direct", False), "space": space}
        for room, news in rooms.get("join", {}).items():
            for event in news.get("state", {}).get("events", []) + news.get("timeline", {}).get("events", []):
                if event["type"] == "m.room.member" and event["content"].get("displayname"):
                    self.names[event["state_key"]] = event["content"]["displayname"]
                yield {"kind": "event", "room": room, "type": event["type"], "sender": event["sender"],
                       "content": event["content"], "id": event["event_id"], "ts": event["origin_server_ts"],
                       "state_key": event.get("state_key"), "redacts": event.get("redacts")}
            for event in news.get("ephemeral", {}).get("events", []):
                if event["type"] == "m.typing":
                    yield {"kind": "typing", "room": room, "users": event["content"]["user_ids"]}
        for event in answer.get("presence", {}).get("events", []):
            yield {"kind": "presence", "user": event["sender"], "presence": event["content"]["presence"],
                   "status": event["content"].get("status_msg") or ""}

    async def create_direct(self, user):
        """A direct room as Element makes it."""
        answer = await self.call("POST", "/createRoom", {"preset": "trusted_private_chat", "is_direct": True, "invite": [user]})
        return answer["room_id"]

    async def join(self, room):
        await self.call("POST", f"/join/{quote(room)}", {})

    async def say(self, room, text, kind="m.text"):
        path = f"/rooms/{quote(room)}/send/m.room.message/demo{next(self.counter)}"
        return (await self.call("PUT", path, {"msgtype": kind, "body": text}))["event_id"]

    async def type(self, room, typing=True):
        body = {"typing": True, "timeout": 20_000} if typing else {"typing": False}
        await self.call("PUT", f"/rooms/{quote(room)}/typing/{quote(self.id)}", body)

    async def show(self, presence, status):
        self.shown = presence  # else the next sync would show the old one
        await self.call("PUT", f"/presence/{quote(self.id)}/status", {"presence": presence, "status_msg": status})

    async def state(self, room):
        return await self.call("GET", f"/rooms/{quote(room)}/state")

    async def media(self, address):
        """The bytes behind an mxc: address."""
        path = address.removeprefix("mxc://")
        url = f"{self.address}/_matrix/client/v1/media/download/{path}"
        async with self.http.get(url, headers={"Authorization": f"Bearer {self.token}"}) as response:
            if response.status != 200:
                raise Broken(f"the homeserver answered {response.status} to a download")
            return await response.read()

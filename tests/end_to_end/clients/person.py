"""A person on Matrix: matrix-nio, told by JSON lines what to do (see driver.py)."""

import asyncio
import hashlib
import io
import json
import urllib.parse

import aiohttp
import driver
from nio import AsyncClient, AsyncClientConfig, ErrorResponse, RoomPreset, SyncResponse

FILTER = {
    "room": {"timeline": {"limit": 5000}, "state": {"lazy_load_members": False}},
    "presence": {"limit": 5000},
}


def quote(part):
    return urllib.parse.quote(part, safe="")


def checked(response):
    if isinstance(response, ErrorResponse):
        raise RuntimeError(str(response))
    return response


class Client(AsyncClient):
    """Keeps the body of the last sync as it came: nio's parsing takes parts out of what it read."""

    async def create_matrix_response(self, response_class, transport_response, *arguments, **options):
        if response_class is SyncResponse:
            self.last_sync = json.loads(await transport_response.text())
        return await super().create_matrix_response(response_class, transport_response, *arguments, **options)


class Person:
    def __init__(self):
        self.nio = None
        self.auto_join = True
        self.presence = "online"
        self.transactions = 0
        self.sending = asyncio.Lock()
        self.reading = None

    # -- signing in and following

    async def do_login(self, homeserver, user, password, auto_join=True):
        self.auto_join = auto_join
        config = AsyncClientConfig(encryption_enabled=False, max_timeouts=0)
        self.nio = Client(homeserver, user, config=config)
        checked(await self.nio.login(password, device_name="tests"))
        checked(await self.nio.sync(timeout=0, sync_filter=FILTER, full_state=True))
        self.follow(self.nio.last_sync)
        self.reading = asyncio.create_task(self.read())
        return {"user": self.nio.user_id, "device": self.nio.device_id}

    async def read(self):
        while True:
            try:
                checked(await self.nio.sync(timeout=30_000, sync_filter=FILTER, set_presence=self.presence))
            except (aiohttp.ClientError, TimeoutError, RuntimeError) as error:
                driver.emit("sync_failed", why=str(error))
                await asyncio.sleep(0.2)  # a homeserver that restarts
            else:
                self.follow(self.nio.last_sync)

    def follow(self, sync):
        rooms = sync.get("rooms", {})
        for room, joined in rooms.get("join", {}).items():
            for event in joined["state"]["events"] + joined["timeline"]["events"]:
                self.tell(room, event)
            for event in joined["ephemeral"]["events"]:
                self.tell_ephemeral(room, event)
            for event in joined.get("account_data", {}).get("events", []):
                driver.emit("account_data", room=room, type=event["type"], content=event["content"])
        for room, left in rooms.get("leave", {}).items():
            for event in left["timeline"]["events"]:
                self.tell(room, event)
            driver.emit("left", room=room)
        for room, invited in rooms.get("invite", {}).items():
            self.tell_invite(room, invited["invite_state"]["events"])
        for event in sync.get("account_data", {}).get("events", []):
            driver.emit("account_data", room=None, type=event["type"], content=event["content"])
        for event in sync.get("presence", {}).get("events", []):
            content = event["content"]
            driver.emit("presence", user=event["sender"], presence=content["presence"],
                        status=content.get("status_msg"), currently_active=content.get("currently_active"))

    def tell(self, room, event):
        """A timeline or state event as it came; `event` is its kind, the Matrix type is in `type`."""
        kind = {"m.room.message": "message", "m.room.redaction": "redaction", "m.reaction": "reaction"}.get(event["type"])
        kind = "state" if "state_key" in event else kind or "other"
        content = event.get("content", {})
        driver.emit(kind, room=room, type=event["type"], sender=event["sender"], event_id=event["event_id"],
                    ts=event["origin_server_ts"], state_key=event.get("state_key"), content=content,
                    body=content.get("body"), msgtype=content.get("msgtype"), redacts=event.get("redacts"),
                    relates_to=content.get("m.relates_to"))

    def tell_ephemeral(self, room, event):
        content = event["content"]
        if event["type"] == "m.typing":
            driver.emit("typing", room=room, users=content["user_ids"])
        elif event["type"] == "m.receipt":
            for event_id, kinds in content.items():
                for kind, users in kinds.items():
                    for user in users:
                        driver.emit("receipt", room=room, user=user, event_id=event_id, type=kind)

    def tell_invite(self, room, state):
        own = next((event for event in state
                    if event["type"] == "m.room.member" and event["state_key"] == self.nio.user_id), {})
        driver.emit("invite", room=room, sender=own.get("sender"),
                    is_direct=own.get("content", {}).get("is_direct", False), state=state)
        if self.auto_join:
            task = asyncio.create_task(self.nio.join(room))
            task.add_done_callback(lambda done: driver.emit("joined", room=room, answer=str(done.result())))

    # -- what nio has no method for goes to the client-server API as it is

    async def do_request(self, method, path, body=None):
        """Any request of the client-server API as this person; `path` begins with `/_matrix`."""
        status, data = await self.http(method, path, json=body)
        if status >= 400:
            raise RuntimeError(f"{status} {data.decode(errors='replace')}")
        return json.loads(data or b"{}")

    async def do_openid_token(self):
        return checked(await self.nio.get_openid_token(self.nio.user_id)).access_token

    async def http(self, method, path, **options):
        headers = {"Authorization": f"Bearer {self.nio.access_token}"}
        async with aiohttp.ClientSession() as session:
            async with session.request(method, self.nio.homeserver + path, headers=headers, **options) as answer:
                return answer.status, await answer.read()

    # -- rooms

    async def do_direct(self, user):
        """A direct room with `user`, who is invited and gets as much power as oneself: so does Element."""
        preset = RoomPreset.trusted_private_chat
        return checked(await self.nio.room_create(is_direct=True, invite=[user], preset=preset)).room_id

    async def do_create(self, name=None, invite=()):
        return checked(await self.nio.room_create(name=name, invite=list(invite))).room_id

    async def do_invite(self, room, user):
        checked(await self.nio.room_invite(room, user))

    async def do_join(self, room):
        checked(await self.nio.join(room))

    async def do_leave(self, room):
        checked(await self.nio.room_leave(room))

    async def do_rooms(self):
        return checked(await self.nio.joined_rooms()).rooms

    async def do_members(self, room):
        """MXID -> display name of who is in the room or invited."""
        answer = await self.do_request("GET", f"/_matrix/client/v3/rooms/{quote(room)}/members")
        return {event["state_key"]: event["content"] for event in answer["chunk"]}

    async def do_state(self, room, type=None, key=""):
        if type is None:
            return await self.do_request("GET", f"/_matrix/client/v3/rooms/{quote(room)}/state")
        return await self.do_request("GET", f"/_matrix/client/v3/rooms/{quote(room)}/state/{quote(type)}/{quote(key)}")

    async def do_set_state(self, room, type, content, key=""):
        return await self.do_request("PUT", f"/_matrix/client/v3/rooms/{quote(room)}/state/{quote(type)}/{quote(key)}", content)

    # -- what is said

    async def do_send(self, room, body=None, msgtype="m.text", content=None):
        """A message; `content` adds to or replaces the plain content. Sent in the order of the commands."""
        full = {"msgtype": msgtype, "body": body, **(content or {})}
        return await self.put_event(room, "m.room.message", full)

    async def do_say_surely(self, room, body):
        """A text that the homeserver has for certain once this returns: the same transaction until it is answered."""
        async with self.sending:
            self.transactions += 1
            content, transaction = {"msgtype": "m.text", "body": body}, f"tests-{self.transactions}"
            while True:
                try:
                    answer = await self.nio.room_send(room, "m.room.message", content, tx_id=transaction)
                    return checked(answer).event_id
                except (aiohttp.ClientError, TimeoutError, RuntimeError):
                    await asyncio.sleep(0.2)  # a homeserver that restarts

    async def do_send_event(self, room, type, content):
        return await self.put_event(room, type, content)

    async def put_event(self, room, type, content):
        async with self.sending:
            self.transactions += 1
            answer = checked(await self.nio.room_send(room, type, content, tx_id=f"tests-{self.transactions}"))
        return answer.event_id

    async def do_redact(self, room, event_id, reason=None):
        return checked(await self.nio.room_redact(room, event_id, reason)).event_id

    async def do_typing(self, room, typing=True, timeout=20_000):
        checked(await self.nio.room_typing(room, typing, timeout=timeout))

    async def do_read(self, room, event_id):
        await self.do_request("POST", f"/_matrix/client/v3/rooms/{quote(room)}/receipt/m.read/{quote(event_id)}", {})

    # -- who one is

    async def do_presence(self, presence, status=None):
        """What is shown from now on, also by the sync that runs."""
        self.presence = presence
        checked(await self.nio.set_presence(presence, status))

    async def do_get_presence(self, user):
        return await self.do_request("GET", f"/_matrix/client/v3/presence/{quote(user)}/status")

    async def do_displayname(self, user):
        return checked(await self.nio.get_displayname(user)).displayname

    async def do_set_displayname(self, name):
        checked(await self.nio.set_displayname(name))

    async def do_set_avatar(self, url):
        checked(await self.nio.set_avatar(url))

    async def do_avatar(self, user):
        """The bytes behind a user's avatar by authenticated media: length, SHA-1 and content type; null without one."""
        url = (await self.do_request("GET", f"/_matrix/client/v3/profile/{quote(user)}")).get("avatar_url")
        return await self.do_media(url) if url else None

    async def do_media(self, url):
        server, media = url.removeprefix("mxc://").split("/")
        headers = {"Authorization": f"Bearer {self.nio.access_token}"}
        path = f"{self.nio.homeserver}/_matrix/client/v1/media/download/{server}/{media}"
        async with aiohttp.ClientSession() as session, session.get(path, headers=headers) as answer:
            data = await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} {data[:200]}")
            return {"length": len(data), "size": len(data), "sha1": hashlib.sha1(data).hexdigest(), "type": answer.content_type}

    async def do_upload(self, name, mime, content):
        data = driver.content_of(content)
        answer, _ = await self.nio.upload(io.BytesIO(data), content_type=mime, filename=name, filesize=len(data))
        return {"url": checked(answer).content_uri, **driver.describe(data, mime)}


asyncio.run(driver.obey(Person()))

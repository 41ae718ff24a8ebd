"""The three programs of the demo: the Messenger service, the homeserver and the bridge."""

import asyncio
import hashlib
import hmac
import json
import os
import pathlib
import random
import secrets
import socket

import aiohttp

from processes import Broken, Process, Watch

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
RELEASE = REPOSITORY / "target/release"
DOMAIN = "demo.test"


def free_port(*preferred):
    """A port that nobody listens on, below those that outgoing connections take."""
    for port in [*preferred, *random.sample(range(20_000, 32_000), 200)]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Broken("no free port between 20000 and 32000")


async def await_200(http, process, url, patience):
    try:
        async with asyncio.timeout(patience):
            while True:
                if process.ended:
                    raise Broken(f"{process.name} ended with code {process.child.returncode} instead of starting")
                try:
                    async with http.get(url) as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)  # a port that opens cannot be awaited
    except TimeoutError:
        raise Broken(f"{process.name} did not answer {url} with 200 within {patience:.0f} s") from None


class Messenger:
    """The loopback Messenger service. `watch` holds what its contacts receive; requests as in its control.rs."""

    def __init__(self, folder):
        self.folder = folder
        self.process = Process("the Messenger service", folder / "messenger-service.log")
        self.watch, self.answers, self.count, self.task = Watch(), {}, 0, None

    async def start(self, account, contacts, patience):
        # The redirect before the sign-in and the blank after the mechanism's name are what the real service did.
        await self.process.start(
            RELEASE / "examples/messenger-service", "--cert-dir", self.folder, "--account", *account, "--contacts", contacts,
            "--redirect", "always", "--trailing-blank", "true", piped=True)
        try:
            async with asyncio.timeout(patience):
                line = await self.process.child.stdout.readline()
        except TimeoutError:
            raise Broken(f"the Messenger service said nothing within {patience:.0f} s") from None
        if not line:
            raise Broken("the Messenger service ended instead of starting")
        self.ready = json.loads(line)["ready"]
        self.task = asyncio.create_task(self.follow())
        return self.ready

    async def follow(self):
        async for line in self.process.child.stdout:
            value = json.loads(line)
            if "event" in value:
                await self.watch.add(value)
            elif waiting := self.answers.pop(value["id"], None):
                waiting.set_result(value)
        await self.watch.fail("the Messenger service has ended")

    async def ask(self, op, **arguments):
        self.count += 1
        answer = self.answers[self.count] = asyncio.get_running_loop().create_future()
        self.process.child.stdin.write(json.dumps({"op": op, "id": self.count, **arguments}).encode() + b"\n")
        await self.process.child.stdin.drain()
        try:
            async with asyncio.timeout(10):
                answer = await answer
        except TimeoutError:
            raise Broken(f"the Messenger service did not answer '{op}'") from None
        if "error" in answer:
            raise Broken(f"the Messenger service refused '{op}': {answer['error']}")
        return answer["ok"]


class Bridge:
    """The bridge, set up by its own commands."""

    def __init__(self, folder, homeserver):
        self.folder, self.port = folder, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.config, self.registration = folder / "config.yaml", folder / "registration.yaml"
        self.homeserver = homeserver
        self.process = Process("the bridge", folder / "bridge.log")

    async def set_up(self, messenger):
        """Writes the configuration and has the bridge make its registration."""
        self.config.write_text(f"""\
homeserver: {{ address: "{self.homeserver}", domain: {DOMAIN} }}
appservice: {{ listen: "127.0.0.1:{self.port}", address: "{self.address}" }}
store: {{ path: ./data, key_file: ./data.key }}
permissions: {{ "{DOMAIN}": user }}
networks:
  messenger:
    profile: messenger
    domain: messenger.live.com
    address: "{messenger['xmpp']}"
    tls: {{ mode: starttls, ca_file: {json.dumps(messenger['ca'])} }}
    oauth:
      client_id: demo
      authorize_url: {json.dumps(messenger['authorize_url'])}
      token_url: {json.dumps(messenger['token_url'])}
      redirect_url: {json.dumps(messenger['desktop_url'])}
""")
        await self.once("generate-registration")

    async def once(self, command):
        process = await Process("the bridge", self.folder / "bridge.log").start(
            RELEASE / "messenger-bridge", command, "--config", self.config, "--registration", self.registration)
        async with asyncio.timeout(30):
            code = await process.child.wait()
        if code != 0:
            raise Broken(f"'messenger-bridge {command}' ended with code {code}")

    async def start(self, http, patience):
        await self.process.start(
            RELEASE / "messenger-bridge", "run", "--config", self.config, "--registration", self.registration)
        await await_200(http, self.process, f"{self.address}/_matrix/mau/ready", patience)


class Synapse:
    """The homeserver, on SQLite, on loopback."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port(8008)
        self.address = f"http://127.0.0.1:{self.port}"
        self.secret = secrets.token_hex(16)
        self.process = Process("Synapse", folder / "synapse.log")

    async def start(self, http, registration, patience):
        unlimited = {"per_second": 1000, "burst_count": 1000}
        config = {
            "server_name": DOMAIN, "public_baseurl": f"{self.address}/", "report_stats": False,
            "pid_file": str(self.folder / "synapse.pid"), "signing_key_path": str(self.folder / "signing.key"),
            "media_store_path": str(self.folder / "media"), "log_config": str(self.folder / "log.yaml"),
            "database": {"name": "sqlite3", "args": {"database": str(self.folder / "homeserver.db")}},
            "listeners": [{"port": self.port, "bind_addresses": ["127.0.0.1"], "type": "http", "tls": False,
                           "resources": [{"names": ["client", "media"], "compress": False}]}],
            "macaroon_secret_key": secrets.token_hex(16), "form_secret": secrets.token_hex(16),
            "registration_shared_secret": self.secret, "trusted_key_servers": [], "suppress_key_server_warning": True,
            "federation_domain_whitelist": [], "presence": {"enabled": True}, "push": {"enabled": False},
            "app_service_config_files": [str(registration)],
            "rc_message": unlimited, "rc_login": {"address": unlimited, "account": unlimited, "failed_attempts": unlimited},
            "rc_joins": {"local": unlimited, "remote": unlimited}, "rc_presence": {"per_user": unlimited},
        }
        log = {"version": 1, "disable_existing_loggers": False,
               "formatters": {"plain": {"format": "%(asctime)s %(name)s %(levelname)s %(message)s"}},
               "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
               "root": {"level": "WARNING", "handlers": ["console"]}}
        # JSON is YAML.
        (self.folder / "homeserver.yaml").write_text(json.dumps(config))
        (self.folder / "log.yaml").write_text(json.dumps(log))
        python = REPOSITORY / ".tools/synapse/bin/python"
        make_key = "from signedjson.key import *; write_signing_keys(open('signing.key', 'w'), [generate_signing_key('demo')])"
        # Synapse reads its own files in the locale's encoding.
        options = {"cwd": self.folder, "env": {**os.environ, "PYTHONUTF8": "1"}}
        key = await Process("Synapse", self.folder / "synapse.log").start(python, "-c", make_key, **options)
        if await key.child.wait() != 0:
            raise Broken("Synapse's signing key could not be made")
        await self.process.start(python, "-m", "synapse.app.homeserver", "-c", "homeserver.yaml", **options)
        await await_200(http, self.process, f"{self.address}/_matrix/client/versions", patience)

    async def register(self, http, name, password):
        """A new user, by the admin interface for registration."""
        url = f"{self.address}/_synapse/admin/v1/register"
        async with http.get(url) as response:
            nonce = (await response.json())["nonce"]
        text = "\0".join([nonce, name, password, "notadmin"])
        mac = hmac.new(self.secret.encode(), text.encode(), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": name, "password": password, "admin": False, "displayname": "You", "mac": mac}
        async with http.post(url, json=body) as response:
            if response.status != 200:
                raise Broken(f"Synapse answered {response.status} to the registration of a user: {await response.text()}")

"""The newcomer's run: README's ten steps, taken from README itself, against a homeserver of their own. `script/newcomer` starts it.

A step's command is what stands in backticks in README. Where README says to edit something, the keys that it names are edited, and
no others: what README forgets is missing here, too.
"""

import argparse
import asyncio
import os
import pathlib
import re
import shutil
import signal
import stat
import sys
import tempfile
import time

import aiohttp
import nio
import slixmpp

from processes import Broken, Process, Watch
from servers import REPOSITORY, await_200, free_port

HEADING = "## With your own homeserver, in ten steps"
SERVER = "newcomer.test"
XMPP = "xmpp.test"
PASSWORD = "correct horse battery staple"
PATIENCE = 30.0 * float(os.environ.get("E2E_PATIENCE", "1"))


def steps_of(readme):
    """The ten steps: text -> what stands in backticks in it."""
    part = readme.split(HEADING + "\n", 1)[1].split("\n## ", 1)[0]
    steps = [(int(number), " ".join(text.split())) for number, text in
             re.findall(r"^(\d+)\. ((?:.+\n?(?:   .+\n?)*))", part, re.MULTILINE)]
    if [number for number, _ in steps] != list(range(1, 11)):
        raise Broken(f"README has not ten steps below '{HEADING}' but {[number for number, _ in steps]}")
    return [(text, re.findall(r"`([^`]+)`", text)) for _, text in steps]


def the(quoted, wanted, step):
    """The one thing in backticks that fits."""
    found = [text for text in quoted if re.fullmatch(wanted, text)]
    if not found:
        raise Broken(f"README's step {step} names nothing like {wanted}")
    return found[0]


# -- editing YAML as a person does: line by line, comments kept

def set_value(text, key, value):
    section, name = key.split(".")
    pattern = re.compile(rf"(^{section}:\n(?:(?:  .*)?\n|#.*\n)*?  {name}:) .*$", re.MULTILINE)
    text, count = pattern.subn(lambda match: f"{match.group(1)} {value}", text, count=1)
    if count != 1:
        raise Broken(f"there is no {key} to edit in config.yaml")
    return text


def set_section(text, section, lines):
    pattern = re.compile(rf"^{section}:\n(?:(?:  .*)?\n)*", re.MULTILINE)
    text, count = pattern.subn(lambda _: "\n".join([f"{section}:", *lines, "", ""]), text, count=1)
    if count != 1:
        raise Broken(f"there is no section {section} to edit in config.yaml")
    return text


# -- what a newcomer has already: a homeserver, and an account on an XMPP server with a contact

class Homeserver:
    """A fresh Synapse, with the configuration that it generates for itself, on a free port."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.config = folder / "homeserver.yaml"
        self.python = REPOSITORY / ".tools/synapse/bin/python"
        self.process = Process("Synapse", folder / "synapse.log")

    async def make(self):
        options = {"cwd": self.folder, "env": {**os.environ, "PYTHONUTF8": "1"}}
        generate = await Process("Synapse", self.folder / "synapse.log").start(
            self.python, "-m", "synapse.app.homeserver", "--generate-config", "--server-name", SERVER, "--report-stats", "no",
            "--config-path", self.config, "--data-directory", self.folder, **options)
        if await generate.child.wait() != 0:
            raise Broken("Synapse cannot generate its configuration")
        text = self.config.read_text()
        text, count = re.subn(r"port: 8008", f"port: {self.port}", text)
        if count != 1:
            raise Broken("Synapse's generated configuration has no port 8008")
        self.config.write_text(text)

    async def start(self, http):
        options = {"cwd": self.folder, "env": {**os.environ, "PYTHONUTF8": "1"}}
        await self.process.start(self.python, "-m", "synapse.app.homeserver", "-c", self.config, **options)
        await await_200(http, self.process, f"{self.address}/_matrix/client/versions", PATIENCE)

    async def restart(self, http):
        await self.process.stop(PATIENCE)
        await self.start(http)

    async def register(self, name):
        command = REPOSITORY / ".tools/synapse/bin/register_new_matrix_user"
        made = await Process("register_new_matrix_user", self.folder / "register.log").start(
            command, "-u", name, "-p", PASSWORD, "--no-admin", "-c", self.config, self.address)
        if await made.child.wait() != 0:
            raise Broken("the person's Matrix account cannot be made: " + "\n".join(made.tail()))


class XmppServer:
    """A Prosody with two accounts that have each other on their lists."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.config = folder / "prosody.cfg.lua"
        self.ca = folder / "ca.crt"
        self.process = Process("Prosody", folder / "prosody.log")

    def command(self, *words):
        if os.geteuid() == 0:
            return ["setpriv", "--reuid", "prosody", "--regid", "prosody", "--init-groups", "--", *words]
        return list(words)

    async def certify(self):
        """A certificate of an authority of this run's own."""
        key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        (self.folder / "leaf.ext").write_text(f"subjectAltName=DNS:{XMPP}\nextendedKeyUsage=serverAuth\n")
        for line in (f"req -x509 {key} -days 30 -keyout ca.key -out ca.crt -subj /CN=authority",
                     f"req {key} -keyout server.key -out leaf.csr -subj /CN={XMPP}",
                     "x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out server.crt -extfile leaf.ext"):
            made = await Process("openssl", self.folder / "openssl.log").start("openssl", *line.split(), cwd=self.folder)
            if await made.child.wait() != 0:
                raise Broken("the XMPP server's certificate cannot be made: " + "\n".join(made.tail()))

    async def start(self):
        await self.certify()
        (self.folder / "server.key").chmod(0o644)
        user = "prosody" if os.geteuid() == 0 else pathlib.Path.home().owner()
        self.config.write_text(f"""\
prosody_user = "{user}"
pidfile = "{self.folder}/prosody.pid"
data_path = "{self.folder}/data"
log = {{ info = "{self.folder}/info.log" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {self.port} }}
c2s_direct_tls_ports = {{}}; s2s_ports = {{}}; component_ports = {{}}; http_ports = {{}}; https_ports = {{}}
ssl = {{ certificate = "{self.folder}/server.crt"; key = "{self.folder}/server.key" }}
modules_disabled = {{ "s2s", "s2s_auth_certs" }}
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "ping", "mam", "carbons", "smacks", "pep", "offline" }}
authentication = "internal_hashed"
VirtualHost "{XMPP}"
""")
        rosters = self.folder / f"data/{XMPP.replace('.', '%2e')}/roster"
        rosters.mkdir(parents=True)
        for name, other in (("you", "friend"), ("friend", "you")):
            item = f'["{other}@{XMPP}"] = {{ subscription = "both"; name = "{other.title()}"; groups = {{}}; }};'
            (rosters / f"{name}.dat").write_text(f"return {{ [false] = {{ version = 1; }}; {item} }};\n")
        if os.geteuid() == 0:
            for path in [self.folder, *self.folder.rglob("*")]:
                shutil.chown(path, "prosody", "prosody")
        for name in ("you", "friend"):
            made = await Process("prosodyctl", self.folder / "prosodyctl.log").start(
                *self.command("prosodyctl", "--config", self.config, "register", name, XMPP, PASSWORD), cwd=self.folder)
            if await made.child.wait() != 0:
                raise Broken("an XMPP account cannot be made: " + "\n".join(made.tail()))
        await self.process.start(*self.command("prosody", "--config", self.config, "-F"), cwd=self.folder)
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    if self.process.ended:
                        raise Broken("Prosody ended instead of starting: " + "\n".join(self.process.tail())) from None
                    await asyncio.sleep(0.05)  # a port that opens cannot be awaited
                else:
                    writer.close()
                    return


class Friend(slixmpp.ClientXMPP):
    """The contact at the other side, in an XMPP client."""

    def __init__(self, server):
        super().__init__(f"friend@{XMPP}/phone", PASSWORD)
        self.watch = Watch()
        self.ca_certs = str(server.ca)
        self.port = server.port
        self.ready = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", self.started)
        self.add_event_handler("message", self.heard)

    async def started(self, _event):
        self.send_presence()
        await self.get_roster()
        if not self.ready.done():
            self.ready.set_result(True)

    async def heard(self, message):
        if message["body"]:
            await self.watch.add({"from": message["from"].bare, "body": message["body"]})

    async def come_online(self):
        self.connect("127.0.0.1", self.port)
        async with asyncio.timeout(PATIENCE):
            await self.ready


class Person:
    """The newcomer in a Matrix client (matrix-nio), who joins what they are invited to."""

    def __init__(self, address, name):
        config = nio.AsyncClientConfig(encryption_enabled=False)
        self.nio, self.watch, self.task = nio.AsyncClient(address, f"@{name}:{SERVER}", config=config), Watch(), None

    async def login(self):
        answer = await self.nio.login(PASSWORD)
        if not isinstance(answer, nio.LoginResponse):
            raise Broken(f"the newcomer cannot sign in to Matrix: {answer}")
        self.task = asyncio.create_task(self.follow())

    async def follow(self):
        while True:
            answer = await self.nio.sync(timeout=30_000, full_state=False)
            if not isinstance(answer, nio.SyncResponse):
                await asyncio.sleep(0.5)  # a homeserver that is just back
                continue
            for room, info in answer.rooms.invite.items():
                await self.nio.join(room)
            for room, info in answer.rooms.join.items():
                for event in [*info.state, *info.timeline.events]:
                    source = event.source
                    await self.watch.add({"room": room, "type": source["type"], "sender": source["sender"],
                                          "content": source.get("content", {}), "key": source.get("state_key")})

    async def say(self, room, text):
        answer = await self.nio.room_send(room, "m.room.message", {"msgtype": "m.text", "body": text})
        if not isinstance(answer, nio.RoomSendResponse):
            raise Broken(f"the homeserver does not take a message: {answer}")

    async def hears(self, room, sender, words, since):
        def wanted(event):
            return (event["room"] == room and event["sender"] == sender and event["type"] == "m.room.message"
                    and words in event["content"].get("body", ""))
        return (await self.watch.expect(wanted, f"'{words}' from {sender}", PATIENCE, since))["content"]["body"]

    async def stop(self):
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.nio.close()


# -- the ten steps

class Run:
    def __init__(self, folder, binary):
        self.folder, self.binary = folder, binary
        self.checkout = REPOSITORY
        self.steps = steps_of((self.checkout / "README.md").read_text())
        self.table, self.processes = [], []
        for name in ("bridge", "synapse", "prosody", "bin"):
            (folder / name).mkdir()
        self.bridge_folder = folder / "bridge"
        self.path = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        self.homeserver, self.xmpp = Homeserver(folder / "synapse"), XmppServer(folder / "prosody")
        self.port = free_port() if binary else free_port(29340)
        self.bridge = Process("the bridge", folder / "bridge.log")
        self.person = self.friend = self.room = None

    async def command(self, line, folder):
        """Runs a command of README in a shell, as a newcomer does; gives what it said."""
        shell = await asyncio.create_subprocess_shell(
            line, cwd=folder, env=self.path, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT)
        said, _ = await shell.communicate()
        said = said.decode(errors="replace")
        if shell.returncode != 0:
            raise Broken(f"`{line}` ended with code {shell.returncode}:\n{said}")
        return said

    async def everything(self, http):
        print("A homeserver and an XMPP server of the newcomer's are started …", flush=True)
        await self.homeserver.make()
        await self.homeserver.start(http)
        self.processes.append(self.homeserver.process)
        await self.homeserver.register("newcomer")
        await self.xmpp.start()
        self.processes.append(self.xmpp.process)
        self.friend = Friend(self.xmpp)
        await self.friend.come_online()
        for number, (text, quoted) in enumerate(self.steps, 1):
            began = time.monotonic()
            print(f"{number:>3}. {text}", flush=True)
            try:
                note = await getattr(self, f"step_{number}")(quoted, http)
            except (Broken, aiohttp.ClientError, OSError, TimeoutError) as error:
                raise Broken(f"step {number} failed: {error or type(error).__name__}") from error
            self.table.append((number, note, time.monotonic() - began))
        began = time.monotonic()
        self.table.append(("+", await self.first_chat(), time.monotonic() - began))

    async def step_1(self, quoted, _http):
        build, built = the(quoted, r"cargo build .*", 1), the(quoted, r"target/.*/messenger-bridge", 1)
        note = build
        if self.binary:
            note = f"built before: {self.binary}"
        else:
            await self.command(build, self.checkout)
        shutil.copy2(self.binary or self.checkout / built, self.folder / "bin/messenger-bridge")
        return note

    async def step_2(self, quoted, _http):
        return await self.plain(quoted, 2)

    async def plain(self, quoted, step):
        line = the(quoted, r"messenger-bridge [a-z-]+", step)
        await self.command(line, self.bridge_folder)
        return line

    async def step_3(self, quoted, _http):
        config = self.bridge_folder / the(quoted, r"config\.yaml", 3)
        text = config.read_text()
        domain = [f'      {XMPP}:', f'        address: 127.0.0.1:{self.xmpp.port}',
                  f'        tls: {{ mode: starttls, ca_file: "{self.xmpp.ca}", accept_name: null }}']
        values = {"homeserver.address": self.homeserver.address, "homeserver.domain": SERVER,
                  "appservice.listen": f"127.0.0.1:{self.port}", "appservice.address": f"http://127.0.0.1:{self.port}"}
        sections = {"permissions": [f'  "{SERVER}": user'],
                    "networks": ["  xmpp:", "    profile: xmpp", "    domains:", *domain]}
        edited = []
        for key in quoted:
            if key in values:
                text = set_value(text, key, values[key])
            elif key in sections:
                text = set_section(text, key, sections[key])
            else:
                continue
            edited.append(key)
        config.write_text(text)
        return "edited " + ", ".join(edited)

    async def step_4(self, quoted, _http):
        note = await self.plain(quoted, 4)
        written = self.bridge_folder / the(quoted, r"registration\.yaml", 4)
        if not written.exists():
            raise Broken(f"there is no {written}")
        return note

    async def step_5(self, quoted, _http):
        copied = self.folder / "synapse/messenger-bridge.yaml"
        shutil.copy2(self.bridge_folder / the(quoted, r"registration\.yaml", 5), copied)
        key = the(quoted, r"app_[a-z_]+", 5)
        with open(self.folder / "synapse" / the(quoted, r"homeserver\.yaml", 5), "a") as config:
            config.write(f"\n{key}:\n  - {copied}\n")
        return f"{key} names the copy"

    async def step_6(self, _quoted, http):
        await self.homeserver.restart(http)
        return "Synapse restarted"

    async def step_7(self, quoted, _http):
        line = the(quoted, r"messenger-bridge check", 7)
        said = await self.command(line, self.bridge_folder)
        wrong = [row for row in said.splitlines() if row.startswith("FAIL")]
        if wrong:
            raise Broken("\n".join(wrong))
        return f"{line}: {sum(row.startswith('ok') for row in said.splitlines())} checks ok"

    async def step_8(self, quoted, http):
        line = the(quoted, r"messenger-bridge run", 8)
        await self.bridge.start("sh", "-c", f"exec {line}", cwd=self.bridge_folder, env=self.path)
        self.processes.append(self.bridge)
        await await_200(http, self.bridge, f"http://127.0.0.1:{self.port}/_matrix/mau/ready", PATIENCE)
        return line

    async def step_9(self, quoted, _http):
        self.bot = the(quoted, r"@[a-z]+:your\.server", 9).replace("your.server", SERVER)
        self.person = Person(self.homeserver.address, "newcomer")
        await self.person.login()
        answer = await self.person.nio.room_create(
            is_direct=True, invite=[self.bot], preset=nio.RoomPreset.trusted_private_chat)
        if not isinstance(answer, nio.RoomCreateResponse):
            raise Broken(f"the direct chat cannot be opened: {answer}")
        self.room = answer.room_id
        await self.person.hears(self.room, self.bot, "Hello, I'm", 0)
        return f"{self.bot} says hello"

    async def step_10(self, quoted, _http):
        line = the(quoted, r"login xmpp you@example\.org", 10).replace("you@example.org", f"you@{XMPP}")
        mark = self.person.watch.mark
        await self.person.say(self.room, line)
        await self.person.hears(self.room, self.bot, "password", mark)
        await self.person.say(self.room, PASSWORD)
        await self.person.hears(self.room, self.bot, f"Signed in to you@{XMPP}", mark)
        return f"{line}: signed in"

    async def first_chat(self):
        """What the ten steps are for: the contact's room, and a message each way."""
        def portal(event):
            return event["type"] == "m.bridge" and event["content"].get("channel", {}).get("id") == f"friend@{XMPP}"
        room = (await self.person.watch.expect(portal, "the contact's room", PATIENCE))["room"]
        await self.person.say(room, "Hello from Matrix")
        await self.friend.watch.expect(lambda said: said["body"] == "Hello from Matrix", "the message at the contact", PATIENCE)
        self.friend.send_message(mto=f"you@{XMPP}", mbody="Hello from XMPP", mtype="chat")
        await self.person.watch.expect(
            lambda event: event["room"] == room and event["content"].get("body") == "Hello from XMPP",
            "the contact's answer", PATIENCE)
        return "the first chat: a message each way"

    async def stop(self):
        if self.person:
            await self.person.stop()
        if self.friend:
            self.friend.abort()
        for process in reversed(self.processes):
            if not process.ended:
                await process.stop(12)

    def summary(self):
        print("\nstep   seconds   what")
        for number, note, seconds in self.table:
            print(f"{number!s:>4}   {seconds:>7.1f}   {note}")
        print(f" all   {sum(seconds for _, _, seconds in self.table):>7.1f}")


def run_folder(wanted):
    """A new folder that Prosody can walk down to after it has given up root."""
    shutil.rmtree(wanted, ignore_errors=True)
    wanted.mkdir(parents=True)
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in wanted.parents):
        return wanted
    folder = pathlib.Path(tempfile.mkdtemp(prefix="messenger-bridge-newcomer-"))
    folder.chmod(0o755)
    return folder


async def main():
    parser = argparse.ArgumentParser(prog="script/newcomer")
    parser.add_argument("--binary", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path, default=REPOSITORY / "target/newcomer/run")
    options = parser.parse_args()
    run = Run(run_folder(options.folder.absolute()), options.binary and options.binary.absolute())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    code = 0
    async with aiohttp.ClientSession() as http:
        try:
            await run.everything(http)
        except Broken as error:
            print(f"\nFAILED: {error}", file=sys.stderr)
            print("The logs are in", run.folder, file=sys.stderr)
            print("\n".join(run.bridge.tail()), file=sys.stderr)
            code = 1
        finally:
            await run.stop()
    run.summary()
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

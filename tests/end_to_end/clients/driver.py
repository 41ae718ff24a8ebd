"""JSON lines between a test and a client: commands with an id come in, answers and events go out.

A command is `{"id": 1, "do": "send", ...}`. Its answer is `{"answer": 1, "ok": ...}` or `{"answer": 1, "error": "..."}`.
Everything else that goes out is an event: `{"event": "message", ...}`.
"""

import asyncio
import base64
import hashlib
import json
import random
import sys
import traceback


def emit(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def content_of(content):
    """The bytes of a file: `{"base64": ...}`, or `{"size": n}` for as many that look random and are always the same."""
    if "base64" in content:
        return base64.b64decode(content["base64"])
    return random.Random(content["size"]).randbytes(content["size"])


def describe(data, mime):
    return {"sha1": hashlib.sha1(data).hexdigest(), "size": len(data), "mime": mime}


async def _obey(client, command):
    number, name = command.pop("id"), command.pop("do")
    try:
        result = await getattr(client, f"do_{name}")(**command)
        answer = {"answer": number, "ok": result}
    except Exception as error:  # whatever goes wrong is the test's to judge
        traceback.print_exc(file=sys.stderr)
        answer = {"answer": number, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)


async def obey(client):
    """Runs each command as a method `do_<name>` of `client` until the input ends. Commands that are sent one after the
    other start in that order; one that waits does not hold up the next."""
    reader = asyncio.StreamReader(limit=16 * 1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running = set()
    while line := await reader.readline():
        task = asyncio.create_task(_obey(client, json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)

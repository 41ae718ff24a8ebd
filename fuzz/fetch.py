"""Seeds for the fuzz targets from the specifications' own examples: `fetch.py DIR`, by way of `script/fuzz --fetch DIR`.

Reads every example of the XEPs below DIR (`xep-*.xml`) and every JSON example of the Matrix specification (files of JSON, and
JSON inside its YAML and Markdown), and writes them into `fetched/<target>/`."""

import hashlib
import json
import pathlib
import re
import sys

FETCHED = pathlib.Path(__file__).parent / "fetched"
EXAMPLE = re.compile(r"<example\b[^>]*>\s*<!\[CDATA\[(.*?)\]\]>\s*</example>", re.DOTALL)
# The examples' own people and rooms become those of the properties, so that they get past the door.
CONTACTS = re.compile(r"(juliet|romeo)@[a-z.]+\b")
counts = {}


def put(target, name, data):
    data = data if isinstance(data, bytes) else data.encode()
    if len(data) > 16384:
        return
    folder = FETCHED / target
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{hashlib.sha1(data).hexdigest()[:12]}"
    if not path.exists():
        path.write_bytes(data)
        counts[target] = counts.get(target, 0) + 1


def xeps(root):
    found = 0
    for path in sorted(root.rglob("xep-[0-9]*.xml")):
        for text in EXAMPLE.findall(path.read_text(errors="replace")):
            found += 1
            text = text.strip()
            put("guard", path.stem, text)
            ours = CONTACTS.sub(lambda who: {"juliet": "juliet@capulet.lit", "romeo": "romeo@montague.lit"}[who[1]], text)
            put("stanza", path.stem, ours)
            for address in re.findall(r"\b(?:to|from|jid)=['\"]([^'\"]{1,200})['\"]", text):
                put("address", path.stem, address)
    return found


def objects(text):
    """Every JSON object that stands in a text of another kind."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            if isinstance(value, dict) and value:
                yield value
        at = text.find("{", end)


def event(value):
    content = value.get("content")
    if not isinstance(content, dict):
        return
    if value.get("type") == "m.room.message" or "msgtype" in content:
        put("message", "spec", json.dumps(content))
    ephemeral = value.get("type") in ("m.typing", "m.receipt", "m.presence")
    whole = {"event_id": "$spec", "sender": "@romeo:h.test", "type": "m.room.message", "origin_server_ts": 1, **value}
    whole.update(room_id="!portal:h.test")
    for sender in ("@romeo:h.test", whole["sender"]):
        part = {**whole, "sender": sender}
        put("transaction", "spec", json.dumps({"ephemeral" if ephemeral else "events": [part]}))


def matrix(root):
    found = 0
    for path in sorted(root.rglob("*")):
        if path.suffix not in (".json", ".yaml", ".yml", ".md") or "xeps" in path.parts or not path.is_file():
            continue
        for value in objects(path.read_text(errors="replace")):
            found += 1
            event(value)
            put("message", "spec", json.dumps(value))
            if "events" in value or "ephemeral" in value:
                put("transaction", "spec", json.dumps(value))
            else:
                put("transaction", "spec", json.dumps({"events": [value]}))
    return found


def main():
    root = pathlib.Path(sys.argv[1])
    if not root.is_dir():
        sys.exit(f"{root} is no folder")
    examples, values = xeps(root), matrix(root)
    if not examples and not values:
        sys.exit(f"there are no XEPs (xep-*.xml) and no JSON examples below {root}")
    print(f"{examples} examples of the XEPs, {values} of the Matrix specification")
    for target, count in sorted(counts.items()):
        print(f"{count} new seeds in {FETCHED / target}")


main()

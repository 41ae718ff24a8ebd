"""The demo: real servers, a real sign-in, a conversation. `script/demo` starts it."""

import argparse
import asyncio
import fcntl
import os
import shutil
import signal
import sys

import aiohttp

from processes import Broken
from screen import BOLD, DIM, GREEN, RED, Screen
from servers import REPOSITORY
from story import Story

FOLDER = REPOSITORY / ".run/demo"
PATIENCE = 30.0  # seconds for any one thing awaited


async def clean_up(story):
    """Ends every process; the bridge gets the 10 s in which it ends in order."""
    await story.person.stop()
    for process in story.processes:
        if process.child and not process.ended:
            await process.stop(12 if process is story.bridge.process else 5)


def how_to_join(screen, story):
    screen.title("Your turn")
    for line in (
        "Join with Element (the desktop app, or a browser on this machine):",
        "",
        f"    homeserver   {screen.paint(story.synapse.address, BOLD)}",
        f"    user         {screen.paint('you', BOLD)}",
        f"    password     {screen.paint(story.password, BOLD)}",
        "",
        f"Write to {', '.join(list(story.rooms)[:-1])} or {list(story.rooms)[-1]}: Heron only listens, the others answer.",
        f"From another machine: ssh -L {story.synapse.port}:127.0.0.1:{story.synapse.port} <this machine>, then the same address.",
        "What crosses the bridge appears here. Ctrl-C stops everything and removes it.",
    ):
        screen.line(line)
    screen.heads()


def summary(screen, story):
    screen.title("What happened")
    for title, seconds in story.steps:
        screen.end(title, seconds)
    total = sum(seconds for _, seconds in story.steps)
    screen.line()
    screen.line(screen.paint(f"All {len(story.steps)} steps passed in {total:.0f} s.", BOLD, GREEN))


def failure(screen, story, error):
    step = getattr(error, "step", "staying up")
    reason = str(error) or type(error).__name__
    screen.line()
    screen.line(screen.paint(f"Failed: {step}", BOLD, RED))
    screen.line(screen.paint(reason, RED))
    for process in story.processes:
        if tail := process.tail():
            screen.title(f"The end of the log of {process.name}")
            for line in tail:
                screen.line(screen.paint(line, DIM))
    screen.line()
    screen.line(f"The logs stay in {FOLDER.relative_to(REPOSITORY)}.")


async def run(once, patience, screen):
    # What another demo left, or this one's last failure.
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True, mode=0o700)
    code = 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60), auto_decompress=True) as http:
        story = Story(screen, http, FOLDER, patience)
        stop = screen.gone = asyncio.current_task().cancel
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        try:
            await story.play()
            if once:
                summary(screen, story)
            else:
                how_to_join(screen, story)
                await story.stay()
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            code = 130 if once else 0
        except (Broken, aiohttp.ClientError, TimeoutError, OSError) as error:
            failure(screen, story, error)
            code = 1
        finally:
            screen.begin("stopping everything")
            await clean_up(story)
            screen.settle()
    if code != 1:
        shutil.rmtree(FOLDER, ignore_errors=True)
    return code


def main():
    parser = argparse.ArgumentParser(prog="script/demo", description="Shows the bridge at work, with real servers on loopback.")
    parser.add_argument("--once", action="store_true", help="do everything once, verify each step, and end")
    once = parser.parse_args().once
    try:
        patience = PATIENCE * float(os.environ.get("E2E_PATIENCE", "1"))
    except ValueError:
        parser.error("E2E_PATIENCE is not a number")
    FOLDER.parent.mkdir(exist_ok=True)
    with open(FOLDER.parent / "demo.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            parser.exit(1, "script/demo: another demo runs in this folder; stop it first\n")
        sys.exit(asyncio.run(run(once, patience, Screen())))


main()

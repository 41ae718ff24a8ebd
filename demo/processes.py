"""Child processes that never outlive the demo, however it ends."""

import asyncio
import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


class Broken(Exception):
    """Something that had to happen did not; the text says what."""


def die_with_parent():
    """In the child: even if the demo is killed, the kernel ends it."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child in a process group of its own, with its outputs in a log."""

    def __init__(self, name, log):
        self.name, self.log, self.child = name, log, None

    async def start(self, *command, piped=False, **options):
        with open(self.log, "ab") as log:
            self.child = await asyncio.create_subprocess_exec(
                *map(str, command), stdin=asyncio.subprocess.PIPE if piped else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if piped else log, stderr=log, start_new_session=True,
                preexec_fn=die_with_parent, limit=1 << 20, **options)
        return self

    @property
    def ended(self):
        return self.child is not None and self.child.returncode is not None

    def signal(self, number):
        if self.child and not self.ended:
            try:
                os.killpg(self.child.pid, number)
            except ProcessLookupError:
                pass

    async def stop(self, patience):
        """Asks it to end, and ends it. Returns whether it went by itself."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(patience):
                await self.child.wait()
            return True
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.child.wait()
            return False

    def tail(self, lines=25):
        """The end of its log."""
        try:
            with open(self.log, "rb") as log:
                log.seek(max(0, os.path.getsize(self.log) - 16_384))
                return log.read().decode(errors="replace").splitlines()[-lines:]
        except OSError:
            return []


class Watch:
    """A growing record of events (dictionaries, each gets its place as `at`) that can be awaited."""

    KEPT = 20_000  # events; older ones are forgotten

    def __init__(self):
        self.events, self.forgotten, self.news, self.failure = [], 0, asyncio.Condition(), None

    @property
    def mark(self):
        """The present end of the record."""
        return self.forgotten + len(self.events)

    async def add(self, *events):
        async with self.news:
            for event in events:
                event["at"] = self.mark
                self.events.append(event)
            if (over := len(self.events) - self.KEPT) > 0:
                del self.events[:over]
                self.forgotten += over
            self.news.notify_all()

    async def fail(self, why):
        async with self.news:
            self.failure = why
            self.news.notify_all()

    async def expect(self, wanted, what, patience, since=0):
        """The first event after the mark `since` that `wanted` accepts."""
        seen = since
        try:
            async with asyncio.timeout(patience), self.news:
                while True:
                    for event in self.events[max(0, seen - self.forgotten):]:
                        if wanted(event):
                            return event
                    seen = self.mark
                    if self.failure:
                        raise Broken(f"{what}: {self.failure}")
                    await self.news.wait()
        except TimeoutError:
            raise Broken(f"{what}: nothing of the kind within {patience:.0f} s") from None

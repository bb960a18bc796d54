"""A program that uses blocking commands."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import redis

from tests.proxy.client_libraries.libraries import done
from tests.proxy.client_libraries.workers import BLOCK, Turn, Workers


class Pops(Workers):
    """A worker adds numbers to lists, sorted sets and streams, and others take them with blocking commands.

    What an error says that may have been executed was perhaps taken from the list, but only that one element.
    """

    elsewhere = ("many",)

    def __init__(self, library: Any, tag: str, others: Sequence[str]) -> None:
        super().__init__("blocking commands", library)
        self._tag = tag
        self._lists = [f"{{{each}}}:many:{tag}" for each in (tag, *others)]
        self._sent: defaultdict[str, set[int]] = defaultdict(set)
        self._maybe_sent: defaultdict[str, set[int]] = defaultdict(set)
        self._taken: defaultdict[str, set[int]] = defaultdict(set)
        self._maybe_taken: Counter[str] = Counter()
        self._last = b"0"
        self._pending = False
        self._no_group = True
        self._producing = True
        self._kinds: dict[str, Callable[[str], Awaitable[int | None]]] = {
            "blpop": self._blpop,
            "brpop": self._brpop,
            "many": self._many,
            "blmove": self._blmove,
            "bzpopmin": self._bzpopmin,
            "xread": self._xread,
            "xreadgroup": self._xreadgroup,
        }
        self.start(produce=self._produce, **{kind: self._consumer(kind) for kind in self._kinds})

    async def _work(self, name: str, turn: Turn) -> None:
        await super()._work(name, turn)
        if name == "produce":
            self._producing = False
            return
        # Take what is left: until a command has waited in vain after the last element was added.
        while True:
            last, errors, taken = not self._producing, self._maybe_taken[name], len(self._taken[name])
            await self.round(name, turn(0))
            if last and taken == len(self._taken[name]) and (errors == self._maybe_taken[name] or errors > 100):
                return

    def _key(self, kind: str) -> str:
        return f"{{{self._tag}}}:{kind}"

    async def _produce(self, number: int) -> None:
        kind = list(self._kinds)[number % len(self._kinds)]
        self._sent[kind].add(number)
        try:
            if kind == "bzpopmin":
                await done(self.client.zadd(self._key(kind), {str(number): number}))
            elif kind.startswith("xread"):
                await done(self.client.xadd(self._key(kind), {"n": number}))
            elif kind == "many":
                await done(self.client.rpush(self._lists[number // len(self._kinds) % 3], number))
            else:
                await done(self.client.rpush(self._key(kind), number))
        except redis.RedisError:
            self._maybe_sent[kind].add(number)
            raise

    def _consumer(self, kind: str) -> Turn:
        async def consume(number: int) -> None:
            try:
                found = await self._kinds[kind](self._key(kind))
            except redis.RedisError:
                self._maybe_taken[kind] += 1
                raise
            if found is not None:
                assert found in self._sent[kind], f"{kind} of {found}, which was never added"
                assert found not in self._taken[kind], f"{kind} of {found} a second time"
                self._taken[kind].add(found)

        return consume

    async def _blpop(self, key: str) -> int | None:
        found = await done(self.client.blpop(key, timeout=BLOCK))
        return found and int(found[1])

    async def _brpop(self, key: str) -> int | None:
        found = await done(self.client.brpop(key, timeout=BLOCK))
        return found and int(found[1])

    async def _many(self, key: str) -> int | None:
        found = await done(self.client.blpop(self._lists, timeout=BLOCK))
        return found and int(found[1])

    async def _blmove(self, key: str) -> int | None:
        found = await done(self.client.blmove(key, key + ":to", BLOCK))
        return found and int(found)

    async def _bzpopmin(self, key: str) -> int | None:
        found = await done(self.client.bzpopmin(key, timeout=BLOCK))
        return found and int(found[1])

    async def _xread(self, key: str) -> int | None:
        found = await done(self.client.xread({key: self._last}, count=1, block=BLOCK * 1000))
        if not found:
            return None
        self._last, fields = _entry(found)
        return int(fields[b"n"])

    async def _xreadgroup(self, key: str) -> int | None:
        """Read and acknowledge an entry; after an error, first those that were delivered before."""
        if self._no_group:
            try:
                await done(self.client.xgroup_create(key, "group", "0", mkstream=True))
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
            self._no_group = False
        start, self._pending = "0" if self._pending else ">", True
        options = {"count": 1, "block": BLOCK * 1000}
        found = await done(self.client.xreadgroup("group", "consumer", {key: start}, **options))
        entry = _entry(found) if found else None
        if entry is None:
            self._pending = False
            return None if start == ">" else await self._xreadgroup(key)
        await done(self.client.xack(key, "group", entry[0]))
        self._pending = False
        return int(entry[1][b"n"])

    def check(self, client: redis.Redis) -> None:
        for kind, sent in self._sent.items():
            missing = sent - self._maybe_sent[kind] - self._taken[kind]
            if kind == "blmove":
                moved: Any = client.lrange(self._key(kind) + ":to", 0, -1)
                assert len(moved) == len(set(moved)), "an element was moved twice"
                missing -= set(map(int, moved))
            # Reading a stream takes nothing.
            most = 0 if kind in ("xread", "xreadgroup", "blmove") else self._maybe_taken[kind]
            assert len(missing) <= most, f"{kind}: {sorted(missing)} are lost, with {most} errors"


def _entry(reply: Any) -> Any:
    """Return the one entry of a reply to XREAD, of RESP2 or RESP3."""
    while isinstance(reply, list | dict):
        reply = next(iter(reply.values()), None) if isinstance(reply, dict) else reply[-1] if reply else None
        if isinstance(reply, tuple):
            return reply
    return None

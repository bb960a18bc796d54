"""Slots on the move in a cluster of real servers: key by key, or atomically."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from ..errors import ReplyError
from .processes import Server, returns_deferred

# Slots that are moved side by side, key by key.
_SLOTS_AT_ONCE = 16


class SlotMoves(ABC):
    """What a LocalCluster can do with slots."""

    host: str
    password: str | None

    @abstractmethod
    def ask(self, server: Server, *args: Any, timeout: float = 5.0) -> Deferred[Any]:
        """Send a command to one server."""

    @abstractmethod
    def primaries(self) -> Deferred[list[Server]]:
        """The live servers that serve slots."""

    @abstractmethod
    def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> Deferred[None]:
        """Wait for a condition, but not for ever."""

    @returns_deferred
    async def open_slot(self, slot: int, source: Server, target: Server) -> None:
        """Begin to move a slot: keys that are not at the source any more are answered with ASK."""
        await self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        await self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    @returns_deferred
    async def move_keys(self, slot: int, source: Server, target: Server) -> None:
        """MIGRATE every key of an open slot."""
        auth = ("AUTH", self.password) if self.password else ()
        while keys := await self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            await self.ask(source, "MIGRATE", self.host, target.port, "", 0, 5000, *auth, "KEYS", *keys)

    @returns_deferred
    async def close_slot(self, slot: int, source: Server, target: Server) -> None:
        """End the move: the target is the owner, by its own word first."""
        await self._close_slot(slot, source, target, await self.primaries())

    async def _close_slot(self, slot: int, source: Server, target: Server, primaries: list[Server]) -> None:
        others = [server for server in primaries if server not in (source, target)]
        for server in (target, source, *others):
            try:
                await self.ask(server, "CLUSTER", "SETSLOT", slot, "NODE", target.id)
            except ReplyError as error:
                # The source still finds a key that was written after the last MIGRATE.
                if "still hold keys" not in str(error):
                    raise
                await self.move_keys(slot, source, target)
                await self.ask(server, "CLUSTER", "SETSLOT", slot, "NODE", target.id)

    @returns_deferred
    async def migrate_by_key(self, slots: Iterable[int], source: Server, target: Server) -> None:
        """Move slots the old way, with a window of ASK and TRYAGAIN for each."""
        primaries = await self.primaries()

        async def migrate(slot: int) -> None:
            await self.open_slot(slot, source, target)
            await self.move_keys(slot, source, target)
            await self._close_slot(slot, source, target, primaries)

        left = iter(slots)
        while batch := list(islice(left, _SLOTS_AT_ONCE)):
            await gatherResults([Deferred.fromCoroutine(migrate(slot)) for slot in batch], consumeErrors=True)

    @returns_deferred
    async def migrate_atomically(self, start: int, end: int, source: Server, target: Server) -> None:
        """Move a range of slots, ends included, with CLUSTER MIGRATESLOTS (Valkey 9)."""
        await self.ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", start, end, "NODE", target.id)
        await self.until(lambda: migrated(partial(self.ask, source)), f"slots {start} to {end} to move")


class MigrationFailed(RuntimeError):
    """The server gave up an atomic migration; the text says why."""


async def migrated(ask_source: Callable[..., Deferred[Any]]) -> bool:
    """Whether the latest atomic migration of a node has succeeded.  Raises MigrationFailed."""
    jobs = await ask_source("CLUSTER", "GETSLOTMIGRATIONS")
    job = jobs[0] if isinstance(jobs[0], dict) else dict(zip(jobs[0][::2], jobs[0][1::2], strict=True))
    state = job[b"state"].decode()
    if state in ("failed", "cancelled"):
        raise MigrationFailed(f"the migration {state}: {job.get(b'message', b'').decode()}")
    return bool(state == "success")

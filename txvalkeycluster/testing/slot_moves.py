"""Moving slots between real servers: key by key, or atomically.

Source: https://valkey.io/commands/cluster-setslot/ and https://valkey.io/topics/atomic-slot-migration
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from ..errors import ReplyError
from .processes import Server, returns_deferred
from .questions import ServerQuestions

# How many slots are moved at the same time.
_SLOTS_AT_ONCE = 16


class SlotMoves(ServerQuestions):
    """The methods of `LocalCluster` that move slots."""

    @returns_deferred
    async def open_slot(self, slot: int, source: Server, target: Server) -> None:
        """Begin to move a slot key by key (SETSLOT IMPORTING and MIGRATING).

        From now on the source answers commands for keys that it does not hold with an ASK redirect.

        Args:
            slot: The slot, 0 to 16383.
            source: The server that owns it.
            target: The server that it moves to.
        """
        await self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        await self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    @returns_deferred
    async def move_keys(self, slot: int, source: Server, target: Server) -> None:
        """Move all keys of an open slot (MIGRATE).

        Args:
            slot: The slot, 0 to 16383.
            source: The server that owns it.
            target: The server that it moves to.
        """
        auth = ("AUTH", self.password) if self.password else ()
        while keys := await self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            await self.ask(source, "MIGRATE", self.host, target.port, "", 0, 5000, *auth, "KEYS", *keys)

    @returns_deferred
    async def close_slot(self, slot: int, source: Server, target: Server) -> None:
        """End the move of a slot (SETSLOT NODE): first at the target, then at the source and all other primaries.

        Args:
            slot: The slot, 0 to 16383.
            source: The server that owned it.
            target: The server that owns it from now on.
        """
        await self._close_slot(slot, source, target, await self.primaries())

    async def _close_slot(self, slot: int, source: Server, target: Server, primaries: list[Server]) -> None:
        others = [server for server in primaries if server not in (source, target)]
        for server in (target, source, *others):
            try:
                await self.ask(server, "CLUSTER", "SETSLOT", slot, "NODE", target.id)
            except ReplyError as error:
                # A key was written after the last MIGRATE.
                if "still hold keys" not in str(error):
                    raise
                await self.move_keys(slot, source, target)
                await self.ask(server, "CLUSTER", "SETSLOT", slot, "NODE", target.id)

    @returns_deferred
    async def migrate_by_key(self, slots: Iterable[int], source: Server, target: Server) -> None:
        """Move slots key by key.  Meanwhile the servers answer some commands with ASK or TRYAGAIN.

        Args:
            slots: The slots, 0 to 16383.
            source: The server that owns them.
            target: The server that they move to.

        Returns:
            A Deferred that fires with None when all slots have moved.
        """
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
        """Move a range of slots at once (CLUSTER MIGRATESLOTS).  It needs Valkey 9.

        Args:
            start: The first slot.
            end: The last slot; it is moved too.
            source: The server that owns them.
            target: The server that they move to.

        Returns:
            A Deferred that fires with None when the slots have moved.

        Raises:
            MigrationFailed: The server gave up.
            TimeoutError: The slots have not moved after 30 s.
            ReplyError: The server refused, for example because it is older than Valkey 9.
        """
        await self.ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", start, end, "NODE", target.id)
        await self.until(lambda: migrated(partial(self.ask, source)), f"slots {start} to {end} to move")


class MigrationFailed(RuntimeError):
    """The server gave up an atomic migration of slots.  The text has the server's reason."""


async def migrated(ask_source: Callable[..., Deferred[Any]]) -> bool:
    """Ask a node whether its latest atomic migration has succeeded.

    Args:
        ask_source: Sends a command to the source of the migration.

    Returns:
        Whether it has succeeded; False while it goes on.

    Raises:
        MigrationFailed: It failed or was cancelled.
    """
    jobs = await ask_source("CLUSTER", "GETSLOTMIGRATIONS")
    job = jobs[0] if isinstance(jobs[0], dict) else dict(zip(jobs[0][::2], jobs[0][1::2], strict=True))
    state = job[b"state"].decode()
    if state in ("failed", "cancelled"):
        raise MigrationFailed(f"the migration {state}: {job.get(b'message', b'').decode()}")
    return bool(state == "success")

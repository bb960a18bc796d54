"""Iteration over all keys of the cluster, and over the members of one: asynchronous iterators.

Every key that is there from beginning to end is given at least once, whatever moves meanwhile.  A scan of a slot is
good if the slot had the same owner, of the same configuration epoch, and was as open or closed, when it began and when
it ended; the slots of which that cannot be said are scanned again.  Keys on their way out of an open slot are looked
for at its target after its source.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater

from .errors import ClientClosed, CommandTimeout, ConnectFailed, ConnectionLost, ReplyError, ValkeyError
from .pack import Arg
from .router import Router
from .slots import SLOT_COUNT, argument_slot
from .topology import Node

_DONE = (b"0", "0")
# Between two passes over slots that have moved.
_PAUSE = 0.05
_Lost = (ConnectFailed, ConnectionLost, CommandTimeout)


@dataclass(frozen=True, slots=True)
class _Standing:
    """How a slot stands, by its owner's own word."""

    owner: str
    epoch: int
    #: The node its keys are being moved to; empty if it is not open.
    target: str


_NOBODYS = _Standing("", 0, "")


class KeyScan:
    """One scan of the whole cluster."""

    def __init__(self, router: Router, options: tuple[Arg, ...], timeout: float | None) -> None:
        self._router = router
        self._options = options
        self._timeout = timeout
        # One byte for each slot that has yet to be scanned.
        self._pending = bytearray(b"\1" * SLOT_COUNT)
        # The nodes that were gone through from end to end in this pass.
        self._scanned: set[str] = set()

    async def keys(self) -> AsyncIterator[Any]:
        """Every key, at least once."""
        whole = True
        stuck_since: float | None = None
        while True:
            self._scanned.clear()
            lost: Exception | None = None
            before = await self._standings()
            try:
                if whole and _NOBODYS not in before.values():
                    async for key in self._by_cursor():
                        yield key
                else:
                    async for key in self._by_node(before):
                        yield key
                async for key in self._of_open_slots(before):
                    yield key
            except _Lost as error:
                # The map catches up with what befell the node; what it has not given is still pending.
                lost = error
            else:
                whole = False
            after = await self._standings()
            if not whole and self._settle(before, after):
                stuck_since = None
            elif stuck_since is None:
                stuck_since = self._router.clock.seconds()
            if not any(self._pending):
                return
            if self._is_over(stuck_since):
                raise lost or ConnectionLost(f"{sum(self._pending)} slots did not stand still to be scanned")
            await deferLater(self._router.clock, _PAUSE)

    def _is_over(self, stuck_since: float | None) -> bool:
        if stuck_since is None or self._timeout is None:
            return False
        return bool(self._router.clock.seconds() > stuck_since + self._timeout)

    def _settle(self, before: dict[int, _Standing], after: dict[int, _Standing]) -> bool:
        """Tick off the slots that stood still; return whether there were any."""
        good = [
            slot
            for slot, standing in before.items()
            if self._pending[slot] and after.get(slot) == standing and standing.owner in self._scanned
        ]
        for slot in good:
            self._pending[slot] = 0
        return bool(good)

    async def _by_cursor(self) -> AsyncIterator[Any]:
        """CLUSTERSCAN, whose cursor leads from slot to slot; servers before 9.1 have it not."""
        cursor: Any = "0"
        while True:
            try:
                words = ("CLUSTERSCAN", cursor, *self._options)
                cursor, keys = await self._router.execute(words, None, self._timeout)
            except ReplyError as error:
                if cursor != "0" or not _is_missing(error):
                    raise
                async for key in self._by_node(None):
                    yield key
                return
            for key in keys:
                yield key
            if cursor in _DONE:
                self._scanned.update(node.id for node in self._router.topology.primaries)
                return

    async def _by_node(self, standings: dict[int, _Standing] | None) -> AsyncIterator[Any]:
        """SCAN of the owners of pending slots."""
        owners = {standing.owner for slot, standing in (standings or {}).items() if self._pending[slot]}
        for node in self._router.topology.primaries:
            if standings is None or node.id in owners:
                async for key in self._scan(node):
                    yield key
                self._scanned.add(node.id)
        self._scanned.add(_NOBODYS.owner)

    async def _of_open_slots(self, standings: dict[int, _Standing]) -> AsyncIterator[Any]:
        """SCAN of the nodes that keys of open slots leave, then of those they come to.

        CLUSTERSCAN itself is redirected to the target as soon as a slot is open, and misses what has not left yet.
        """
        slots = [standing for slot, standing in standings.items() if standing.target and self._pending[slot]]
        for ids in ({standing.owner for standing in slots}, {standing.target for standing in slots}):
            for node in self._router.topology.primaries:
                if node.id in ids:
                    async for key in self._scan(node):
                        yield key

    async def _scan(self, node: Node) -> AsyncIterator[Any]:
        cursor: Any = "0"
        while True:
            cursor, keys = await self._router.execute_on(node, ("SCAN", cursor, *self._options), self._timeout)
            for key in keys:
                if self._pending[argument_slot(key)]:
                    yield key
            if cursor in _DONE:
                return

    async def _standings(self) -> dict[int, _Standing]:
        """How every slot stands whose owner answers."""
        try:
            await self._router.refresh()
        except ClientClosed:
            raise
        except ValkeyError:
            # Without a new map the old one has to serve, and what it does not show is scanned again.
            pass
        primaries = self._router.topology.primaries
        asked = [self._router.execute_on(node, ("CLUSTER", "NODES"), self._timeout) for node in primaries]
        found: dict[int, _Standing] = {}
        for success, reply in await DeferredList(asked, consumeErrors=True):
            if success:
                found.update(_own_standings(reply))
            elif reply.check(ClientClosed) or not reply.check(ValkeyError):
                reply.raiseException()
        owned = {slot for start, end, _ in self._router.topology.ranges() for slot in range(start, end + 1)}
        found.update((slot, _NOBODYS) for slot in range(SLOT_COUNT) if slot not in owned)
        return found


def _is_missing(error: ReplyError) -> bool:
    return error.code == "NOPERM" or "unknown command" in str(error)


def _own_standings(reply: Any) -> dict[int, _Standing]:
    """The slots of the node that gave a CLUSTER NODES reply."""
    text = reply if isinstance(reply, str) else reply.decode("utf-8", "replace")
    own = next((line.split() for line in text.splitlines() if "myself" in line.split()[2]), [])
    closed: list[int] = []
    targets: dict[int, str] = {}
    for word in own[8:]:
        if word.startswith("["):
            slot, arrow, target = word.strip("[]").partition("->-")
            if arrow:
                targets[int(slot)] = target
        else:
            first, _, last = word.partition("-")
            closed += range(int(first), int(last or first) + 1)
    return {slot: _Standing(own[0], int(own[6]), targets.get(slot, "")) for slot in closed}


class MemberScan:
    """One scan of the members of a key."""

    def __init__(self, router: Router, command: str, key: Any, options: tuple[Arg, ...], timeout: float | None) -> None:
        self._router = router
        self._command = command
        self._key = key
        self._options = options
        self._timeout = timeout
        self._slot = argument_slot(key)

    async def replies(self) -> AsyncIterator[list[Any]]:
        """The members of each step, flat; begun anew where the key has come to another node, whose cursors differ."""
        cursor: Any = "0"
        node = self._router.node_for(self._slot)
        while True:
            words = (self._command, self._key, cursor, *self._options)
            cursor, members = await self._router.execute(words, None, self._timeout)
            now = self._router.node_for(self._slot)
            if now is not node and node is not None:
                cursor, node = "0", now
                continue
            node = now
            yield members
            if cursor in _DONE:
                return

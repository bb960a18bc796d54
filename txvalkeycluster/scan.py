"""Iteration over all keys of the cluster, and over the members of one: asynchronous iterators.

Every key that is there from beginning to end is given at least once, whatever moves meanwhile.  For each node that is
proved by what it says of itself before and after its scan: the scan holds for the slots that it served all the time,
as the same process, in the same configuration epoch, and as open or closed as before.  Any other slot is scanned again,
at its owner of that time.  A key on its way out of an open slot is looked for at the target after the source: keys
move from the source to the target only.

CLUSTERSCAN is not used.  Where its cursor meets an open slot, the server sends the client to the target, whose cursor
leads past everything that the source still holds (Valkey 9.1.2).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

from twisted.internet.task import deferLater

from .address import Address
from .commands import Command
from .commands.encoder import Arg, pack
from .errors import ClientClosed, CommandTimeout, ConnectFailed, ConnectionLost, ProtocolError, ReplyError, ValkeyError
from .requests.request import Call, Connection, Destination
from .routing.retry_policy import NOT_HERE_OR_NOT_NOW
from .routing.router import Router
from .slots import SLOT_COUNT, argument_slot
from .topology.model import Node, Shard
from .topology.nodes_parser import OwnView, read_own_view

_DONE = (b"0", "0")
#: Between two passes over slots that have moved, and before a step is repeated.
PAUSE = 0.05
# How often a step is repeated at the same cursor after its connection was lost.
_REPEATED = 3


class _Unsettled(Exception):
    """A node that cannot be scanned just now."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a node says of itself, and which process says it."""

    view: OwnView
    #: The server's run id; the connection for users who may not ask.
    process: object

    @property
    def holder(self) -> tuple[str, bool, int, object]:
        """All that has to stay the same for any of its slots."""
        return self.view.node.id, self.view.node.role == "primary", self.view.epoch, self.process

    def slots(self) -> dict[int, str]:
        """Its slots, each with the id of the node that its keys are moved to; empty if it is closed."""
        slots = dict.fromkeys((slot for start, end in self.view.slots for slot in range(start, end + 1)), "")
        slots.update((slot.slot, slot.node_id) for slot in self.view.open_slots if slot.direction == "migrating")
        return slots


class KeyScan:
    """One scan of the whole cluster."""

    def __init__(self, router: Router, options: tuple[Arg, ...], timeout: float | None) -> None:
        self._router = router
        self._options = options
        self._timeout = timeout
        self._pending = set(range(SLOT_COUNT))
        # Those without an owner in the map before, and since when no slot was proved.
        self._unowned: set[int] = set()
        self._stuck_since: float | None = None

    async def keys(self) -> AsyncIterator[Any]:
        """Every key, at least once."""
        while True:
            left = len(self._pending)
            reason = await self._refresh()
            for shard in self._router.topology.shards:
                if shard.primary is not None and self._is_wanted(shard):
                    try:
                        async for key in self._scan_node(shard.primary):
                            yield key
                    except _Unsettled as error:
                        reason = str(error)
            if not self._pending:
                return
            self._check_progress(left, reason)
            await deferLater(self._router.clock, PAUSE)

    async def _refresh(self) -> str:
        """Have a new map, and tick off the slots that have had no owner for two maps: they have no keys."""
        try:
            await self._router.refresh()
        except ClientClosed:
            raise
        except ValkeyError as error:
            # The old map has to serve.  It proves nothing.
            return str(error)
        owned = {slot for start, end, _ in self._router.topology.ranges() for slot in range(start, end + 1)}
        unowned = set() if len(owned) == SLOT_COUNT else self._pending - owned
        self._pending -= self._unowned & unowned
        self._unowned = unowned
        return "slots moved"

    def _is_wanted(self, shard: Shard) -> bool:
        """Whether it has a slot that is still pending."""
        return any(slot in self._pending for start, end in shard.slots for slot in range(start, end + 1))

    def _check_progress(self, left: int, reason: str) -> None:
        now = self._router.clock.seconds()
        if len(self._pending) < left or self._stuck_since is None:
            self._stuck_since = now if len(self._pending) == left else None
        elif now > self._stuck_since + (self._timeout or inf):
            raise CommandTimeout(
                f"a scan made no progress for {now - self._stuck_since:.1f} s: {len(self._pending)} slots are left, "
                f"the first is {min(self._pending)}: {reason}"
            )

    async def _scan_node(self, node: Node) -> AsyncIterator[Any]:
        """Scan the pending slots of one node, and those they are moved to."""
        before = await self._standing(node)
        slots = {slot: target for slot, target in before.slots().items() if slot in self._pending}
        if not slots or before.view.node.role != "primary":
            return
        async for key in self._scan(node, before, slots):
            yield key
        for target in {target for target in slots.values() if target}:
            leaving = [slot for slot, its_target in slots.items() if its_target == target]
            async for key in self._scan_target(before.view.others.get(target), leaving, node):
                yield key
        after = await self._standing(node)
        if after.holder == before.holder:
            stood = after.slots()
            self._pending.difference_update(slot for slot, target in slots.items() if stood.get(slot) == target)

    async def _scan_target(self, target: Node | None, slots: list[int], source: Node) -> AsyncIterator[Any]:
        if target is None:
            raise _Unsettled("an open slot is moved to a node that its source does not know")
        if not await self._router.may_be_asked(target, source):
            raise _Unsettled(f"an open slot is moved to {target.address}, which no other node knows")
        before = await self._standing(target)
        async for key in self._scan(target, before, slots):
            yield key
        if (await self._standing(target)).holder != before.holder:
            raise _Unsettled(f"{target.address} changed while it was scanned")

    async def _scan(self, node: Node, standing: _Standing, slots: Iterable[int]) -> AsyncIterator[Any]:
        """The keys of some slots on one node."""
        wanted = frozenset(slots)
        cursor: Any = "0"
        lost = 0
        while True:
            try:
                cursor, keys = _step_of(await self._ask(node, "SCAN", cursor, *self._options), "SCAN")
                lost = 0
            except _Unsettled:
                # The cursor is good as long as the process lives.
                lost += 1
                await deferLater(self._router.clock, PAUSE)
                if lost > _REPEATED or (await self._standing(node)).process != standing.process:
                    raise
                continue
            if not all(isinstance(key, (bytes, str)) for key in keys):
                raise ProtocolError(f"{node.address} answered SCAN with something else than keys")
            for key in keys:
                if argument_slot(key) in wanted:
                    yield key
            if cursor in _DONE:
                return

    async def _standing(self, node: Node) -> _Standing:
        view = read_own_view(await self._ask(node, "CLUSTER", "NODES"), node.address or Address("", 0))
        try:
            info = await self._ask(node, "INFO", "server")
        except ReplyError:
            # The user may not ask.
            info = ""
        text = info.decode("utf-8", "replace") if isinstance(info, bytes) else info if isinstance(info, str) else ""
        process = next((line for line in text.splitlines() if line.startswith("run_id:")), None)
        return _Standing(view, process if process is not None else self._router.connection_of(node))

    async def _ask(self, node: Node, *words: Arg) -> Any:
        """Ask one node.  Raises _Unsettled for what may be better at the next try."""
        try:
            return await self._router.execute_on(node, words, self._timeout)
        except (ConnectFailed, ConnectionLost, CommandTimeout) as error:
            raise _Unsettled(str(error)) from error
        except ReplyError as error:
            if error.code in NOT_HERE_OR_NOT_NOW:
                raise _Unsettled(f"{node.address}: {error}") from error
            raise


def _step_of(reply: Any, command: str) -> tuple[Any, list[Any]]:
    """Cursor and items of one step.  Raises ProtocolError."""
    if (
        isinstance(reply, list)
        and len(reply) == 2
        and isinstance(reply[0], (bytes, str))
        and isinstance(reply[1], list)
    ):
        return reply[0], reply[1]
    raise ProtocolError(f"{command} was answered with something else than a cursor and a list")


class MemberScan:
    """One scan of the members of a key."""

    def __init__(self, router: Router, command: str, key: Any, options: tuple[Arg, ...], timeout: float | None) -> None:
        self._router = router
        self._command = router.commands[command]
        self._key = key
        self._options = options
        self._timeout = timeout
        self._slot = argument_slot(key)
        self._cursor: Any = "0"
        # Where the cursor comes from: to any other process it means nothing.
        self._connection: Connection | None = None

    async def replies(self) -> AsyncIterator[list[Any]]:
        """The members of each step, flat.

        It begins anew where the key has come to another node, or the connection was replaced.
        """
        doubted = False
        while True:
            step = _Step(self._router, self._command, self._words, self._slot, self._timeout)
            cursor, members = _step_of(await self._router.send(step), self._command.name)
            # The target of an open slot has no such key either if it has gone back to the source meanwhile.
            doubted = cursor in _DONE and not members and step.admit().asking and not doubted
            if doubted:
                continue
            self._cursor, self._connection = cursor, step.connection
            yield members
            if self._cursor in _DONE:
                return

    def _words(self, connection: Connection) -> tuple[Arg, ...]:
        """The next step, on a connection; the first, unless the cursor comes from there."""
        cursor = self._cursor if connection is self._connection else "0"
        return (self._command.name, self._key, cursor, *self._options)


class _Step(Call):
    """One step of a scan of members, whose cursor depends on the connection that it is written on."""

    __slots__ = ("_words", "connection")

    notes_write = True

    def __init__(
        self,
        router: Router,
        command: Command,
        words: Callable[[Connection], tuple[Arg, ...]],
        slot: int,
        timeout: float | None,
    ) -> None:
        now, deadline = router.clock.seconds(), router.deadline_of(timeout)
        super().__init__(b"", command, slot, now, deadline, True, router.note_cancel)
        self._words = words
        #: Where it was written last.
        self.connection: Connection | None = None

    def give_to(self, destination: Destination) -> None:
        if self.admit().asking:
            destination.ask(self)
        else:
            destination.send_mixed(self)

    def written_on(self, connection: Connection) -> None:
        self.connection = connection
        self.payload = pack(self._words(connection))

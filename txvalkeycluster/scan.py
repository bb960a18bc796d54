"""Scans: asynchronous iterators over all keys of the cluster, and over the members of one key.

A scan of the cluster gives every key that exists from the beginning to the end at least once, also if slots move
meanwhile.  It runs SCAN on each primary, and asks the node for CLUSTER NODES before and after.  A slot is done if
nothing changed in between: the node served it all the time, with the same process and configuration epoch, and the slot
was open or closed as before.  (A slot is open while it is moved key by key.)  All other slots are scanned again at
their owners.  For an open slot the source is scanned first and the target afterwards, since keys move only in this
direction.

CLUSTERSCAN is not used.  When its cursor reaches an open slot, the server sends the client to the target of the slot.
The target's cursor then skips the keys that the source still holds (seen with Valkey 9.1.2).
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
from .commands.method_support import Key
from .errors import (
    ClientClosed,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    ProtocolError,
    ReplyError,
    ValkeyError,
    WrongThread,
)
from .requests.interfaces import Connection, Destination
from .requests.request import Call
from .routing.retry_policy import NOT_HERE_OR_NOT_NOW
from .routing.router import Router
from .slots import SLOT_COUNT, argument_slot
from .topology.model import Node, Shard
from .topology.nodes_parser import OwnView, read_own_view

_DONE = (b"0", "0")
#: Seconds between two passes over the slots, and before a step is repeated.
PAUSE = 0.05
# How many times one step is repeated with the same cursor after its connection was lost.
_REPEATED = 3
# A set of slots is an int with a bit for each slot, because many scans can be under way: it takes 2 KB, and a set of
# Python 1.5 MB.
_ALL = (1 << SLOT_COUNT) - 1
_ONE = ord("1")


def _set_of(ranges: Iterable[tuple[int, int]]) -> int:
    """Return the set of the slots in some ranges."""
    digits = bytearray(b"0" * SLOT_COUNT)
    for start, end in ranges:
        if start == end:
            digits[start] = _ONE
        else:
            digits[start : end + 1] = b"1" * (end + 1 - start)
    digits.reverse()
    return int(digits, 2)


class _Unsettled(Exception):
    """A node cannot be scanned at the moment; the scan tries again."""


@dataclass(frozen=True, slots=True)
class _NodeState:
    """The state of a node at one moment: its slots and epoch, and its process."""

    view: OwnView
    #: The run id of the server, or our connection to it if the user may not run INFO.
    process: object

    @property
    def identity(self) -> tuple[str, bool, int, object]:
        """What must stay the same during a scan, for all slots of the node."""
        return self.view.node.id, self.view.node.role == "primary", self.view.epoch, self.process

    @property
    def slots(self) -> int:
        """The set of the slots of the node."""
        return _set_of(self.view.slots)

    def targets(self) -> dict[int, str]:
        """Map each open slot of the node to the id of the node that it is moved to."""
        return {slot.slot: slot.node_id for slot in self.view.open_slots if slot.direction == "migrating"}


class KeyScan:
    """One scan of the whole cluster."""

    def __init__(self, router: Router, options: tuple[Arg, ...], timeout: float | None) -> None:
        """Make a scan; nothing is sent yet.

        Args:
            router: The router of the client.
            options: Arguments of SCAN after the cursor, such as ``("MATCH", "a*")``.
            timeout: Seconds for each step, and seconds without progress after which the scan fails.  None: no limit.
        """
        self._router = router
        self._options = options
        self._timeout = timeout
        # The set of the slots that are not done.
        self._pending = _ALL
        # The set of the pending slots that had no owner in the map before.
        self._unowned = 0
        # The time since which no slot was completed.
        self._stuck_since: float | None = None

    async def keys(self) -> AsyncIterator[Any]:
        """Iterate over the keys; each is given at least once.

        Yields:
            The keys: bytes, or str with the option ``encoding``.

        Raises:
            CommandTimeout: The scan made no progress for the timeout.
            ReplyError: A server refused SCAN or CLUSTER NODES.
            ProtocolError: A reply to SCAN is not a cursor and keys.
            ClientClosed: The client is closed or aborted.
        """
        while True:
            left = self._pending.bit_count()
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
        """Fetch the slot map, and drop the slots without owner in this map and the one before: they have no keys.

        Return why a slot may have to be scanned again.
        """
        try:
            await self._router.refresh()
        except (ClientClosed, WrongThread):
            raise
        except ValkeyError as error:
            # The scan goes on with the old map, which says nothing about slots without owner.
            return str(error)
        unowned = self._pending & ~_set_of((start, end) for start, end, _ in self._router.topology.ranges())
        self._pending &= ~(self._unowned & unowned)
        self._unowned = unowned
        return "slots moved while they were scanned"

    def _is_wanted(self, shard: Shard) -> bool:
        """Whether the shard has a pending slot."""
        return bool(self._pending & _set_of(shard.slots))

    def _check_progress(self, left: int, reason: str) -> None:
        now = self._router.clock.seconds()
        count = self._pending.bit_count()
        if count < left or self._stuck_since is None:
            self._stuck_since = now if count == left else None
        elif now > self._stuck_since + (self._timeout or inf):
            raise CommandTimeout(
                f"a scan made no progress for {now - self._stuck_since:.1f} s; {count} slots are left, "
                f"the first is slot {(self._pending & -self._pending).bit_length() - 1}.  Cause: {reason}"
            )

    async def _scan_node(self, node: Node) -> AsyncIterator[Any]:
        """Scan the pending slots of a node, and the targets of its open slots; mark the slots that are done."""
        before = await self._state_of(node)
        slots = before.slots & self._pending
        if not slots or before.view.node.role != "primary":
            return
        async for key in self._scan(node, before, slots):
            yield key
        targets = before.targets()
        for target in set(targets.values()):
            leaving = slots & _set_of((slot, slot) for slot, its_target in targets.items() if its_target == target)
            if leaving:
                async for key in self._scan_target(before.view.others.get(target), leaving, node):
                    yield key
        after = await self._state_of(node)
        if after.identity == before.identity:
            # Of each slot that was opened, closed or opened for another node, exactly one state has the pair.
            changed = targets.items() ^ after.targets().items()
            self._pending &= ~(slots & after.slots & ~_set_of((slot, slot) for slot, _ in changed))

    async def _scan_target(self, target: Node | None, slots: int, source: Node) -> AsyncIterator[Any]:
        if target is None:
            raise _Unsettled("a slot is being moved to a node that its source does not know")
        if not await self._router.may_be_asked(target, source):
            raise _Unsettled(f"a slot is being moved to {target.address}, which no other node knows")
        before = await self._state_of(target)
        async for key in self._scan(target, before, slots):
            yield key
        if (await self._state_of(target)).identity != before.identity:
            raise _Unsettled(f"{target.address} changed while it was scanned")

    async def _scan(self, node: Node, state: _NodeState, slots: int) -> AsyncIterator[Any]:
        """Scan a node; give the keys of a set of slots."""
        wanted = slots.to_bytes(SLOT_COUNT // 8, "little")
        cursor: bytes | str = "0"
        lost = 0
        while True:
            try:
                cursor, keys = _step_of(await self._ask(node, "SCAN", cursor, *self._options), "SCAN")
                lost = 0
            except _Unsettled:
                # The cursor stays valid as long as the server's process lives.
                lost += 1
                await deferLater(self._router.clock, PAUSE)
                if lost > _REPEATED or (await self._state_of(node)).process != state.process:
                    raise
                continue
            if not all(isinstance(key, (bytes, str)) for key in keys):
                raise ProtocolError(f"{node.address} answered SCAN with something that is not a key")
            for key in keys:
                slot = argument_slot(key)
                if wanted[slot >> 3] >> (slot & 7) & 1:
                    yield key
            if cursor in _DONE:
                return

    async def _state_of(self, node: Node) -> _NodeState:
        view = read_own_view(await self._ask(node, "CLUSTER", "NODES"), node.address or Address("", 0))
        try:
            info = await self._ask(node, "INFO", "server")
        except ReplyError:
            # The user may not run INFO.
            info = ""
        text = info.decode("utf-8", "replace") if isinstance(info, bytes) else info if isinstance(info, str) else ""
        process = next((line for line in text.splitlines() if line.startswith("run_id:")), None)
        return _NodeState(view, process if process is not None else self._router.connection_of(node))

    async def _ask(self, node: Node, *words: Arg) -> Any:
        """Send a command to one node.  Raises _Unsettled for an error that can be over at the next attempt."""
        try:
            return await self._router.execute_on(node, words, self._timeout)
        except (ConnectFailed, ConnectionLost, CommandTimeout) as error:
            raise _Unsettled(str(error)) from error
        except ReplyError as error:
            if error.code in NOT_HERE_OR_NOT_NOW:
                raise _Unsettled(f"{node.address}: {error}") from error
            raise


def _step_of(reply: object, command: str) -> tuple[bytes | str, list[Any]]:
    """Return the cursor and the items of one step.  Raises ProtocolError."""
    if (
        isinstance(reply, list)
        and len(reply) == 2
        and isinstance(reply[0], (bytes, str))
        and isinstance(reply[1], list)
    ):
        return reply[0], reply[1]
    raise ProtocolError(f"the reply to {command} is not a cursor and a list")


class MemberScan:
    """One scan of the members of a key: HSCAN, SSCAN or ZSCAN."""

    def __init__(self, router: Router, command: str, key: Key, options: tuple[Arg, ...], timeout: float | None) -> None:
        """Make a scan; nothing is sent yet.

        Args:
            router: The router of the client.
            command: HSCAN, SSCAN or ZSCAN.
            key: The key.
            options: Arguments of the command after the cursor, such as ``("MATCH", "a*")``.
            timeout: Seconds for each step.  None: no limit.
        """
        self._router = router
        self._command = router.commands[command]
        self._key = key
        self._options = options
        self._timeout = timeout
        self._slot = argument_slot(key)
        self._cursor: bytes | str = "0"
        # The connection that the cursor came from.  Another server process does not understand the cursor.
        self._connection: Connection | None = None

    async def replies(self) -> AsyncIterator[list[Any]]:
        """Iterate over the steps of the scan.

        The scan starts again if the key comes to another node, or if the connection is replaced.

        Yields:
            The items of a step in one list: members; or fields and values, or members and scores, in turn.

        Raises:
            CommandTimeout: A step took longer than the timeout.
            ReplyError: The key has another type, or the server refused the command.
            ProtocolError: The reply is not a cursor and a list.
            ClientClosed: The client is closed or aborted.
        """
        doubted = False
        while True:
            step = _Step(self._router, self._command, self._words, self._slot, self._timeout)
            cursor, members = _step_of(await self._router.send(step), self._command.name)
            # After ASK, an empty result can also mean that the key went back to the source meanwhile: scan once more.
            doubted = cursor in _DONE and not members and step.admit().asking and not doubted
            if doubted:
                continue
            self._cursor, self._connection = cursor, step.connection
            yield members
            if self._cursor in _DONE:
                return

    def _words(self, connection: Connection) -> tuple[Arg, ...]:
        """Return the command of the next step on a connection: the first step if the cursor is of another one."""
        cursor = self._cursor if connection is self._connection else "0"
        return (self._command.name, self._key, cursor, *self._options)


class _Step(Call):
    """One step of a scan of members.  Its cursor depends on the connection that it is written to."""

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
        #: The connection that it was written to last.
        self.connection: Connection | None = None

    def _send_to(self, destination: Destination) -> None:
        destination.send_mixed(self)

    def written_on(self, connection: Connection) -> None:
        self.connection = connection
        self.payload = pack(self._words(connection))

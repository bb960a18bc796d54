"""Scripted nodes that simulate a cluster with moving slots, failovers and restarts.

Only a few slots have keys and move. For scans, a node behaves like a real one: its cursors are valid only in its own
process, CLUSTER NODES shows its own view, and its redirects follow that view.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from random import Random
from typing import Any

from txvalkeycluster.slots import SLOT_COUNT, key_slot
from txvalkeycluster.testing import DEFAULT_REPLY, ScriptedCluster, ScriptedNode

_PRIMARIES = 3
_MOVING = 5
_KEYS = 9
_MEMBERS = 40


class Member:
    """One node of the simulation: a primary, with or without slots, or a replica."""

    def __init__(self, node: ScriptedNode) -> None:
        self.node = node
        self.epoch = 0
        self.primary: Member | None = None
        #: The slots that the node believes to own. Slots of its range that never move are not included.
        self.slots: set[int] = set()
        self.range: tuple[int, int] | None = None
        self.migrating: dict[int, Member] = {}
        self.importing: dict[int, Member] = {}
        self.data: dict[bytes, list[bytes]] = {}
        self.process = 0

    def order(self, name: bytes) -> int:
        """Return the position of a name in the tables of this process; cursors are such positions."""
        seed = b"%d %b" % (self.process, self.node.id.encode())
        return int.from_bytes(blake2b(name, digest_size=6, key=seed).digest(), "big")


class Simulation:
    """A cluster of three shards with one replica each, and of one more primary without slots."""

    def __init__(self, cluster: ScriptedCluster, random: Random) -> None:
        """Script the seven nodes of ``cluster``."""
        self.cluster = cluster
        self.random = random
        #: The number of changes that are left, and the probability of a change at each command.
        self.budget = 0
        self.likelihood = 0.0
        self.happened: list[str] = []
        # The next changes, which come before random ones.
        self._plan: list[Callable[[], None]] = []
        self.members = [Member(node) for node in cluster.nodes]
        for member in self.members:
            member.node.script = self._answer
        for index, primary in enumerate(self.members[:_PRIMARIES]):
            primary.range = index * SLOT_COUNT // _PRIMARIES, (index + 1) * SLOT_COUNT // _PRIMARIES - 1
            primary.epoch = index + 1
            self.members[_PRIMARIES + index].primary = primary
        tags = [b"t%d" % number for number in range(_MOVING)]
        self.moving = [key_slot(tag) for tag in tags]
        #: The keys with a string, and the keys with members.
        self.keys = [b"{%b}%d" % (tag, number) for tag in tags for number in range(_KEYS)]
        self.collections = [b"{%b}h" % tag for tag in tags[:4]]
        for slot in self.moving:
            self._of_range(slot).slots.add(slot)
        for key in self.keys:
            self._owner(key_slot(key)).data[key] = []
        for key in self.collections:
            self._owner(key_slot(key)).data[key] = [b"%d" % number for number in range(_MEMBERS)]

    # ---- replies of the nodes

    def _answer(self, node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
        if self.budget and self.random.random() < self.likelihood:
            self.happen()
        member = self._member(node)
        name = words[0].upper()
        if name == b"CLUSTER" and words[1].upper() == b"NODES":
            return _bulk(self._nodes_text(member).encode())
        if name == b"CLUSTER":
            self.cluster.ranges = self._ranges(member)
            replicas = [m for m in self.members if m.primary is not None]
            self.cluster.replicas = {m.primary.node: [m.node] for m in replicas if m.primary is not None}
            return DEFAULT_REPLY
        if name == b"INFO":
            return _bulk(b"# Server\r\nrun_id:%b-%d\r\n" % (node.id.encode(), member.process))
        if name == b"SCAN":
            return self._step(member, list(member.data), words[1:])
        if name in (b"HSCAN", b"SSCAN", b"ZSCAN"):
            return self._scan_members(member, words, asking=connection.asking)
        return DEFAULT_REPLY

    def _scan_members(self, member: Member, words: list[bytes], *, asking: bool) -> bytes:
        slot = key_slot(words[1])
        owner = self._owner(slot)
        if member.primary is not None:
            return _redirect(b"MOVED", slot, member.primary)
        if slot not in member.slots and not (slot in member.importing and asking):
            return _redirect(b"MOVED", slot, owner)
        if words[1] not in member.data and slot in member.migrating:
            return _redirect(b"ASK", slot, member.migrating[slot])
        return self._step(member, member.data.get(words[1], []), words[2:], pairs=words[0] != b"SSCAN")

    def _step(self, member: Member, names: list[bytes], words: list[bytes], *, pairs: bool = False) -> bytes:
        options = dict(zip(words[1::2], words[2::2], strict=False))
        rest = sorted((member.order(name), name) for name in names if member.order(name) >= int(words[0]))
        count = int(options.get(b"COUNT", b"10"))
        found = [name for _, name in rest[:count]]
        cursor = rest[count][0] if len(rest) > count else 0
        items = [item for name in found for item in ((name, b"1") if pairs else (name,))]
        return b"*2\r\n%b*%d\r\n%b" % (_bulk(b"%d" % cursor), len(items), b"".join(map(_bulk, items)))

    def _nodes_text(self, asked: Member) -> str:
        lines = []
        for member in self.members:
            flags = ("myself," if member is asked else "") + ("slave" if member.primary is not None else "master")
            host, port = member.node.address
            follows = member.primary.node.id if member.primary is not None else "-"
            words = [member.node.id, f"{host}:{port}@{port + 10000 & 65535}", flags, follows, "0", "0"]
            words += [str(member.epoch), "connected"]
            for start, end, node in self._ranges(asked):
                if node is member.node:
                    words.append(f"{start}-{end}" if start != end else str(start))
            if member is asked:
                words += [f"[{slot}->-{target.node.id}]" for slot, target in member.migrating.items()]
                words += [f"[{slot}-<-{source.node.id}]" for slot, source in member.importing.items()]
            lines.append(" ".join(words))
        return "\n".join(lines) + "\n"

    def _ranges(self, asked: Member) -> list[tuple[int, int, ScriptedNode]]:
        """Return the slot map as one node sees it: its own slots, and the newest owners of the other slots."""
        found = []
        for member in self.members:
            if member.range is not None:
                start, end = member.range
                for slot in [*sorted(s for s in self.moving if start <= s <= end), end + 1]:
                    if start < slot:
                        found.append((start, slot - 1, member.node))
                    start = slot + 1
        for slot in self.moving:
            owner = asked if asked.primary is None and slot in asked.slots else self._owner(slot)
            found.append((slot, slot, owner.node))
        return found

    # ---- changes of the cluster

    def happen(self) -> None:
        """Make the next change."""
        self.budget -= 1
        if self._plan:
            self._plan.pop(0)()
            return
        kinds = [self._open, self._open, self._move, self._move, self._move, self._close, self._close]
        kinds += [self._learn, self._give_up, self._fail_over, self._kill, self._restart, self._cut, self._visit]
        kind = self.random.choice(kinds)
        self.happened.append(kind.__name__)
        kind()

    def _visit(self) -> None:
        """Plan that a slot moves to another node and comes back soon."""
        closed = self._closed_slots()
        if closed:
            slot = self.random.choice(closed)
            home = self._owner(slot)
            self._plan = [lambda: self._open_to(slot, None), lambda: self._close_slot(slot), self._learn]
            self._plan += [lambda: self._open_to(slot, home), lambda: self._close_slot(slot), self._learn]

    def _open(self) -> None:
        """Open a slot with SETSLOT IMPORTING and SETSLOT MIGRATING."""
        closed = self._closed_slots()
        if closed:
            self._open_to(self.random.choice(closed), None)

    def _open_to(self, slot: int, target: Member | None) -> None:
        source = self._owner(slot)
        if target is None or target is source or target.primary is not None:
            target = self.random.choice([m for m in self.members if m.primary is None and m is not source])
        target.importing[slot] = source
        source.migrating[slot] = target

    def _move(self) -> None:
        """MIGRATE some keys of an open slot."""
        opened = [(member, slot) for member in self.members for slot in member.migrating]
        if opened:
            self._move_keys(*self.random.choice(opened), self.random.random())

    def _move_keys(self, source: Member, slot: int, share: float) -> None:
        for key in [key for key in source.data if key_slot(key) == slot]:
            if self.random.random() < share:
                source.migrating[slot].data[key] = source.data.pop(key)

    def _close(self) -> None:
        """MIGRATE the other keys and SETSLOT NODE at the target; the source learns it now or later."""
        opened = [slot for slot in self.moving if slot in self._owner(slot).migrating]
        if opened:
            self._close_slot(self.random.choice(opened))

    def _close_slot(self, slot: int) -> None:
        source = self._owner(slot)
        self._move_keys(source, slot, 1.0)
        target = source.migrating[slot]
        if target.epoch != max(member.epoch for member in self.members):
            self._bump(target)
        target.importing.pop(slot)
        target.slots.add(slot)
        if self.random.random() < 0.5:
            self._forget(source, slot)

    def _learn(self) -> None:
        """Tell former owners that their slots have new owners."""
        for member in self.members:
            for slot in list(member.slots):
                if member.primary is None and self._owner(slot) is not member:
                    self._forget(member, slot)

    def _give_up(self) -> None:
        """SETSLOT STABLE for open slots from which no key has moved yet."""
        for source in self.members:
            for slot, target in list(source.migrating.items()):
                if self._owner(slot) is source and not any(key_slot(key) == slot for key in target.data):
                    del source.migrating[slot], target.importing[slot]

    def _fail_over(self) -> None:
        """A replica takes over, and the primary becomes its replica."""
        replica = self.random.choice([member for member in self.members if member.primary is not None])
        old = replica.primary
        assert old is not None
        self._learn()
        replica.primary, old.primary = None, replica
        replica.data = {key: list(members) for key, members in old.data.items()}
        for name in ("slots", "range", "migrating", "importing"):
            setattr(replica, name, getattr(old, name))
        old.slots, old.range, old.migrating, old.importing = set(), None, {}, {}
        for member in self.members:
            for opened in (member.migrating, member.importing):
                opened.update({slot: replica for slot, other in opened.items() if other is old})
        self._bump(replica)

    def _kill(self) -> None:
        """A primary dies, is replaced, and comes back as a replica."""
        primaries = {member.primary for member in self.members if member.primary is not None}
        self._fail_over()
        for old in primaries:
            if old.primary is not None:
                self._begin_anew(old)

    def _restart(self) -> None:
        """A node restarts before another node notices."""
        self._begin_anew(self.random.choice(self.members))

    def _cut(self) -> None:
        for connection in list(self.random.choice(self.members).node.connections):
            connection.close()

    def _begin_anew(self, member: Member) -> None:
        member.process += 1
        for connection in list(member.node.connections):
            connection.close()

    # ---- searches

    def _member(self, node: ScriptedNode) -> Member:
        return next(member for member in self.members if member.node is node)

    def _of_range(self, slot: int) -> Member:
        return next(m for m in self.members if m.range is not None and m.range[0] <= slot <= m.range[1])

    def _owner(self, slot: int) -> Member:
        """Return the node with the highest epoch, among the nodes that believe to own a slot."""
        return max((m for m in self.members if m.primary is None and slot in m.slots), key=lambda m: m.epoch)

    def _closed_slots(self) -> list[int]:
        """Return the slots that have one owner and are not open."""
        agreed = [slot for slot in self.moving if sum(slot in member.slots for member in self.members) == 1]
        return [slot for slot in agreed if slot not in self._owner(slot).migrating]

    def _forget(self, source: Member, slot: int) -> None:
        source.slots.discard(slot)
        source.migrating.pop(slot, None)

    def _bump(self, member: Member) -> None:
        # The node with the highest epoch must know the newest owners first, so that it does not claim their slots.
        self._learn()
        member.epoch = max(other.epoch for other in self.members) + 1


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _redirect(code: bytes, slot: int, target: Member) -> bytes:
    return b"-%b %d %b\r\n" % (code, slot, str(target.node.address).encode())

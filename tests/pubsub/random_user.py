"""A random subscription, and the check of what it gets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from txvalkeycluster import Address, Lost, LostReason, Message, Resubscribed, Subscription, ValkeyError

if TYPE_CHECKING:
    from tests.pubsub.random_world import World

CLASSIC = ["c0", "c1", "c2", "c3"]
SHARDED = ["s0", "s1", "s2", "s3", "s4", "{s0}more"]

#: Where messages come from: the channel, and the node of an event.
Stream = tuple[str, Address | None]


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


def ignored(failure: Failure) -> None:
    failure.trap(ValkeyError, CancelledError)  # type: ignore[no-untyped-call]


class User:
    """One subscription, and the check of what it gets."""

    def __init__(self, world: World, kind: str, names: list[str], listens: bool, options: dict[str, Any]) -> None:
        self.world = world
        self.replicas = bool(options.get("replicas"))
        #: Whether a full buffer can merge the reports of several gaps.
        self.merges = "max_messages" in options or "max_bytes" in options
        self.kind = kind
        self.listens = listens
        self.closed = False
        #: How many items an iterator takes before it waits.
        self.permits = float("inf") if world.random.random() < 0.7 else 3
        self.waiting: Deferred[None] | None = None
        self.consumer: Deferred[None] | None = None
        #: Names whose subscription is not acknowledged, with the number of requests.
        self.pending: Counter[str] = Counter()
        #: The gaps that have not ended.
        self.gaps: set[tuple[str, Address | None]] = set()
        self.got: dict[tuple[str, Stream], int] = {}
        #: Up to this number messages may be missing.
        self.floor: dict[tuple[str, Stream], int] = {}
        # Streams whose next messages may be missing, because the buffer was full.
        self.overflowed: dict[str, int] = {}
        self.seen_overflow: dict[tuple[str, Stream], int] = {}
        #: Names that were removed, so that the buffer of an iterator can hold reports of their past.
        self.unsure: set[str] = set()
        make = getattr(world.client, kind)
        if listens:
            options = {**options, "listener": self.listen}
        arguments = names if kind != "keyspace_events" else [name.partition(":")[2] for name in names]
        self.pending.update(names)
        self.subscription: Subscription[Any] = make(*arguments, **options)
        self.world.expect(
            f"ready {kind} {names}", self.subscription.ready(), lambda error: self.acknowledged(names, error)
        )
        if not listens and world.random.random() < 0.9:
            self.consumer = Deferred.fromCoroutine(self.consume())
            self.consumer.addErrback(ignored)

    def __repr__(self) -> str:
        return f"<User {self.kind} {self.subscription!r} gaps={self.gaps}>"

    @property
    def reactions(self) -> list[Callable[[], None]]:
        """What a listener may do when it is called."""
        world = self.world
        return [self.close, self.change, self.change, world.subscribe, self.close_another, world.refresh]

    @property
    def names(self) -> list[str]:
        """The channels or patterns that it has now."""
        return [_text(name) for name in self.subscription.channels]

    def fail(self, text: str) -> None:
        """Report a violation."""
        self.world.violation(f"{text}: {self!r}")

    def acknowledged(self, names: list[str], error: BaseException | None) -> None:
        """From now on no message may be missing; or the names were refused."""
        for name in names:
            self.pending[name] -= 1
            if error is not None:
                self.forget(name)
            else:
                self.raise_floor(name, None)

    def forget(self, name: str) -> None:
        """A name was removed."""
        self.gaps = {gap for gap in self.gaps if gap[0] != name}
        if not self.listens:
            self.unsure.add(name)

    def raise_floor(self, name: str, node: Address | None) -> None:
        """Messages that were sent before now may be missing."""
        for stream, sent in self.world.sent.items():
            if node is None or stream[1] in (None, node):
                self.floor[name, stream] = sent

    # ---- items

    def listen(self, item: Any) -> None:
        """Take an item, then perhaps do something."""
        if self.closed:
            self.fail(f"{item} after close()")
        self.take(item)
        if self.world.random.random() < 0.05 and not self.world.calm:
            self.world.random.choice(self.reactions)()

    async def consume(self) -> None:
        """Iterate, as fast as the test permits."""
        async for item in self.subscription:
            self.take(item)
            while self.permits <= 0:
                self.waiting = Deferred()
                await self.waiting
            self.permits -= 1

    def permit(self, count: float) -> None:
        """Let the iterator take more items."""
        self.permits += count
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            waiting.callback(None)

    def take(self, item: Any) -> None:
        """Check an item."""
        if isinstance(item, Message):
            self.message(item)
        elif isinstance(item, Resubscribed):
            for name in map(_text, item.channels):
                self.ended(name, item.node)
        elif item.reason is LostReason.OVERFLOW or item.reason is LostReason.NOT_TEXT:
            for name in map(_text, item.channels):
                self.overflowed[name] = self.overflowed.get(name, 0) + 1
        else:
            for name in map(_text, item.channels):
                self.lost(name, item)

    def lost(self, name: str, item: Lost) -> None:
        """Check the start of a gap."""
        gap = self.gap(name, item.node)
        if self.listens and name not in self.names:
            self.fail(f"{item} after the removal")
        if gap in self.gaps and gap[1] is None and name not in self.unsure and not self.merges:
            self.fail(f"{item} in a gap")
        self.gaps.add(gap)

    def ended(self, name: str, node: Address | None) -> None:
        """Check the end of a gap."""
        gap = self.gap(name, node)
        if self.listens and name not in self.names:
            self.fail(f"Resubscribed {name} after the removal")
        if gap not in self.gaps and name not in self.unsure and not self.merges:
            self.fail(f"Resubscribed {gap} without a gap")
        self.gaps.discard(gap)
        self.raise_floor(name, gap[1])

    def gap(self, name: str, node: Address | None) -> tuple[str, Address | None]:
        """What is lost: a name, at one node if the messages name the node."""
        return name, node if self.kind == "keyspace_events" else None

    def message(self, message: Message[Any]) -> None:
        """Check the number of a message."""
        name = _text(message.channel if message.pattern is None else message.pattern)
        stream = _text(message.channel), message.node
        if self.kind == "psubscribe" and name.startswith("__"):
            # The events of one node only.
            return
        key, number = (name, stream), int(message.data)
        if self.listens and name not in self.names:
            self.fail(f"{message} after the removal")
        if self.gap(name, message.node) in self.gaps and name not in self.unsure:
            self.fail(f"{message} in a gap")
        got = self.got.get(key, 0)
        if number <= got:
            self.fail(f"{message} after {got}")
        missing = range(max(got, self.floor.get(key, 0)) + 1, number)
        full = self.overflowed.get(name, 0)
        if missing and not self.pending[name] and self.seen_overflow.get(key, 0) == full:
            self.fail(f"{[*missing]} missing before {message}")
        self.got[key] = number
        self.seen_overflow[key] = full

    # ---- what the application does

    def change(self) -> None:
        """Add or remove names."""
        if self.closed or self.kind == "keyspace_events":
            return
        names = self.names
        random = self.world.random
        if names and random.random() < 0.5:
            gone = random.sample(names, random.randint(1, len(names)))
            done = self.subscription.remove(*gone)
            for name in gone:
                self.forget(name)
            self.world.expect(f"remove {gone} of {self!r}", done, lambda _: None)
        else:
            every = SHARDED if self.kind == "ssubscribe" else CLASSIC
            if self.kind == "psubscribe":
                every = ["c*", "c[01]", "__keyspace@0__:*"]
            self.add(random.sample(every, random.randint(1, 2)))

    def add(self, names: list[str]) -> None:
        """Add names."""
        new = [name for name in names if name not in self.names]
        self.pending.update(new)
        adding = self.subscription.add(*names)
        self.world.expect(f"add {names} to {self!r}", adding, lambda error: self.acknowledged(new, error))

    def close(self) -> None:
        """Close the subscription."""
        if not self.closed:
            self.closed = True
            self.world.expect(f"close {self!r}", self.subscription.close(), self.world.no_error)
        self.world.users.pop(self, None)

    def close_another(self) -> None:
        """Close a subscription, perhaps another one."""
        self.world.any_user(User.close)

    def cancel(self) -> None:
        """End an iterator while it waits."""
        if self.consumer is not None:
            self.consumer.cancel()

    def check_caught_up(self) -> None:
        """All is subscribed, and the last message of each stream has arrived."""
        if self.subscription._feed.ended or (not self.listens and self.consumer is None):
            return
        if self.consumer is not None and self.consumer.called:
            return
        sources = {None, *self.world.sources(self)}
        live = {gap for gap in self.gaps if gap[0] in self.names and gap[1] in sources}
        if live:
            self.fail(f"still lost: {live}")
        for name in self.names:
            if self.pending.get(name):
                self.fail(f"{name} is still pending")
            if self.kind == "psubscribe" and name.startswith("__"):
                continue
            for stream, sent in self.world.last_streams(self, name):
                if self.got.get((name, stream), 0) != sent and not self.overflowed.get(name):
                    self.fail(f"{stream}: {sent} sent, {self.got.get((name, stream))} received by {name}")

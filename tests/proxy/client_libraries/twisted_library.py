"""A program that uses txredisapi."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import redis
import txredisapi
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater

from tests.proxy.client_libraries.libraries import Pool
from tests.proxy.client_libraries.message_log import MessageLog
from tests.proxy.client_libraries.values import Values
from tests.proxy.client_libraries.workers import BLOCK, Workers
from tests.proxy.programs import HOST

_reactor: Any = reactor


class TwistedLibrary(Workers):
    """Commands, transactions, blocking pops and a subscriber of txredisapi."""

    elsewhere = ("commands",)

    def __init__(self, pool: Pool, tag: str) -> None:
        super().__init__("commands, transactions, blocking commands, subscriber", pool)
        self._tag = tag
        self._values = Values()
        self._x = 0
        self._maybe_x = 0
        self._sent: set[int] = set()
        self._taken: set[int] = set()
        self._maybe_taken = 0
        #: Transactions that were not executed, although nobody has changed their watched keys.
        self.refused = 0
        self._channels = f"{{{tag}}}:news", f"{{{tag}}}:p:1"
        self.log = MessageLog(self._channels)
        self._subscriber = _SubscriberFactory(self.log, f"{{{tag}}}:p:*")
        self._subscriber.startConnecting(TCP4ClientEndpoint(_reactor, HOST, pool.port))
        pool.factories.append(self._subscriber)
        self.start(
            commands=self._commands,
            multi=self._multi,
            watch=self._watch,
            push=self._push,
            pop=self._pop,
            publish=self._publish,
        )

    def _key(self, name: str) -> str:
        return f"{{{self._tag}}}:{name}"

    async def _commands(self, number: int) -> None:
        """Keys in many slots."""
        key = f"txredisapi:{number % 30}"
        self._values.writes(key, number)
        await self.client.set(key, number)
        self._values.has(key, number)
        self._values.has(key, await self.client.get(key))

    async def _transaction(self, begun: Deferred[Any], change: Callable[[Any], Awaitable[Any]]) -> Any:
        transaction = await begun
        try:
            return await change(transaction)
        except txredisapi.WatchError:
            raise
        except txredisapi.RedisError:
            # This gives the connection back to the pool.  There is nothing to discard if it was EXEC that has failed.
            if transaction.connected and transaction.inTransaction:
                end = transaction.discard if transaction.inMulti else transaction.unwatch
                await end().addErrback(lambda failure: failure.trap(txredisapi.RedisError))
            raise

    async def _multi(self, number: int) -> None:
        async def change(transaction: Any) -> Any:
            await transaction.incr(self._key("x"))
            await transaction.incr(self._key("y"))
            return await transaction.commit()

        try:
            x, y = await self._transaction(self.client.multi(), change)
        except txredisapi.RedisError:
            self._maybe_x += 1
            raise
        self._x += 1
        assert x == y, (x, y)
        assert self._x <= x <= self._x + self._maybe_x, (x, self._x, self._maybe_x)

    async def _watch(self, number: int) -> None:
        """Another connection changes the key in every second round: the transaction must not be executed.

        It is not executed either if the primary has changed, since nobody knows whether the key has changed then.
        """
        key = self._key("watched")
        changed = number % 2 == 0
        if changed:
            self._values.writes(key, number)

        async def change(transaction: Any) -> Any:
            if changed:
                await self.client.set(key, number)
                self._values.has(key, number)
            await transaction.multi()
            await transaction.set(key, -number)
            self._values.writes(key, -number)
            return await transaction.commit()

        try:
            await self._transaction(self.client.watch(key), change)
            assert not changed, "a watched key has changed, and the transaction was executed"
            self._values.has(key, -number)
        except txredisapi.WatchError:
            self._values.has_not(key, -number)
            self.refused += not changed
        self._values.has(key, await self.client.get(key))

    async def _push(self, number: int) -> None:
        self._sent.add(number)
        try:
            await self.client.rpush(self._key("list"), number)
        except txredisapi.RedisError:
            # It may be popped, or not.
            self._maybe_taken += 1
            raise

    async def _pop(self, number: int) -> None:
        try:
            found = await self.client.blpop(self._key("list"), timeout=BLOCK)
        except txredisapi.RedisError:
            self._maybe_taken += 1
            raise
        if found is not None:
            assert found[1] in self._sent - self._taken, f"{found[1]} was not added, or came twice"
            self._taken.add(found[1])

    async def _publish(self, number: int) -> None:
        if not self.log.subscribed:
            return
        channel = self._channels[number % 2]
        try:
            await self.client.publish(channel, number)
        except txredisapi.RedisError:
            self.log.maybe(channel, number)
            raise
        self.log.sent(channel, number)

    async def stop(self) -> None:
        await super().stop()
        # All that was published before this message has come when it has come.
        while not self.log.ended:
            for channel in self._channels:
                await self.client.publish(channel, 0)
            await deferLater(_reactor, 0.1)

    @property
    def seen(self) -> str:
        return f"{self.log.summary}; {self.refused} transactions refused"

    def check(self, client: redis.Redis) -> None:
        left = {int(each) for each in client.lrange(self._key("list"), 0, -1)}
        missing = self._sent - self._taken - left
        assert not left & self._taken
        assert len(missing) <= self._maybe_taken, f"{sorted(missing)} are lost, with {self._maybe_taken} errors"
        self.log.check()


class _Subscriber(txredisapi.SubscriberProtocol):  # type: ignore[misc]
    """Subscribes on each new connection."""

    def connectionMade(self) -> None:
        super().connectionMade()
        log = self.factory.log
        # An error is that of a lost connection; the next one subscribes again.
        self.subscribe(log.channels[0]).addCallbacks(lambda reply: log.gap(log.channels[0]), lambda failure: None)
        self.psubscribe(self.factory.pattern).addCallbacks(lambda reply: log.gap(log.channels[1]), lambda failure: None)

    def messageReceived(self, pattern: str | None, channel: str, message: int) -> None:
        self.factory.log.received(channel, message)


class _SubscriberFactory(txredisapi.SubscriberFactory):  # type: ignore[misc]
    protocol = _Subscriber
    initialDelay = 0.1

    def __init__(self, log: MessageLog, pattern: str) -> None:
        super().__init__()
        self.log = log
        self.pattern = pattern

"""A program that uses subscriptions."""

from __future__ import annotations

from typing import Any

import redis

from tests.proxy.client_libraries.libraries import done
from tests.proxy.client_libraries.message_log import MessageLog
from tests.proxy.client_libraries.workers import BLOCK, Turn, Workers


class Messages(Workers):
    """A worker publishes numbers to a channel, a channel of a pattern and a shard channel; another is subscribed.

    A number may be missing only where the subscriber has seen that it was subscribed once more.
    """

    elsewhere = ("subscribe",)

    def __init__(self, library: Any, tag: str) -> None:
        super().__init__("subscriptions", library)
        self._channel, self._pattern, self._shard = f"{{{tag}}}:news", f"{{{tag}}}:p:*", f"{{{tag}}}:shard"
        self._channels = self._channel, f"{{{tag}}}:p:1", self._shard
        self.log = MessageLog(self._channels)
        self._pubsub: Any = None
        self._publishing = True
        self._sharded = False
        self.start(publish=self._publish, subscribe=self._receive)

    async def _work(self, name: str, turn: Turn) -> None:
        await super()._work(name, turn)
        if name == "publish":
            self._publishing = False
            return
        silent = False
        while not silent:
            last, before = not self._publishing, self.log.events
            await self.round(name, self._receive(0))
            silent = last and before == self.log.events
        await done(self._pubsub.aclose() if hasattr(self._pubsub, "aclose") else self._pubsub.close())

    async def _publish(self, number: int) -> None:
        channel = self._channels[number % 3]
        if not self.log.subscribed:
            return
        send = self.client.spublish if channel == self._shard and self._sharded else self.client.publish
        try:
            await done(send(channel, number))
        except redis.RedisError:
            self.log.maybe(channel, number)
            raise
        self.log.sent(channel, number)

    async def _receive(self, number: int) -> None:
        if self._pubsub is None:
            self._pubsub = self.client.pubsub()
            await done(self._pubsub.subscribe(self._channel))
            await done(self._pubsub.psubscribe(self._pattern))
            # Redis.asyncio 6 has no SSUBSCRIBE.
            self._sharded = hasattr(self._pubsub, "ssubscribe")
            await done((self._pubsub.ssubscribe if self._sharded else self._pubsub.subscribe)(self._shard))
        try:
            message = await done(self._pubsub.get_message(timeout=BLOCK))
        except redis.RedisError:
            for channel in self._channels:
                self.log.gap(channel)
            raise
        if message is None:
            return
        channel = message["channel"].decode()
        if message["type"].endswith("subscribe"):
            self.log.gap(self._channels[1] if channel == self._pattern else channel)
        else:
            self.log.received(channel, int(message["data"]))

    @property
    def seen(self) -> str:
        return self.log.summary

    def check(self, client: redis.Redis) -> None:
        self.log.check()

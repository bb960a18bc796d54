"""Faults of the connections between the client and the servers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.internet.task import deferLater

from .proxy import Proxy


class NetworkFaults:
    """Each method is a fault.  It returns a description when the fault is over."""

    def __init__(self, reactor: Any, proxies: Sequence[Proxy], random: Random) -> None:
        self._reactor = reactor
        self._proxies = proxies
        self._random = random

    async def delay(self) -> str:
        """Delay all bytes for a while."""
        proxies = self._some()
        seconds = self._random.choice([0.002, 0.02, 0.1, 0.3])
        for proxy in proxies:
            proxy.delay = seconds
        return await self._for_a_while(proxies, f"by {seconds:g} s")

    async def cut(self) -> str:
        """End connections, several times in a row."""
        proxies = self._some()
        orderly = self._random.random() < 0.5
        times = self._random.randint(1, 5)
        for _ in range(times):
            for proxy in proxies:
                proxy.cut(orderly=orderly)
            await deferLater(self._reactor, self._random.uniform(0, 0.3))
        return f"{self._text(proxies)}, {times} times with {'FIN' if orderly else 'RST'}"

    async def cut_in_reply(self) -> str:
        """End connections in the middle of a reply."""
        proxies = self._some()
        for proxy in proxies:
            proxy.cut_in_reply()
        return await self._for_a_while(proxies, "once each")

    async def blackhole(self) -> str:
        """Drop the bytes of commands, of replies or of both, on connections that stay open."""
        proxies = self._some()
        passes = self._random.choice([0, 1, 100, 2000])
        which = self._random.choice(["commands", "replies", "both"])
        for proxy in proxies:
            proxy.drop(commands=passes if which != "replies" else None, replies=passes if which != "commands" else None)
        return await self._for_a_while(proxies, f"{which} after {passes} bytes")

    def _some(self) -> list[Proxy]:
        """Return all proxies, or one."""
        if self._random.random() < 0.4:
            return list(self._proxies)
        return [self._random.choice(self._proxies)]

    def _text(self, proxies: Sequence[Proxy]) -> str:
        if len(proxies) > 1:
            return "all servers"
        return f"server {self._proxies.index(proxies[0])}"

    async def _for_a_while(self, proxies: Sequence[Proxy], text: str) -> str:
        seconds = self._random.uniform(0.3, 3)
        await deferLater(self._reactor, seconds)
        for proxy in proxies:
            proxy.heal()
        return f"{self._text(proxies)}, {text}, for {seconds:.2f} s"

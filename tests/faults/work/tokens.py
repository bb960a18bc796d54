"""Unique tokens that are added to strings and lists: no token is there twice, and those of a worker are in order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..ledger import Tokens
from .base import Environment, Work


class TokenWork(Work):
    """APPEND and RPUSH."""

    name = "tokens"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._strings = [Tokens(self.ledger, f"tokens:string:{n}") for n in range(8)]
        self._lists = [Tokens(self.ledger, f"tokens:list:{n}") for n in range(8)]

    def keys(self) -> Sequence[str]:
        """Return all keys."""
        return [tokens.key for tokens in (*self._strings, *self._lists)]

    async def step(self, worker: int) -> None:
        """Add a token to a key."""
        tokens = self.random.choice(self._strings + self._lists)
        token = tokens.new(worker)
        if tokens in self._strings:
            outcome = await self.run(f"APPEND {tokens.key}", self.client.append(tokens.key, f"{token};"))
        else:
            outcome = await self.run(f"RPUSH {tokens.key}", self.client.rpush(tokens.key, token))
        tokens.end(token, outcome)

    async def check(self) -> None:
        """Check the tokens of every key."""
        for tokens in self._strings:
            text = await self.certainly("GET", partial(self.client.get, tokens.key))
            self._verify(tokens, (text or b"").decode().split(";")[:-1])
        for tokens in self._lists:
            items = await self.certainly("LRANGE", partial(self.client.lrange, tokens.key, 0, -1))
            self._verify(tokens, [item.decode() for item in items or ()])

    def _verify(self, tokens: Tokens, found: list[str]) -> None:
        self.findings.lost += tokens.lost(found)
        for problem in tokens.problems(found):
            self.violation(problem)

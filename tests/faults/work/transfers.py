"""Transfers between two accounts in one transaction: the sum never changes, and the log matches the balances."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from txvalkeycluster import WatchError, WatchSession

from ..ledger import Outcome, Tokens
from .base import GRACE, USUAL, Environment, Work

_START = 1000
# The attempts of `optimistically`.
_ATTEMPTS = 4


class _Accounts:
    """Two balances and the log of the transfers, in one slot."""

    def __init__(self, environment: Environment, number: int) -> None:
        tag = f"{{transfers:{number}}}"
        self.source = f"{tag}:source"
        self.target = f"{tag}:target"
        self.tokens = Tokens(environment.ledger, f"{tag}:log")
        #: The amount of each token.
        self.amounts: dict[str, int] = {}


class Transfers(Work):
    """MULTI and EXEC, with and without WATCH."""

    name = "transfers"
    workers = 4

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._accounts = [_Accounts(environment, number) for number in range(9)]

    async def prepare(self) -> None:
        """Give each account its first balance."""
        for accounts in self._accounts:
            await self.client.mset({accounts.source: _START, accounts.target: 0})

    def keys(self) -> Sequence[str]:
        """Return one key of each pair of accounts."""
        return [accounts.source for accounts in self._accounts]

    async def step(self, worker: int) -> None:
        """Transfer an amount in one of three ways, or read the balances."""
        accounts = self.random.choice(self._accounts)
        chance = self.random.random()
        if chance < 0.2:
            await self._look(accounts)
            return
        token = accounts.tokens.new(worker)
        amount = accounts.amounts[token] = self.random.randint(1, 9)
        if chance < 0.6:
            outcome = await self._at_once(accounts, token, amount)
        elif chance < 0.8:
            outcome = await self._under_watch(accounts, token, amount)
        else:
            outcome = await self._optimistically(accounts, token, amount)
        accounts.tokens.end(token, outcome)

    async def check(self) -> None:
        """Compare the balances with the log."""
        for accounts in self._accounts:
            read = await self.certainly("a transaction", partial(self._read, accounts))
            if read is None:
                continue
            source, target, log = int(read[0]), int(read[1]), [item.decode() for item in read[2]]
            where = f"{accounts.source} is {source}, {accounts.target} is {target}"
            if source + target != _START:
                self.violation(f"{where}: the sum is not {_START}")
            moved = sum(accounts.amounts.get(token, 0) for token in log)
            if moved != _START - source:
                self.violation(f"{where}: the log says that {moved} was transferred")
            self.findings.lost += accounts.tokens.lost(log)
            for problem in accounts.tokens.problems(log):
                self.violation(problem)

    def _read(self, accounts: _Accounts) -> Deferred[list[Any]]:
        transaction = self.client.transaction().get(accounts.source).get(accounts.target)
        return transaction.lrange(accounts.tokens.key, 0, -1).execute(raise_first=True)

    async def _look(self, accounts: _Accounts) -> None:
        sent = self.client.transaction().get(accounts.source).get(accounts.target).execute(raise_first=True)
        outcome = await self.run("a transaction that reads", sent)
        if outcome.succeeded and sum(map(int, outcome.reply)) != _START:
            self.violation(f"{accounts.source} and {accounts.target} were {outcome.reply} in one transaction")

    async def _at_once(self, accounts: _Accounts, token: str, amount: int) -> Outcome:
        transaction = self.client.transaction().decrby(accounts.source, amount).incrby(accounts.target, amount)
        sent = transaction.rpush(accounts.tokens.key, token).execute(raise_first=True)
        return await self.run(f"a transaction on {accounts.source}", sent)

    async def _under_watch(self, accounts: _Accounts, token: str, amount: int) -> Outcome:
        async def transfer() -> list[Any]:
            async with self.client.watch(accounts.source, accounts.target) as session:
                return await _transfer(session, accounts, token, amount)

        # WATCH, two reads, EXEC and UNWATCH have a deadline each.
        return await self._watched(Deferred.fromCoroutine(transfer()), 5 * self.timeout)

    async def _optimistically(self, accounts: _Accounts, token: str, amount: int) -> Outcome:
        async def transfer(session: WatchSession[bytes]) -> list[Any]:
            return await _transfer(session, accounts, token, amount)

        sent = self.client.optimistically(transfer, accounts.source, accounts.target, attempts=_ATTEMPTS)
        return await self._watched(sent, _ATTEMPTS * 5 * self.timeout)

    async def _watched(self, sent: Deferred[Any], timeout: float) -> Outcome:
        return await self.run("a watched transaction", sent, expected=(*USUAL, WatchError), timeout=timeout + GRACE)


async def _transfer(session: WatchSession[bytes], accounts: _Accounts, token: str, amount: int) -> list[Any]:
    source = _balance(await session.get(accounts.source))
    target = _balance(await session.get(accounts.target))
    transaction = session.transaction().set(accounts.source, source - amount)
    transaction.set(accounts.target, target + amount).rpush(accounts.tokens.key, token)
    return await transaction.execute(raise_first=True)


def _balance(reply: bytes | None) -> int:
    if reply is None:
        raise LookupError("an account has no balance")
    return int(reply)

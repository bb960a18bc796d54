"""Users with restricted rights: refusals have the right errors, and nothing is executed twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from twisted.internet.defer import Deferred

from txvalkeycluster import ClusterClient, TransactionRefused
from txvalkeycluster.errors import ConnectFailed, PartialFailure, ReplyError

from ..ledger import Outcome
from .base import GRACE, USUAL, Environment
from .counters import CountingWork

PASSWORD = "secret"
#: The rules of each user, beside access to all keys.
USERS = {
    "no-multi": "+@all -multi",
    "reads-and-writes": "+@read +@write +@connection +cluster|slots",
    "no-wait": "+@all -wait",
    "no-eval": "+@all -eval",
}
_WITHOUT_MULTI = ("no-multi", "reads-and-writes")
_WITHOUT_EVAL = ("no-eval", "reads-and-writes")
_SCRIPT = "return redis.call('INCR', KEYS[1])"


def acl_file() -> str:
    """Return the ACL file of a server with these users."""
    return "".join(f"user {name} on >{PASSWORD} ~* &* {rules}\n" for name, rules in USERS.items())


class Users(CountingWork):
    """A client and a worker for each user."""

    name = "users"
    workers = len(USERS)
    pause = 0.1

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._clients = [(user, self.connect(username=user, password=PASSWORD)) for user in USERS]

    def counter_keys(self) -> Sequence[str]:
        """Return two keys in each slot, for transactions."""
        return [f"{{users:{number}}}:{part}" for number in range(8) for part in "ab"]

    def probes(self) -> dict[str, Callable[[], Awaitable[Outcome]]]:
        """Return a probe for each user: MGET over several slots."""
        keys = [tally.key for tally in self.tallies[::2]]

        def read(client: ClusterClient[bytes]) -> Deferred[Outcome]:
            return self.findings.observe(self.name, "MGET", client.mget(*keys), self.timeout + GRACE)

        return {f"MGET by {user}": partial(read, client) for user, client in self._clients}

    async def step(self, worker: int) -> None:
        """Send a command that the user may use, or may not."""
        user, client = self._clients[worker]
        chance = self.random.random()
        if chance < 0.4:
            await self._transaction(user, client)
        elif chance < 0.7:
            await self._increment(client)
        elif chance < 0.85:
            await self._script(user, client)
        else:
            await self._wait(user, client)

    async def _increment(self, client: ClusterClient[bytes]) -> None:
        tally = self.random.choice(self.tallies)
        before = tally.begin()
        self.end(tally, before, await self.run(f"INCR {tally.key}", client.incr(tally.key)))

    async def _script(self, user: str, client: ClusterClient[bytes]) -> None:
        tally = self.random.choice(self.tallies)
        before = tally.begin()
        expected = (*USUAL, ReplyError) if user in _WITHOUT_EVAL else USUAL
        sent = client.script(_SCRIPT)(tally.key)
        # EVALSHA, and EVAL if the script is missing, have a deadline each.
        timeout = 2 * self.timeout
        outcome = await self.run(f"a script of {user}", sent, expected=expected, fits=_is_refusal, timeout=timeout)
        self.end(tally, before, outcome)

    async def _wait(self, user: str, client: ClusterClient[bytes]) -> None:
        expected = (*USUAL, ConnectFailed, PartialFailure, ReplyError)
        timeout = self.timeout + 0.1
        outcome = await self.run(f"WAIT of {user}", client.wait(1, 100), expected=expected, timeout=timeout)
        if outcome.succeeded and user == "no-wait":
            self.violation(f"WAIT gave {outcome.reply!r} to a user who may not use it")

    async def _transaction(self, user: str, client: ClusterClient[bytes]) -> None:
        number = self.random.randrange(0, len(self.tallies), 2)
        pair = self.tallies[number : number + 2]
        before = [tally.begin() for tally in pair]
        transaction = client.transaction()
        for tally in pair:
            transaction.incr(tally.key)
        expected = (*USUAL, TransactionRefused) if user in _WITHOUT_MULTI else USUAL
        outcome = await self.run(f"a transaction of {user}", transaction.execute(), expected=expected)
        if outcome.succeeded and user in _WITHOUT_MULTI:
            self.violation(f"a transaction gave {outcome.reply!r} to {user}, who may not use MULTI")
        for each, tally, one in zip(_each_of(outcome), pair, before, strict=True):
            self.end(tally, one, each)


def _each_of(outcome: Outcome) -> list[Outcome]:
    """Return the outcome of each of the two commands of a transaction."""
    if outcome.succeeded:
        return [Outcome.of(result) for result in outcome.reply]
    if isinstance(outcome.error, TransactionRefused) and outcome.error.results:
        return [Outcome.of(result) for result in outcome.error.results]
    return [outcome] * 2


def _is_refusal(error: BaseException) -> bool:
    return not isinstance(error, ReplyError) or error.code == "NOPERM"

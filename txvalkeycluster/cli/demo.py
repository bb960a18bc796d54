"""``demo``: puts a cluster under load, kills a primary, moves slots, and reports what the client's callers saw."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from uuid import uuid4

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater

from ..client import ClusterClient
from ..errors import ConnectionLost, ReplyError
from ..testing import LocalCluster, Report, Workload
from ..testing.slot_moves import MigrationFailed, migrated
from ..topology.model import Node
from .running import run

_FRAME = 0.25
_SLOTS_MOVED = 500
_TAKEOVER = 30.0


@click.command()
@click.option(
    "--seconds", default=15, show_default=True, type=click.IntRange(1), help="Duration of the load in seconds."
)
@click.option(
    "--workers", default=50, show_default=True, type=click.IntRange(1), help="How many commands run at the same time."
)
@click.option("--url", help="URL of your own cluster. There, nothing is killed or moved unless you ask for it.")
@click.option("--kill/--no-kill", default=None, help="Kill a primary: with SIGKILL, or with SHUTDOWN NOSAVE at --url.")
@click.option(
    "--migrate/--no-migrate", default=None, help=f"Move {_SLOTS_MOVED} slots and move them back (needs Valkey 9)."
)
def demo(seconds: int, workers: int, url: str | None, kill: bool | None, migrate: bool | None) -> None:
    """Write and read on a cluster while a primary is killed and slots are moved.

    Without --url, it starts a cluster for this. Every value that is read is checked. The exit status is 1 if a value
    was wrong or a command never ended.
    """
    kill = url is None if kill is None else kill
    migrate = url is None if migrate is None else migrate
    run(lambda reactor, stack: _Demo(reactor, seconds, workers, url, kill, migrate).run(stack))


@dataclass
class _Step:
    name: str
    began: float
    ended: float | None = None
    result: str = ""


@dataclass
class _Demo:
    reactor: IReactorTime
    seconds: float
    workers: int
    url: str | None
    kill: bool
    migrate: bool
    steps: list[_Step] = field(default_factory=list)
    console: Console = field(default_factory=Console)
    cluster: LocalCluster | None = None

    async def run(self, stack: AsyncExitStack) -> int:
        client = await self._client(stack)
        stack.push_async_callback(client.abort)
        await client.refresh_topology()
        workload = Workload(self.reactor, client, workers=self.workers, prefix=f"txvalkeycluster-demo:{uuid4()}")
        if self.url is not None:
            stack.push_async_callback(_tidy, workload)
        await self._watch(workload, client)
        report = workload.report
        self.console.print(_result(report, client))
        return 0 if report.sound else 1

    async def _client(self, stack: AsyncExitStack) -> ClusterClient:
        if self.url is not None:
            return ClusterClient(self.reactor, self.url)
        self.cluster = LocalCluster(self.reactor)
        stack.push_async_callback(self.cluster.stop)
        self.console.print("Starting a cluster of 3 primaries and 3 replicas ...")
        await self.cluster.start()
        return self.cluster.client()

    async def _watch(self, workload: Workload, client: ClusterClient) -> None:
        """Run the workload and the disturbances.  On a terminal it shows a live view, elsewhere lines of progress."""
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            frames = LoopingCall(self._frame, live, workload, client)
            frames.clock = self.reactor
            frames.start(_FRAME)
            try:
                workload.start()
                began = self.reactor.seconds()
                await self._pause(self.seconds / 5)
                await self._disturb(workload, client)
                await self._pause(began + self.seconds - self.reactor.seconds())
                await workload.stop()
            finally:
                frames.stop()
        self.console.print(self._timeline())

    async def _disturb(self, workload: Workload, client: ClusterClient) -> None:
        if self.kill:
            await self._step("kill a primary", lambda step: self._kill(workload, client, step))
            await self._pause(self.seconds / 10)
        if self.migrate:
            name = "move slots to another primary and back"
            await self._step(name, lambda step: self._migrate(client, step))

    async def _step(self, name: str, action: Callable[[_Step], Awaitable[None]]) -> None:
        step = _Step(name, self.reactor.seconds())
        self.steps.append(step)
        if not self.console.is_terminal:
            self.console.print(f"{name} ...")
        try:
            await action(step)
        except (ReplyError, MigrationFailed, _NotPossible) as error:
            step.result = f"not possible: {error}"
        step.ended = self.reactor.seconds()

    async def _kill(self, workload: Workload, client: ClusterClient, step: _Step) -> None:
        shard = next((shard for shard in client.topology.shards if shard.primary and shard.replicas), None)
        if shard is None or shard.primary is None:
            raise _NotPossible("no primary has a replica that can take over")
        victim = shard.primary
        slots = {slot for start, end in shard.slots for slot in range(start, end + 1)}
        workload.primary_killed(slots)
        if self.cluster is not None:
            await self.cluster.kill(next(server for server in self.cluster.servers if server.id == victim.id))
        else:
            # The server closes the connection in place of a reply to SHUTDOWN.
            with suppress(ConnectionLost):
                await client.execute_on(victim, "SHUTDOWN", "NOSAVE", "NOW")
        killed_at = self.reactor.seconds()
        while (owner := client.topology.owner(min(slots))) is None or owner.id == victim.id:
            if self.reactor.seconds() > killed_at + _TAKEOVER:
                raise _NotPossible(f"no replica took over from {victim.address} within {_TAKEOVER:g} s")
            await self._pause(0.05)
        step.result = f"{victim.address} killed, {owner.address} took over"

    async def _migrate(self, client: ClusterClient, step: _Step) -> None:
        shards = [shard for shard in client.topology.shards if shard.primary is not None and shard.slots]
        if len(shards) < 2:
            raise _NotPossible("the cluster has only one shard")
        start, end = shards[0].slots[0]
        end = min(end, start + _SLOTS_MOVED - 1)
        source, target = shards[0].primary, shards[1].primary
        assert source is not None and target is not None
        for one, other in ((source, target), (target, source)):
            await self._migrate_range(client, start, end, one, other)
        step.result = f"{end - start + 1} slots from {source.address} to {target.address} and back"

    async def _migrate_range(self, client: ClusterClient, start: int, end: int, source: Node, target: Node) -> None:
        await client.execute_on(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", start, end, "NODE", target.id)
        while not await migrated(partial(client.execute_on, source)):
            await self._pause(0.05)

    def _pause(self, seconds: float) -> Deferred[None]:
        return deferLater(self.reactor, max(seconds, 0))

    # ---- output

    def _frame(self, live: Live, workload: Workload, client: ClusterClient) -> None:
        report = workload.report
        if self.console.is_terminal:
            now = self.reactor.seconds()
            live.update(Group(self._timeline(now), _numbers(report, client)), refresh=True)

    def _timeline(self, now: float = 0.0) -> Table:
        table = Table.grid(padding=(0, 2))
        for step in self.steps:
            took = (step.ended or now) - step.began
            table.add_row("done" if step.ended else "now", step.name, f"{took:.1f} s", step.result)
        return table


class _NotPossible(Exception):
    """This cluster does not allow a step of the demo."""


async def _tidy(workload: Workload) -> None:
    await workload.stop()
    await workload.remove_keys()


def _numbers(report: Report, client: ClusterClient) -> Table:
    counted = client.statistics
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("commands", f"{report.commands:,}")
    table.add_row("values verified", f"{report.verified:,}")
    table.add_row("wrong values", f"{len(report.wrong):,}")
    table.add_row("older values (not replicated before the kill)", f"{report.older:,}")
    table.add_row("redirects followed", f"{counted.moved:,} MOVED, {counted.asked:,} ASK")
    table.add_row("commands sent again after a lost connection", f"{counted.repeated:,}")
    table.add_row("refreshes of the slot map", f"{counted.refreshes:,}")
    table.add_row("longest wait for one command", f"{report.longest_stall:.2f} s")
    for kind, number in report.errors.items() or [("none", 0)]:
        table.add_row(f"errors that callers got: {kind}", f"{number:,}")
    return table


def _result(report: Report, client: ClusterClient) -> Group:
    rate = report.commands / report.seconds if report.seconds else 0
    last = Text(f"{rate:,.0f} commands a second over {report.seconds:.1f} s; ")
    if report.sound:
        last.append("every value was right and every Deferred fired.", style="green")
    else:
        last.append(f"{len(report.wrong)} wrong values, {report.unfired} Deferreds never fired.", style="bold red")
        last.append("".join(f"\n  {text}" for text in report.wrong[:20]))
    return Group(_numbers(report, client), last)

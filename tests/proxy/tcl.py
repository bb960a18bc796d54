"""Run Valkey's own Tcl tests against a proxy: ``python -m tests.proxy.tcl SOURCE_FOLDER [SUITE ...]``.

SOURCE_FOLDER is the unpacked source package of Valkey.  The program prints a table: how many tests of each suite
passed, how many failed, and why.  The suites run

- against a single server;
- against a proxy.  The tests change settings (CONFIG SET) and look into the server (DEBUG), which a proxy refuses.
  Here both are sent to every primary, so that the tests reach what they test;
- the same without the tests that Valkey marks as not fit for a cluster, if keys in several slots made tests fail;
- against a proxy as users have it.

With ``--quick`` the last two are left out.

Names and error texts of the tests that failed go to the standard error.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import Any

import click
from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread

from txvalkeycluster.commands import Command
from txvalkeycluster.proxy import ProxyService, ProxySettings
from txvalkeycluster.proxy.commands.connection import Answer
from txvalkeycluster.proxy.replies import encode
from txvalkeycluster.proxy.request_framer import Request, words_of
from txvalkeycluster.proxy.server import ProxyServer
from txvalkeycluster.proxy.session import ClientSession
from txvalkeycluster.slots import key_slot
from txvalkeycluster.testing import LocalCluster
from txvalkeycluster.testing.ports import free_ports
from txvalkeycluster.testing.processes import ProcessGroup, find_server

TYPES = "string incr list list-2 list-3 set zset hash stream stream-cgroups"
OTHERS = (
    "keyspace expire scan sort bitops bitfield geo hyperloglog dump protocol info info-command introspection "
    "introspection-2 other multi scripting functions quit querybuf pubsub"
)
SUITES = [f"unit/type/{name}" for name in TYPES.split()] + [f"unit/{name}" for name in OTHERS.split()]
HOST = "127.0.0.1"
# Seconds without progress after which a test hangs, and seconds for a suite.
HANGS, LIMIT = 100, 280

# Why tests fail, by what their error text contains.
_REASONS = {
    reason: re.compile(pattern, re.MULTILINE)
    for reason, pattern in {
        r"CROSSSLOT": r"CROSSSLOT|in several slots",
        r"SORT with BY or GET": r"option of SORT denied in Cluster mode",
        r"CONFIG SET": r"a proxy answers only CONFIG GET",
        r"\1": r"ERR ([A-Z]+) acts on one server|ERR ([A-Z ]+) is not available through a proxy",
        r"\1 in a transaction": r"ERR ([A-Z ]+) is (?:for the whole cluster|answered by the proxy), and cannot be part",
        r"OOM is noticed by EXEC": r"to match '(?:EXECABORT|OOM)\*'",
        r"PING is answered by the proxy": r"'PONG' to match 'BUSY|wait for script to start running",
        r"a script keeps a node busy": r"^BUSY |to match 'EXECABORT\*(?:BUSY|previous errors)\*'",
        r"a message comes before the reply": r"\[r exec\] \{abc 1 1 def\}|assert_equal \$res \{bla\}",
        r"PUBLISH counts a proxy once": r"to be equal to '\d' \(context: .*\[r publish ",
        r"EVAL defines a script at one node": r"^Expected '1 0' to equal or match '0 0'",
        r"keys that a script does not declare": r"access a non local key in a cluster node",
        r"a total of several servers": r"used_memory_lua|number_of_cached_scripts",
        r"a buffer of the server": r"qbuf|query buffer should not be resized",
        r"CLIENT NO-TOUCH has no effect": r"assert_equal \$newlru \$oldlru",
        r"a setting differs between nodes": r"\[r config get \$conf\] 1\] \$val",
        r"a command that waits is counted already": r"Blocked BLPOP didn't increment expected client fields",
        r"it hangs": r"^it hangs$",
    }.items()
}
# A test that ends in the middle can leave a transaction, watched keys or a script, which make later tests fail.
_LEFT = re.compile(
    r"but the (?:transaction is|watched keys are) in slot|not allowed inside a transaction|^BUSY ", re.MULTILINE
)
#: The reasons that tests which are fit for a cluster do not have.
ACROSS = ("CROSSSLOT", "SORT with BY or GET")
# Subcommands of DEBUG that are followed by a key, or are for any server.
_FOR_ONE = frozenset(b"OBJECT DIGEST-VALUE SDSLEN LISTPACK QUICKLIST HTSTATS-KEY PROTOCOL STRINGMATCH-LEN".split())
#: Starts what is tested, and gives its port.
Serve = Callable[[], AbstractAsyncContextManager[int]]
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LINE = re.compile(r"\[(ok|err|ignore|skip|exception|ready|TIMEOUT|\d+/\d+ done)\]: (.*)")
_IN_PROGRESS = re.compile(r"=> \(IN PROGRESS\) (.*)")


@dataclass
class Outcome:
    """What one run of a suite has shown."""

    passed: Counter[str] = field(default_factory=Counter)
    #: The error texts of the tests that failed, by name.
    failed: dict[str, list[str]] = field(default_factory=dict)
    #: What ended the run before its end.
    exceptions: list[str] = field(default_factory=list)

    @property
    def ran(self) -> Counter[str]:
        """How often each test ran."""
        return self.passed + Counter({name: len(texts) for name, texts in self.failed.items()})

    @property
    def failures(self) -> int:
        """The number of failures."""
        return sum(map(len, self.failed.values()))


def parse(text: str, outcome: Outcome) -> str:
    """Read what the test program has printed; return the name of the test that hung, if one did."""
    hung = ""
    current: list[str] | None = None
    for line in _ANSI.sub("", text).splitlines():
        match = _LINE.match(line)
        in_progress = _IN_PROGRESS.search(line)
        if "The End" in line:
            break
        if in_progress is not None:
            hung = in_progress[1]
        elif match is None:
            if current is not None:
                current[-1] += f"\n{line}"
        else:
            kind, rest = match.groups()
            current = None
            if kind == "ok":
                outcome.passed[re.sub(r" \(\d+ ms\)$", "", rest)] += 1
            elif kind == "err":
                name = re.sub(r" in tests/\S+$", "", rest)
                current = outcome.failed.setdefault(name, [])
                current.append("")
            elif kind == "exception":
                current = outcome.exceptions
                current.append(rest)
    return hung


async def run_suite(
    source: Path,
    suite: str,
    serve: Serve,
    *arguments: str,
    skipped: Collection[str] = (),
    known: Mapping[str, list[str]] = MappingProxyType({}),
) -> Outcome:
    """Run a suite.

    A test that fails for a known reason ends in the middle, and may so make later tests fail, for example if the
    connection is left in another state.  Therefore the suite runs again without such tests, until there are no new
    ones.  The same is done with a test that hangs.  Each run has new servers.

    Args:
        source: The folder of the source package.
        suite: The name of the suite.
        serve: Starts what is tested.
        arguments: More options of the test program.
        skipped: The tests that do not run.
        known: The error texts of tests that would fail; they do not run.
    """
    while True:
        outcome = Outcome()
        command = ["./runtest", "--host", HOST, "--singledb", "--durable", "--single", suite, "--timeout", str(HANGS)]
        for name in {*known, *skipped}:
            command += ["--skiptest", name]
        async with serve() as port:
            text, in_time = await deferToThread(_output, [*command, "--port", str(port), *arguments], source)
        hung = parse(text, outcome)
        if hung:
            outcome.failed.setdefault(hung, []).append("it hangs")
        found = {name: texts for name, texts in outcome.failed.items() if name == hung or _reason(texts)}
        new: dict[str, list[str]] = {}
        for name, texts in found.items():
            if name not in known and not (new and any(map(_LEFT.search, texts))):
                new[name] = texts
        known = {**known, **new}
        if not new:
            break
    if not in_time:
        outcome.exceptions.append("the suite took too long")
    outcome.failed.update(known)
    return outcome


def _reason(texts: list[str]) -> str:
    """Return why a test has failed; empty if that is not known."""
    for reason, pattern in _REASONS.items():
        for match in filter(None, map(pattern.search, texts)):
            return reason.replace("\\1", next(filter(None, match.groups()), ""))
    return ""


def _output(command: Sequence[str], folder: Path) -> tuple[str, bool]:
    with TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            in_time = False
        else:
            in_time = True
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        return output.read().decode("utf-8", "replace"), in_time


def reasons(outcome: Outcome, alone: Outcome, without: Outcome) -> Counter[str]:
    """Count why tests failed.

    Args:
        outcome: That of the proxy.
        alone: That of a single server.
        without: That of a single server, without the tests that fail with the proxy for known reasons.
    """
    found: Counter[str] = Counter()
    for name, texts in outcome.failed.items():
        reason = "fails on a single server too" if name in alone.failed else _reason(texts)
        if not reason and name in without.failed:
            reason = "needs the data of a test that cannot run"
        found[reason or f"`{name}`"] += len(texts)
    return found


# ---- the servers


def let_through(proxy: ProxyServer) -> None:
    """Send CONFIG SET and DEBUG to every primary, or to the owner of their key."""
    usual = proxy.handle

    def handle(session: ClientSession, request: Request) -> Answer:
        frame, name, _ = request
        words = words_of(frame)
        sub = words[1].upper() if len(words) > 1 else b""
        if name.upper() in (b"DEBUG", b"CONFIG") and session.transaction is not None and sub != b"GET":
            # It is for the node of the transaction.
            session.transaction.add(frame, Command(name.decode()), None)
            return b"+QUEUED\r\n"
        if name.upper() == b"DEBUG" and sub in _FOR_ONE and len(words) > 2:
            session.relay(frame, key_slot(words[2]))
            return None
        if name.upper() == b"DEBUG" or (name.upper() == b"CONFIG" and sub in (b"SET", b"RESETSTAT", b"REWRITE")):
            return partial(_send_to_all, session, words)
        return usual(session, request)

    proxy.handle = handle  # type: ignore[method-assign]


async def _send_to_all(session: ClientSession, words: list[bytes]) -> bytes:
    assert session.upstream is not None
    client = session.upstream.client
    if not client.topology.primaries:
        await client.refresh_topology()
    asking = [client.execute_on(node, *words) for node in client.topology.primaries if node.address is not None]
    values: list[Any] = []
    for succeeded, value in await DeferredList(asking, consumeErrors=True):
        if not succeeded:
            value.raiseException()
        values.append(value)
    if [word.upper() for word in words] == [b"DEBUG", b"DIGEST"]:
        # The digest of many keys is the XOR of their digests.
        total = 0
        for value in values:
            total ^= int(value, 16)
        return encode(b"%040x" % total, session.protocol)
    return b"+OK\r\n" if values[0] == b"OK" else encode(values[0], session.protocol)


@asynccontextmanager
async def single_server(reactor: Any) -> AsyncIterator[int]:
    """A server without a cluster; gives its port."""
    group = ProcessGroup()
    try:
        port = free_ports(HOST, 1)[0]
        options = ["--port", str(port), "--bind", HOST, "--save", "", "--enable-debug-command", "local"]
        group.start([find_server(), *options, "--enable-protected-configs", "local"], group.folder)
        while "Ready to accept" not in (group.folder / "log").read_text():
            await deferLater(reactor, 0.05)
        yield port
    finally:
        group.close()


@asynccontextmanager
async def proxy(reactor: Any, *, opened: bool) -> AsyncIterator[int]:
    """A cluster, and a proxy before it; gives the port of the proxy."""
    cluster = LocalCluster(reactor, primaries=3, replicas=0, config={"enable-protected-configs": "local"})
    await cluster.start()
    try:
        port = free_ports(HOST, 1)[0]
        listen = (f"tcp:{port}:interface={HOST}",)
        service = ProxyService(reactor, ProxySettings(cluster=cluster.url, listen=listen, stop_timeout=0.1))
        if opened:
            let_through(service.server)
        service.startService()
        await service.whenListening()
        yield port
        await service.stopService()
    finally:
        await cluster.stop()


async def run(reactor: Any, source: Path, suites: Sequence[str], *, quick: bool) -> None:
    """Run the suites, and print the table.

    Args:
        reactor: The reactor.
        source: The folder of the source package.
        suites: The names of the suites.
        quick: Whether to run only what the first columns need.
    """
    serve_alone, serve = partial(single_server, reactor), partial(proxy, reactor, opened=True)
    columns = ["suite", "server: passed, failed", "proxy: passed, failed, not run"]
    columns += ["why"] if quick else ["for a cluster", "as it is", "why"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    totals: Counter[str] = Counter()
    for suite in suites:
        alone = await run_suite(source, suite, serve_alone)
        full = await run_suite(source, suite, serve)
        known = {name: texts for name, texts in full.failed.items() if _reason(texts)}
        without = await run_suite(source, suite, serve_alone, skipped=known) if known else alone
        fit = full
        if not quick and any(_reason(texts) in ACROSS for texts in full.failed.values()):
            fit = await run_suite(source, suite, serve, "--cluster-mode")
        as_is = full
        if not quick:
            as_is = await run_suite(source, suite, partial(proxy, reactor, opened=False), known=known)
        why = reasons(full, alone, without)
        totals += why
        cells = [suite.removeprefix("unit/"), f"{alone.passed.total()}, {alone.failures}"]
        cells.append(_numbers(full, alone))
        if not quick:
            cells += [f"{fit.passed.total()}, {fit.failures}", _numbers(as_is, alone)]
        cells.append(_text(why))
        print(f"| {' | '.join(cells)} |", flush=True)
        for kind, outcome in (("server", alone), ("proxy", full), ("cluster", fit), ("as it is", as_is)):
            if kind in ("server", "proxy") or outcome is not full:
                _show(suite, kind, outcome, alone)
    print(_text(totals))


def _numbers(outcome: Outcome, alone: Outcome) -> str:
    missing = (alone.ran - outcome.ran).total()
    return f"{outcome.passed.total()}, {outcome.failures}, {missing}"


def _text(counted: Counter[str]) -> str:
    return "; ".join(f"{count} {reason}" for reason, count in counted.most_common())


def _show(suite: str, kind: str, outcome: Outcome, alone: Outcome) -> None:
    for name, texts in outcome.failed.items():
        for text in texts:
            print(f"=== {suite} {kind}: {name}\n{text}", file=sys.stderr)
    for name in alone.ran - outcome.ran:
        print(f"=== {suite} {kind} does not run: {name}", file=sys.stderr)
    for text in outcome.exceptions:
        print(f"=== {suite} {kind}: EXCEPTION\n{text}", file=sys.stderr)
    sys.stderr.flush()


@click.command()
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("suites", nargs=-1)
@click.option("--quick", is_flag=True, help="Only a single server, and a proxy with CONFIG SET and DEBUG.")
def main(source: Path, suites: tuple[str, ...], quick: bool) -> None:
    """Run Valkey's own Tcl tests of the folder SOURCE against a proxy."""

    def started(reactor: Any) -> Any:
        running: Coroutine[Any, Any, None] = run(reactor, source, suites or SUITES, quick=quick)
        return ensureDeferred(running)

    react(started, [])


if __name__ == "__main__":
    main()

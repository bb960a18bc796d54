"""Real, unmodified programs use a proxy as a single server, also through a graceful failover and a SIGKILL.

With TXVALKEYCLUSTER_PROXY_SEEN=FILE, what each program has seen is appended to a file, as rows of the table in
docs/proxy.md.
"""

from __future__ import annotations

import asyncio
import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import redis
import redis.asyncio
from twisted.internet.threads import deferToThread

from tests.proxy.programs import (
    HOST,
    IN_DOUBT,
    REFUSED_IN_A_PIPELINE,
    Program,
    Progress,
    ProxyTests,
    note,
    pause,
    single_server,
    until,
)
from txvalkeycluster import key_slot
from txvalkeycluster.proxy import ProxyService
from txvalkeycluster.testing import Server

# Seconds until redis-py gives up.  The proxy must answer earlier, or redis-py sends a command a second time.
_PATIENCE = 20
_BENCHMARK_ERROR = "Error from server: CONNLOST"


class Counting:
    """Says whether replies to INCR can be right.  No other client increments these keys."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._number = 0
        # A write whose reply was lost may have been executed once.
        self._most: Counter[str] = Counter()

    def next_key(self) -> str:
        self._number += 1
        key = f"{self._prefix}:{self._number % 50}"
        self._most[key] += 1
        return key

    def check(self, key: str, new: Any, same: Any, exactly: bool) -> None:
        if isinstance(new, Exception) or isinstance(same, Exception):
            raise new if isinstance(new, Exception) else same
        assert new == int(same), (key, new, same)
        assert new <= self._most[key], f"{key} is {new}, but was incremented only {self._most[key]} times"
        assert new == self._most[key] or not exactly, f"{key} is {new}, but was incremented {self._most[key]} times"
        self._most[key] = new


class BlockingProgram(Progress):
    """INCR and GET in a thread, with redis-py."""

    def __init__(self, port: int, protocol: int, pipelined: bool) -> None:
        super().__init__(f"redis-py, RESP{protocol}, {'pipelines' if pipelined else 'single commands'}")
        self.exactly = True
        self._pipelined = pipelined
        self._client = redis.Redis(HOST, port, protocol=protocol, socket_timeout=_PATIENCE)
        self.ended = deferToThread(self._run)

    def _run(self) -> None:
        counting = Counting(self.name)
        while not self.stopping.is_set():
            key = counting.next_key()
            begun = monotonic()
            try:
                if self._pipelined:
                    pipeline: Any = self._client.pipeline(transaction=False)
                    new, same = pipeline.incr(key).get(key).execute(raise_on_error=False)
                else:
                    new, same = self._client.incr(key), self._client.get(key)
                counting.check(key, new, same, self.exactly)
            except redis.RedisError as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            self.took(begun)
        self._client.close()


class AsyncioProgram(Progress):
    """INCR and GET in an event loop of asyncio, with redis-py."""

    def __init__(self, port: int, protocol: int, pipelined: bool) -> None:
        super().__init__(f"redis.asyncio, RESP{protocol}, {'pipelines' if pipelined else 'single commands'}")
        self.exactly = True
        self._pipelined = pipelined
        self.ended = deferToThread(asyncio.run, self._run(port, protocol))

    async def _run(self, port: int, protocol: int) -> None:
        counting = Counting(self.name)
        client = redis.asyncio.Redis(host=HOST, port=port, protocol=protocol, socket_timeout=_PATIENCE)
        while not self.stopping.is_set():
            key = counting.next_key()
            begun = monotonic()
            try:
                if self._pipelined:
                    pipeline: Any = client.pipeline(transaction=False)
                    new, same = await pipeline.incr(key).get(key).execute(raise_on_error=False)
                else:
                    new, same = await client.incr(key), await client.get(key)
                counting.check(key, new, same, self.exactly)
            except redis.RedisError as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            self.took(begun)
        await client.aclose()


class CommandLineProgram(Progress):
    """INCR of one key, again and again, with valkey-cli."""

    def __init__(self, running: Program, name: str) -> None:
        super().__init__(name)
        self.exactly = True
        self.ended = running.ended
        self._running = running
        self._seen = 0
        self._last = 0
        self._at = monotonic()
        running.received = self._received

    def _received(self) -> None:
        for line in self._running.lines[self._seen :]:
            self._seen += 1
            if line.isdigit():
                number = int(line)
                assert number == self._last + 1 or not self.exactly, f"{number} after {self._last}"
                self._last = number
                self.took(self._at)
                self._at = monotonic()
            elif line:
                self.errors.append(line)

    async def stop(self) -> None:
        self._running.kill()
        await self.ended


class FaultTests(ProxyTests):
    """A failover shows programs no error, and a SIGKILL only the replies that were lost."""

    async def through_both(self, programs: Sequence[Any], affected: int) -> None:
        """Run programs through both.

        Args:
            programs: The programs, each of which has one request under way at a time.
            affected: How many of them must stand still when the primary does.
        """
        await self.progress_of(programs)
        await self.failover()
        await self.progress_of(programs)
        for each in programs:
            self.assertEqual(note(each.name, "failover", each.errors, each.longest), {})
            each.longest = 0.0
            # A primary that dies may lose writes that it has acknowledged.
            each.exactly = False
        await self.sigkill(lambda victim: self.standstill(victim, programs, affected))
        await self.progress_of(programs)
        for each in programs:
            await each.stop()
            seen = note(each.name, "SIGKILL", each.errors, each.longest)
            self.assertEqual(
                [text for text in seen if not any(code in text for code in (*IN_DOUBT, REFUSED_IN_A_PIPELINE))], []
            )
            self.assertLessEqual(sum(seen.values()), 1)

    async def progress_of(self, programs: Sequence[Any]) -> None:
        """Wait until each program has done 500 rounds more."""
        goals = [each.rounds + 500 for each in programs]
        for each, goal in zip(programs, goals, strict=True):
            await until(lambda e=each, g=goal: e.rounds >= g or getattr(e.ended, "called", False))  # type: ignore[misc]
            if each.rounds < goal:
                await each.stop()
                self.fail(f"{each.name} has ended")

    async def standstill(self, victim: Server, programs: Sequence[Any], affected: int) -> None:
        """Pause a primary, and wait until programs wait for it, so that their requests are lost with it."""
        await self.cluster.pause(victim)
        same, before = 0, [-1] * len(programs)
        while same < 10:
            now = [each.rounds for each in programs]
            waiting = sum(old == new for old, new in zip(before, now, strict=True))
            same = same + 1 if waiting >= affected else 0
            before = now
            await pause(0.05)

    async def test_redis_py(self) -> None:
        """Redis-py, with RESP2 and RESP3, through a proxy in a process of its own."""
        proxy = await self.proxy_process()
        kinds = [(protocol, pipelined) for protocol in (2, 3) for pipelined in (False, True)]
        await self.through_both([BlockingProgram(proxy.port, *each) for each in kinds], 4)

    async def test_redis_asyncio(self) -> None:
        """Redis-py with asyncio, through a proxy in this process."""
        port = self.port_of(await self.proxy())
        kinds = [(protocol, pipelined) for protocol in (2, 3) for pipelined in (False, True)]
        await self.through_both([AsyncioProgram(port, *each) for each in kinds], 4)

    async def test_valkey_cli(self) -> None:
        """Valkey-cli, with a key of each primary."""
        proxy = await self.proxy_process()
        programs: list[CommandLineProgram] = []
        for index, primary in enumerate(self.cluster.servers[:3]):
            slots = await self.slots_of(primary)
            key = next(f"cli:{number}" for number in range(10_000) if key_slot(f"cli:{number}") in slots)
            resp3 = ("-3",) if index == 1 else ()
            running = self.run_program("valkey-cli", "-p", str(proxy.port), *resp3, "-r", "-1", "INCR", key)
            programs.append(CommandLineProgram(running, f"valkey-cli, key of primary {index}"))
        await self.through_both(programs, 1)

    async def test_valkey_benchmark(self) -> None:
        """A failover shows no error; after a SIGKILL it ends at a lost write, as at every error, but reads go on."""
        service = await self.proxy()
        port = self.port_of(service)
        for pipeline, count in ((1, 40_000), (16, 400_000)):
            for change, tests in (("failover", ("SET", "GET")), ("SIGKILL", ("SET",)), ("SIGKILL", ("GET",))):
                name = f"valkey-benchmark of {' and '.join(tests)}, 50 clients, pipelines of {pipeline}"
                sizes = ("-c", "50", "-n", str(count), "-P", str(pipeline), "-r", "10000")
                running = self.run_program(
                    "valkey-benchmark", "-p", str(port), *sizes, "-t", ",".join(tests).lower(), "--csv"
                )
                goal = self.commands_of(service) + count // 4
                await until(lambda g=goal: self.commands_of(service) > g)  # type: ignore[misc]
                self.assertTrue(running.running)
                if change == "failover":
                    await self.failover()
                else:
                    victim = await self.sigkill()
                status = await running.ended
                errors = running.err.decode().splitlines()
                rows = list(csv.DictReader(running.out.decode().splitlines()))
                longest = max((float(row["max_latency_ms"]) / 1000 for row in rows), default=0.0)
                seen = note(f"{name}; exit status {status}", change, errors, longest)
                if status:
                    self.assertEqual((change, tests), ("SIGKILL", ("SET",)))
                    self.assertEqual([text.partition(" SET got no")[0] for text in seen], [_BENCHMARK_ERROR])
                else:
                    self.assertEqual(seen, {})
                    self.assertEqual(tuple(row["test"] for row in rows), tests)
                if change == "SIGKILL":
                    await self.cluster.restart(victim)
                    await self.cluster.wait_until_whole()

    def commands_of(self, service: ProxyService) -> int:
        """Return how many commands a proxy has sent to the cluster."""
        return sum(upstream.client.statistics.commands for upstream in service.server.upstreams)


# What programs send most, with keys in many slots.
_COMMANDS: Sequence[Sequence[Any]] = (
    *(("SET", "text", "caf\u00e9"), ("GET", "text"), ("GET", "nothing"), ("APPEND", "text", "!"), ("STRLEN", "text")),
    *(
        ("SET", "n", 5),
        ("INCR", "n"),
        ("INCRBYFLOAT", "n", "1.5"),
        ("GETRANGE", "text", 0, 2),
        ("SETEX", "t", 100, "x"),
    ),
    *(("TTL", "t"), ("PERSIST", "t"), ("TTL", "t"), ("TYPE", "text"), ("EXISTS", "text", "n", "t", "nothing")),
    *(("MSET", "m1", 1, "m2", 2, "m3", 3), ("MGET", "m1", "nothing", "m3"), ("DEL", "m1", "m2", "nothing")),
    *(("UNLINK", "m3", "t"), ("TOUCH", "text", "n"), ("SETNX", "n", 1), ("GETDEL", "n"), ("SET", "k", "v", "GET")),
    *(("HSET", "h", "a", 1, "b", 2), ("HGETALL", "h"), ("HMGET", "h", "a", "z"), ("HINCRBY", "h", "a", 4)),
    *(("HKEYS", "h"), ("HLEN", "h"), ("HEXISTS", "h", "z"), ("HDEL", "h", "b"), ("HSCAN", "h", 0), ("HGET", "h", "z")),
    *(("RPUSH", "l", "a", "b", "c"), ("LPUSH", "l", "z"), ("LRANGE", "l", 0, -1), ("LPOP", "l"), ("RPOP", "l", 2)),
    *(("LLEN", "l"), ("LINDEX", "l", 0), ("LSET", "l", 0, "x"), ("LPOP", "nothing"), ("LMPOP", 1, "l", "LEFT")),
    *(("SADD", "s", "one"), ("SMEMBERS", "s"), ("SISMEMBER", "s", "one"), ("SPOP", "s"), ("SCARD", "s")),
    *(
        ("ZADD", "z", 1, "a", 2.5, "b"),
        ("ZRANGE", "z", 0, -1, "WITHSCORES"),
        ("ZSCORE", "z", "b"),
        ("ZINCRBY", "z", 1, "a"),
    ),
    *(
        ("ZRANK", "z", "b"),
        ("ZRANGEBYSCORE", "z", "-inf", "+inf"),
        ("ZPOPMIN", "z"),
        ("ZCARD", "z"),
        ("ZMSCORE", "z", "q"),
    ),
    *(("XADD", "x", "1-1", "f", "v"), ("XRANGE", "x", "-", "+"), ("XLEN", "x"), ("XREAD", "STREAMS", "x", "0")),
    *(
        ("XGROUP", "CREATE", "x", "g", "0"),
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">"),
        ("XACK", "x", "g", "1-1"),
    ),
    *(
        ("XPENDING", "x", "g"),
        ("XINFO", "STREAM", "x"),
        ("PFADD", "p", "a", "b"),
        ("PFCOUNT", "p"),
        ("SETBIT", "b", 7, 1),
    ),
    *(
        ("BITCOUNT", "b"),
        ("BITFIELD", "b", "GET", "u8", 0),
        ("GEOADD", "g", 13.4, 52.5, "B"),
        ("GEOPOS", "g", "B", "C"),
    ),
    *(
        ("GEODIST", "g", "B", "C"),
        ("SORT", "l"),
        ("DUMP", "nothing"),
        ("OBJECT", "ENCODING", "h"),
        ("EXPIRE", "h", 100),
    ),
    *(("EVAL", "return {1, KEYS[1], ARGV[1]}", 1, "k", "a"), ("EVAL", "return redis.error_reply('MY own')", 0)),
    *(
        ("EVAL", "return redis.call('HGETALL', KEYS[1])", 1, "h"),
        ("EVALSHA", "0" * 40, 1, "k"),
        ("SCRIPT", "EXISTS", "a"),
    ),
    *(("PING",), ("PING", "text"), ("ECHO", "text"), ("SELECT", 0), ("CLIENT", "SETNAME", "me"), ("CLIENT", "GETNAME")),
    *(
        ("LPUSH", "k", 1),
        ("INCR", "text"),
        ("NONSENSE", "k"),
        ("GET",),
        ("SET", "k"),
        ("HSET", "h", "a"),
        ("ZADD", "z", "x", "a"),
    ),
    *(("DBSIZE",), ("RANDOMKEY", "x"), ("COPY", "k", "{k}2"), ("RENAME", "{k}2", "{k}3"), ("OBJECT", "FREQ", "k")),
    *(("LCS", "{c}1", "{c}2"), ("SINTERCARD", 1, "s"), ("GETEX", "k", "EX", 10), ("HRANDFIELD", "h", 1, "WITHVALUES")),
    *(
        ("COMMAND", "COUNT"),
        ("COMMAND", "GETKEYS", "GET", "k"),
        ("CONFIG", "GET", "maxmemory"),
        ("FLUSHALL",),
        ("DBSIZE",),
    ),
)


class SameRepliesTests(ProxyTests):
    """Without faults, a program sees no difference between a proxy and a single server."""

    async def test_replies(self) -> None:
        """Every reply is the same, with RESP2 and RESP3; also in a pipeline."""
        proxy, server = await self.proxy_process(), await single_server(self)
        for protocol in (2, 3):
            for pipelined in (False, True):
                found = [await deferToThread(_replies, port, protocol, pipelined) for port in (proxy.port, server)]
                wrong = [each for each in zip(_COMMANDS, *found, strict=True) if each[1] != each[2]]
                self.assertEqual(wrong, [], f"RESP{protocol}, pipelined: {pipelined}")

    async def test_scans(self) -> None:
        """scan_iter gives each key once; also with a pattern, a count and a type, and as of asyncio."""
        port = self.port_of(await self.proxy())

        def fill() -> None:
            with redis.Redis(HOST, port) as client:
                pipeline = client.pipeline(transaction=False)
                for number in range(3000):
                    pipeline.set(f"scan:{number}", number) if number % 3 else pipeline.rpush(f"scan:{number}", number)
                pipeline.execute()

        def scan(protocol: int, **options: Any) -> list[bytes]:
            with redis.Redis(HOST, port, protocol=protocol) as client:
                return sorted(client.scan_iter(**options))

        async def scan_async(protocol: int) -> list[bytes]:
            async with redis.asyncio.Redis(host=HOST, port=port, protocol=protocol) as client:
                return sorted([key async for key in client.scan_iter(count=100)])

        await deferToThread(fill)
        every = sorted(b"scan:%d" % number for number in range(3000))
        lists = sorted(b"scan:%d" % number for number in range(0, 3000, 3))
        for protocol in (2, 3):
            self.assertEqual(await deferToThread(scan, protocol), every)
            self.assertEqual(
                await deferToThread(scan, protocol, match="scan:7*", count=500),
                [key for key in every if key.startswith(b"scan:7")],
            )
            self.assertEqual(await deferToThread(scan, protocol, _type="LIST"), lists)
            self.assertEqual(await deferToThread(asyncio.run, scan_async(protocol)), every)

    async def test_valkey_cli(self) -> None:
        """Single commands, a file of commands, mass insertion, scans and reports."""
        port = str(self.port_of(await self.proxy()))

        async def cli(*words: str, text: str = "", status: int = 0) -> list[str]:
            running = self.run_program("valkey-cli", "-p", port, *words)
            running.write(text.encode())
            running.end_input()
            self.assertEqual(await running.ended, status, running.out + running.err)
            return running.lines

        self.assertEqual(await cli("SET", "k", "v"), ["OK"])
        self.assertEqual(await cli("-3", "HSET", "h", "a", "1"), ["1"])
        self.assertEqual(await cli("-3", "--json", "HGETALL", "h"), ['{"a":"1"}'])
        self.assertEqual(await cli("-e", "INCR", "k", status=1), [])
        self.assertEqual(await cli("--eval", str(self.script()), "k", ",", "x"), ["k", "x"])
        self.assertEqual(await cli(text="SET a 1\nINCR a\nMGET a nothing k\n"), ["OK", "2", "2", "", "v"])
        many = "".join(f"SET many:{number} {number}\r\n" for number in range(20_000))
        self.assertEqual((await cli("--pipe", text=many))[-1], "errors: 0, replies: 20000")
        self.assertEqual(len(set(await cli("--scan", "--pattern", "many:*"))), 20_000)
        self.assertIn("Sampled 20003 keys in the keyspace!", await cli("--bigkeys"))
        self.assertIn("mode:standalone", "".join(await cli("INFO", "server")))

    def script(self) -> Path:
        """Write a file with a script."""
        file = Path(self.mktemp()).absolute()
        file.write_text("return {KEYS[1], ARGV[1]}")
        return file

    async def test_valkey_benchmark(self) -> None:
        """Every test that the benchmark runs by default ends without an error."""
        port = str(self.port_of(await self.proxy()))
        for extra in ((), ("-P", "16", "-3"), ("--threads", "2", "-r", "100")):
            running = self.run_program("valkey-benchmark", "-p", port, "-n", "1000", "-c", "20", "--csv", *extra)
            self.assertEqual((await running.ended, running.err), (0, b""), extra)
            self.assertGreaterEqual(len(running.lines), 20)


def _replies(port: int, protocol: int, pipelined: bool) -> list[Any]:
    """Return the reply to each command as text with its type."""
    with redis.Redis(HOST, port, protocol=protocol) as client:
        # The plain replies, without the conversions of redis-py.
        client.response_callbacks.clear()
        client.flushall()
        if pipelined:
            pipeline = client.pipeline(transaction=False)
            for words in _COMMANDS:
                pipeline.execute_command(*words)
            return [_described(reply) for reply in pipeline.execute(raise_on_error=False)]
        found = []
        for words in _COMMANDS:
            try:
                found.append(_described(client.execute_command(*words)))
            except redis.ResponseError as error:
                found.append(_described(error))
        return found


def _described(reply: Any) -> str:
    return f"{type(reply).__name__}: {reply}" if isinstance(reply, Exception) else repr(reply)

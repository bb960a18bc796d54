"""The bulk loader, the cache, and the services that share a client."""

from __future__ import annotations

import json
import re
import signal

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults

from tests.cases import SynchronousTestCase
from tests.cluster.command_line import pause
from tests.examples.base import EXAMPLES, TWISTD, ExampleTests, load


class BulkLoadTests(ExampleTests):
    async def test_files(self) -> None:
        """Rows of CSV and JSON become hashes.  Rows that fail are named, and the others are loaded."""
        people = self.folder / "people.csv"
        rows = [f"{number},name {number}" for number in range(1, 1001)]
        people.write_text("\n".join(["id,name", *rows]) + "\n")
        code, out, err = await self.run_example("bulk_load.py", str(people), "--prefix=person:")
        self.assertEqual((code, out), (0, "1000 rows loaded, 0 failed\n"), err)
        self.assertEqual(await self.client.dbsize(), 1000)
        self.assertEqual(await self.client.hgetall("person:77"), {"id": "77", "name": "name 77"})

        await self.client.set("person:3", "not a hash")
        rows[4:6] = ["5", "6,a,b"]
        people.write_bytes("\n".join(["id,name", *rows]).encode() + b"\n1001,\xff\n1002,last\n")
        code, out, err = await self.run_example("bulk_load.py", str(people), "--prefix=person:")
        self.assertEqual((code, out), (1, "998 rows loaded, 4 failed\n"), err)
        for row, text in ((3, "WRONGTYPE"), (5, "columns"), (6, "columns"), (1001, "")):
            self.assertRegex(err, rf"(?m)^row {row}: .*{text}")
        self.assertEqual(await self.client.hgetall("person:1002"), {"id": "1002", "name": "last"})

        lines = self.folder / "lines.jsonl"
        lines.write_text(
            json.dumps({"id": 1, "tags": ["a"], "on": True}) + '\n{"id": \n{"name": "x"}\n7\n{"id": "b"}\n'
        )
        code, out, err = await self.run_example("bulk_load.py", str(lines))
        self.assertEqual((code, out), (1, "2 rows loaded, 3 failed\n"), err)
        for row in (2, 3, 4):
            self.assertIn(f"row {row}: ", err)
        self.assertEqual(await self.client.hgetall("row:1"), {"id": "1", "tags": '["a"]', "on": "true"})

    async def test_made_up_rows(self) -> None:
        """Made-up rows are loaded.  After SIGTERM, or if the cluster cannot be reached, the exit status is an error."""
        code, out, err = await self.run_example("bulk_load.py", "--generate=20000")
        self.assertEqual((code, out), (0, "20000 rows loaded, 0 failed\n"), err)
        self.assertEqual(await self.client.hget("row:20000", "name"), "name 20000")
        self.assertIn("100%", err)
        await self.client.flushall()
        program = self.start_example(str(EXAMPLES / "bulk_load.py"), "--generate=100000000")
        await self.until(self.client.dbsize)
        program.process.send_signal(signal.SIGTERM)
        self.assertNotEqual(await program.ended(), 0)
        self.assertIn("the end of the rows was not reached", program.err)
        await self.cluster.stop()
        code, _, err = await self.run_example("bulk_load.py", "--generate=1")
        self.assertEqual(code, 1)
        self.assertIn("cannot load the rows", err)
        self.assertNotIn("Traceback", err)


class CacheTests(ExampleTests):
    async def test_many_readers(self) -> None:
        """Many readers in two processes want the same value, and it is computed once."""
        programs = [self.start_example(str(EXAMPLES / "cache.py"), "--readers=50") for _ in range(2)]
        counts = []
        for program in programs:
            self.assertEqual(await program.ended(), 0, program.err)
            counts += re.findall(r"50 readers got \{'a value'\}; this process computed it (\d+) times", program.out)
        self.assertEqual(sorted(counts), ["0", "1"])

    async def test_the_cache(self) -> None:
        """Old values are used while one caller computes, failures are survived, and times to live differ."""
        cache = load("cache").Cache(reactor, self.client, "test", ttl=1000.0, keep=1000.0, lock=0.2)
        entry = "{test:a}"
        begun: list[Deferred[str]] = []

        def later() -> Deferred[str]:
            begun.append(Deferred())
            return begun[-1]

        def wrong() -> Deferred[str]:
            raise ArithmeticError("cannot compute")

        # Without an old value the error is the caller's, and the lock is free again.
        await self.assertFailure(ensureDeferred(cache.get_or_compute("a", wrong)), ArithmeticError)
        self.assertEqual(await self.client.exists(entry, f"{entry}:lock"), 0)
        # The second caller waits for the first.
        both = gatherResults([ensureDeferred(cache.get_or_compute("a", later)) for _ in range(2)])
        while not begun:
            await pause()
        begun[0].callback("one")
        self.assertEqual(await both, ["one", "one"])
        # The value is old: one caller computes, and the others get the old one.  The lock expires meanwhile.
        await self.client.hset(entry, {"fresh_until": 0})
        slow = ensureDeferred(cache.get_or_compute("a", later))
        while len(begun) < 2:
            await pause()
        self.assertEqual(await cache.get_or_compute("a", later), "one")
        while await self.client.exists(f"{entry}:lock"):
            await pause()
        self.assertEqual(await cache.get_or_compute("a", wrong), "one")
        self.flushLoggedErrors(ArithmeticError)
        third = ensureDeferred(cache.get_or_compute("a", later))
        while len(begun) < 3:
            await pause()
        begun[2].callback("three")
        self.assertEqual(await third, "three")
        # The slow caller has lost the lock.  It does not replace the newer value.
        begun[1].callback("two")
        self.assertEqual(await slow, "two")
        self.assertEqual(await cache.get_or_compute("a", wrong), "three")

        async def value() -> str:
            return "x"

        for number in range(50):
            await cache.get_or_compute(f"k{number}", value)
        times = [await self.client.pttl(f"{{test:k{number}}}") for number in range(50)]
        self.assertTrue(1_890_000 < min(times) < 1_950_000 < 2_050_000 < max(times) <= 2_100_000, sorted(times))
        # Without the cluster a value is computed each time.
        quick = load("cache").Cache(reactor, self.client.with_options(timeout=0.2), "test", ttl=1000.0)
        for server in self.cluster.servers:
            await self.cluster.kill(server)
        self.assertEqual(await quick.get_or_compute("a", value), "x")


class SharedServicesTests(ExampleTests):
    async def test_twistd(self) -> None:
        """Both services use the client, and the last sample is written while they stop."""
        self.environment |= {"SAMPLE_INTERVAL": "0.05", "LOAD_LIMIT": "0"}
        program = self.start_example(*TWISTD, f"--python={EXAMPLES / 'shared_services.py'}")
        await program.until_printed("has a load of")
        self.assertEqual(await self.terminate(program), -signal.SIGTERM)
        (stream,) = [key async for key in self.client.scan_iter("samples:*")]
        samples = [sample for _, sample in await self.client.xrange(stream, "-", "+") if sample]
        self.assertGreater(len(samples), 1)
        self.assertEqual([sample["state"] for sample in samples].index("stopped"), len(samples) - 1)
        self.assertIn("running for 0 s", program.out)


class PortedTests(ExampleTests):
    """The example programs of other clients, written with this library."""

    async def test_libvalkeycluster(self) -> None:
        """The synchronous example prints two replies.  If the cluster cannot be reached, it prints why."""
        self.assertEqual(await self.run_example("libvalkeycluster_example.py"), (0, "SET: OK\nGET: value\n", ""))
        self.assertEqual(await self.client.get("key"), "value")
        await self.cluster.stop()
        code, out, err = await self.run_example("libvalkeycluster_example.py")
        self.assertEqual((code, out), (1, ""))
        self.assertRegex(err, "^Error: no node gave a slot map\n")
        self.assertNotIn("Traceback", err)

    async def test_libvalkeycluster_async(self) -> None:
        """The asynchronous example prints each reply once, in order for each key, and each connection."""
        code, out, err = await self.run_example("libvalkeycluster_example_async.py")
        self.assertEqual((code, err), (0, ""))
        lines = out.splitlines()
        for key, value in (("key", "value"), ("key2", "value2")):
            replies = [line for line in lines if line.startswith((f"SET {key}:", f"GET {key}:"))]
            self.assertEqual(replies, [f"SET {key}: OK", f"GET {key}: {value}"])
        connected, disconnected = (
            {line.rpartition(" ")[2] for line in lines if line.startswith(f"{what} ")}
            for what in ("connected to", "disconnected from")
        )
        self.assertEqual(connected, disconnected)
        self.assertEqual(len(lines), 4 + 2 * len(connected))


class ReadmeTests(SynchronousTestCase):
    def test_every_example_is_listed(self) -> None:
        """README.md of the examples has a row for each of them, and no other."""
        rows = re.findall(r"^\| \[([\w.]+)(?:/[\w.-]*)?\]", (EXAMPLES / "README.md").read_text(), re.M)
        there = {path.name for path in EXAMPLES.iterdir()} - {"README.md", "__pycache__"}
        self.assertEqual(set(rows), there)

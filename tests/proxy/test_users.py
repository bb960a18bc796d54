"""The proxy's own users: their file, and logins with AUTH and HELLO."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred

from tests.cases import SynchronousTestCase
from tests.logs import observe_log
from tests.proxy.base import ProxyTests, request
from txvalkeycluster.proxy import ProxyService, ProxySettings, users
from txvalkeycluster.proxy.users import Users, UsersError, line_for, main

_NOAUTH = b"-NOAUTH Authentication required.\r\n"
_WRONG = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"


def at_once(function: Callable[..., bool], *args: Any) -> Deferred[bool]:
    """Call a function in this thread."""
    return maybeDeferred(function, *args)


class FileTests(SynchronousTestCase):
    def file(self, *rows: str | bytes) -> Path:
        """Return a file with some lines."""
        path = Path(self.mktemp())
        path.write_bytes(b"\n".join(row if isinstance(row, bytes) else row.encode() for row in rows))
        return path

    def users(self, *rows: str) -> Users:
        """Return the users of a file, whose passwords are checked in this thread."""
        return Users(self.file(*rows), at_once)

    def test_lines(self) -> None:
        """A file has one line for each user; empty lines and comments are ignored."""
        found = self.users(
            "# users", "", line_for("alice", b"secret"), "  " + line_for("Jürgen", b"\xff\0:") + "  ", ""
        )
        self.assertEqual((len(found), "alice" in found, "Jürgen" in found, "bob" in found), (2, True, True, False))
        for name, password, right in (
            ("alice", b"secret", True),
            ("alice", b"Secret", False),
            ("alice", b"", False),
            ("Alice", b"secret", False),
            ("bob", b"secret", False),
            ("", b"", False),
            ("\udcff", b"", False),
            ("Jürgen", b"\xff\0:", True),
            ("Jürgen", b"\xff\0", False),
            ("alice", b"\xff\0:", False),
        ):
            for _ in range(2):
                self.assertEqual(self.successResultOf(found.check(name, password)), right, (name, password))

    def test_hash(self) -> None:
        """A line holds a salt of its own and the scrypt hash of the password with it, so equal passwords differ."""
        name, kind, cost, salt, digest = line_for("alice", b"secret").split(":")
        self.assertEqual((name, kind, cost), ("alice", "scrypt", "14"))
        wanted = hashlib.scrypt(b"secret", salt=bytes.fromhex(salt), n=1 << 14, r=8, p=1, maxmem=1 << 28, dklen=32)
        self.assertEqual(digest, wanted.hex())
        self.assertNotEqual(line_for("alice", b"secret"), line_for("alice", b"secret"))

    def test_errors(self) -> None:
        """A wrong file is refused with its name and the number of the line, and without what stands there."""
        good = line_for("alice", b"secret")
        _, _, _, salt, digest = good.split(":")
        for row, reason in (
            ("alice", "is not name:scrypt:cost:salt:hash"),
            ("alice:secret", "is not name:scrypt:cost:salt:hash"),
            (good + ":", "is not name:scrypt:cost:salt:hash"),
            (f"bob:scrypt:x:{salt}:{digest}", "is not name:scrypt:cost:salt:hash"),
            (f"bob:scrypt:14:x:{digest}", "is not name:scrypt:cost:salt:hash"),
            (f"bob:scrypt:14:{salt}:{digest}0", "is not name:scrypt:cost:salt:hash"),
            (f"bob:scrypt:9:{salt}:{digest}", "is not name:scrypt:cost:salt:hash, with a cost of 10 to 17"),
            (f"bob:scrypt:18:{salt}:{digest}", "is not name:scrypt:cost:salt:hash, with a cost of 10 to 17"),
            (f"bob:sha256:14:{salt}:{digest}", "is not name:scrypt:cost:salt:hash, with a cost of 10 to 17"),
            (f"bob:scrypt:14:{salt}:{digest[2:]}", "is not name:scrypt:cost:salt:hash, with a cost of 10 to 17"),
            (f":scrypt:14:{salt}:{digest}", ": the name is empty, or has spaces"),
            (f"b ob:scrypt:14:{salt}:{digest}", ": the name is empty, or has spaces"),
            (good, ": the user alice is there twice"),
            (b"\xff", "is not UTF-8"),
        ):
            path = self.file(good, "# a comment", row)
            separator = "" if reason.startswith(":") else " "
            self.assertEqual(str(self.assertRaises(UsersError, Users, path)), f"{path}, line 3{separator}{reason}")
        path = self.file("# nobody")
        self.assertEqual(str(self.assertRaises(UsersError, Users, path)), f"{path} has no users")
        self.assertRaises(OSError, Users, Path(self.mktemp()))
        settings = ProxySettings(cluster="valkey://node:1", users=str(path))
        self.assertRaises(ValueError, ProxyService, reactor, settings)

    def test_highest_cost(self) -> None:
        """A password can be checked with every cost that is accepted."""
        for cost in (10, 17):
            digest = hashlib.scrypt(b"secret", salt=b"salt", n=1 << cost, r=8, p=1, maxmem=1 << 28, dklen=32)
            found = self.users(f"alice:scrypt:{cost}:{b'salt'.hex()}:{digest.hex()}")
            self.assertTrue(self.successResultOf(found.check("alice", b"secret")))
            self.assertFalse(self.successResultOf(found.check("alice", b"other")))

    def test_unknown_names_take_as_long_as_wrong_passwords(self) -> None:
        """For an unknown name a hash is made with the cost of one of the users, each time the same."""
        costs: list[int] = []

        def hashed(password: bytes, salt: bytes, cost: int) -> bytes:
            costs.append(cost)
            return b"x" * 32

        self.patch(users, "_hash", hashed)
        hashes = [f"user{number}:scrypt:{10 + number % 3}:00:{number:064x}" for number in range(30)]
        found = self.users(*hashes)
        self.assertFalse(self.successResultOf(found.check("user4", b"wrong")))
        self.assertEqual(costs, [11])
        unknown: dict[str, set[int]] = {}
        for _ in range(3):
            for number in range(30):
                costs.clear()
                self.assertFalse(self.successResultOf(found.check(f"nobody{number}", b"wrong")))
                unknown.setdefault(f"nobody{number}", set()).update(costs)
        self.assertEqual({len(each) for each in unknown.values()}, {1})
        self.assertEqual(set().union(*unknown.values()), {10, 11, 12})

    def test_right_passwords_are_remembered(self) -> None:
        """A right password is hashed once, a wrong one every time; the memory for them is bounded."""
        hashed: list[bytes] = []
        original = users._hash

        def counting(password: bytes, salt: bytes, cost: int) -> bytes:
            hashed.append(password)
            return original(password, salt, 10)

        self.patch(users, "_hash", counting)
        self.patch(users, "_MOST_REMEMBERED", 3)
        names = [f"user{number}" for number in range(5)]
        found = self.users(*(line_for(name, name.encode()) for name in names))
        for _ in range(2):
            for name in names[:3]:
                self.assertTrue(self.successResultOf(found.check(name, name.encode())))
                self.assertFalse(self.successResultOf(found.check(name, b"wrong")))
        self.assertEqual(hashed[5:].count(b"user0"), 1)
        self.assertEqual(hashed.count(b"wrong"), 6)
        for name in names:
            self.assertTrue(self.successResultOf(found.check(name, name.encode())))
        self.assertTrue(len(found._checked) <= 3)
        self.assertNotIn(b"user0", b"".join(found._checked))

    def test_checks_at_the_same_time(self) -> None:
        """Many logins at the same time use only a part of the processors; the others wait for their turn."""
        waiting: list[Deferred[bool]] = []

        def in_thread(function: Callable[..., bool], *args: Any) -> Deferred[bool]:
            waiting.append(Deferred())
            return waiting[-1]

        found = Users(self.file(line_for("alice", b"secret")), in_thread)
        checks = [found.check("alice", b"%d" % number) for number in range(20)]
        ended: list[bool] = []
        for each in checks:
            each.addCallback(ended.append)
        for number in range(20):
            self.assertTrue(len(waiting) - number <= users._AT_ONCE)
            waiting[number].callback(False)
        self.assertEqual(ended, [False] * 20)

    def test_no_secret_in_texts(self) -> None:
        """No text form of the users, or of the settings, has a password or a hash."""
        line = line_for("alice", b"hunter2")
        found = self.users(line)
        self.assertTrue(self.successResultOf(found.check("alice", b"hunter2")))
        digest = bytes.fromhex(line.rpartition(":")[2])
        shown = repr(found) + str(found) + repr(found._users) + repr(found.__dict__)
        for secret in ("hunter2", line.rpartition(":")[2], repr(digest)[2:-1]):
            self.assertNotIn(secret, shown)

    def run_main(self, arguments: list[str], typed: str, *, terminal: bool = False) -> tuple[int, str, str]:
        """Run the command that makes a line; return its status and what it writes."""
        given, out, err = io.StringIO(typed + "\n"), io.StringIO(), io.StringIO()
        self.patch(given, "isatty", lambda: terminal)
        for name, stream in (("stdin", given), ("stdout", out), ("stderr", err)):
            self.patch(sys, name, stream)
        return main(arguments, lambda prompt: typed), out.getvalue(), err.getvalue()

    def test_command(self) -> None:
        """The command prints a line that the proxy accepts, and never the password."""
        for terminal in (False, True):
            status, line, errors = self.run_main(["alice"], "secret ü", terminal=terminal)
            self.assertEqual((status, errors), (0, ""))
            self.assertNotIn("secret", line)
            self.assertTrue(self.successResultOf(self.users(line).check("alice", "secret ü".encode())))
        for arguments, error in (
            ([], "usage: "),
            (["a", "b"], "usage: "),
            (["a b"], "'a b' cannot"),
            (["#a"], "'#a' cannot"),
        ):
            status, line, errors = self.run_main(arguments, "secret")
            self.assertEqual((status, line), (2, ""))
            self.assertTrue(errors.startswith(error), errors)


class LoginTests(ProxyTests):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        path = Path(self.mktemp())
        path.write_text(f"{line_for('alice', b'secret')}\n{line_for('default', b'standard')}\n")
        self.service = await self.start_proxy(users=str(path))
        self.port = self.port_of(self.service)

    async def test_auth(self) -> None:
        """AUTH lets a client in, and RESET sends it out again; a wrong password changes nothing."""
        wire = await self.wire()
        self.assertEqual(await wire.call("GET", "key"), _NOAUTH)
        for words in (("alice", "wrong"), ("bob", "secret"), ("secret",), ("alice", ""), ("", "secret")):
            self.assertEqual(await wire.call("AUTH", *words), _WRONG)
        self.assertEqual(await wire.call("GET", "key"), _NOAUTH)
        self.assertEqual(await wire.call("AUTH", "alice", "secret"), b"+OK\r\n")
        self.assertEqual(await wire.call("SET", "key", "value"), b"+OK\r\n")
        self.assertIn(b" user=alice ", await wire.call("CLIENT", "INFO"))
        self.assertEqual(await wire.call("AUTH", "alice", "wrong"), _WRONG)
        self.assertEqual(await wire.call("GET", "key"), b"$5\r\nvalue\r\n")
        self.assertEqual(await wire.call("AUTH", "standard"), b"+OK\r\n")
        self.assertIn(b" user=default ", await wire.call("CLIENT", "INFO"))
        self.assertEqual(await wire.call("CLIENT", "KILL", "USER", "bob"), b"-ERR No such user 'bob'\r\n")
        self.assertEqual(await wire.call("CLIENT", "KILL", "USER", "alice"), b":0\r\n")
        self.assertEqual(await wire.call("RESET"), b"+RESET\r\n")
        self.assertEqual(await wire.call("GET", "key"), _NOAUTH)

    async def test_hello(self) -> None:
        """HELLO with AUTH lets a client in with its version of RESP; with a wrong password it changes nothing."""
        wire = await self.wire()
        self.assertEqual((await wire.call("HELLO", 3))[:8], b"-NOAUTH ")
        self.assertEqual(await wire.call("HELLO", 3, "AUTH", "alice", "wrong", "SETNAME", "me"), _WRONG)
        self.assertEqual(await wire.call("GET", "key"), _NOAUTH)
        self.assertIn(b"proto\r\n:3\r\n", await wire.call("HELLO", 3, "SETNAME", "me", "AUTH", "alice", "secret"))
        self.assertEqual(await wire.call("GET", "key"), b"_\r\n")
        self.assertEqual(await wire.call("CLIENT", "GETNAME"), b"$2\r\nme\r\n")
        self.assertEqual(await wire.call("HELLO", 2, "AUTH", "alice", "wrong", "SETNAME", "other"), _WRONG)
        self.assertEqual(await wire.call("GET", "key"), b"_\r\n")
        self.assertEqual(await wire.call("CLIENT", "GETNAME"), b"$2\r\nme\r\n")

    async def test_requests_behind_a_login(self) -> None:
        """Requests that are sent together with a login wait for it, and are answered in their order."""
        wire = await self.wire()
        words = [["GET", "key"], ["AUTH", "alice", "secret"], ["SET", "key", "1"], ["RESET"], ["GET", "key"]]
        words += [["AUTH", "bob", "x"], ["GET", "key"], ["AUTH", "standard"], ["GET", "key"]]
        replies = await self.ask(wire, [request(*each) for each in words])
        ok = b"+OK\r\n"
        self.assertEqual(replies, [_NOAUTH, ok, ok, b"+RESET\r\n", _NOAUTH, _WRONG, _NOAUTH, ok, b"$1\r\n1\r\n"])

    async def test_a_client_that_leaves_during_its_login(self) -> None:
        """Clients that disconnect while their password is checked leave nothing behind."""
        for password in ("secret", "wrong"):
            wires = [await self.wire() for _ in range(5)]
            for wire in wires:
                wire.send(request("AUTH", "alice", password))
                wire.close()
            await gatherResults([Deferred.fromCoroutine(wire.ended()) for wire in wires])
        last = await self.wire()
        self.assertEqual(await last.call("AUTH", "alice", "secret"), b"+OK\r\n")
        await last.until(lambda: True)
        while len(self.service.server.sessions) > 1:
            await last.call("PING")
        self.assertEqual([each.sessions for each in self.service.server.upstreams], [1])

    async def test_passwords_are_in_no_log_and_no_text(self) -> None:
        """Right and wrong passwords are in no event of the log, in no text form of a session, and not in SLOWLOG."""
        events: list[str] = []
        observe_log(self, lambda event: events.append(repr(event)))
        service = await self.start_proxy(users=self.service._settings.users, slowlog_slower_than=0)
        wire = await self.wire(self.port_of(service))
        for password in ("hunter1", "hunter2"):
            for words in (("AUTH", "alice", password), ("HELLO", 3, "AUTH", "alice", password), ("AUTH", password)):
                self.assertEqual(await wire.call(*words), _WRONG)
        await wire.call("AUTH", "alice", "secret")
        await wire.call("GET", "key")
        (session,) = service.server.sessions.values()
        shown = [repr(session), str(session), repr(service.server), repr(service.server.upstreams), *events]
        shown += [repr(each) for each in service.server.upstreams]
        shown.append((await wire.call("SLOWLOG", "GET", -1)).decode())
        shown.append((await wire.call("CLIENT", "LIST")).decode())
        shown.append((await wire.call("INFO", "everything")).decode())
        for secret in ("hunter1", "hunter2", "secret"):
            self.assertEqual([each for each in shown if secret in each], [])

"""Logins that are passed through: each client has the rights of its own user at the servers."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.task import Clock
from twisted.logger import eventAsText, globalLogPublisher

from tests.cases import SynchronousTestCase
from txvalkeycluster import ClusterClient
from txvalkeycluster.proxy.upstream import Upstreams

from .base import ProxyTests, Wire

OK = b"+OK\r\n"


class PassThroughTests(ProxyTests):
    settings: ClassVar[dict[str, Any]] = {"pass_through": True, "max_logins": 3}

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        rights = ("+@all", "-@dangerous", "+info", "+cluster|slots", "+cluster|shards", "+cluster|nodes")
        for server in self.cluster.servers:
            for name, keys in (("alice", "~a*"), ("bob", "~b*")):
                await self.cluster.ask(server, "ACL", "SETUSER", name, "on", f">{name}-secret", keys, "&*", *rights)
            await self.cluster.ask(server, "ACL", "SETUSER", "default", "resetpass", ">nobody-knows-it", "on")

    async def logged_in(self, name: str) -> Wire:
        wire = await self.wire()
        self.assertEqual(await wire.call("AUTH", name, f"{name}-secret"), OK)
        return wire

    async def test_rights(self) -> None:
        """A client may do what its user may do, and nothing before it has logged in."""
        stranger = await self.wire()
        self.assertEqual(await stranger.call("GET", "a"), b"-NOAUTH Authentication required.\r\n")
        alice, bob = await self.logged_in("alice"), await self.logged_in("bob")
        self.assertEqual(await alice.call("SET", "a", 1), OK)
        self.assertEqual(await bob.call("SET", "b", 2), OK)
        self.assertEqual(await alice.call("GET", "a"), b"$1\r\n1\r\n")
        self.assertTrue((await bob.call("GET", "a")).startswith(b"-NOPERM "))
        self.assertTrue((await alice.call("MGET", "a", "b")).startswith(b"-NOPERM "))
        self.assertTrue((await alice.call("DEL", "a", "b", "a2")).startswith(b"-NOPERM "))
        # The parts for the other keys were executed, as for every command over several slots.
        self.assertEqual(await alice.call("GET", "a"), b"$-1\r\n")

    async def test_wrong_passwords(self) -> None:
        """A wrong login is refused as a server refuses it, and changes nothing for the client."""
        wire = await self.wire()
        wrong = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
        for login in (("alice", "wrong"), ("nobody", "alice-secret"), ("alice", b"\xff")):
            self.assertEqual(await wire.call("AUTH", *login), wrong)
        self.assertEqual(await wire.call("AUTH", "nobody-knows-him"), wrong)
        self.assertEqual(await wire.call("GET", "a"), b"-NOAUTH Authentication required.\r\n")
        self.assertEqual(await wire.call("AUTH", "alice", "alice-secret"), OK)
        self.assertEqual(await wire.call("AUTH", "alice", "wrong"), wrong)
        self.assertEqual(await wire.call("GET", "a"), b"$-1\r\n")
        self.assertEqual(self.service.server.counters.logins_refused, 5)
        # The clients of refused logins are closed: only that of the proxy and that of alice are left.
        self.assertEqual(len(self.service.server.upstreams), 2)

    async def test_a_password_that_has_changed(self) -> None:
        """An old password is refused also while others are logged in with it; their connections stay."""
        before = await self.logged_in("alice")
        self.assertEqual(await before.call("GET", "a"), b"$-1\r\n")
        for server in self.cluster.servers:
            await self.cluster.ask(server, "ACL", "SETUSER", "alice", "resetpass", ">new-secret")
        wire = await self.wire()
        self.assertEqual((await wire.call("AUTH", "alice", "alice-secret"))[:11], b"-WRONGPASS ")
        self.assertEqual((await wire.call("HELLO", 3, "AUTH", "alice", "alice-secret"))[:11], b"-WRONGPASS ")
        self.assertEqual(await wire.call("AUTH", "alice", "new-secret"), OK)
        self.assertEqual(await wire.call("SET", "a", 1), OK)
        self.assertEqual(await before.call("GET", "a"), b"$1\r\n1\r\n")
        again = await self.wire()
        self.assertEqual(await again.call("AUTH", "alice", "new-secret"), OK)

    async def test_the_default_user(self) -> None:
        """AUTH with one argument is the user ``default``."""
        wire = await self.wire()
        self.assertEqual(await wire.call("AUTH", "nobody-knows-it"), OK)
        self.assertEqual(await wire.call("SET", "anything", 1), OK)
        self.assertIn(b"user=default ", await wire.call("CLIENT", "INFO"))

    async def test_hello(self) -> None:
        """HELLO logs in and selects the version of RESP in one step."""
        wire = await self.wire()
        self.assertTrue((await wire.call("HELLO", 3)).startswith(b"-NOAUTH "))
        self.assertTrue((await wire.call("HELLO", 3, "AUTH", "alice", "wrong")).startswith(b"-WRONGPASS "))
        self.assertTrue((await wire.call("HELLO", 3, "AUTH", "alice", "alice-secret")).startswith(b"%7\r\n"))
        self.assertEqual(await wire.call("GET", "a"), b"_\r\n")
        self.assertTrue((await wire.call("HELLO", 2)).startswith(b"*14\r\n"))
        self.assertEqual(await wire.call("GET", "a"), b"$-1\r\n")

    async def test_another_user_with_subscriptions(self) -> None:
        """A client with subscriptions that logs in as another user is disconnected; as the same user it is not."""
        wire = await self.logged_in("alice")
        await wire.call("HELLO", 3)
        self.assertEqual(await wire.call("SUBSCRIBE", "a"), b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n")
        self.assertEqual(await wire.call("AUTH", "alice", "alice-secret"), OK)
        self.assertEqual(await wire.call("AUTH", "bob", "bob-secret"), OK)
        await wire.ended()

    async def test_other_users_scans(self) -> None:
        """A client cannot continue the scan of another user."""
        alice, bob = await self.logged_in("alice"), await self.logged_in("bob")
        for number in range(30):
            await alice.call("SET", f"a{number}", number)
        reply = await alice.call("SCAN", 0, "COUNT", 5)
        cursor = reply.split(b"\r\n")[2].decode()
        self.assertNotEqual(cursor, "0")
        self.assertTrue((await bob.call("SCAN", cursor, "COUNT", 5)).startswith(b"-ERR this cursor is not known"))
        self.assertTrue((await alice.call("SCAN", cursor, "COUNT", 5)).startswith(b"*2\r\n"))

    async def test_reset(self) -> None:
        """After RESET a client must log in again."""
        wire = await self.logged_in("alice")
        self.assertEqual(await wire.call("RESET"), b"+RESET\r\n")
        self.assertEqual(await wire.call("GET", "a"), b"-NOAUTH Authentication required.\r\n")
        self.assertEqual(await wire.call("AUTH", "alice", "alice-secret"), OK)

    async def test_a_limited_number(self) -> None:
        """A login is refused while all others are in use, and possible again when one is not used any more."""
        settings = {"pass_through": True, "max_logins": 2}
        port = self.port_of(await self.start_proxy(**settings))
        wires = []
        for name in ("alice", "bob"):
            wires.append(await self.wire(port))
            self.assertEqual(await wires[-1].call("AUTH", name, f"{name}-secret"), OK)
        third = await self.wire(port)
        refused = b"-ERR the proxy has too many logins at the moment\r\n"
        self.assertEqual(await third.call("AUTH", "default", "nobody-knows-it"), refused)
        # Both versions of RESP are one login.
        self.assertTrue((await third.call("HELLO", 3, "AUTH", "alice", "alice-secret")).startswith(b"%7\r\n"))
        self.assertEqual(await third.call("RESET"), b"+RESET\r\n")
        wires[0].close()
        await wires[0].ended()
        while (await third.call("AUTH", "default", "nobody-knows-it")) != OK:
            pass
        self.assertEqual(await third.call("GET", "a"), b"$-1\r\n")

    async def test_no_secret_is_shown(self) -> None:
        """No log line and no repr has a password."""
        lines: list[str] = []

        observer: Any = lambda event: lines.append(eventAsText(event))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        wire = await self.logged_in("alice")
        await wire.call("AUTH", "alice", "a-wrong-secret")
        await wire.call("GET", "a")
        session = next(iter(self.service.server.sessions.values()))
        shown = [*lines, repr(session), repr(session.server.upstreams), repr(session.upstream)]
        shown.append(repr(list(vars(session.server.upstreams)["_found"])))
        self.assertNotIn("-secret", "\n".join(shown))
        # Whoever tries passwords does not fill the log.
        self.assertNotIn("WRONGPASS", "\n".join(lines))


class UpstreamsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.made: list[tuple[int, str | None, str | None]] = []
        self.upstreams = Upstreams(self.clock, self.make, lambda: None, lambda started, cells: None, 2)

    def make(self, protocol: int, user: str | None, password: str | None) -> ClusterClient[bytes]:
        self.made.append((protocol, user, password))
        login: Any = {} if user is None else {"username": user, "password": password}
        return ClusterClient(self.clock, "valkey://127.0.0.1:7000", **login)

    def test_one_for_each_login(self) -> None:
        """The same login has the same upstream; another password or another version of RESP has another one."""
        first = self.upstreams.of(2, "alice", "secret")
        self.assertIs(self.upstreams.of(2, "alice", "secret"), first)
        self.assertIsNot(self.upstreams.of(3, "alice", "secret"), first)
        self.assertEqual(self.made, [(2, "alice", "secret"), (3, "alice", "secret")])

    def test_expiry(self) -> None:
        """The client of a login that is not used is closed after a minute; the one of the proxy itself is not."""
        own, used = self.upstreams.of(2), self.upstreams.of(2, "alice", "secret")
        assert own is not None and used is not None
        used.sessions = 1
        self.clock.advance(100)
        self.upstreams.expire()
        self.assertEqual(list(self.upstreams), [own, used])
        used.sessions, used.unused_since = 0, self.clock.seconds()
        self.clock.advance(59)
        self.upstreams.expire()
        self.assertEqual(len(self.upstreams), 2)
        self.clock.advance(2)
        self.upstreams.expire()
        self.assertEqual(list(self.upstreams), [own])

    def test_the_limit(self) -> None:
        """With too many logins, the one that was unused for the longest time makes room; one in use never does."""
        first, second = self.upstreams.of(2, "a", "1"), self.upstreams.of(2, "b", "2")
        assert first is not None and second is not None
        self.upstreams.of(2, "a", "1")
        third = self.upstreams.of(2, "c", "3")
        self.assertEqual(list(self.upstreams), [first, third])
        assert third is not None
        first.sessions = third.sessions = 1
        self.assertIsNone(self.upstreams.of(2, "d", "4"))

"""TLS files that are read again when they change, and files that cannot be used."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test.iosim import FakeTransport, IOPump
from zope.interface import implementer

from tests.cases import SynchronousTestCase
from tests.scripted.certificates import Issued, authority, context, issue
from txvalkeycluster import ClusterClient, Options
from txvalkeycluster.connection.tls import TLSEndpoints
from txvalkeycluster.events import TLSReloaded, TLSReloadFailed

HOST = "127.0.0.1"

# Twisted does not declare the types of these.
_FakeTransport: Callable[..., Any] = FakeTransport
_IOPump: Callable[..., Any] = IOPump


@implementer(IHandshakeListener)
class Peer(Protocol):
    """One end of a TLS connection."""

    secured = False
    lost: Any = None
    #: The certificate of the other end.
    shown: Any = None

    def handshakeCompleted(self) -> None:
        transport: Any = self.transport
        self.secured = True
        self.shown = transport.getPeerCertificate()

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason.value


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Connects to a server in memory."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def connect(self, factory: Any) -> Deferred[Any]:
        client = factory.buildProtocol(None)
        client_end, server_end = _FakeTransport(client, False), _FakeTransport(self._server, True)
        pump = _IOPump(client, self._server, client_end, server_end, False, Clock())
        self._server.makeConnection(server_end)
        client.makeConnection(client_end)
        for _ in range(20):
            pump.pump(advanceClock=False)
        connected: Deferred[Any] = Deferred()
        connected.callback(client)
        return connected


class TLSFileTests(SynchronousTestCase):
    """An authority, a server, and a folder for the files of a client."""

    def setUp(self) -> None:
        self.root = authority("root")
        self.server = issue(HOST, by=self.root)
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        #: What was reported: None for files that were read again, or the text of the error.
        self.reports: list[str | None] = []
        #: Makes every file differ from the one before, since the clock of a file system is coarse.
        self.written = 0

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def write(self, name: str, data: bytes) -> str:
        """Replace a file as a whole, by renaming."""
        new = self.folder / "new"
        new.write_bytes(data)
        self.touch(new)
        new.replace(self.folder / name)
        return self.path(name)

    def overwrite(self, name: str, data: bytes) -> None:
        """Write into a file that is there."""
        path = self.folder / name
        path.write_bytes(data)
        self.touch(path)

    def touch(self, path: Path) -> None:
        self.written += 1
        os.utime(path, ns=(self.written * 10**9, self.written * 10**9))

    def endpoints(self, **options: Any) -> TLSEndpoints:
        """Return the endpoints of a client that trusts the authority, unless ``options`` say otherwise."""
        options = {"trust_root": self.root.pem, **options}
        return TLSEndpoints(Clock(), Options(tls=True, **options), self.report)

    def report(self, error: Exception | None) -> None:
        self.reports.append(None if error is None else str(error))

    def connect(self, endpoints: TLSEndpoints, server: Issued | None = None, **tls: Any) -> tuple[Peer, Peer]:
        """Make a TLS connection; return both ends."""
        made: list[Peer] = []

        def build(_: object) -> Peer:
            made.append(Peer())
            return made[-1]

        factory: Any = Factory()
        factory.buildProtocol = build
        wrapped: Any = TLSMemoryBIOFactory(context(server or self.server, **tls), False, factory)
        connecting = endpoints.wrap(HOST, Endpoint(wrapped.buildProtocol(None))).connect(factory)
        connecting.addErrback(lambda _: None)
        server_end, client_end = made
        return client_end, server_end

    def assert_shows(self, endpoints: TLSEndpoints, expected: Issued | None, **tls: Any) -> None:
        """Check which certificate a new connection shows to a server that asks for one of the authority."""
        _, server = self.connect(endpoints, **{"clients_of": self.root, **tls})
        shown = server.shown.to_cryptography() if server.shown is not None else None
        self.assertEqual(shown, expected.certificate if expected is not None else None)

    def assert_trusts(self, endpoints: TLSEndpoints, server: Issued, trusted: bool = True) -> None:
        """Check whether a new connection accepts the certificate of a server."""
        client, _ = self.connect(endpoints, server)
        self.assertEqual(client.secured, trusted)


class ChangedFileTests(TLSFileTests):
    """Files are read again when they have changed and a connection is made."""

    def test_the_certificate(self) -> None:
        """A new connection shows the new certificate, from one file with the key, or from two."""
        one, two = issue(by=self.root), issue(by=self.root)
        both = self.endpoints(client_certificate=self.write("client.pem", one.pem_with_key))
        self.assert_shows(both, one)
        self.write("client.pem", two.pem_with_key)
        self.assert_shows(both, two)
        self.assertEqual(self.reports, [None])
        self.write("own.pem", one.pem)
        self.write("key.pem", key_of(one))
        apart = self.endpoints(client_certificate=self.folder / "own.pem", client_key=self.folder / "key.pem")
        self.assert_shows(apart, one)
        self.write("own.pem", two.pem)
        self.write("key.pem", key_of(two))
        self.assert_shows(apart, two)
        self.assertEqual(self.reports, [None, None])

    def test_the_authority(self) -> None:
        """A new connection trusts the new authority and no longer the old one, or both while the file has both."""
        other = authority("other")
        endpoints = self.endpoints(trust_root=self.write("ca.pem", self.root.pem))
        theirs = issue(HOST, by=other)
        for pem, old, new in (
            (self.root.pem, True, False),
            (self.root.pem + other.pem, True, True),
            (other.pem, False, True),
        ):
            self.write("ca.pem", pem)
            self.assert_trusts(endpoints, self.server, old)
            self.assert_trusts(endpoints, theirs, new)
        self.assertEqual(self.reports, [None, None, None])

    def test_unchanged(self) -> None:
        """Files that have not changed are not read again, and connections share one context."""
        endpoints = self.endpoints(client_certificate=self.write("client.pem", issue(by=self.root).pem_with_key))
        contexts = set()
        for _ in range(5):
            self.assert_trusts(endpoints, self.server)
            contexts.add(endpoints._contexts[HOST])
        self.assertEqual((len(contexts), self.reports), (1, []))

    def test_links(self) -> None:
        """A symbolic link to another folder, as Kubernetes changes it for a secret, is a change of the files."""
        one, two = issue(by=self.root), issue(by=self.root)
        for name, issued in (("one", one), ("two", two)):
            (self.folder / name).mkdir()
            (self.folder / name / "client.pem").write_bytes(issued.pem_with_key)
        (self.folder / "data").symlink_to("one")
        (self.folder / "client.pem").symlink_to("data/client.pem")
        endpoints = self.endpoints(client_certificate=self.path("client.pem"))
        self.assert_shows(endpoints, one)
        (self.folder / "new").symlink_to("two")
        (self.folder / "new").replace(self.folder / "data")
        self.assert_shows(endpoints, two)
        self.assertEqual(self.reports, [None])

    def test_given_as_bytes_or_objects(self) -> None:
        """PEM bytes and objects of Twisted are never read again, not even by `reload`."""
        one = issue(by=self.root)
        private: Any = ssl.PrivateCertificate.loadPEM(one.pem_with_key)  # type: ignore[no-untyped-call]
        trusted: Any = ssl.Certificate.loadPEM(self.root.pem)
        for options in (
            {"client_certificate": one.pem_with_key},
            {"client_certificate": one.pem, "client_key": key_of(one)},
            {"client_certificate": private, "trust_root": trusted},
        ):
            endpoints = self.endpoints(**options)
            with mock.patch.object(os, "stat", None), mock.patch("builtins.open", None):
                self.assert_shows(endpoints, one)
                endpoints.reload()
                self.assert_shows(endpoints, one)
        self.assertEqual(self.reports, [])

    def test_a_file_and_bytes(self) -> None:
        """A file is read again also if another option is not a path."""
        one, two = issue(by=self.root), issue(by=self.root)
        endpoints = self.endpoints(client_certificate=self.write("own.pem", one.pem), client_key=key_of(one))
        self.write("own.pem", two.pem)
        self.assert_shows(endpoints, one)
        self.write("own.pem", one.pem)
        self.assert_shows(endpoints, one)
        self.assertEqual(self.reports[1:], [None])

    def test_intermediate_authorities(self) -> None:
        """The authorities that follow the client's certificate in its file are sent to the server."""
        middle = authority("middle", by=self.root)
        own = issue(by=middle)
        pem = self.write("client.pem", own.pem_with_key)
        endpoints = self.endpoints(client_certificate=pem)
        _, server = self.connect(endpoints, clients_of=self.root)
        self.assertFalse(server.secured)
        self.write("client.pem", own.pem_with_key + middle.pem)
        self.assert_shows(endpoints, own)
        apart = self.endpoints(client_certificate=own.pem + middle.pem, client_key=key_of(own))
        self.assert_shows(apart, own)


class UnusableFileTests(TLSFileTests):
    """Changed files that cannot be used: the old ones stay in use, and it is reported once."""

    def test_half_written(self) -> None:
        """A file that is cut off anywhere does no harm, and the complete file is used."""
        one, two = issue(by=self.root), issue(by=self.root)
        endpoints = self.endpoints(client_certificate=self.write("client.pem", one.pem_with_key))
        whole = two.pem_with_key
        for length in range(0, len(whole) - 30, 97):
            self.overwrite("client.pem", whole[:length])
            for _ in range(3):
                self.assert_shows(endpoints, one)
        self.assertGreater(len(self.reports), 3)
        self.assertEqual(len(self.reports), len(range(0, len(whole) - 30, 97)))
        for report in self.reports:
            self.assertIn("client_certificate", str(report))
        self.overwrite("client.pem", whole)
        self.assert_shows(endpoints, two)
        self.assertIsNone(self.reports[-1])

    def test_missing(self) -> None:
        """A file that is gone for a while is reported once."""
        one = issue(by=self.root)
        endpoints = self.endpoints(client_certificate=self.write("client.pem", one.pem_with_key))
        (self.folder / "client.pem").rename(self.folder / "away")
        for _ in range(3):
            self.assert_shows(endpoints, one)
        self.assertEqual(len(self.reports), 1)
        self.assertRegex(str(self.reports[0]), "client_certificate: cannot read the file: .*No such file")
        two = issue(by=self.root)
        self.write("client.pem", two.pem_with_key)
        self.assert_shows(endpoints, two)
        self.assertEqual(self.reports[1:], [None])

    def test_one_file_before_the_other(self) -> None:
        """Between the new certificate and the new key, in either order, the old pair is used."""
        for first, last in (("own.pem", "key.pem"), ("key.pem", "own.pem")):
            one, two = issue(by=self.root), issue(by=self.root)
            new = {"own.pem": two.pem, "key.pem": key_of(two)}
            self.reports.clear()
            paths = self.write("own.pem", one.pem), self.write("key.pem", key_of(one))
            endpoints = self.endpoints(client_certificate=paths[0], client_key=paths[1])
            self.write(first, new[first])
            for _ in range(3):
                self.assert_shows(endpoints, one)
            (report,) = self.reports
            self.assertIn("client_key cannot be used: Certificate public and private keys do not match", str(report))
            self.write(last, new[last])
            self.assert_shows(endpoints, two)
            self.assertEqual(self.reports[1:], [None])

    def test_no_authority(self) -> None:
        """Without a certificate in it, the file of the authority stays as it was read before."""
        endpoints = self.endpoints(trust_root=self.write("ca.pem", self.root.pem))
        for nonsense in (b"", b"nonsense", self.root.pem[:100], issue().pem.replace(b"M", b"!")):
            self.write("ca.pem", nonsense)
            self.assert_trusts(endpoints, self.server)
            self.assert_trusts(endpoints, issue(HOST, by=authority("other")), False)
        self.assertEqual(len(self.reports), 4)
        for report in self.reports:
            self.assertIn("trust_root", str(report))

    def test_reload(self) -> None:
        """`reload` raises what it finds, leaves the old files in use, and is not repeated by a connection."""
        one = issue(by=self.root)
        endpoints = self.endpoints(client_certificate=self.write("client.pem", one.pem_with_key))
        self.write("client.pem", b"nonsense")
        for _ in range(2):
            error = self.assertRaises(ValueError, endpoints.reload)
            self.assertIn("client_certificate holds no PEM certificate", str(error))
        self.assert_shows(endpoints, one)
        self.assertEqual(self.reports, [])
        self.write("client.pem", one.pem_with_key)
        endpoints.reload()
        self.assert_shows(endpoints, one)
        self.assertEqual(self.reports, [None])

    def test_at_the_start(self) -> None:
        """Files that cannot be used fail the constructor of a client.  The error names the option and says why."""
        one, other = issue(by=self.root), issue(by=self.root)
        begin = b"-----BEGIN CERTIFICATE-----\n"
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"client_certificate": one.pem}, "client_certificate cannot be used: it holds no PEM private key"),
            ({"client_certificate": one.pem, "client_key": one.pem}, "client_key cannot be used: it holds no PEM priv"),
            ({"client_certificate": one.pem, "client_key": key_of(other)}, "client_key cannot be used: .*do not match"),
            ({"client_certificate": key_of(one)}, "client_certificate holds no PEM certificate"),
            ({"client_certificate": begin + b"nonsense"}, "client_certificate cannot be used: bad"),
            ({"client_certificate": "a\0b"}, "client_certificate: cannot read the file: "),
            ({"client_certificate": one.pem, "client_key": self.path("none")}, "client_key: cannot read the file: "),
            ({"trust_root": self.path("none")}, "trust_root: cannot read the file: "),
            ({"client_key": key_of(one)}, "client_key needs client_certificate"),
        ]
        for options, text in wrong:
            refused = self.assertRaises(ValueError, ClusterClient, memory_reactor(), "valkeys://h", **options)
            self.assertRegex(str(refused), text)
        for kind in (5, True, object()):
            for name in ("client_certificate", "client_key"):
                options = {"client_certificate": one.pem, name: kind}
                self.assertRaises((TypeError, ValueError), ClusterClient, memory_reactor(), "valkeys://h", **options)

    def test_an_encrypted_key(self) -> None:
        """A key with a pass phrase is refused; OpenSSL does not ask for the pass phrase on the terminal."""
        one = issue(by=self.root)
        for kind in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            key = one.key.private_bytes(Encoding.PEM, kind, BestAvailableEncryption(b"phrase"))
            for options, name in (
                ({"client_certificate": one.pem + key}, "client_certificate"),
                ({"client_certificate": one.pem, "client_key": key}, "client_key"),
            ):
                error = self.assertRaises(ValueError, self.endpoints, **options)
                text = f"{name} cannot be used: the private key is encrypted; store it without a pass phrase"
                self.assertEqual(str(error), text)

    def test_no_error_holds_a_key(self) -> None:
        """Errors and their tracebacks have no line of a private key."""
        one, other = issue(by=self.root), issue(by=self.root)
        lines = key_of(one).splitlines()[1:-1]
        for pem in (key_of(one), key_of(one)[:-60], key_of(one).replace(b"-----END", b"-----")):
            cases: list[dict[str, Any]] = [
                {"client_certificate": pem},
                {"client_certificate": other.pem, "client_key": pem},
            ]
            for options in cases:
                error = self.assertRaises(ValueError, self.endpoints, **options)
                shown = "".join(traceback.format_exception(error)) + repr(Options(tls=True, **options))
                self.assertFalse(any(line.decode() in shown for line in lines))


class ClientTests(TLSFileTests):
    """The client reports what happens to its files."""

    def client(self, **options: Any) -> ClusterClient[bytes]:
        client = ClusterClient(memory_reactor(), f"valkeys://{HOST}", **options)
        self.addCleanup(client.abort)
        self.events: list[Any] = []
        client.add_listener(self.events.append)
        return client

    def dial(self, client: ClusterClient[bytes]) -> None:
        client._router.factory._endpoint_for(HOST, 7000)

    def test_events_and_the_log(self) -> None:
        """Each change is one event and one line of the log, also if many connections are made."""
        client = self.client(trust_root=self.write("ca.pem", self.root.pem))
        with capturedLogs() as logged:
            for pem in (b"nonsense", self.root.pem):
                self.write("ca.pem", pem)
                for _ in range(3):
                    self.dial(client)
        failed, reloaded = self.events
        self.assertIsInstance(failed, TLSReloadFailed)
        self.assertEqual(str(failed.reason), "trust_root holds no PEM certificate")
        self.assertEqual(reloaded, TLSReloaded())
        self.assertEqual([event["log_level"] for event in logged], [LogLevel.error, LogLevel.info])
        self.assertIn("trust_root holds no PEM certificate", formatEvent(logged[0]))

    def test_reload_tls(self) -> None:
        """``reload_tls()`` reads the files at once; an error is raised, and success is an event."""
        client = self.client(trust_root=self.write("ca.pem", self.root.pem))
        self.write("ca.pem", b"nonsense")
        self.assertRaises(ValueError, client.reload_tls)
        self.assertEqual(self.events, [])
        self.write("ca.pem", self.root.pem)
        client.with_options(timeout=1.0).reload_tls()
        self.dial(client)
        self.assertEqual(self.events, [TLSReloaded()])

    def test_nothing_to_reload(self) -> None:
        """Without TLS, ``reload_tls()`` does nothing; after the end of the client it does no harm."""
        plain = ClusterClient(memory_reactor(), f"valkey://{HOST}")
        self.addCleanup(plain.abort)
        plain.reload_tls()
        client = self.client(trust_root=self.root.pem)
        client.reload_tls()
        self.assertEqual(self.events, [])
        client = self.client(trust_root=self.write("ca.pem", self.root.pem))
        client.abort()
        client.reload_tls()


def key_of(issued: Issued) -> bytes:
    """Return the private key in PEM."""
    return issued.pem_with_key.removesuffix(issued.pem)


def memory_reactor() -> Any:
    return MemoryReactorClock()  # type: ignore[no-untyped-call]

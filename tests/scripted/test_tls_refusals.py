"""TLS configurations that the client refuses.  The error names the node and the reason.  No password is sent."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet import protocol, reactor
from twisted.internet.protocol import Factory

from tests.scripted.base import ScriptedTests, moved
from tests.scripted.certificates import CLIENT_ONLY, Issued, TappedServer, authority, context, issue
from txvalkeycluster import (
    Address,
    ClusterClient,
    ClusterUnavailable,
    CommandTimeout,
    ConnectFailed,
    TLSFailed,
)
from txvalkeycluster.testing import DEFAULT_REPLY
from txvalkeycluster.testing.scripted import Connection

SECRET = "hunter2zzz"
HOST = "127.0.0.1"
NOT_TRUSTED = "certificate verify failed"
ONLY_OTHERS = x509.NameConstraints([x509.DNSName("other.example")], None)


class Mirror(protocol.Protocol):
    """Sends back what it receives."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class RefusalTests(ScriptedTests):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.root = authority()
        # The node behind the TLS server: it receives what the client sends after the handshake.
        self.node = self.nodes[0]

    async def serve(self, shown: Issued | None, *, greeting: bytes = b"", **tls: Any) -> TappedServer:
        """Listen, with TLS if there is a certificate to send."""
        factory: Any = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda _: Connection(self.node, 0)
        server = TappedServer(factory, None if shown is None else context(shown, **tls), greeting)
        await self.open(server)
        return server

    async def open(self, server: TappedServer) -> None:
        """Make a server the only node of the cluster."""
        port = await server.listen(reactor)
        self.addCleanup(port.stopListening)
        self.node.address = Address(HOST, port.getHost().port)
        self.cluster.ranges = [(0, 16383, self.node)]

    def made(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client of the node, with TLS and a password."""
        options = {"trust_root": self.root.pem, "connect_timeout": 10.0, "password": SECRET, **options}
        client = ClusterClient(reactor, f"valkeys://{self.node.address}", **options)
        self.addCleanup(client.abort)
        return client

    async def assert_refused(
        self, server: TappedServer, *texts: str, kind: type[ConnectFailed] = TLSFailed, **options: Any
    ) -> None:
        """Check that the connection fails with these texts in the error, and that the server receives no password."""
        client = self.made(**options)
        error = await self.assertFailure(client.execute_on(self.node.address, "PING"), kind)
        self.assertIs(type(error), kind)
        unavailable = await self.assertFailure(client.refresh_topology(), ClusterUnavailable)
        self.assertTrue(server.connections)
        for shown in (str(error), repr(error), str(unavailable)):
            self.assertNotIn(SECRET, shown)
        for text in (str(self.node.address), *texts):
            self.assertIn(text, str(error))
        self.assertEqual(self.node.received, [])
        self.assertNotIn(SECRET.encode(), server.raw)

    async def assert_certificate_refused(self, shown: Issued, *texts: str, **options: Any) -> None:
        await self.assert_refused(await self.serve(shown), *(texts or (NOT_TRUSTED,)), **options)

    async def test_valid_certificates(self) -> None:
        """The client sends the password to a server with a valid certificate, and encrypts it."""
        intermediate = authority("intermediate", by=self.root)
        limited = authority("limited", by=self.root, extensions=(ONLY_OTHERS,))
        named = {"server_name": "node.other.example"}
        ours = {"client_certificate": issue("client.invalid", by=self.root).pem_with_key}
        cases: list[tuple[Issued, dict[str, Any], dict[str, Any]]] = [
            (issue(HOST, by=self.root), {}, {}),
            (issue(HOST, by=intermediate), {}, {}),
            (issue("node.other.example", by=limited), {}, named),
            (issue("*.other.example", by=self.root), {}, named),
            (issue(HOST, by=self.root), {"clients_of": self.root}, ours),
        ]
        for shown, tls, options in cases:
            server = await self.serve(shown, **tls)
            self.node.received.clear()
            await self.made(**options).refresh_topology()
            self.assertTrue(any(SECRET.encode() in words for _, words in self.node.received))
            self.assertNotIn(SECRET.encode(), server.raw)

    # ---- the authority

    async def test_self_signed(self) -> None:
        await self.assert_certificate_refused(issue(HOST))

    async def test_unknown_authority(self) -> None:
        """A certificate of another authority is refused, even if it has the same name as the trusted one."""
        await self.assert_certificate_refused(issue(HOST, by=authority()))

    async def test_without_trust_root(self) -> None:
        """Without trust_root only the authorities of the platform are trusted."""
        await self.assert_certificate_refused(issue(HOST, by=self.root), trust_root=None)

    async def test_intermediate_that_is_not_sent(self) -> None:
        shown = issue(HOST, by=authority("intermediate", by=self.root))
        shown.chain = []
        await self.assert_certificate_refused(shown)

    async def test_issuer_that_is_no_authority(self) -> None:
        """A certificate that is issued by the certificate of a host is refused."""
        await self.assert_certificate_refused(issue(HOST, by=issue("other.example", by=self.root)))

    async def test_longer_chain_than_its_authority_allows(self) -> None:
        self.root = authority(path_length=0)
        await self.assert_certificate_refused(issue(HOST, by=authority("intermediate", by=self.root)))

    async def test_authority_for_other_names(self) -> None:
        """A certificate whose name its authority may not issue is refused."""
        limited = authority("limited", by=self.root, extensions=(ONLY_OTHERS,))
        shown = issue("node.example", by=limited)
        await self.assert_certificate_refused(shown, server_name="node.example")

    async def test_expired_authority(self) -> None:
        self.root = authority(days=(-3, -1))
        await self.assert_certificate_refused(issue(HOST, by=self.root))

    # ---- validity and purpose

    async def test_expired(self) -> None:
        await self.assert_certificate_refused(issue(HOST, by=self.root, days=(-3, -1)))

    async def test_not_yet_valid(self) -> None:
        await self.assert_certificate_refused(issue(HOST, by=self.root, days=(1, 3)))

    async def test_for_clients_only(self) -> None:
        await self.assert_certificate_refused(issue(HOST, by=self.root, extensions=(CLIENT_ONLY,)))

    # ---- the name

    async def test_another_host_name(self) -> None:
        shown = issue("other.example", by=self.root)
        await self.assert_certificate_refused(shown, "is not for node.example", server_name="node.example")

    async def test_another_address(self) -> None:
        await self.assert_certificate_refused(issue("127.0.0.2", by=self.root), f"is not for {HOST}")

    async def test_address_written_as_a_name(self) -> None:
        """A DNS name with the text of an IP address does not count as that address."""
        shown = issue(by=self.root, extensions=(x509.SubjectAlternativeName([x509.DNSName(HOST)]),))
        await self.assert_certificate_refused(shown, f"is not for {HOST}")

    async def test_name_in_the_common_name_only(self) -> None:
        shown = issue(by=self.root, common_name="node.example")
        await self.assert_certificate_refused(shown, "does not contain any", server_name="node.example")

    async def test_wildcard_over_two_labels(self) -> None:
        shown = issue("*.example", by=self.root)
        await self.assert_certificate_refused(shown, "is not for a.node.example", server_name="a.node.example")

    async def test_wildcard_for_a_part_of_a_label(self) -> None:
        shown = issue("n*.example", by=self.root)
        await self.assert_certificate_refused(shown, "is not for node.example", server_name="node.example")

    async def test_address_instead_of_server_name(self) -> None:
        """With the option server_name, a certificate for the address of the node is refused."""
        shown = issue(HOST, by=self.root)
        await self.assert_certificate_refused(shown, "is not for node.example", server_name="node.example")

    # ---- the protocol

    async def test_old_versions_only(self) -> None:
        """A server that supports only TLS 1.1 and older is refused."""
        server = await self.serve(issue(HOST, by=self.root), newest=SSL.TLS1_1_VERSION)
        await self.assert_refused(server, "protocol version")

    async def test_plain_server(self) -> None:
        await self.assert_refused(await self.serve(None), "TLS", kind=ConnectFailed)

    async def test_plain_text_before_tls(self) -> None:
        """A server that sends plain text before the TLS handshake is refused."""
        server = await self.serve(issue(HOST, by=self.root), greeting=b"+OK\r\n")
        await self.assert_refused(server, "check that this port uses TLS")

    async def test_server_that_echoes(self) -> None:
        """A server that sends back the bytes of the client is refused."""
        factory: Any = Factory.forProtocol(Mirror)
        factory.noisy = False
        server = TappedServer(factory)
        await self.open(server)
        await self.assert_refused(server, "TLS handshake failed")

    # ---- the certificate of the client

    async def test_client_certificate_not_given(self) -> None:
        """A server that requires a client certificate receives no password without one."""
        server = await self.serve(issue(HOST, by=self.root), clients_of=self.root)
        await self.assert_refused(server, "TLS handshake failed")

    async def test_client_certificate_of_another_authority(self) -> None:
        server = await self.serve(issue(HOST, by=self.root), clients_of=self.root)
        ours = issue("client.invalid", by=authority("another"))
        await self.assert_refused(server, "TLS handshake failed", client_certificate=ours.pem_with_key)

    # ---- after the handshake

    async def test_redirect_to_a_plain_port(self) -> None:
        """A redirect to a port without TLS fails: the target receives a TLS handshake, and nothing else."""
        await self.serve(issue(HOST, by=self.root))
        first = self.node.address
        client = self.made(timeout=2.0)
        await client.refresh_topology()
        plain = await self.serve(None)
        target, self.node.address = self.node.address, first
        self.node.received.clear()
        self.node.script = lambda _, words, __: moved("k", target) if words[0] == b"GET" else DEFAULT_REPLY
        error = await self.assertFailure(client.get("k"), CommandTimeout)
        self.assertIn(str(target), str(error))
        self.assertTrue(plain.raw)
        self.assertNotIn(SECRET.encode(), plain.raw)
        self.assertNotIn(SECRET, str(error))

"""TLS set-ups that are refused: the error says why and names the node, and no server is sent the password."""

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
    """Sends back what it is sent."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class RefusalTests(ScriptedTests):
    async def setUp(self) -> None:
        await super().setUp()
        self.root = authority()
        # What the server reads once TLS has let it through.
        self.node = self.nodes[0]

    async def serve(self, shown: Issued | None, *, greeting: bytes = b"", **tls: Any) -> TappedServer:
        """Listen, with TLS if there is something to show."""
        factory: Any = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda _: Connection(self.node, 0)
        server = TappedServer(factory, None if shown is None else context(shown, **tls), greeting)
        await self.open(server)
        return server

    async def open(self, server: TappedServer) -> None:
        port = await server.listen(reactor)
        self.addCleanup(port.stopListening)
        self.node.address = Address(HOST, port.getHost().port)
        self.cluster.ranges = [(0, 16383, self.node)]

    def made(self, **options: Any) -> ClusterClient[bytes]:
        options = {"trust_root": self.root.pem, "connect_timeout": 0.5, "password": SECRET, **options}
        client = ClusterClient(reactor, f"valkeys://{self.node.address}", **options)
        self.addCleanup(client.abort)
        return client

    async def assert_refused(
        self, server: TappedServer, *texts: str, kind: type[ConnectFailed] = TLSFailed, **options: Any
    ) -> None:
        """The node cannot be connected to; it is said why, and the server knows no secret."""
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

    async def test_good_ones(self) -> None:
        """What all others lack: the password is sent, and the wire shows no more of it than it does to anybody."""
        intermediate = authority("intermediate", by=self.root)
        limited = authority("limited", by=self.root, extensions=(ONLY_OTHERS,))
        named: dict[str, Any] = {"server_name": "node.other.example"}
        ours = {"client_certificate": issue("client.invalid", by=self.root).pem_with_key}
        for shown, tls, options in (
            (issue(HOST, by=self.root), {}, {}),
            (issue(HOST, by=intermediate), {}, {}),
            (issue("node.other.example", by=limited), {}, named),
            (issue("*.other.example", by=self.root), {}, named),
            (issue(HOST, by=self.root), {"clients_of": self.root}, ours),
        ):
            server = await self.serve(shown, **tls)
            self.node.received.clear()
            await self.made(**options).refresh_topology()
            self.assertTrue(any(SECRET.encode() in words for _, words in self.node.received))
            self.assertNotIn(SECRET.encode(), server.raw)

    # ---- who vouches for it

    async def test_self_signed(self) -> None:
        await self.assert_certificate_refused(issue(HOST))

    async def test_unknown_authority(self) -> None:
        """Of the same name as the one that is trusted."""
        await self.assert_certificate_refused(issue(HOST, by=authority()))

    async def test_authority_of_the_platform_only(self) -> None:
        """Without trust_root our own authority is none."""
        await self.assert_certificate_refused(issue(HOST, by=self.root), trust_root=None)

    async def test_intermediate_that_is_not_shown(self) -> None:
        shown = issue(HOST, by=authority("intermediate", by=self.root))
        shown.chain = []
        await self.assert_certificate_refused(shown)

    async def test_issued_by_what_is_no_authority(self) -> None:
        """The certificate of another host vouches for nobody."""
        await self.assert_certificate_refused(issue(HOST, by=issue("other.example", by=self.root)))

    async def test_longer_chain_than_its_authority_allows(self) -> None:
        self.root = authority(path_length=0)
        await self.assert_certificate_refused(issue(HOST, by=authority("intermediate", by=self.root)))

    async def test_authority_for_other_names(self) -> None:
        """One that is limited to some names vouches for no others."""
        limited = authority("limited", by=self.root, extensions=(ONLY_OTHERS,))
        shown = issue("node.example", by=limited)
        await self.assert_certificate_refused(shown, server_name="node.example")

    async def test_expired_authority(self) -> None:
        self.root = authority(days=(-3, -1))
        await self.assert_certificate_refused(issue(HOST, by=self.root))

    # ---- when and for what

    async def test_expired(self) -> None:
        await self.assert_certificate_refused(issue(HOST, by=self.root, days=(-3, -1)))

    async def test_not_yet_valid(self) -> None:
        await self.assert_certificate_refused(issue(HOST, by=self.root, days=(1, 3)))

    async def test_for_clients_only(self) -> None:
        await self.assert_certificate_refused(issue(HOST, by=self.root, extensions=(CLIENT_ONLY,)))

    # ---- for whom

    async def test_another_host_name(self) -> None:
        shown = issue("other.example", by=self.root)
        await self.assert_certificate_refused(shown, "is not for node.example", server_name="node.example")

    async def test_another_address(self) -> None:
        await self.assert_certificate_refused(issue("127.0.0.2", by=self.root), f"is not for {HOST}")

    async def test_address_written_as_a_name(self) -> None:
        """A name that looks like the address is none."""
        shown = issue(by=self.root, extensions=(x509.SubjectAlternativeName([x509.DNSName(HOST)]),))
        await self.assert_certificate_refused(shown, f"is not for {HOST}")

    async def test_name_in_the_common_name_only(self) -> None:
        shown = issue(by=self.root, common_name="node.example")
        await self.assert_certificate_refused(shown, "does not contain any", server_name="node.example")

    async def test_wildcard_over_two_labels(self) -> None:
        shown = issue("*.example", by=self.root)
        await self.assert_certificate_refused(shown, "is not for a.node.example", server_name="a.node.example")

    async def test_wildcard_that_is_a_part_of_a_label(self) -> None:
        shown = issue("n*.example", by=self.root)
        await self.assert_certificate_refused(shown, "is not for node.example", server_name="node.example")

    async def test_server_name_that_the_address_is_not(self) -> None:
        """With server_name given, a certificate for the address that was dialled is not enough."""
        shown = issue(HOST, by=self.root)
        await self.assert_certificate_refused(shown, "is not for node.example", server_name="node.example")

    # ---- how it is spoken

    async def test_old_versions_only(self) -> None:
        """TLS 1.1 and older."""
        server = await self.serve(issue(HOST, by=self.root), newest=SSL.TLS1_1_VERSION)
        await self.assert_refused(server, "protocol version")

    async def test_plain_server(self) -> None:
        await self.assert_refused(await self.serve(None), "TLS", kind=ConnectFailed)

    async def test_plain_text_before_tls(self) -> None:
        """As of something in between that wants to be talked to first."""
        server = await self.serve(issue(HOST, by=self.root), greeting=b"+OK\r\n")
        await self.assert_refused(server, "does this port speak TLS at all?")

    async def test_mirror(self) -> None:
        """A server that sends back our own words."""
        factory: Any = Factory.forProtocol(Mirror)
        factory.noisy = False
        server = TappedServer(factory)
        await self.open(server)
        await self.assert_refused(server, "TLS handshake failed")

    # ---- who we are

    async def test_client_certificate_not_given(self) -> None:
        """What we send before the server refuses us it cannot read."""
        server = await self.serve(issue(HOST, by=self.root), clients_of=self.root)
        await self.assert_refused(server, "TLS handshake failed")

    async def test_client_certificate_of_another_authority(self) -> None:
        server = await self.serve(issue(HOST, by=self.root), clients_of=self.root)
        ours = issue("client.invalid", by=authority("another"))
        await self.assert_refused(server, "TLS handshake failed", client_certificate=ours.pem_with_key)

    # ---- later

    async def test_redirect_to_a_plain_port(self) -> None:
        """A node cannot send us to where no TLS is spoken; the target is sent a TLS greeting, and nothing else."""
        await self.serve(issue(HOST, by=self.root))
        first = self.node.address
        client = self.made(timeout=0.5)
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

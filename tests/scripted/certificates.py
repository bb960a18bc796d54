"""Makes valid and invalid certificates, and TLS servers that record every byte they receive."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL
from twisted.internet import protocol, ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

DAY = timedelta(days=1)
CLIENT_ONLY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


@dataclass
class Issued:
    """A certificate with its key, and the chain that a server sends with it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: list[x509.Certificate] = field(default_factory=list)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def pem_with_key(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + self.pem


def issue(
    *names: str,
    by: Issued | None = None,
    ca: bool = False,
    common_name: str = "test",
    days: tuple[int, int] = (-1, 1),
    extensions: tuple[x509.ExtensionType, ...] = (),
    path_length: int | None = None,
) -> Issued:
    """Make a certificate for host names and addresses.

    Args:
        names: The DNS names and IP addresses in subjectAltName.
        by: The issuer.  Without one the certificate is self-signed.
        ca: Whether the certificate may sign others.
        common_name: The common name of its subject.
        days: The validity, as two numbers of days from now.
        extensions: Critical extensions to add.
        path_length: How many intermediate authorities may follow this one.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * DAY)
        .not_valid_after(now + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    certificate = builder.sign(key if by is None else by.key, hashes.SHA256())
    return Issued(certificate, key, [] if by is None else [by.certificate, *by.chain])


def authority(common_name: str = "authority", by: Issued | None = None, **options: Any) -> Issued:
    """Make a certificate authority.  With an issuer (``by``) it is an intermediate authority."""
    return issue(ca=True, common_name=common_name, by=by, **options)


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def context(shown: Issued, clients_of: Issued | None = None, newest: int | None = None) -> ssl.CertificateOptions:
    """Return the TLS options of a server.

    Args:
        shown: The certificate that the server sends.
        clients_of: The authority whose client certificates the server requires.
        newest: The newest TLS version that the server supports.
    """
    chain = [ssl.Certificate.loadPEM(c.public_bytes(Encoding.PEM)).original for c in shown.chain]
    private: Any = ssl.PrivateCertificate.loadPEM(shown.pem_with_key)  # type: ignore[no-untyped-call]
    trusted = [] if clients_of is None else [ssl.Certificate.loadPEM(clients_of.pem)]
    options = ssl.CertificateOptions(
        privateKey=private.privateKey.original,
        certificate=private.original,
        extraCertChain=chain,
        trustRoot=ssl.trustRootFromCertificates(trusted) if trusted else None,  # type: ignore[no-untyped-call]
    )
    if newest is not None:
        made: SSL.Context = options.getContext()
        made.set_min_proto_version(SSL.TLS1_VERSION)
        made.set_max_proto_version(newest)
        made.set_cipher_list(b"ALL:@SECLEVEL=0")
    return options


class Tap(ProtocolWrapper):
    """Records the bytes of a connection before TLS reads them.  It can send a greeting first."""

    def connectionMade(self) -> None:
        factory: Any = self.factory
        factory.server.connections += 1
        if factory.server.greeting:
            self.write(factory.server.greeting)  # type: ignore[no-untyped-call]
        super().connectionMade()  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        factory: Any = self.factory
        factory.server.raw += data
        super().dataReceived(data)  # type: ignore[no-untyped-call]


class TappedServer:
    """A server on a real socket, with or without TLS, that records every byte it receives."""

    def __init__(self, inner: protocol.Factory, tls: Any = None, greeting: bytes = b"") -> None:
        self.raw = b""
        self.connections = 0
        self.greeting = greeting
        self._factory: Any = TLSMemoryBIOFactory(tls, False, inner) if tls is not None else inner

    def listen(self, reactor: Any) -> Deferred[Any]:
        """Return a Deferred that fires with the listening port."""
        tapped: Any = WrappingFactory(self._factory)  # type: ignore[no-untyped-call]
        tapped.protocol, tapped.server, tapped.noisy = Tap, self, False
        endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")  # type: ignore[no-untyped-call]
        listening: Deferred[Any] = endpoint.listen(tapped)
        return listening

"""TLS: certificates that are read from files, and read again when the files change."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_PEM, X509, load_privatekey
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet import ssl
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ..options import Options

# The most TLS contexts that are kept.  Each holds all trusted certificates.
_CONTEXTS = 4096
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_FILES = ("trust_root", "client_certificate", "client_key")


class TLSEndpoints:
    """Makes endpoints for TLS that verify the certificate and the host name.

    The certificate of a server must be valid for the option ``server_name``, or for the dialled host if there is none.
    """

    def __init__(self, reactor: IReactorTime, options: Options, reloaded: Callable[[Exception | None], None]) -> None:
        """Read the certificates.

        Args:
            reactor: The clock of the TLS connections.
            options: The options of the client.
            reloaded: Called with None when the files have been read again, and with the error when they have changed
                and cannot be used.

        Raises:
            ValueError: ``trust_root``, ``client_certificate`` or ``client_key`` cannot be used.
            TypeError: ``client_certificate`` or ``client_key`` has a wrong type.
        """
        self._options = options
        self._reloaded = reloaded
        given = [getattr(options, name) for name in _FILES]
        self._paths = [path for path in given if isinstance(path, (str, os.PathLike))]
        self._clock = reactor
        # One context for each name and not for each connection, because a new context reads every trusted certificate.
        self._contexts: dict[str, _NameVerifier] = {}
        self._seen = self._stamps()
        self._trust_root, self._certificate, self._more = _load(options)

    def wrap(self, host: str, endpoint: IStreamClientEndpoint) -> IStreamClientEndpoint:
        """Make the endpoint for TLS of an endpoint for TCP.

        Args:
            host: The host that is dialled.
            endpoint: The endpoint for TCP.
        """
        if self._paths and self._stamps() != self._seen:
            try:
                self.reload()
            except ValueError as error:
                self._reloaded(error)
        name = self._options.server_name or host
        if name not in self._contexts:
            if len(self._contexts) >= _CONTEXTS:
                # A cluster can announce new names without end.
                self._contexts.clear()
            self._contexts[name] = self._creator(name)
        return _TLSEndpoint(self._contexts[name], endpoint, self._clock)

    def reload(self) -> None:
        """Read the files again, for new connections.  Without files, do nothing.

        Raises:
            ValueError: They cannot be used.  New connections use what was read before.
        """
        if not self._paths:
            return
        # Noted first: files that cannot be used are read again only when they change.
        self._seen = self._stamps()
        loaded = _load(self._options)
        self._trust_root, self._certificate, self._more = loaded
        self._contexts.clear()
        self._reloaded(None)

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        """Return what changes when a file is written or replaced."""
        stamps: list[tuple[int, int, int] | None] = []
        for path in self._paths:
            try:
                status = os.stat(path)
            except (OSError, ValueError):
                stamps.append(None)
            else:
                stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return stamps

    def _creator(self, name: str) -> _NameVerifier:
        more = {"extraCertChain": [certificate.original for certificate in self._more]} if self._more else {}
        creator = ssl.optionsForClientTLS(
            name, trustRoot=self._trust_root, clientCertificate=self._certificate, extraCertificateOptions=more
        )
        return _NameVerifier(creator, name)


@implementer(IStreamClientEndpoint)
class _TLSEndpoint:
    """Adds TLS to an endpoint, as wrapClientTLS does, which uses the global reactor before Twisted 26.4."""

    def __init__(
        self, creator: IOpenSSLClientConnectionCreator, endpoint: IStreamClientEndpoint, clock: IReactorTime
    ) -> None:
        self._creator = creator
        self._endpoint = endpoint
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory = TLSMemoryBIOFactory(self._creator, True, protocolFactory, clock=self._clock)
        connected: Deferred[Any] = self._endpoint.connect(factory)
        return connected.addCallback(lambda protocol: protocol.wrappedProtocol)


@implementer(IOpenSSLClientConnectionCreator)
class _NameVerifier:
    """Verifies the host name, because Twisted 26.10 accepts a certificate that has no subjectAltName."""

    def __init__(self, creator: IOpenSSLClientConnectionCreator, name: str) -> None:
        self._creator = creator
        is_ip = isIPAddress(name) or isIPv6Address(name)
        self._id: IPAddress_ID | DNS_ID = IPAddress_ID(name) if is_ip else DNS_ID(name)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection: SSL.Connection = self._creator.clientConnectionForTLS(tlsProtocol)

        def verify(_: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
            if ok and depth == 0:
                try:
                    verify_service_identity(extract_patterns(certificate), [self._id], [])
                except Exception:
                    # OpenSSL calls this function from C, so no exception may leave it.  Each one ends the handshake.
                    tlsProtocol.failVerification(Failure())  # type: ignore[no-untyped-call]
                    return False
            return bool(ok)

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection


def _load(options: Options) -> tuple[Any, Any, list[ssl.Certificate]]:
    """Read what the options name.

    Returns:
        The trust root, the client's certificate with its key, and the certificates of authorities between the two.

    Raises:
        ValueError: An option cannot be used; the text names it.
    """
    trust_root = options.trust_root
    if isinstance(trust_root, (str, bytes, os.PathLike)):
        certificates = _certificates(_pem(trust_root, "trust_root"), "trust_root")
        trust_root = ssl.trustRootFromCertificates(certificates)  # type: ignore[no-untyped-call]
    given = options.client_certificate
    if given is None or isinstance(given, ssl.PrivateCertificate):
        return trust_root, given, []
    pem = _pem(given, "client_certificate")
    own, *more = _certificates(pem, "client_certificate")
    in_file = "client_certificate" if options.client_key is None else "client_key"
    key_pem = pem if options.client_key is None else _pem(options.client_key, in_file)
    key = _usable(in_file, partial(_key, key_pem))
    # This checks that the key fits.
    pair = _usable(in_file, partial(ssl.PrivateCertificate.fromCertificateAndKeyPair, own, key))
    return trust_root, pair, more


def _certificates(pem: bytes, option: str) -> list[ssl.Certificate]:
    pieces = pem.split(_BEGIN)[1:]
    if not pieces:
        raise ValueError(f"{option} holds no PEM certificate")
    return [_usable(option, partial(ssl.Certificate.loadPEM, _BEGIN + piece)) for piece in pieces]


def _key(pem: bytes) -> Any:
    if b"PRIVATE KEY-----" not in pem:
        raise ValueError("it holds no PEM private key")

    def refuse(_: object) -> bytes:
        raise ValueError("the private key is encrypted; store it without a pass phrase")

    # Without a function for the pass phrase, OpenSSL asks for it on the terminal, and blocks.
    return ssl.KeyPair(load_privatekey(FILETYPE_PEM, pem, refuse))  # type: ignore[no-untyped-call]


def _usable(option: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:
        # OpenSSL raises errors of several kinds.  Their texts do not hold keys.
        words = error.args[0] if error.args else ""
        text = "; ".join(str(entry[-1]) for entry in words) if isinstance(words, list) else str(error)
        raise ValueError(f"{option} cannot be used: {text or type(error).__name__}") from error


def _pem(given: str | os.PathLike[str] | bytes, option: str) -> bytes:
    if isinstance(given, bytes):
        return given
    if not isinstance(given, (str, os.PathLike)):
        # `open` would read from a number.
        raise TypeError(f"{option} is {type(given).__name__}; it must be a path or PEM bytes")
    try:
        with open(given, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise ValueError(f"{option}: cannot read the file: {error}") from error

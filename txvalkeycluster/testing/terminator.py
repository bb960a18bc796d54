"""Certificates for tests, and a TLS terminator for servers that were built without TLS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trustme
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.protocols.portforward import ProxyFactory


@dataclass(frozen=True)
class Certificates:
    """A new certificate authority, a certificate for servers and one for clients; all in PEM."""

    #: The certificate of the authority; give it to a client as ``trust_root``.
    authority: bytes
    #: The certificate of the servers.
    server: bytes
    #: The private key of the servers.
    server_key: bytes
    #: The certificate of a client with its private key; give it to a client as ``client_certificate``.
    client: bytes

    @classmethod
    def make(cls, *names: str) -> Certificates:
        """Make an authority and its certificates.

        Args:
            *names: The host names and IP addresses in the certificate of the servers.
        """
        authority = trustme.CA()
        server = authority.issue_cert(*names)
        client = authority.issue_cert("client.invalid")
        return cls(
            authority=authority.cert_pem.bytes(),
            server=b"".join(blob.bytes() for blob in server.cert_chain_pems),
            server_key=server.private_key_pem.bytes(),
            client=client.private_key_and_cert_chain_pem.bytes(),
        )


def terminate_tls(
    reactor: IReactorTime, host: str, port: int, backend_port: int, certificates: Certificates, *, verify_clients: bool
) -> Deferred[IListeningPort]:
    """Listen for TLS on one port, and pass the decrypted bytes to another.

    Args:
        reactor: The Twisted reactor.
        host: The address of both ports.
        port: The port for clients.
        backend_port: The port of the server.
        certificates: The certificates to use.
        verify_clients: Whether clients must show a certificate of the same authority.

    Returns:
        A Deferred that fires with the listening port (`IListeningPort`).
    """
    server: Any = ssl.PrivateCertificate.loadPEM(certificates.server_key + certificates.server)  # type: ignore[no-untyped-call]
    authority = ssl.Certificate.loadPEM(certificates.authority)
    context = server.options(authority) if verify_clients else server.options()
    endpoint: Any = SSL4ServerEndpoint(reactor, port, context, interface=host)  # type: ignore[no-untyped-call]
    forward = ProxyFactory(host, backend_port)
    forward.noisy = False
    listening: Deferred[IListeningPort] = endpoint.listen(forward)
    return listening

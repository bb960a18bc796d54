"""TLS in front of servers that were built without it, and the certificates for either kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trustme
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.protocols.portforward import ProxyFactory


@dataclass(frozen=True)
class Certificates:
    """A certificate authority made on the fly, a server's certificate and a client's, all in PEM."""

    authority: bytes
    server: bytes
    server_key: bytes
    client: bytes

    @classmethod
    def make(cls, *names: str) -> Certificates:
        """Certificates whose server goes by ``names``: host names and addresses."""
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
) -> Deferred[Any]:
    """Listen for TLS on ``port`` and pass what comes to ``backend_port``; fires with the listening port."""
    server: Any = ssl.PrivateCertificate.loadPEM(certificates.server_key + certificates.server)  # type: ignore[no-untyped-call]
    authority = ssl.Certificate.loadPEM(certificates.authority)
    context = server.options(authority) if verify_clients else server.options()
    endpoint: Any = SSL4ServerEndpoint(reactor, port, context, interface=host)  # type: ignore[no-untyped-call]
    forward = ProxyFactory(host, backend_port)
    forward.noisy = False
    listening: Deferred[Any] = endpoint.listen(forward)
    return listening

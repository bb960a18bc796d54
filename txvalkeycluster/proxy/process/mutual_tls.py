"""The endpoint ``mtls``: TLS for clients that must show a certificate.  Twisted's ``ssl`` cannot ask for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair, trustRootFromCertificates

_END = b"-----END CERTIFICATE-----"


def mutual_tls_endpoint(
    reactor: Any,
    port: str,
    *,
    privateKey: str,
    trustRoot: str,
    certKey: str = "",
    interface: str = "",
    backlog: str = "50",
) -> IStreamServerEndpoint:
    """Make the endpoint of a description such as ``mtls:6380:privateKey=server.pem:trustRoot=clients.pem``.

    Args:
        reactor: The reactor.
        port: The number of the port.
        privateKey: A PEM file with the key of the server.
        trustRoot: A PEM file with the authorities of the clients' certificates.
        certKey: A PEM file with the certificate of the server, and the certificates of the authorities between it and
            the root; by default the same file as ``privateKey``.
        interface: The address to listen on; by default all.
        backlog: How many connections may wait to be accepted.

    Raises:
        ValueError: A file has no certificate.
        OSError: A file cannot be read.
    """
    key = KeyPair.load(Path(privateKey).read_bytes(), 1)
    own, *chain = _certificates(certKey or privateKey)
    options = CertificateOptions(
        privateKey=key.original,
        certificate=own.original,
        extraCertChain=[each.original for each in chain],
        trustRoot=trustRootFromCertificates(_certificates(trustRoot)),  # type: ignore[no-untyped-call]
    )
    return SSL4ServerEndpoint(reactor, int(port), options, int(backlog), interface)  # type: ignore[no-untyped-call]


def _certificates(path: str) -> list[Any]:
    parts = Path(path).read_bytes().split(_END)[:-1]
    begin = b"-----BEGIN CERTIFICATE-----"
    found = [part[part.index(begin) :] + _END for part in parts if begin in part]
    if not found:
        raise ValueError(f"{path} has no certificate")
    return [Certificate.loadPEM(each) for each in found]

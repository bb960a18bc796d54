"""Turn the reason why a connection could not be made into an error of this package."""

from __future__ import annotations

import OpenSSL.SSL
import service_identity
from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.python.failure import Failure

from ..address import Address
from ..errors import ConnectFailed, ConnectionLost, ProtocolError, TLSFailed, ValkeyError
from ..options import Options


def connect_error(address: Address, failure: Failure, options: Options) -> ValkeyError:
    """Return the error for a failed attempt to connect.

    Args:
        address: The node that was dialled.
        failure: The failure of the dial, of TLS or of the handshake.
        options: The options of the client.

    Returns:
        A `TLSFailed` if the certificate or TLS was the reason, else a `ConnectFailed`.  Its text names the node.
    """
    error: BaseException | None = failure.value
    if isinstance(error, ConnectFailed):
        return error
    if isinstance(error, DeferredTimeout):
        limit = f"{options.connect_timeout:g} s (connect_timeout)"
        return ConnectFailed(f"{address}: could not connect and complete the handshake within {limit}")
    if isinstance(error, CancelledError):
        return ConnectFailed(f"{address}: the attempt to connect was cancelled")
    cause = error
    while cause is not None:
        if isinstance(cause, (service_identity.VerificationError, service_identity.CertificateError)):
            name = options.server_name or address.host
            why = f": {cause}" if isinstance(cause, service_identity.CertificateError) else ""
            return TLSFailed(f"{address}: the certificate is not for {name}{why}")
        if isinstance(cause, OpenSSL.SSL.Error):
            words = cause.args[0] if cause.args else ()
            text = "; ".join(entry[2] for entry in words if len(entry) > 2) if isinstance(words, list) else ""
            plain = "; check that this port uses TLS" if "wrong version number" in text or not text else ""
            return TLSFailed(f"{address}: TLS handshake failed: {text or 'the peer closed the connection'}{plain}")
        cause = cause.__cause__
    hint = _hint(error, options)
    failed = ConnectFailed(f"{address}: {str(error).removeprefix(str(address)).lstrip(': ')}{hint}")
    failed.__cause__ = error
    return failed


def _hint(error: BaseException | None, options: Options) -> str:
    """Return a possible reason for a connection that ended before the handshake was answered."""
    if not isinstance(error, (ConnectionLost, ProtocolError)):
        return ""
    if options.tls:
        return " (check that this port uses TLS)"
    # A TLS server answers anything but TLS with an alert, whose first byte is 21, or closes the connection.
    return " (if this port requires TLS, use valkeys:// or tls=True)"

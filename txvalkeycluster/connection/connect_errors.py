"""What went wrong while connecting to a node, in one of our own errors."""

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
    """The error for a failed attempt: an untrusted certificate, a wrong name, a refusal, too long a wait."""
    error: BaseException | None = failure.value
    if isinstance(error, ConnectFailed):
        return error
    if isinstance(error, DeferredTimeout):
        return ConnectFailed(f"{address}: no connection and answered handshake within {options.connect_timeout:g} s")
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
            plain = "; does this port speak TLS at all?" if "wrong version number" in text or not text else ""
            return TLSFailed(f"{address}: TLS handshake failed: {text or 'the peer closed it'}{plain}")
        cause = cause.__cause__
    hint = _hint(error, options)
    failed = ConnectFailed(f"{address}: {str(error).removeprefix(str(address)).lstrip(': ')}{hint}")
    failed.__cause__ = error
    return failed


def _hint(error: BaseException | None, options: Options) -> str:
    """What else may be the reason, of a connection that ended before the first words were answered."""
    if not isinstance(error, (ConnectionLost, ProtocolError)):
        return ""
    if options.tls:
        return " (does this port speak TLS?)"
    # A TLS server answers what is no TLS with an alert, whose first byte is 21, or just closes.
    return " (does this port speak TLS only? then use valkeys://, or tls=True)"

"""Host and port of a node, and the texts that servers and people write them in."""

from __future__ import annotations

from typing import NamedTuple


class Address(NamedTuple):
    """Where a node can be dialled: a host name or an IP literal without brackets, and a port from 1 to 65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, default_port: int | None = None) -> Address:
    """Parse ``host:port``, ``[ipv6]:port`` or, as servers write it, unbracketed ``ipv6:port``.

    With a ``default_port`` the text is a person's: the port may be left out, so IPv6 must be bracketed.  The host may
    come out empty.  Raises ValueError, whose message leaves the text out: it may hold a password.
    """
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError("unbalanced brackets in an IPv6 address")
        port = rest[1:]
    elif default_port is not None and text.count(":") > 1:
        raise ValueError("more than one colon: an IPv6 address goes in brackets")
    elif default_port is not None and ":" not in text:
        host, port = text, ""
    else:
        # Servers do not bracket IPv6, so the port starts at the last colon.
        host, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError("no port")
    if not host.isprintable():
        # It would be shown in errors and logs.
        raise ValueError("the host holds characters that no host name can have")
    if not port and default_port is not None:
        return Address(host, default_port)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("the port is not a number from 1 to 65535")
    return Address(host, int(port))

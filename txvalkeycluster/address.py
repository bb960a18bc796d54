"""The address of a node: host and port, and how to read them from text."""

from __future__ import annotations

from typing import NamedTuple


class Address(NamedTuple):
    """The address of a node: a host name or an IP address without brackets, and a port from 1 to 65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, default_port: int | None = None) -> Address:
    """Parse ``host:port``, ``[ipv6]:port``, or ``ipv6:port`` as servers write it.

    Args:
        text: The address.
        default_port: The port to use if ``text`` has none.  Give it for text that a person wrote: then the port may be
            missing, and an IPv6 address must be in brackets.

    Returns:
        The address.  Its host can be empty.

    Raises:
        ValueError: The text is not an address.  The message does not repeat the text, which may contain a password.

    Example:
        >>> parse_address("::1:7000")
        Address(host='::1', port=7000)
    """
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError("the brackets of the IPv6 address are not balanced")
        port = rest[1:]
    elif default_port is not None and text.count(":") > 1:
        raise ValueError("more than one colon; put an IPv6 address in brackets")
    elif default_port is not None and ":" not in text:
        host, port = text, ""
    else:
        # Servers do not bracket IPv6, so the port starts at the last colon.
        host, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError("the port is missing")
    if not host.isprintable():
        # Errors and logs show the host.
        raise ValueError("the host contains characters that are not allowed in a host name")
    if not port and default_port is not None:
        return Address(host, default_port)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("the port is not a number from 1 to 65535")
    return Address(host, int(port))

"""Seeds: the addresses where a client begins to look for the cluster, as text or as pairs."""

from __future__ import annotations

from collections.abc import Sequence

from .address import Address, parse_address

#: The port of a seed that is written without one: the port that Valkey uses by default.
DEFAULT_PORT = 6379
#: Seeds as an application may write them; `parse_seeds` reads them.
Seeds = str | Sequence[str | tuple[str, int]]


def parse_seeds(seeds: Seeds) -> tuple[Address, ...]:
    """Read seeds.

    Args:
        seeds: ``"host:port,host:port"``, or a sequence of texts ``"host:port"`` and of (host, port) pairs.  In text,
            the port is 6379 if it is left out, and an IPv6 address stands in brackets.

    Returns:
        The addresses, in the same order.

    Raises:
        ValueError: A seed is not valid.  The text has its number, counted from 1, and does not repeat it.
    """
    entries = seeds.split(",") if isinstance(seeds, str) else seeds
    return tuple(
        _seed(entry, number) if isinstance(entry, str) else _pair(entry, number)
        for number, entry in enumerate(entries, 1)
    )


def _seed(text: str, number: int) -> Address:
    try:
        address = parse_address(text.strip(), DEFAULT_PORT)
    except ValueError as error:
        raise ValueError(f"seed {number}: {error}") from None
    return _pair(address, number)


def _pair(entry: tuple[str, int], number: int) -> Address:
    host, port = entry
    if not host:
        raise ValueError(f"seed {number}: the host is missing")
    if any(character in "@/?#[] ," or not character.isprintable() for character in host):
        raise ValueError(f"seed {number}: the host holds characters that a host name cannot have")
    if type(port) is not int or not 0 < port < 65536:
        raise ValueError(f"seed {number}: the port is not a number from 1 to 65535")
    return Address(host, port)

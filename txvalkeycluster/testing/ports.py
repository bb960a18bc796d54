"""Ports for servers: which are free, and which program uses one that is not."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from ..address import Address
from ..client import ClusterClient
from ..errors import AuthenticationFailed, ReplyError, ValkeyError

# Seconds that another program has to answer INFO.
_PATIENCE = 1.0


class PortTaken(RuntimeError):
    """Another program uses a port that a server should listen on.  That program was not changed."""

    def __init__(self, address: Address, who: str = "another program") -> None:
        """Make the error.

        Args:
            address: The host and the port.
            who: A description of the program.
        """
        super().__init__(address, who)
        #: The host and the port.
        self.address = address
        #: A description of the program, such as "a Valkey or Redis server, process 4711".
        self.who = who

    def __str__(self) -> str:
        return f"port {self.address.port} of {self.address.host} is taken by {self.who}"


def free_ports(host: str, count: int, besides: Sequence[int] = ()) -> list[int]:
    """Find free ports.  All are held until the last is found, so that they differ.

    Args:
        host: The address to listen on.
        count: How many ports to find.
        besides: Other ports that must be free.  The found ports differ from them.

    Returns:
        ``count`` ports.

    Raises:
        PortTaken: One of ``besides`` is not free.
        OSError: The address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = [socket.socket(family) for _ in range(len(besides) + count)]
    wanted, free = held[: len(besides)], held[len(besides) :]
    try:
        for sock, port in zip(wanted, besides, strict=True):
            # Servers set it too: then old connections of an earlier server do not block the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bind(sock, Address(host, port))
        for sock in free:
            _bind(sock, Address(host, 0))
        return [sock.getsockname()[1] for sock in free]
    finally:
        for sock in held:
            sock.close()


def _bind(sock: socket.socket, address: Address) -> None:
    try:
        sock.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(address) from None
        raise OSError(error.errno, f"cannot listen on {address}: {os.strerror(error.errno or 0)}") from None


async def ports_for(reactor: IReactorTime, host: str, count: int, besides: Sequence[int]) -> list[int]:
    """Find free ports as `free_ports` does; ask the program on a port that is not free what it is.

    Args:
        reactor: The Twisted reactor.
        host: The address to listen on.
        count: How many ports to find.
        besides: Other ports that must be free.

    Returns:
        ``count`` ports.

    Raises:
        PortTaken: One of ``besides`` is not free.  The text describes the program that uses it, if it is a server.
        OSError: The address cannot be listened on.
    """
    try:
        return free_ports(host, count, besides)
    except PortTaken as taken:
        raise PortTaken(taken.address, await _who_listens(reactor, taken.address)) from None


async def _who_listens(reactor: IReactorTime, address: Address) -> str:
    client = ClusterClient(reactor, seeds=[address])
    try:
        return server_in(await client.execute_on(address, "INFO", "server", timeout=_PATIENCE))
    except (AuthenticationFailed, ReplyError):
        return "a server that requires a password"
    except ValkeyError:
        return PortTaken(address).who
    finally:
        await client.abort()


def server_in(info: bytes) -> str:
    """Describe the server that sent a reply to INFO."""
    return f"a Valkey or Redis server, process {_fact(info, 'process_id')}"


def is_server_of(folder: Path, info: bytes) -> bool:
    """Tell whether a reply to INFO comes from the server whose configuration is in a folder.

    The process id is not used: if a script or a container starts the server, it is not the id that we know.

    Args:
        folder: The folder; no two servers share one.
        info: The reply.
    """
    return Path(_fact(info, "config_file")).resolve().parent == folder.resolve()


def _fact(info: bytes, name: str) -> str:
    found = re.search(rf"^{name}:(.*?)\r?$", info.decode(errors="replace"), re.M)
    return found[1] if found is not None else ""

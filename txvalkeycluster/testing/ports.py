"""Ports for servers: free ones, and who listens where somebody does."""

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

# Seconds that another program has to say what it is.
_PATIENCE = 1.0


class PortTaken(RuntimeError):
    """Another program listens on a port that a server was to have; nothing was changed there."""

    def __init__(self, address: Address, who: str = "another program") -> None:
        super().__init__(address, who)
        self.address = address
        self.who = who

    def __str__(self) -> str:
        return f"port {self.address.port} of {self.address.host} is taken by {self.who}"


def free_ports(host: str, count: int, besides: Sequence[int] = ()) -> list[int]:
    """Ports nobody listens on, held until all are found so that they differ, from ``besides`` too.

    Raises PortTaken if one of ``besides`` is not free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = [socket.socket(family) for _ in range(len(besides) + count)]
    wanted, free = held[: len(besides)], held[len(besides) :]
    try:
        for sock, port in zip(wanted, besides, strict=True):
            # As servers do it: what is left of an earlier server's connections is no obstacle.
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
    """As `free_ports`; PortTaken says, as far as it is known, who has the port."""
    try:
        return free_ports(host, count, besides)
    except PortTaken as taken:
        raise PortTaken(taken.address, await _who_listens(reactor, taken.address)) from None


async def _who_listens(reactor: IReactorTime, address: Address) -> str:
    client = ClusterClient(reactor, seeds=[address])
    try:
        return server_in(await client.execute_on(address, "INFO", "server", timeout=_PATIENCE))
    except (AuthenticationFailed, ReplyError):
        return "a server that wants a password"
    except ValkeyError:
        return PortTaken(address).who
    finally:
        await client.abort()


def server_in(info: bytes) -> str:
    """Which server answered with this INFO."""
    return f"a Valkey or Redis server, process {_fact(info, 'process_id')}"


def is_server_of(folder: Path, info: bytes) -> bool:
    """Whether it is the server with its configuration in a folder that answered with this INFO.

    No two servers share one, and unlike the process id it also stays if a script or a container starts the server.
    """
    return Path(_fact(info, "config_file")).resolve().parent == folder.resolve()


def _fact(info: bytes, name: str) -> str:
    found = re.search(rf"^{name}:(.*?)\r?$", info.decode(errors="replace"), re.M)
    return found[1] if found is not None else ""

"""The process that publishes.  It sends a burst of messages for each line that it reads, and answers with a line.

``python -m benchmarks.publisher SPECIFICATION`` starts it.  SPECIFICATION is JSON: the host and the port of a node, the
command (PUBLISH or SPUBLISH), the channels of the messages of a burst, and the data of each message.  The answer comes
when all nodes have processed the burst.  The process ends with its input.
"""

from __future__ import annotations

import json
import socket
import sys
from binascii import crc_hqx
from typing import Any

import hiredis

# Its type annotation allows only one argument.
_pack: Any = hiredis.pack_command
_MARKER = "end of the burst"


class Node:
    """A connection to a node."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port))
        self._reader = hiredis.Reader()

    def call(self, *args: str) -> Any:
        """Send a command, and return its reply."""
        return self.call_all([_pack(args)])[0]

    def call_all(self, commands: list[bytes]) -> list[Any]:
        """Send encoded commands at once, and return their replies."""
        self._socket.sendall(b"".join(commands))
        return [self.receive() for _ in commands]

    def receive(self) -> Any:
        """Return the next reply, or the next message."""
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("a node closed the connection")
            self._reader.feed(data)
        if isinstance(reply, Exception):
            raise reply
        return reply


class Classic:
    """Publishes at one node, which sends each message to all nodes.

    These also take their time.  So a marker follows the burst, and is awaited from each node.
    """

    def __init__(self, addresses: list[tuple[str, int]], commands: list[bytes]) -> None:
        self._node = Node(*addresses[0])
        self._watched = [Node(*address) for address in addresses]
        for node in self._watched:
            node.call("SUBSCRIBE", _MARKER)
        self._commands = [*commands, _pack(("PUBLISH", _MARKER, ""))]

    def publish(self) -> None:
        """Publish a burst."""
        self._node.call_all(self._commands)
        for node in self._watched:
            node.receive()


class Sharded:
    """Publishes each message at the owner of its slot."""

    def __init__(self, owners: list[tuple[str, int]], commands: list[bytes]) -> None:
        nodes = {address: Node(*address) for address in owners}
        self._bursts: dict[Node, list[bytes]] = {node: [] for node in nodes.values()}
        for owner, command in zip(owners, commands, strict=True):
            self._bursts[nodes[owner]].append(command)

    def publish(self) -> None:
        """Publish a burst."""
        for node, commands in self._bursts.items():
            node.call_all(commands)


def main() -> None:
    """Publish until standard input ends."""
    host, port, command, channels, data = json.loads(sys.argv[1])
    commands = [_pack((command, channel, data)) for channel in channels]
    slots: list[tuple[str, int]] = []
    for start, end, (host_of, port_of, *_), *_ in sorted(Node(host, port).call("CLUSTER", "SLOTS")):
        slots += [(host_of.decode(), port_of)] * (end + 1 - start)
    publisher: Classic | Sharded
    if command == "PUBLISH":
        publisher = Classic(list(dict.fromkeys(slots)), commands)
    else:
        publisher = Sharded([slots[crc_hqx(channel.encode(), 0) & 16383] for channel in channels], commands)
    for _ in sys.stdin:
        publisher.publish()
        print(flush=True)


if __name__ == "__main__":
    main()

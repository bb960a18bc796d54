"""The process that publishes.  It sends a burst of messages for each line that it reads, and answers with a line.

``python -m benchmarks.publisher SPECIFICATION`` starts it.  SPECIFICATION is JSON: the host and the port of a node, the
command (PUBLISH or SPUBLISH), the channels of the messages of a burst, and the data of each message.  The answer comes
when the servers have processed the burst.  The process ends with its input.
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
        replies: list[Any] = []
        while len(replies) < len(commands):
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("a node closed the connection")
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                if isinstance(reply, Exception):
                    raise reply
                replies.append(reply)
        return replies


def main() -> None:
    """Publish until standard input ends."""
    host, port, command, channels, data = json.loads(sys.argv[1])
    bursts: dict[Node, list[bytes]] = {}
    for _ in sys.stdin:
        if not bursts:
            # The client has subscribed by now.
            nodes = _nodes(host, port, command, set(channels))
            for channel in channels:
                bursts.setdefault(nodes[channel], []).append(_pack((command, channel, data)))
        for node, commands in bursts.items():
            node.call_all(commands)
        print(flush=True)


def _nodes(host: str, port: int, command: str, channels: set[str]) -> dict[str, Node]:
    """Return the node to which the messages of each channel are sent."""
    nodes: dict[tuple[bytes, int], Node] = {}
    slots: list[Node] = []
    for start, end, (host_of, port_of, *_), *_ in sorted(Node(host, port).call("CLUSTER", "SLOTS")):
        if (host_of, port_of) not in nodes:
            nodes[host_of, port_of] = Node(host_of.decode(), port_of)
        slots += [nodes[host_of, port_of]] * (end + 1 - start)
    if command == "SPUBLISH":
        return {channel: slots[crc_hqx(channel.encode(), 0) & 16383] for channel in channels}

    def subscribers(node: Node) -> int:
        return int(node.call("PUBSUB", "NUMSUB", *channels)[1])

    # Any node passes classic messages on.  One with subscribers does so at once.
    return dict.fromkeys(channels, max(nodes.values(), key=subscribers))


if __name__ == "__main__":
    main()

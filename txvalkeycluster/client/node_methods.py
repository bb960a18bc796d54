"""The methods about nodes and connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred

from ..address import Address
from ..commands.encoder import Arg
from ..commands.method_support import Text
from ..options import DEFAULT
from ..topology.model import Node, Topology
from .base import ClientBase


class NodeMethods(ClientBase[Text]):
    """Tells which nodes there are, sends commands to one of them, and renews logins and certificates."""

    @property
    def topology(self) -> Topology:
        """The current slot map, an immutable value.  Before the first one arrives: version 0, no nodes."""
        return self._router.topology

    def execute_on(self, node: Node | Address | str, *args: Arg, timeout: float | None = DEFAULT) -> Deferred[Any]:
        """Send a command to one node, once: no redirect is followed, nothing is sent again.

        Args:
            node: A node of `topology`, an `Address`, or ``"host:port"``.
            *args: The name of the command and its arguments.
            timeout: Seconds until the command fails with CommandTimeout.  None: no limit.  If not given, the option
                ``timeout`` applies.

        Returns:
            A Deferred that fires with the reply as the server sent it.  It fails with the errors below; nothing is
            raised at the call.

        Raises:
            ReplyError: The server replied with an error, which can be a redirect.
            ConnectFailed: The node cannot be connected to.  Nothing was sent.  AuthenticationFailed and TLSFailed are
                kinds of it.
            CommandTimeout: The deadline passed.
            ConnectionLost: The connection ended before the reply.
            ProtocolError: The reply cannot be read, or is no possible reply to this command.
            TooManyPending: The node has too many unanswered commands or unsent bytes.  Nothing was sent.
            RoutingError: The command is refused, or the node has no address.  Nothing was sent.
            ClientClosed: The client is closed or aborted.
            TypeError: An argument has a type that cannot be sent, or ``node`` is none of the three.
            ValueError: ``node`` is text that is not an address.
            WritesUnconfirmed: WAIT and WAITAOF only: a connection that carried writes was replaced.

        Example:
            for node in client.nodes():
                await client.execute_on(node, "CLIENT", "LIST")
        """
        return self._router.execute_on(node, args, self._given(timeout))

    def refresh_topology(self) -> Deferred[Topology]:
        """Fetch the slot map now.

        A program needs this only if it has changed the cluster itself: the client refreshes the map when needed.

        Returns:
            A Deferred that fires with the new `Topology`, or fails with one of the errors below.

        Raises:
            ClusterUnavailable: No node gave a slot map that can be used; ``attempts`` has the reason of each.
            TopologyError: A slot map lacks most of the known nodes, and another node gave a different one.
            ClientClosed: The client is closed or aborted.
        """
        refreshed: Deferred[Any] = self._router.refresh()
        return refreshed.addCallback(lambda _: self.topology)

    def reauthenticate(self) -> Deferred[None]:
        """Log in again on every open connection, with the current credentials.

        Call it when the password has changed and the option ``credentials`` did not say when that would be.  Commands
        go on meanwhile.  Connections of blocking commands and of watch sessions log in when they become free.  With
        RESP2, the connections of subscriptions are replaced, and the subscriptions report the gap.

        Returns:
            A Deferred that fires with None when every connection that is free has logged in.  It fails with the first
            of the errors below, after all have tried; the connections keep their old login, and the client tries again.

        Raises:
            AuthenticationFailed: A server refused the credentials, or the function gave none.
            CommandTimeout: A server did not answer within ``connect_timeout``.
        """
        return self._router.factory.log_in_again()

    def reload_tls(self) -> None:
        """Read the files of ``trust_root``, ``client_certificate`` and ``client_key`` again, for new connections.

        The client does this by itself when it connects and the files have changed.  Without TLS, or if the options are
        not paths, nothing happens.

        Raises:
            ValueError: A file cannot be used.  New connections use what was read before.
        """
        if self._router.factory.tls is not None:
            self._router.factory.tls.reload()

    def primaries(self) -> Iterator[Node]:
        """Iterate over the primaries of the slot map.

        If the map changes meanwhile, the iteration goes on with the new map.  It gives no node twice.
        """
        return self._visit(lambda topology: topology.primaries)

    def nodes(self) -> Iterator[Node]:
        """Iterate over the nodes of the slot map, primaries first.

        If the map changes meanwhile, the iteration goes on with the new map.  It gives no node twice.
        """
        return self._visit(lambda topology: topology.nodes)

    def _visit(self, of: Callable[[Topology], tuple[Node, ...]]) -> Iterator[Node]:
        seen: set[str] = set()
        topology = None
        while topology is not self.topology:
            topology = self.topology
            for node in of(topology):
                if node.id not in seen:
                    seen.add(node.id)
                    yield node
                    if topology is not self.topology:
                        break

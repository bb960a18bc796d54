"""Nodes that know passwords, and a client whose credentials change, for tests to inherit."""

from __future__ import annotations

from typing import Any

from tests.pubsub.base import SubscriptionTests
from tests.scripted.base import transactional
from txvalkeycluster import Address, ClusterClient, Credentials
from txvalkeycluster.testing import SILENCE, ScriptedNode

OLD, NEW = Credentials("app", "old-secret"), Credentials("app", "new-secret")


class LoginTests(SubscriptionTests):
    """Nodes that know passwords, and a function that gives one."""

    def setUp(self) -> None:
        super().setUp()
        #: The passwords that the nodes accept; None: all.
        self.accepted: set[bytes] | None = None
        #: Each login: the node, the number of its connection, the name of the command, the user and the password.
        self.logins: list[tuple[ScriptedNode, int, str, str, str]] = []
        #: Replies in place of the usual ones, by command.
        self.answers: dict[bytes, Any] = {}
        #: The nodes that hold their replies back, and the commands without a reply.
        self.holding: list[ScriptedNode] = []
        self.held: list[tuple[ScriptedNode, list[bytes], Any]] = []
        #: What the function gives, and the nodes that it was called for.
        self.current: Any = OLD
        self.asked: list[Address] = []
        self.events: list[Any] = []
        self.logged_in: set[Any] = set()
        for node in self.nodes:
            node.script = self.script

    def script(self, node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
        name = words[0]
        pair: list[bytes] = []
        if name == b"HELLO":
            pair = words[words.index(b"AUTH") + 1 :][:2] if b"AUTH" in words else []
            connection.resp3 = True
        elif name == b"AUTH":
            pair = words[1:] if len(words) > 2 else [b"default", words[1]]
        if pair:
            user, password = (word.decode() for word in pair)
            self.logins.append((node, connection.number, name.decode(), user, password))
        if node in self.holding:
            self.held.append((node, words, connection))
            return SILENCE
        if name in self.answers:
            answer = self.answers[name]
            return answer(node) if callable(answer) else answer
        if pair and self.accepted is not None and pair[1] not in self.accepted:
            return b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
        if pair:
            self.logged_in.add(connection)
        elif connection not in self.logged_in:
            return b"-NOAUTH Authentication required.\r\n"
        return transactional(node, words, connection)

    def release(self) -> None:
        """Send the replies that were held back."""
        self.holding = []
        held, self.held = self.held, []
        seen = len(self.logins)
        for node, words, connection in held:
            connection.write(node.reply(words, connection))
        # They have been recorded when they came.
        del self.logins[seen:]

    def function(self, address: Address) -> Any:
        """Give the current credentials."""
        self.asked.append(address)
        return self.current() if callable(self.current) else self.current

    def made(self, **options: Any) -> ClusterClient[bytes]:
        """A client with the function, unless ``options`` say otherwise."""
        client = super().made(**{"credentials": self.function, **options})
        client.add_listener(self.events.append)
        return client

    def of(self, kind: type) -> list[Any]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def passwords(self, node: ScriptedNode | None = None) -> list[str]:
        """Return the passwords of all logins, or of those at one node."""
        return [password for at, *_, password in self.logins if node in (None, at)]

    def again(self) -> list[tuple[int, int, str]]:
        """Return each login on an open connection: the node, the connection and the password."""
        return [(node.index, number, password) for node, number, name, _, password in self.logins if name == "AUTH"]

    def get(self, client: Any, node: ScriptedNode | None = None) -> Any:
        """Return the result of a GET at a node."""
        return self.result_of(client.get(self.key_of(node or self.nodes[0])))

    def connected(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client that is connected to every node."""
        client = self.client(**options)
        for node in self.nodes:
            self.get(client, node)
        return client

    def cut(self, node: ScriptedNode) -> None:
        """Close the connections of a node, and let the client notice it and wait until it may dial again."""
        self.network.cut(node)
        self.advance(0.1)

    def leaves_nothing(self, client: ClusterClient[bytes], *, abort: bool) -> None:
        """End the client; check that no timer is left and every connection is closed."""
        ended = client.abort() if abort else client.close()
        self.network.settle()
        self.successResultOf(ended)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.connections(), 0)

"""Connections with subscriptions log in again."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.connection.login_base import NEW, OLD, LoginTests
from txvalkeycluster import AuthenticationFailed, Credentials, Lost, Resubscribed
from txvalkeycluster.events import LoginFailed


class SubscriberTests(LoginTests):
    """Connections with subscriptions."""

    def test_resp3(self) -> None:
        """A connection with subscriptions logs in again without a gap."""
        client = self.client()
        self.subscribed(client.subscribe("a", listener=self.items.append))
        (node,) = (node for node in self.nodes if any(each.subscribed for each in node.connections))
        (connection,) = (each for each in node.connections if each.subscribed)
        self.current = NEW
        again = client.reauthenticate()
        self.publish("a", "1")
        self.result_of(again)
        self.publish("a", "2")
        self.assertIn((node.index, connection.number, "new-secret"), self.again())
        self.assertEqual([item.data for item in self.items], [b"1", b"2"])

    def test_resp2(self) -> None:
        """With RESP2 the connection is replaced, and the subscription reports the gap."""
        client = self.client(protocol=2)
        self.subscribed(client.subscribe("a", listener=self.items.append))
        self.publish("a", "1")
        self.current = NEW
        self.logins.clear()
        self.result_of(client.reauthenticate())
        self.advance(1.0)
        self.publish("a", "2")
        self.assertEqual([type(item) for item in self.items[1:3]], [Lost, Resubscribed])
        self.assertIn("had to be replaced to log in", self.items[1].detail)
        self.assertEqual([item.data for item in self.items[::3]], [b"1", b"2"])
        self.assertEqual(set(self.passwords()), {"new-secret"})

    def test_resp2_and_the_function_fails(self) -> None:
        """With RESP2 the connection is replaced only if there are credentials for the next one."""
        client = self.client(protocol=2)
        self.subscribed(client.subscribe("a", listener=self.items.append))
        self.current = None
        self.error_of(client.reauthenticate(), AuthenticationFailed)
        self.advance(1.0)
        self.publish("a", "1")
        self.assertEqual([item.data for item in self.items], [b"1"])

    def test_while_it_is_dialled(self) -> None:
        """reauthenticate() while the connection is made does not disturb the subscription, with both protocols."""
        for protocol in (2, 3):
            self.items.clear()
            self.current = OLD
            client = self.client(protocol=protocol)
            given: Deferred[Any] = Deferred()
            self.current = given
            subscription = client.subscribe("a", listener=self.items.append)
            self.advance(0.1)
            self.current = NEW
            again = client.reauthenticate()
            given.callback(OLD)
            self.subscribed(subscription)
            self.result_of(again)
            self.advance(2.0)
            self.publish("a", "1")
            self.assertEqual(self.items[-1].data, b"1")
            client.abort()
            self.network.settle()

    def test_not_read(self) -> None:
        """A connection that is not read, because a subscription is slow, logs in when it is read again."""
        client = self.client()
        slow = self.subscribed(client.subscribe("a", max_messages=2, overflow="pause"))
        for number in range(6):
            self.publish("a", str(number))
        (node,) = (node for node in self.nodes if any(each.subscribed for each in node.connections))
        (connection,) = (each for each in node.connections if each.subscribed)
        self.current = NEW
        self.result_of(client.reauthenticate())
        self.advance(6.0)
        self.assertNotIn((node.index, connection.number, "new-secret"), self.again())
        self.assertEqual(self.of(LoginFailed), [])
        for number in range(6):
            self.assertEqual(self.next_item(slow).data, b"%d" % number)
        self.network.settle()
        self.assertIn((node.index, connection.number, "new-secret"), self.again())

    def test_timers(self) -> None:
        """Nothing is left of the logins of connections with subscriptions."""
        for protocol in (2, 3):
            for abort in (False, True):
                self.current = Credentials("app", "old-secret", expires_in=10)
                client = self.client(protocol=protocol)
                self.subscribed(client.subscribe("a", listener=self.items.append))
                self.leaves_nothing(client, abort=abort)

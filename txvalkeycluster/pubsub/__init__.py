"""Publish/subscribe: classic channels, patterns, sharded channels, and keyspace events.

- `subscription`: `Subscription`, what an application holds.
- `feed`: the items of one subscription on their way to it: a bounded buffer, or a listener.
- `upstream`: one channel or pattern of the cluster, shared by all feeds that want it; and its state at each node.
- `placement`: where channels belong and why they are lost, as functions of the slot map.
- `acknowledgement`: waits until the servers have confirmed channels, or have refused one.
- `delivery`: takes messages to the feeds.
- `hub`: `SubscriptionHub`, which knows what is subscribed where, and moves it when the slot map changes.
- `subscribe_requests`: sends the requests for that, again and again until a server has confirmed them.

Invariants:

- A message is delivered only between the server's confirmation of a channel and the report of its loss.  So a missing
  message always lies in a gap that was reported.
- A channel is subscribed at one node at a time.  The client stops the delivery from the old node before it sends the
  request to the new one.  So no message comes twice.
- Only `subscribe_requests` sends subscribe and unsubscribe requests, for the hub.  `routing.recovery` handles
  redirects, waiting and lost connections, as for every request.
"""

"""Connections: from an address to a socket that answers commands.

`factory.ClusterFactory` has one `node.NodeConnection` for each node.  A node goes through the states of `node.State`:
idle, dialling, ready, waiting to dial again, closed.  While a node is ready, it has one `protocol.RESPProtocol`, which
pairs replies with requests in the order in which the requests were sent.  A command that needs its own connection
leases one from the node's `exclusive_pool`.  For subscriptions, a node has a `subscriber.Subscriber` for each
`subscriber_group`, with the protocol of `subscriber_protocol`; `node_subscribers` makes them.

The other modules:

- `node_dialler` makes the connections to a node; `endpoints` dials, `tls` reads certificates, and `dial_backoff` says
  when to dial again.
- `login` gets the credentials, makes the `handshake`, and logs in again.
- `command_stream` is the part of the protocol that handles plain commands, `limited_stream` that with the limits.
- `write_scheduler` decides when queued commands are written.
- `raw_protocol` is a protocol that passes on the bytes of replies.
- `transport` is the part of the protocol that deals with the transport.
- `decoder` decodes replies to text.
- `connect_errors` explains why a connection could not be made.
- `forks` keeps forked child processes from using the sockets of their parent.

A further kind of connection belongs beside `NodeConnection.pool` and `NodeConnection.subscribers`.

A connection does not decide what happens to a routed request that failed.  The request decides, or the owner of the
connection (`listener.ConnectionListener`, `listener.NodeListener`).  This package does not know slots.
"""

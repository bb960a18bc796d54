"""Connections: from an address to a socket that answers commands.

`factory.ClusterFactory` has a `node.NodeConnection` for each node, which goes through the states of `node.State`:
idle, dialling, ready, waiting to dial again, closed.  While it is ready it has one `protocol.RESPProtocol`, which
pairs replies with requests in the order in which they were sent.  Commands that need a connection to themselves lease
one from the node's `exclusive_pool`.  `endpoints` dials, `handshake` logs in, and `write_scheduler` says when queued
commands are written.  `transport` is the protocol's side that faces the socket, `decoder` makes text of replies,
`direct_write` writes to plain sockets, `connect_errors` says why a node could not be connected to, and `forks` keeps
forked children from using the parent's sockets.  A further kind of connection goes beside `NodeConnection.pool`.

A connection does not decide what becomes of a routed request that failed: the request decides, or the connection's
owner (`listener.ConnectionListener`, `node.NodeListener`).  Slots are not known here.
"""

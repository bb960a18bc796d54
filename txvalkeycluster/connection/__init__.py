"""Connections: from an address to a socket that answers commands.

`factory.ClusterFactory` has a `node.NodeConnection` for each node, which goes through the states of `node.State`: idle,
dialling, ready, waiting to dial again, closed.  While it is ready it has one `protocol.RESPProtocol`, which pairs
replies with requests in the order in which they were sent.  Commands that need a connection to themselves lease one
from the node's `exclusive_pool`.  `endpoints` dials, `handshake` logs in, and `write_scheduler` says when queued
commands are written.

A connection never decides what becomes of a request that failed: it hands it up, through `protocol.ConnectionListener`
and `node.NodeListener`.  Slots are not known here.
"""

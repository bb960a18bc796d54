"""The record of a command on its way, and the places where it can wait.

A `request.Request` is packed once and ends exactly once: with a reply, an error, or because its caller has cancelled
it.  It is in one place at any time: the queue of a connection, of a node or of its exclusive pool (`pending_queue`),
or one where it waits for a server, an owner of its slot or a definition (`retry_queue`).  Each place ends what is past
its deadline, with one timer (`deadlines`).  A request that has ended is passed over wherever it is found.

`target` says where a request goes.  `batch` is many commands sent to one node as one request, `exclusive` commands on
a connection of their own.  `fast_deferred` is the Deferred that callers hold, `drain` the wait for all that is left
when a client closes, `backoff` the pause before something is tried again, `later_calls` what is done in the next turn.
What an error means is decided in ``routing``.
"""

"""The record of a command on its way, and the places where the record can wait.

A `request.Request` is packed once.  It ends exactly once: with a reply, with an error, or because its caller cancelled
it.  At any time it is in one place: on a connection, in the queue of a node or of the node's exclusive pool
(`pending_queue`), or in a retry queue (`retry_queue`), where it waits for a server, for an owner of its slot or for the
definition of its command.  Each place ends the requests that are past their deadline, with one timer (`deadlines`).
Code that finds a request that has ended skips it.

The other modules:

- `target` defines where a request goes; `interfaces` says what requests need of the places that they go to.
- `batch` sends many commands to one node as one request, and `raw_batch` many encoded requests of others.
- `exclusive` holds the requests that need their own connection, `internal` those of the client itself.
- `subscribe` holds the requests that change subscriptions.
- `delegated` holds the calls whose result comes from another Deferred.
- `fast_deferred` is the Deferred that callers get.
- `observed` is a call that reports its end.
- `thread_check` notices the use of a client in a wrong thread.
- `waits` is what all queues share; it notices commands that wait for long.
- `history` records what has happened to a request that did not succeed at once.
- `drain` waits for the requests that are left when a client closes.
- `backoff` is the pause before something is tried again.
- `later_calls` calls functions in the next turn of the reactor, and `timer` is the timer of this package.

This package does not decide what an error means; ``routing`` does.
"""

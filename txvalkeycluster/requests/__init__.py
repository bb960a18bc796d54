"""The record of a command on its way, and the places where it can wait.

A `request.Request` is packed once and ends exactly once: with a reply, an error, or because its caller has cancelled
it.  It is in one place at any time: the queue of a connection, of a node that is being dialled (`pending_queue`), or of
those that wait for a server to recover (`retry_queue`).  Each place ends what is past its deadline, with one timer
(`deadlines`).  A request that has ended is passed over wherever it is found.

`batch` has commands that go to one node as one, `fast_deferred` the Deferred that callers hold, `drain` the wait for
all that is left when a client closes.  What an error means is decided in ``routing``.
"""

"""The methods of the client for programs that pass on requests of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from ..options import DEFAULT
from ..requests.exclusive import RawBlockingCall
from ..routing.router import Router
from .batch import OnReplies, RelayBatch
from .lease import RelayLease, lease
from .single import blocking, transaction

if TYPE_CHECKING:
    from ..transaction import WatchSession


class RelayMethods:
    """Sends encoded requests."""

    _router: Router

    def _given(self, timeout: float | None) -> float | None:
        raise NotImplementedError

    def relay_batch(self) -> RelayBatch:
        """Return an empty batch of encoded requests, for `submit`."""
        return RelayBatch(self._router)

    def submit(
        self,
        batch: RelayBatch,
        on_replies: OnReplies,
        *,
        on_delay: Callable[[Any], object] | None = None,
        timeout: float | None = DEFAULT,
    ) -> Deferred[None] | None:
        r"""Send the encoded requests of a batch at once, as one record per node.

        Redirects, repetitions and deadlines are those of any other command.  This is for programs that pass on the
        requests of others: there is no Deferred and no check for each of them, and listeners of commands do not hear of
        them.

        Args:
            batch: The requests.  A batch can be submitted only once.
            on_replies: Called with a sequence of tags and one of as many replies, as they come.  The replies of one
                node come in order.  A reply is the server's own bytes with the option ``raw_replies``, else a value;
                or an error that `execute` lists.  An exception that it raises is logged.
            on_delay: Called once with the tag of a request that is redirected, refused, or has to wait, or that ends
                without a reply.  Requests that are submitted afterwards can be executed before it.  It must only take
                note of that.
            timeout: Seconds for each request.  None: no limit.  If not given, the option ``timeout`` applies.

        Returns:
            None if all nodes have room.  Else a Deferred: requests wait because the queue of their node is full, and it
            fires with None when all of them are sent or have ended.  They are sent in order, before later batches.

        Raises:
            WrongThread: This is not the thread of the reactor.
            RuntimeError: The batch was submitted before.

        Example:
            batch = client.relay_batch()
            batch.add("a tag", key_slot(b"key"), b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n")
            client.submit(batch, lambda tags, replies: print(tags, replies))
        """
        return batch.submit(on_replies, on_delay, self._given(timeout))

    def submit_transaction(
        self,
        requests: Sequence[bytes],
        slot: int | None,
        *,
        repeatable: bool = False,
        watch: WatchSession[Any] | None = None,
        timeout: float | None = DEFAULT,
    ) -> Deferred[Any]:
        r"""Send encoded requests as one transaction, with MULTI before and EXEC behind them.

        It is redirected and repeated as a whole, as that of `ClusterClient.transaction`.

        Args:
            requests: The encoded requests, in any number.  They are not checked.
            slot: The slot of all keys, 0 to 16383; None if there are no keys.
            repeatable: Whether it may be sent again if its reply is lost.
            watch: The session that watches keys, for a transaction that ends its watch.
            timeout: Seconds for the transaction.  None: no limit.  If not given, the option ``timeout`` applies.

        Returns:
            A Deferred that fires with the reply to EXEC: the server's own bytes with the option ``raw_replies``, else a
            list.  It fails with the errors of `Transaction.execute`; WatchError means that a watched key has changed.

        Raises:
            WrongThread: This is not the thread of the reactor.

        Example:
            incr = b"*2\r\n$4\r\nINCR\r\n$3\r\nkey\r\n"
            print(await client.submit_transaction([incr, incr], key_slot(b"key")))
        """
        self._router.factory.thread.check()
        return transaction(self._router, requests, slot, repeatable, watch, self._given(timeout))

    def submit_blocking(self, words: Sequence[bytes], slot: int, *, timeout: float | None = DEFAULT) -> RawBlockingCall:
        """Send a command that can block, for keys of one slot, on a connection of its own.

        Args:
            words: The name of the command and its arguments.  They are not checked.
            slot: The slot of its keys, 0 to 16383.
            timeout: Seconds after the time for which the command blocks until it fails with CommandTimeout.  None: no
                limit.  If not given, the option ``timeout`` applies.

        Returns:
            A Deferred that fires with the reply, as for `submit`: an error reply is a reply, too.  It fails as that of
            `ClusterClient.execute`.  `RawBlockingCall.unblock` ends the command before its time.

        Raises:
            WrongThread: This is not the thread of the reactor.
        """
        return blocking(self._router, words, slot, self._given(timeout))

    def lease(self, slot: int, *, timeout: float | None = DEFAULT) -> Deferred[RelayLease]:
        """Lease a connection to the owner of a slot, for programs that pass on MULTI, WATCH or blocking commands.

        Args:
            slot: The slot, 0 to 16383.
            timeout: Seconds to wait for a connection.  None: no limit.  If not given, the option ``timeout`` applies.

        Returns:
            A Deferred that fires with a `RelayLease`, which must be released.

        Raises:
            CommandTimeout: Through the Deferred: all connections are leased (``max_exclusive``), or the node cannot be
                reached.
            ClientClosed: Through the Deferred: the client is closed or aborted.
            ReplyError: Through the Deferred: the server refuses PING.
        """
        return Deferred.fromCoroutine(lease(self._router, slot, self._given(timeout)))

"""The client inside of a `BlockingClient`, with the reactor that it uses, in this process."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from threading import RLock
from typing import Any

from ..client import ClusterClient
from ..connection.forks import in_forked_children
from ..errors import ClientClosed
from ..options import options_of_client
from . import background


class Link:
    """A client in the reactor's thread, and the way to it.

    Everything that uses the client refers to its link.  If the last of them is garbage-collected, the client ends.
    """

    def __init__(self, url: str | None, options: dict[str, Any]) -> None:
        self._background = used = background.acquire()
        #: Leads to the reactor.
        self.bridge = used.bridge
        self._is_open = False
        try:
            #: The client.
            self.client: ClusterClient[Any] = used.bridge.run(partial(self._make, url, options))
            self._is_open = True
        finally:
            if not self._is_open:
                background.release(used)

    def _make(self, url: str | None, options: dict[str, Any]) -> ClusterClient[Any]:
        client = ClusterClient[Any](self.bridge.reactor, url, **options)
        self.bridge.schedulers.append(client._router.factory.write_scheduler)
        return client

    def _release(self) -> None:
        self.bridge.schedulers.remove(self.client._router.factory.write_scheduler)
        background.release(self._background)

    def end(self, how: Callable[[ClusterClient[Any]], Any], first: bool) -> None:
        """Close or abort the client; the first call gives the reactor back."""
        if first:
            self._is_open = False
        try:
            self.bridge.run(partial(how, self.client))
        except ClientClosed:
            # The reactor has stopped, and the connections with it.
            pass
        finally:
            if first:
                self._release()

    def forked(self) -> None:
        """Leave everything to the parent process."""
        self._is_open = False

    def __del__(self) -> None:
        if "_is_open" not in vars(self) or not self._is_open:
            return
        # The garbage collector may be at work in any thread, also in that of the reactor: nothing here may wait.
        used, client, schedulers = self._background, self.client, self.bridge.schedulers
        scheduler = client._router.factory.write_scheduler

        def release(_: object) -> None:
            schedulers.remove(scheduler)
            background.release(used)

        self.bridge.post(lambda: client.abort().addBoth(release))
        if client._router.connected and not self.bridge.ended:
            text = f"<BlockingClient {client!r}> was garbage-collected without close() or abort()"
            warnings.warn(text, ResourceWarning, 2, self)


class Connection:
    """The link of a client and its views, which a forked child makes anew."""

    def __init__(self, url: str | None, options: dict[str, Any]) -> None:
        self._url = url
        self._options = options
        #: The options of the client.
        self.options = options_of_client(url, options)
        self._lock = RLock()
        self._closed = False
        self._link: Link | None = None
        self._parents: Link | None = None
        in_forked_children(self, Connection._forked)

    def __repr__(self) -> str:
        link = self._link
        seeds = ", ".join(map(str, self.options.seeds))
        return f"{seeds} not connected" if link is None else repr(link.client)

    def get(self) -> Link:
        """Return the link of this process."""
        link = self._link
        return self._open() if link is None or self._closed else link

    def last(self) -> Link:
        """Return the link of this process, also if the client is closed."""
        return self._link or self._open()

    def _open(self) -> Link:
        with self._lock:
            if self._closed:
                raise ClientClosed("the client is closed")
            if self._link is None:
                self._link, self._parents = Link(self._url, self._options), None
            return self._link

    def end(self, how: Callable[[ClusterClient[Any]], Any]) -> None:
        """Close or abort the client.  Every call waits for the end, and the first gives the reactor back."""
        link = self._link
        if link is not None:
            link.bridge.check_thread()
        with self._lock:
            first, self._closed = not self._closed, True
            link = self._link
        if link is not None:
            link.end(how, first)

    def _forked(self) -> None:
        # Another thread of the parent may have held the lock.
        self._lock = RLock()
        if self._link is not None:
            # Its sockets are closed in a moment.
            self._parents, self._link = self._link, None
            self._parents.forked()

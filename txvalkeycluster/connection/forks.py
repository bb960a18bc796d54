"""Forked children: they have the parent's sockets, and what they send there would be answered to the parent."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

# What to call in a child, by whom it is for.
_in_children: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def in_forked_children(owner: Any, function: Callable[[Any], None]) -> None:
    """Have ``function`` called with ``owner`` in every child that this process forks, as long as ``owner`` lives."""
    _in_children[owner] = function


def _forked() -> None:
    for owner, function in list(_in_children.items()):
        function(owner)


def close_copy(transport: Any) -> None:
    """Close this process's copy of a transport's socket, without a word to the reactor, to TLS or to the peer."""
    while transport is not None and not hasattr(transport, "socket"):
        transport = getattr(transport, "transport", None)
    if transport is not None:
        # The reactor's poll is shared with the parent, too: to unregister there what is closed harms nobody.
        descriptor = transport.socket.detach()
        if descriptor >= 0:
            os.close(descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

"""Keep forked child processes from using the sockets of their parent.

A child has copies of the parent's sockets.  If the child sent a command there, the parent would get the reply.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

_T = TypeVar("_T")

# The functions to call in a child, by owner.
_in_children: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def in_forked_children(owner: _T, function: Callable[[_T], None]) -> None:
    """Register a function to be called in every child process that this process forks.

    Args:
        owner: The argument of the call.  The registration ends when the owner is garbage-collected.
        function: Called in the child, right after the fork.  It must not hold a reference to the owner.
    """
    _in_children[owner] = function


def _forked() -> None:
    for owner, function in list(_in_children.items()):
        function(owner)


def below_tls(transport: Any, attribute: str) -> Any:
    """Return the transport with an attribute: this one, or one below its TLS; None if there is none.

    Args:
        transport: A transport.
        attribute: An attribute that TLS transports do not have.
    """
    while transport is not None and not hasattr(transport, attribute):
        transport = getattr(transport, "transport", None)
    return transport


def close_copy(transport: Any) -> None:
    """Close this process's copy of a socket.  The reactor, TLS and the peer do not notice it.

    Args:
        transport: The transport of the socket, or a TLS transport above it.
    """
    transport = below_tls(transport, "socket")
    if transport is not None:
        # The child shares the reactor's epoll set with the parent.  If the child later unregisters a descriptor that is
        # closed here, the parent's registration stays.
        descriptor = transport.socket.detach()
        if descriptor >= 0:
            os.close(descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

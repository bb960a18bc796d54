"""txvalkeycluster with Twisted's asyncio reactor on uvloop."""

from __future__ import annotations

from typing import Any

from .ours import connect

__all__ = ["REACTOR", "connect"]


def REACTOR() -> None:
    """Install the reactor."""
    import uvloop
    from twisted.internet import asyncioreactor

    install: Any = asyncioreactor.install
    install(uvloop.new_event_loop())

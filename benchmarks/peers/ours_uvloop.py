"""txvalkeycluster under Twisted's asyncio reactor on uvloop."""

from __future__ import annotations

from .ours import connect

__all__ = ["REACTOR", "connect"]


def REACTOR() -> None:
    """Install it."""
    import uvloop
    from twisted.internet.asyncioreactor import install

    install(uvloop.new_event_loop())

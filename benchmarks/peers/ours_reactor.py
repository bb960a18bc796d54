"""txvalkeycluster with its C extension and its reactor."""

from __future__ import annotations

from txvalkeycluster.epollreactor import install

from .ours import connect

__all__ = ["REACTOR", "connect"]

REACTOR = install

"""txvalkeycluster without its C extension, and with its reactor, which is Python as well."""

from __future__ import annotations

from . import ours_pure
from .ours_reactor import REACTOR

__all__ = ["REACTOR", "connect"]

connect = ours_pure.connect

"""txvalkeycluster without its C extension."""

from __future__ import annotations

import os

# Before the package is imported.
os.environ["TXVALKEYCLUSTER_PURE_PYTHON"] = "1"

from .ours import REACTOR, connect

__all__ = ["REACTOR", "connect"]

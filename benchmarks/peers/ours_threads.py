"""txvalkeycluster for threads, with default options."""

from __future__ import annotations

from typing import Any

from txvalkeycluster import blocking

from . import Addresses


def connect_blocking(addresses: Addresses) -> Any:
    """Connect to the cluster."""
    host, port = addresses[0]
    return blocking.connect(f"valkey://{host}:{port}")

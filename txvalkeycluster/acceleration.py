"""Loads the C extension `_fast`, which runs the hot path of a command.

The extension is optional.  Where it is missing or switched off, the Python code does the same work with the same
results.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

#: The environment variable that switches the extension off, with any value but 0.
SWITCH = "TXVALKEYCLUSTER_PURE_PYTHON"


def _load() -> tuple[Any, str]:
    if os.environ.get(SWITCH, "0") not in ("", "0"):
        return None, f"switched off by {SWITCH}"
    try:
        return import_module("txvalkeycluster._fast"), ""
    except ImportError as error:
        return None, f"not installed: {error}"


#: The extension, or None; and why there is none.
fast, why_not = _load()


def give_up(why: str) -> None:
    """Do not use the extension, although it could be loaded."""
    global fast, why_not
    fast, why_not = None, why


def describe() -> str:
    """Return whether the extension is used, for people."""
    return "with the C extension" if fast is not None else f"without the C extension ({why_not})"

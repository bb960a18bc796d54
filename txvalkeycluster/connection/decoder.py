"""Decode replies to text.

The hiredis reader does not decode, because a change of its encoding can take effect in the middle of a reply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..options import Options


def decoder(options: Options) -> Callable[[Any], Any] | None:
    """Make the function that decodes replies.

    Args:
        options: ``encoding`` and ``encoding_errors`` are used.

    Returns:
        A function that takes a reply and returns it with all bytes decoded, at every depth.  None if the client has
        no encoding.  The function raises whatever the codec raises.
    """
    encoding, errors = options.encoding, options.encoding_errors
    if encoding is None:
        return None

    def decoded(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode(encoding, errors)
        if isinstance(value, list):
            return [decoded(item) for item in value]
        if isinstance(value, dict):
            return {decoded(name): decoded(item) for name, item in value.items()}
        return value

    return decoded

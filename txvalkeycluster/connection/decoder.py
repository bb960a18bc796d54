"""Replies as text: above the reader, whose own decoding can change in the middle of a reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..options import Options


def decoder(options: Options) -> Callable[[Any], Any] | None:
    """Decodes every bytes of a reply; None if the client has no encoding."""
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

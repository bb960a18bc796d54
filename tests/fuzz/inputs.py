"""Random inputs: valid inputs with damage, and replies with the grammar of RESP and random contents."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterator
from random import Random
from traceback import format_exc
from typing import Any

INPUTS = int(os.environ.get("TXVALKEYCLUSTER_FUZZ", "10000"))
SEED = int(os.environ.get("TXVALKEYCLUSTER_SEED", "2026"))

# Values, and bytes on the wire, that have broken parsers before.
_ODD_VALUES: list[Callable[[], Any]] = [
    lambda: None,
    lambda: True,
    lambda: -1,
    lambda: 0,
    lambda: 65536,
    lambda: 1 << 62,
    lambda: -(1 << 62),
    lambda: 0.5,
    lambda: float("inf"),
    lambda: float("nan"),
    lambda: b"",
    lambda: b"?",
    lambda: b"\xff\x00\n",
    lambda: b"9" * 5000,
    lambda: b"x" * 70_000,
    list,
    dict,
    lambda: nested(990),
    lambda: [nested(985)] * 3,
    lambda: {b"id": {b"id": [1]}},
]
_ODD_BYTES = (
    b"\r\n", b"\n", b"", b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"*0\r\n", b"%0\r\n", b":9223372036854775808\r\n",
    b",nan\r\n", b",1e400\r\n", b"#t\r\n", b"=5\r\ntxt:a\r\n", b"!5\r\nERR a\r\n", b">2\r\n+a\r\n+b\r\n",
    b"%1\r\n*0\r\n+x\r\n", b"-\r\n", b"*1\r\n" * 990, b"*1\r\n" * 1100, b"(" + b"9" * 5000 + b"\r\n",
    b":" + b"9" * 5000 + b"\r\n", b"$99999999999\r\n", b"*1000\r\n",
    b"\x15\x03\x01\x00\x02\x02\x46", b"HTTP/1.1 400 Bad Request\r\n\r\n",
)  # fmt: skip
# hiredis allocates memory for the declared number of items, so the numbers are limited.
_DECLARED = re.compile(rb"([*%~>|]\d{5})\d+")
_TYPES = b"+-:$*%~>,#(=_!|"


def for_inputs(share: float, name: str, check: Callable[[Random], object]) -> None:
    """Call ``check`` for each input of a test.

    Args:
        share: The inputs of this test, in percent of all.
        name: The name of the test in errors; the seed depends on it.
        check: Makes an input with the given Random, and checks what it causes.

    Raises:
        AssertionError: ``check`` raised.  The error has the number of the input.
    """
    for number in range(max(1, round(INPUTS * share / 100))):
        try:
            check(Random(f"{SEED} {name} {number}"))
        except Exception:
            raise AssertionError(f"input {number} of {name}, seed {SEED}:\n{format_exc()}") from None


def nested(depth: int) -> Any:
    """Return lists in lists, so many levels deep."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def wire(value: Any) -> bytes:
    """Return a value in RESP3."""
    if value is None:
        return b"_\r\n"
    if isinstance(value, bool):
        return b"#t\r\n" if value else b"#f\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, float):
        return b",%b\r\n" % repr(value).encode()
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, dict):
        return b"%%%d\r\n%b" % (len(value), b"".join(wire(word) for pair in value.items() for word in pair))
    opened = 0
    # A loop instead of recursion: the lists may be nested deeply.
    while isinstance(value, list) and len(value) == 1:
        opened, value = opened + 1, value[0]
    inner = b"*%d\r\n%b" % (len(value), b"".join(map(wire, value))) if isinstance(value, list) else wire(value)
    return b"*1\r\n" * opened + inner


def damaged_bytes(random: Random, data: bytes) -> bytes:
    """Return bytes with a few random changes: bits flipped, bytes removed, repeated, moved or replaced."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        start = random.randrange(len(data) + 1)
        end = min(len(data), start + random.choice((1, 1, 2, 5, 20, 100)))
        piece, other = data[start:end], random.randrange(len(data) + 1)
        change = random.randrange(8)
        if change == 0 and piece:
            data = data[:start] + bytes([piece[0] ^ 1 << random.randrange(8)]) + data[start + 1 :]
        elif change == 1:
            data = data[:start] + data[end:]
        elif change == 2:
            data = data[:start] + piece * random.randrange(2, 5) + data[end:]
        elif change == 3:
            data = data[:other] + piece + data[other:]
        elif change == 4:
            data = data[:start] + random.randbytes(random.randrange(1, 9)) + data[end:]
        elif change == 5:
            data = data[:start] + random.choice(_ODD_BYTES) + data[end:]
        elif change == 6:
            data = data[:start] + bytes([random.choice(_TYPES)]) + data[start + 1 :]
        else:
            data = data[:start] + b"%d" % random.choice((-1, 0, 1, 3, 99, 16384, 65536, 1 << 63)) + data[end:]
    return _DECLARED.sub(rb"\1", data)


def damaged_text(random: Random, text: str) -> str:
    """Return text with a few random changes."""
    return damaged_bytes(random, text.encode("utf-8", "surrogatepass")).decode("utf-8", "backslashreplace")


def damaged_value(random: Random, value: Any) -> Any:
    """Return a copy of a value with a few random changes at any depth: items removed, repeated, moved or replaced."""
    box = [copy.deepcopy(value)]
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        _damage(random, random.choice(list(_containers(box))))
    return box[0]


def _containers(box: Any) -> Iterator[Any]:
    found = [box]
    while found:
        container = found.pop()
        if len(container):
            yield container
        items = container.values() if isinstance(container, dict) else container
        found += [item for item in items if isinstance(item, (list, dict)) and not _is_deep(item)]


def _is_deep(value: Any) -> bool:
    for _ in range(50):
        if not isinstance(value, list) or not value:
            return False
        value = value[0]
    return True


def _damage(random: Random, container: Any) -> None:
    places = list(container) if isinstance(container, dict) else range(len(container))
    one, other = random.choice(places), random.choice(places)
    change = random.randrange(6)
    if change == 0 and len(places) > 1:
        del container[one]
    elif change == 1:
        container[one], container[other] = container[other], container[one]
    elif change == 2 and isinstance(container, list):
        container += container[one : one + 3] * random.choice((1, 1, 2, 50))
    elif change == 3 and isinstance(container[one], bytes):
        container[one] = damaged_bytes(random, container[one])
    elif change == 4 and type(container[one]) is int:
        container[one] += random.choice((-1, 1, 100, -(1 << 40), 1 << 40))
    else:
        container[one] = random.choice(_ODD_VALUES)()


def any_reply(random: Random, depth: int = 0) -> bytes:
    """Return a complete random reply in RESP."""
    kind = random.choice(_TYPES if depth < 4 else b"+-:$,#_")
    sign = bytes([kind])
    if sign in b"+-":
        texts = (b"OK", b"", b"QUEUED", b"ERR no", b"MOVED 1 h:1", b"ASK 5 :7000", b"LOADING x", b"\xff")
        return sign + random.choice(texts) + b"\r\n"
    if sign in b":(":
        return sign + b"%d\r\n" % random.choice((0, 1, -1, 7000, 1 << 40))
    if sign == b",":
        return sign + random.choice((b"1.5", b"inf", b"-inf", b"nan", b"1e308", b"x")) + b"\r\n"
    if sign == b"#":
        return random.choice((b"#t\r\n", b"#f\r\n", b"#x\r\n"))
    if sign == b"_":
        return b"_\r\n"
    if sign in b"$!=":
        text = (b"txt:" if sign == b"=" else b"") + random.randbytes(random.randrange(6))
        return sign + b"%d\r\n%b\r\n" % (len(text), text)
    count = random.choice((0, 1, 1, 2, 3, 5))
    of_pairs = sign in b"%|"
    return sign + b"%d\r\n" % count + b"".join(any_reply(random, depth + 1) for _ in range(count * (1 + of_pairs)))


def in_chunks(random: Random, data: bytes) -> Iterator[bytes]:
    """Yield bytes in random pieces, as reads from a socket may bring them."""
    most = random.choice((1, 3, 10, 100, 10_000)) if len(data) < 2000 else 10_000
    while data:
        size = random.randrange(1, most + 1)
        yield data[:size]
        data = data[size:]

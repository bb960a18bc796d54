"""Replies of COMMAND INFO as servers send them, and functions that build them."""

from typing import Any

from txvalkeycluster.commands import Command, KeySpec

#: The kind and the fields of one part of a key specification.
Part = tuple[str, dict[str, Any]]

STREAMS = KeySpec(1, b"STREAMS", last=-1, limit=2)
INDEX: Part = ("index", {"index": 1})
ONE: Part = ("range", {"lastkey": 0, "keystep": 1, "limit": 0})
RANGE: Part = ("range", {"lastkey": -1, "keystep": 2, "limit": 0})


def keys(spec: KeySpec | tuple[KeySpec, ...], *args: Any) -> list[Any]:
    specs = spec if isinstance(spec, tuple) else (spec,)
    return list(Command("X", key_specs=specs).keys(args))


def spec_reply(begin: Part, find: Part) -> dict[bytes, Any]:
    """Return a key specification in its RESP3 form."""

    def part(kind: str, spec: dict[str, Any]) -> dict[bytes, Any]:
        return {b"type": kind.encode(), b"spec": {name.encode(): value for name, value in spec.items()}}

    return {b"flags": [b"RW"], b"begin_search": part(*begin), b"find_keys": part(*find)}


def entry(
    name: str, *specs: Any, flags: tuple[str, ...] = (), tips: tuple[str, ...] = (), subs: tuple[Any, ...] = ()
) -> list[Any]:
    """Return an entry of COMMAND as servers send it since version 7.0."""
    wire = [[text.encode() for text in texts] for texts in (flags, tips)]
    return [name.encode(), -2, wire[0], 0, 0, 0, [b"@read"], wire[1], list(specs), list(subs)]


def flat(value: Any) -> Any:
    """Return the RESP2 form of a reply, with flat lists in place of maps."""
    if isinstance(value, dict):
        return [flat(item) for pair in value.items() for item in pair]
    return [flat(item) for item in value] if isinstance(value, list) else value


REPLY: list[Any] = [
    entry("mset", spec_reply(INDEX, RANGE), flags=("write",), tips=("request_policy:multi_shard",)),
    entry(
        "xread",
        spec_reply(
            ("keyword", {"keyword": b"streams", "startfrom": 1}), ("range", {"lastkey": -1, "keystep": 1, "limit": 2})
        ),
        flags=("readonly", "blocking", "movablekeys"),
    ),
    entry(
        "eval", spec_reply(("index", {"index": 2}), ("keynum", {"keynumidx": 0, "firstkey": 1, "keystep": 1})),
        flags=("noscript",),
    ),
    entry("sort", spec_reply(INDEX, ONE), spec_reply(("unknown", {}), ("unknown", {}))),
    entry(
        "object",
        subs=(
            entry("object|encoding", spec_reply(("index", {"index": 2}), RANGE), flags=("readonly",)),
            entry("object|help"),
        ),
    ),
    entry("flushall", tips=("request_policy:all_shards", "response_policy:all_succeeded", "nondeterministic_output")),
]  # fmt: skip

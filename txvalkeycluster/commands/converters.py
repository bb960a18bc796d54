"""Replies as natural Python values, the same from RESP2 and RESP3.

A converter takes a reply and gives what its method's annotation says.  What RESP3 made a dict or a float of already
passes through; the flat arrays and number texts of RESP2 become the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ProtocolError

Convert = Callable[[Any], Any]


def converted(reply: Any, convert: Convert) -> Any:
    """A reply as its method gives it.  Raises ProtocolError for one that has not the shape of the command's replies."""
    try:
        return convert(reply)
    except Exception as error:
        raise ProtocolError(f"the reply does not have the form of this command's replies: {error!r:.200}") from error


def number(reply: Any) -> Any:
    """A float out of its text."""
    return float(reply) if isinstance(reply, (bytes, str)) else reply


def list_of(item: Convert) -> Convert:
    """A list, each item converted."""

    def convert(reply: Any) -> Any:
        return [item(element) for element in reply] if isinstance(reply, list) else reply

    return convert


def as_set(reply: Any) -> Any:
    """A set; RESP3's own arrive as lists."""
    return set(reply) if isinstance(reply, list) else reply


def row(*items: Convert | None, rest: Convert | None = None) -> Convert:
    """A list of a fixed order, each place converted in its own way; ``rest`` is for what follows."""

    def convert(reply: Any) -> Any:
        if not isinstance(reply, list):
            return reply
        row = list(reply)
        for place, value in enumerate(row):
            how = items[place] if place < len(items) else rest
            if how is not None:
                row[place] = how(value)
        return row

    return convert


def mapping(value: Convert | None = None, fields: Mapping[str, Convert] | None = None) -> Convert:
    """A dict; ``fields`` are converted in ways of their own, all others by ``value``."""

    def convert(reply: Any) -> Any:
        if isinstance(reply, list):
            reply = dict(zip(reply[::2], reply[1::2], strict=True))
        if not isinstance(reply, dict) or (value is None and not fields):
            return reply
        return {name: _converted(item, _of(name, fields) or value) for name, item in reply.items()}

    return convert


def _of(name: Any, fields: Mapping[str, Convert] | None) -> Convert | None:
    return fields.get(name if isinstance(name, str) else name.decode("utf-8", "replace")) if fields else None


def _converted(item: Any, how: Convert | None) -> Any:
    return item if how is None else how(item)


plain_mapping = mapping()


def nested_mapping(reply: Any) -> Any:
    """A dict, and dicts for the arrays in it that hold names and values; numbers in text become floats.

    MEMORY STATS has one for each database, under names that no schema lists.
    """
    if isinstance(reply, list):
        return nested_mapping(plain_mapping(reply))
    if isinstance(reply, dict):
        return {name: nested_mapping(item) for name, item in reply.items()}
    try:
        return number(reply)
    except ValueError:
        return reply


def pair(*items: Convert | None) -> Convert:
    """A tuple out of a list of that many items."""
    as_row = row(*items)

    def convert(reply: Any) -> Any:
        return tuple(as_row(reply)) if isinstance(reply, list) else reply

    return convert


def pairs(second: Convert | None = None) -> Convert:
    """A list of tuples of two: RESP2 sends them flat, RESP3 mostly nested."""
    one = pair(None, second)

    def convert(reply: Any) -> Any:
        if not isinstance(reply, list):
            return reply
        if not reply or isinstance(reply[0], list):
            return [one(item) for item in reply]
        return [one(list(item)) for item in zip(reply[::2], reply[1::2], strict=True)]

    return convert


def by_node(value: Convert) -> Convert:
    """What several nodes replied, by node, each reply converted."""

    def convert(reply: Any) -> Any:
        return {node: value(item) for node, item in reply.items()}

    return convert


as_tuple = pair()
flat_pairs = pairs()
scanned = pair()
scanned_pairs = pair(None, flat_pairs)
scored = pairs(number)
scanned_scores = pair(None, scored)
scored_pair = pair(None, number)
popped_keyed = pair(None, None, number)
scored_of_key = pair(None, scored)


def popped(reply: Any) -> Any:
    """Of ZPOPMIN without a count: a tuple of member and score, or None if there is no member."""
    return scored_pair(reply) if reply else None


def entry(reply: Any) -> Any:
    """Of a stream: a tuple of id and fields; fields are None where the entry is gone."""
    return None if reply is None else (reply[0], plain_mapping(reply[1]))


def entries(reply: Any) -> Any:
    """Of a stream; XCLAIM JUSTID has ids alone."""
    return [entry(item) if item is None or isinstance(item, list) else item for item in reply] if reply else reply


def streams(reply: Any) -> Any:
    """Entries by stream: RESP2 sends pairs."""
    if isinstance(reply, list):
        reply = {item[0]: item[1] for item in reply}
    return {key: entries(items) for key, items in reply.items()} if reply else {}


autoclaimed = pair(None, entries, None)
coordinates = pair(number, number)
located = row(None, rest=coordinates)


def stream_groups(reply: Any) -> Any:
    """Of XINFO STREAM: a number, or with FULL the groups and their consumers."""
    group = mapping(fields={"consumers": list_of(plain_mapping)})
    return list_of(group)(reply)


def command_docs(reply: Any) -> Any:
    """Of COMMAND DOCS, which nests itself."""
    argument = mapping(fields={"arguments": lambda inner: list_of(argument)(inner)})
    command = mapping(fields={"arguments": list_of(argument), "subcommands": command_docs})
    return mapping(command)(reply)


def command_info(reply: Any) -> Any:
    """Of COMMAND and COMMAND INFO, whose entries hold key specifications and, last, such entries again."""
    search = mapping(fields={"spec": plain_mapping})
    specs = list_of(mapping(fields={"begin_search": search, "find_keys": search}))
    return list_of(row(*[None] * 8, specs, command_info))(reply)


def function_stats(reply: Any) -> Any:
    """Of FUNCTION STATS."""
    return mapping(fields={"running_script": plain_mapping, "engines": mapping(plain_mapping)})(reply)

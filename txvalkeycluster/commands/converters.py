"""Converters: they turn replies into Python values, the same for RESP2 and RESP3.

A converter takes a reply and returns the type in the annotation of the method.  RESP3 already sends maps and floats: a
converter returns them unchanged.  RESP2 sends flat lists and texts instead, which the converter converts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ProtocolError

#: A converter.  A reply can have any type.
Convert = Callable[[Any], Any]


def converted(reply: Any, convert: Convert) -> Any:
    """Convert a reply.

    Args:
        reply: The reply of the server.
        convert: The converter of the method.

    Returns:
        The converted reply.

    Raises:
        ProtocolError: The reply does not have the form that the command's replies have.
    """
    try:
        return convert(reply)
    except Exception as error:
        raise ProtocolError(f"the reply does not have the form of this command's replies: {error!r:.200}") from error


def number(reply: Any) -> Any:
    """Convert text to a float."""
    return float(reply) if isinstance(reply, (bytes, str)) else reply


def list_of(item: Convert) -> Convert:
    """Return a converter of lists that converts each item with ``item``."""

    def convert(reply: Any) -> Any:
        return [item(element) for element in reply] if isinstance(reply, list) else reply

    return convert


def as_set(reply: Any) -> Any:
    """Convert a list to a set.  The decoder reads a RESP3 set as a list."""
    return set(reply) if isinstance(reply, list) else reply


def row(*items: Convert | None, rest: Convert | None = None) -> Convert:
    """Return a converter of lists that have a fixed order.

    Args:
        *items: One converter for each position; None leaves the value unchanged.
        rest: The converter of all further positions.

    Returns:
        The converter.
    """

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
    """Return a converter to dicts.

    Args:
        value: The converter of the values; None leaves them unchanged.
        fields: Converters of the fields with these names.  They replace ``value``.

    Returns:
        The converter.
    """

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


#: To a dict.
plain_mapping = mapping()


def nested_mapping(reply: Any) -> Any:
    """Convert nested lists of names and values to nested dicts, and numbers in text to floats.

    For MEMORY STATS, which has one inner list for each database, with names that the schema does not list.
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
    """Return a converter of lists to tuples; ``items`` are those of `row`."""
    as_row = row(*items)

    def convert(reply: Any) -> Any:
        return tuple(as_row(reply)) if isinstance(reply, list) else reply

    return convert


def pairs(second: Convert | None = None) -> Convert:
    """Return a converter to lists of pairs.

    RESP2 sends a flat list.  RESP3 usually sends a nested one.

    Args:
        second: The converter of the second value of each pair.

    Returns:
        The converter.
    """
    one = pair(None, second)

    def convert(reply: Any) -> Any:
        if not isinstance(reply, list):
            return reply
        if not reply or isinstance(reply[0], list):
            return [one(item) for item in reply]
        return [one(list(item)) for item in zip(reply[::2], reply[1::2], strict=True)]

    return convert


def by_node(value: Convert) -> Convert:
    """Return a converter of the dicts of replies by node; ``value`` converts each reply."""

    def convert(reply: Any) -> Any:
        return {node: value(item) for node, item in reply.items()}

    return convert


#: To a tuple.
as_tuple = pair()
#: To a list of pairs.
flat_pairs = pairs()
#: To a tuple of a cursor and a list of items.
scanned = pair()
#: To a tuple of a cursor and a list of pairs.
scanned_pairs = pair(None, flat_pairs)
#: To a list of pairs of member and score.
scored = pairs(number)
#: To a tuple of a cursor and a list of pairs of member and score.
scanned_scores = pair(None, scored)
#: To a tuple of member, or rank, and score.
scored_pair = pair(None, number)
#: To a tuple of key, member and score.
popped_keyed = pair(None, None, number)
#: To a tuple of a key and a list of pairs of member and score.
scored_of_key = pair(None, scored)


def popped(reply: Any) -> Any:
    """Convert a reply of ZPOPMIN without a count to a tuple of member and score; None if there is no member."""
    return scored_pair(reply) if reply else None


def entry(reply: Any) -> Any:
    """Convert a stream entry to a tuple of its id and its fields; the fields of a deleted entry are None."""
    return None if reply is None else (reply[0], plain_mapping(reply[1]))


def entries(reply: Any) -> Any:
    """Convert a list of stream entries.  XCLAIM with JUSTID sends ids instead, which stay unchanged."""
    return [entry(item) if item is None or isinstance(item, list) else item for item in reply] if reply else reply


def streams(reply: Any) -> Any:
    """Convert to a dict of stream entries by stream.  RESP2 sends pairs instead of a map."""
    if isinstance(reply, list):
        reply = {item[0]: item[1] for item in reply}
    return {key: entries(items) for key, items in reply.items()} if reply else {}


#: To a tuple of a cursor, the claimed entries, and the ids of the deleted entries.
autoclaimed = pair(None, entries, None)
#: To a tuple of longitude and latitude.
coordinates = pair(number, number)
#: To a list of a member, and what was asked for it: distance, hash, coordinates.
located = row(None, rest=coordinates)


def stream_groups(reply: Any) -> Any:
    """Convert the groups in a reply of XINFO STREAM: a number, or the groups and consumers with FULL."""
    group = mapping(fields={"consumers": list_of(plain_mapping)})
    return list_of(group)(reply)


def command_docs(reply: Any) -> Any:
    """Convert a reply of COMMAND DOCS.  The entries of subcommands are nested in it."""
    argument = mapping(fields={"arguments": lambda inner: list_of(argument)(inner)})
    command = mapping(fields={"arguments": list_of(argument), "subcommands": command_docs})
    return mapping(command)(reply)


def command_info(reply: Any) -> Any:
    """Convert a reply of COMMAND or COMMAND INFO.  The last item of an entry holds the entries of its subcommands."""
    search = mapping(fields={"spec": plain_mapping})
    specs = list_of(mapping(fields={"begin_search": search, "find_keys": search}))
    return list_of(row(*[None] * 8, specs, command_info))(reply)


def function_stats(reply: Any) -> Any:
    """Convert a reply of FUNCTION STATS."""
    return mapping(fields={"running_script": plain_mapping, "engines": mapping(plain_mapping)})(reply)

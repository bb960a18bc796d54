"""Chooses the return type and the converter of a method from the reply schema of its command."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from txvalkeycluster.commands.definition import Definition

#: The type and the converter of each known command.  A server does not send reply schemas, so they are stored here.
KNOWN = Path(__file__).with_name("replies.json")

_ENTRY = "tuple[Text, dict[Text, Text]]"
_ENTRIES = "list[tuple[Text, dict[Text, Text]]]"
_SCORED = "list[Text] | list[tuple[Text, float]]"
_LOCATED = "list[Any] | int"
# Commands whose schemas are ambiguous or incomplete.  A converter may depend on the parameters of the method.
_BY_HAND: dict[str, tuple[str, str | None]] = {
    **dict.fromkeys(
        ["ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZDIFF", "ZINTER", "ZUNION"],
        (_SCORED, "scored if withscores else None"),
    ),
    "ZRANDMEMBER": ("Text | list[Text] | list[tuple[Text, float]] | None", "scored if withscores else None"),
    "HRANDFIELD": ("Text | list[Text] | list[tuple[Text, Text]] | None", "flat_pairs if withvalues else None"),
    **dict.fromkeys(
        ["ZPOPMIN", "ZPOPMAX"],
        ("tuple[Text, float] | list[tuple[Text, float]] | None", "popped if count is None else scored"),
    ),
    **dict.fromkeys(["BZPOPMIN", "BZPOPMAX"], ("tuple[Text, Text, float] | None", "popped_keyed")),
    **dict.fromkeys(["ZMPOP", "BZMPOP"], ("tuple[Text, list[tuple[Text, float]]] | None", "scored_of_key")),
    **dict.fromkeys(["ZRANK", "ZREVRANK"], ("int | tuple[int, float] | None", "scored_pair")),
    **dict.fromkeys(["LMPOP", "BLMPOP"], ("tuple[Text, list[Text]] | None", "as_tuple")),
    **dict.fromkeys(["BLPOP", "BRPOP"], ("tuple[Text, Text] | None", "as_tuple")),
    **dict.fromkeys(["XRANGE", "XREVRANGE"], (_ENTRIES, "entries")),
    "XCLAIM": ("list[tuple[Text, dict[Text, Text]]] | list[Text]", "entries"),
    "XAUTOCLAIM": (f"tuple[Text, {_ENTRIES} | list[Text], list[Text]]", "autoclaimed"),
    "XREAD": (f"dict[Text, {_ENTRIES}]", "streams"),
    "XREADGROUP": ("dict[Text, list[tuple[Text, dict[Text, Text] | None]]]", "streams"),
    "XINFO STREAM": ("dict[Text, Any]", 'mapping(fields={"groups": stream_groups})'),
    **dict.fromkeys(["PUBSUB NUMSUB", "PUBSUB SHARDNUMSUB"], ("dict[Text, int]", "plain_mapping")),
    "MEMORY STATS": ("dict[Text, Any]", "nested_mapping"),
    "GEOPOS": ("list[tuple[float, float] | None]", "list_of(coordinates)"),
    **dict.fromkeys(["GEORADIUS", "GEORADIUSBYMEMBER"], (_LOCATED, "list_of(located)")),
    **dict.fromkeys(["GEORADIUS_RO", "GEORADIUSBYMEMBER_RO", "GEOSEARCH"], ("list[Any]", "list_of(located)")),
    **dict.fromkeys(["SCAN", "SSCAN", "CLUSTERSCAN"], ("tuple[Text, list[Text]]", "scanned")),
    "HSCAN": (
        "tuple[Text, list[tuple[Text, Text]] | list[Text]]",
        "scanned if novalues else scanned_pairs",
    ),
    "ZSCAN": (
        "tuple[Text, list[tuple[Text, float]] | list[Text]]",
        "scanned if noscores else scanned_scores",
    ),
    "WAITAOF": ("tuple[int, int]", "as_tuple"),
    "TIME": ("tuple[Text, Text]", "as_tuple"),
    # The schemas do not list the reply for a missing key or member.
    "GEOHASH": ("list[Text | None]", None),
    **dict.fromkeys(["OBJECT FREQ", "OBJECT IDLETIME", "OBJECT REFCOUNT"], ("int | None", None)),
    "COMMAND": ("list[Any]", "command_info"),
    "COMMAND DOCS": ("dict[Text, Any]", "command_docs"),
    "COMMAND INFO": ("list[Any]", "command_info"),
    "FUNCTION STATS": ("dict[Text, Any]", "function_stats"),
    "LCS": ("Text | int | dict[Text, Any]", "plain_mapping if idx else None"),
}


def reply_of(definition: Definition) -> tuple[str, str | None]:
    """Return the type and the converter of a command's reply.

    Args:
        definition: The command.

    Returns:
        The annotation of the reply, and the expression of the converter; None for a reply that is not converted.

    Raises:
        NotImplementedError: The schema has alternatives that need different converters.
    """
    known = _BY_HAND.get(definition.name)
    if known is None and definition.reply_schema is not None:
        sets = definition.group == "set"
        known = _type(definition.reply_schema, sets), _converter(definition.reply_schema, sets)
    type_, convert = known if known is not None else ("Any", None)
    if definition.command.response_policy == "special" and definition.command.request_policy in _MANY:
        return f"dict[str, {type_}]", f"by_node({convert})" if convert is not None else None
    return type_, convert


_MANY = ("all_nodes", "all_shards")


def remembered(definitions: Iterable[Definition]) -> dict[str, tuple[str, str | None]]:
    """Return the replies that `remember` has stored, for definitions without schemas.

    Args:
        definitions: The commands.

    Returns:
        The result of `reply_of` by command name.
    """
    known = json.loads(KNOWN.read_text())
    return {d.name: tuple(known[d.name]) if d.name in known else reply_of(d) for d in definitions}


def remember(replies: Mapping[str, tuple[str, str | None]]) -> None:
    """Store the results of `reply_of` for `remembered`."""
    lines = [f"{json.dumps(name)}: {json.dumps(reply)}" for name, reply in sorted(replies.items())]
    KNOWN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _alternatives(schema: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    return schema.get("oneOf") or schema.get("anyOf")


def _type(schema: Mapping[str, Any], sets: bool) -> str:
    if alternatives := _alternatives(schema):
        return _union(_type(alternative, sets) for alternative in alternatives)
    if "const" in schema:
        return "int" if isinstance(schema["const"], int) else "Text"
    kind = schema.get("type")
    if kind == "array":
        return f"{'builtins.set' if _is_set(schema, sets) else 'list'}[{_items_type(schema, sets)}]"
    if kind == "object":
        return f"dict[Text, {_values_type(schema, sets)}]"
    names = {"string": "Text", "integer": "int", "number": "float", "null": "None", "boolean": "bool"}
    return names.get(str(kind), "Text" if "enum" in schema else "Any")


def _union(types: Iterable[str]) -> str:
    parts = dict.fromkeys(part for type_ in types for part in _split(type_))
    if "Any" in parts:
        return "Any"
    none = parts.pop("None", "")
    return " | ".join([*parts, *(["None"] if none is None else [])])


def _split(type_: str) -> list[str]:
    """Split a union at its outer ``|`` operators."""
    parts, depth = [""], 0
    for character in type_:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _is_set(schema: Mapping[str, Any], sets: bool) -> bool:
    # Some schemas of ordered lists also say that the items are unique.  In RESP3 only the commands of sets send sets.
    return sets and bool(schema.get("uniqueItems"))


def _items_type(schema: Mapping[str, Any], sets: bool) -> str:
    items = schema.get("items")
    if isinstance(items, list):
        more = [schema["additionalItems"]] if isinstance(schema.get("additionalItems"), dict) else []
        return _union(_type(item, sets) for item in [*items, *more])
    return _type(items, sets) if items else "Any"


def _values_type(schema: Mapping[str, Any], sets: bool) -> str:
    types = {_type(value, sets) for value in _values(schema)}
    return types.pop() if len(types) == 1 else "Any"


def _values(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    more = schema.get("additionalProperties")
    patterns = schema.get("patternProperties", {}).values()
    return [*schema.get("properties", {}).values(), *patterns, *([more] if isinstance(more, dict) else [])]


def _converter(schema: Mapping[str, Any], sets: bool) -> str | None:
    if alternatives := _alternatives(schema):
        found = {_converter(alternative, sets) for alternative in alternatives} - {None}
        if "number" in found and any(alternative.get("type") == "string" for alternative in alternatives):
            found.discard("number")
        if len(found) > 1:
            raise NotImplementedError(f"alternatives need {', '.join(map(str, found))}; add the command to _BY_HAND")
        return found.pop() if found else None
    kind = schema.get("type")
    if kind == "number":
        return "number"
    if kind == "array":
        return "as_set" if _is_set(schema, sets) else _array_converter(schema, sets)
    return _mapping_converter(schema, sets) if kind == "object" else None


def _array_converter(schema: Mapping[str, Any], sets: bool) -> str | None:
    items, more = schema.get("items"), schema.get("additionalItems")
    if isinstance(items, list):
        places = [_converter(item, sets) for item in items]
        rest = _converter(more, sets) if isinstance(more, dict) else None
        if not any(places) and rest is None:
            return None
        return f"row({', '.join([*map(str, places), *([f'rest={rest}'] if rest else [])])})"
    inner = _converter(items, sets) if items else None
    return f"list_of({inner})" if inner else None


def _mapping_converter(schema: Mapping[str, Any], sets: bool) -> str:
    fields = {name: _converter(value, sets) for name, value in schema.get("properties", {}).items()}
    inner = [f'"{name}": {convert}' for name, convert in fields.items() if convert]
    rest = {_converter(value, sets) for value in _values({**schema, "properties": {}})} - {None}
    given = [*sorted(map(str, rest)), *([f"fields={{{', '.join(inner)}}}"] if inner else [])]
    return f"mapping({', '.join(given)})" if given else "plain_mapping"

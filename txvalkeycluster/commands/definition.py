"""Reads commands from JSON: Valkey's own ``src/commands``, and files of modules in the same form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .arguments import Argument, DefinitionError, argument_from, arity_of, key_specs_of, member
from .model import Command, KeySpec

#: Flags that do not describe what a command does on a data node.  COMMAND does not list them either.
UNSHOWN_FLAGS = frozenset(
    ["all_dbs", "may_replicate", "movablekeys", "only_sentinel", "protected", "sentinel", "touches_arbitrary_keys"]
)


@dataclass(frozen=True, slots=True)
class Definition:
    """A command with the facts that its method and its documentation need."""

    #: The command, for routing.
    command: Command
    #: Its arguments, without the name.
    arguments: tuple[Argument, ...] = ()
    #: What it does, in one or more sentences.
    summary: str = ""
    #: The first version of the server that has it, such as ``"6.0.0"``.
    since: str = ""
    #: The time complexity, as text.
    complexity: str = ""
    #: The version that deprecated it; None if it is not deprecated.
    deprecated_since: str | None = None
    #: The group of commands that it belongs to, such as ``"string"``.
    group: str = ""
    #: The JSON schema of its reply; None if the source has none.
    reply_schema: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The full name, such as ``CLIENT KILL``."""
        return self.command.name


def read_definitions(text: str, where: str) -> list[Definition]:
    """Read a JSON file.

    Args:
        text: The content of the file.
        where: The name of the file, for error texts.

    Returns:
        The definitions, without those of commands that only sentinels have.

    Raises:
        DefinitionError: The text is not JSON, or a field is wrong.  The error names the file and the field.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DefinitionError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise DefinitionError(f"{where}: {type(content).__name__}, not an object of commands by name")
    definitions: list[Definition] = []
    for name, raw in content.items():
        place = f"{where}: {name}"
        if not isinstance(raw, dict):
            raise DefinitionError(f"{place} is {type(raw).__name__}, not an object")
        flags = _flags(raw, place)
        if "only_sentinel" not in flags:
            definitions.append(_definition(name, raw, flags - UNSHOWN_FLAGS, place))
    return definitions


def assemble(definitions: Iterable[Definition]) -> list[Command]:
    """Put the subcommands into their container commands.

    Args:
        definitions: The definitions, in any order.

    Returns:
        The commands, sorted by name.

    Raises:
        DefinitionError: Two definitions have the same name.
    """
    found: dict[str, Command] = {}
    subcommands: dict[str, dict[str, Command]] = {}
    for definition in definitions:
        container, _, sub = definition.name.partition(" ")
        into = subcommands.setdefault(container, {}) if sub else found
        if (sub or container) in into:
            raise DefinitionError(f"{definition.name} is defined twice")
        into[sub or container] = definition.command
    for container, parts in subcommands.items():
        known = found.get(container, Command(container, arity=-2))
        found[container] = replace(known, subcommands=dict(sorted(parts.items())))
    return [found[name] for name in sorted(found)]


def _definition(name: str, raw: dict[str, Any], flags: frozenset[str], where: str) -> Definition:
    container = member(raw, "container", str, where, "")
    full_name = f"{container} {name}".strip().upper()
    raw_arguments = member(raw, "arguments", list, where, [])
    arguments = tuple(
        argument_from(argument, f"{where}.arguments[{index}]") for index, argument in enumerate(raw_arguments)
    )
    words = len(full_name.split())
    if "arity" not in raw and "arguments" not in raw:
        raise DefinitionError(f"{where}.arity is missing; give arity or arguments")
    arity = member(raw, "arity", int, where, None) or arity_of(arguments, words)
    if "key_specs" in raw or "function" in raw:
        specs = [
            _key_spec(spec, f"{where}.key_specs[{index}]")
            for index, spec in enumerate(member(raw, "key_specs", list, where, []))
        ]
    else:
        specs = list(key_specs_of(arguments, words, where))
    tips = dict(str(tip).lower().partition(":")[::2] for tip in member(raw, "command_tips", list, where, []))
    command = Command(
        full_name,
        flags,
        tuple(spec for spec in specs if spec is not None),
        tips.get("request_policy"),
        tips.get("response_policy"),
        arity=arity,
    )
    return Definition(
        command,
        arguments,
        summary=member(raw, "summary", str, where, ""),
        since=member(raw, "since", str, where, ""),
        complexity=member(raw, "complexity", str, where, ""),
        deprecated_since=member(raw, "deprecated_since", str, where, None),
        group=member(raw, "group", str, where, ""),
        reply_schema=member(raw, "reply_schema", dict, where, None),
    )


def _flags(raw: dict[str, Any], where: str) -> frozenset[str]:
    return frozenset(str(flag).lower() for flag in member(raw, "command_flags", list, where, []))


def _key_spec(raw: object, where: str) -> KeySpec | None:
    """Read a key specification; None if its positions are ``unknown``."""
    if not isinstance(raw, dict):
        raise DefinitionError(f"{where} is {type(raw).__name__}, not an object")
    begin, find = member(raw, "begin_search", dict, where), member(raw, "find_keys", dict, where)
    if "unknown" in begin or "unknown" in find:
        return None
    is_key = "NOT_KEY" not in member(raw, "flags", list, where, [])
    keyword: bytes | None = None
    if "index" in begin:
        start = member(begin["index"], "pos", int, f"{where}.begin_search.index")
    elif "keyword" in begin:
        keyword = member(begin["keyword"], "keyword", str, f"{where}.begin_search.keyword").upper().encode()
        start = member(begin["keyword"], "startfrom", int, f"{where}.begin_search.keyword")
    else:
        raise DefinitionError(f"{where}.begin_search has neither index, keyword nor unknown")
    if "range" in find:
        how, place = find["range"], f"{where}.find_keys.range"
        last, limit = member(how, "lastkey", int, place), member(how, "limit", int, place)
        return KeySpec(start, keyword, last=last, step=_step(how, place), limit=limit, is_key=is_key)
    if "keynum" in find:
        how, place = find["keynum"], f"{where}.find_keys.keynum"
        first, keynum = member(how, "firstkey", int, place), member(how, "keynumidx", int, place)
        return KeySpec(start, keyword, first=first, step=_step(how, place), keynum=keynum, is_key=is_key)
    raise DefinitionError(f"{where}.find_keys has neither range, keynum nor unknown")


def _step(how: Mapping[str, Any], where: str) -> int:
    step: int = member(how, "step", int, where)
    if step < 1:
        raise DefinitionError(f"{where}.step is {step}, but must be at least 1")
    return step

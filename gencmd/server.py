"""Reads definitions from the COMMAND and COMMAND DOCS replies of a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from txvalkeycluster.commands import Command, CommandTable, DefinitionError
from txvalkeycluster.commands.arguments import Argument, argument_from
from txvalkeycluster.commands.definition import Definition

_FLAGS = ("optional", "multiple", "multiple_token")
# COMMAND DOCS shows all tokens in upper case.  In the JSON files, these are in lower case.
_LOWER = {"m", "km", "ft", "mi", "slow", "large-request", "large-reply"}
_LOWER |= {"normal", "master", "primary", "slave", "replica", "pubsub"}


def definitions_from(commands: object, docs: Mapping[str, Any]) -> list[Definition]:
    """Make definitions of the two replies.

    Args:
        commands: The reply to COMMAND.
        docs: The reply to COMMAND DOCS, decoded to text.

    Returns:
        The definitions.  They have no reply schemas.

    Raises:
        ProtocolError: The reply to COMMAND is not valid.
        DefinitionError: The reply to COMMAND DOCS is not valid.
    """
    found: list[Definition] = []
    for command in CommandTable.from_reply(commands).commands:
        doc = docs.get(command.name.lower(), {})
        found += _with_subcommands(command, doc)
    return found


def _with_subcommands(command: Command, doc: Mapping[str, Any]) -> Iterator[Definition]:
    yield _definition(command, doc)
    inner = {name.replace("|", " ").upper(): sub for name, sub in doc.get("subcommands", {}).items()}
    for sub in command.subcommands.values():
        yield _definition(sub, inner.get(sub.name, {}))


def _definition(command: Command, doc: Mapping[str, Any]) -> Definition:
    arguments = tuple(
        _argument(raw, f"COMMAND DOCS: {command.name}.arguments[{index}]")
        for index, raw in enumerate(doc.get("arguments", []))
    )
    return Definition(
        command,
        arguments,
        summary=str(doc.get("summary", "")),
        since=doc.get("since", ""),
        complexity=doc.get("complexity", ""),
        deprecated_since=doc.get("deprecated_since"),
        group="module" if "module" in doc else doc.get("group", ""),
    )


def _argument(raw: object, where: str) -> Argument:
    """Read an argument of COMMAND DOCS."""
    if not isinstance(raw, Mapping):
        raise DefinitionError(f"{where} is {type(raw).__name__}, not a map")
    return argument_from(_as_json(raw), where)


def _as_json(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Bring an argument of COMMAND DOCS into the form of the JSON files."""
    plain = {name: raw[name] for name in ("name", "type", "token") if name in raw}
    if plain.get("token", "").lower() in _LOWER:
        plain["token"] = plain["token"].lower()
    plain |= {flag: flag in raw.get("flags", []) for flag in _FLAGS}
    if "arguments" in raw:
        plain["arguments"] = [_as_json(item) for item in raw["arguments"]]
    return plain

"""Reads the COMMAND and COMMAND INFO replies of a server, from RESP2 or RESP3.

Format: https://valkey.io/commands/command/
"""

from __future__ import annotations

from typing import Any

from ..errors import ProtocolError
from .definition import UNSHOWN_FLAGS
from .model import Command, KeySpec


def read_reply(reply: object) -> list[Command]:
    """Read a COMMAND or COMMAND INFO reply.

    Args:
        reply: The reply: a list of entries.

    Returns:
        The commands.  Those that the server does not know are left out.

    Raises:
        ProtocolError: The reply is not valid.  The text names the entry.
    """
    if not isinstance(reply, list):
        raise ProtocolError(f"the reply to COMMAND is {type(reply).__name__}, not a list")
    return [_command(entry, f"COMMAND entry {index}") for index, entry in enumerate(reply) if entry is not None]


def _command(entry: Any, where: str, *, is_sub: bool = False) -> Command:
    try:
        name = _text(entry[0]).upper()
        where = f"{where} ({name:.60})"
        arity = _integer(entry[1])
        flags = frozenset(_text(flag) for flag in entry[2]) - UNSHOWN_FLAGS
        # Servers before 7.0 have no blocking flag, only the category.
        if "@blocking" in (_text(category) for category in (entry[6] if len(entry) > 6 else ())):
            flags |= {"blocking"}
        tips = dict(_text(tip).partition(":")[::2] for tip in (entry[7] if len(entry) > 7 else ()))
        specs = [_key_spec(_mapping(spec)) for spec in entry[8]] if len(entry) > 8 else [_legacy(entry)]
        # There is only one level of subcommands.  The limit protects from a reply that is nested without end.
        subs = entry[9] if len(entry) > 9 and not is_sub else ()
        subcommands = [_command(sub, where, is_sub=True) for sub in subs]
    except ProtocolError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"{where} is not valid: {error}") from error
    return Command(
        name=name.replace("|", " "),
        flags=flags,
        key_specs=tuple(spec for spec in specs if spec is not None),
        request_policy=tips.get("request_policy"),
        response_policy=tips.get("response_policy"),
        subcommands={sub.name.rpartition(" ")[2]: sub for sub in sorted(subcommands, key=lambda sub: sub.name)},
        arity=arity,
    )


def _key_spec(spec: dict[str, Any]) -> KeySpec | None:
    begin, find = _mapping(spec["begin_search"]), _mapping(spec["find_keys"])
    where, how = _mapping(begin["spec"]), _mapping(find["spec"])
    begin_type, find_type = _text(begin["type"]), _text(find["type"])
    if begin_type not in ("index", "keyword") or find_type not in ("range", "keynum"):
        return None
    is_key = "not_key" not in map(str.lower, map(_text, spec.get("flags", ())))
    keyword = _text(where["keyword"]).upper().encode() if begin_type == "keyword" else None
    start, step = _integer(where["index" if keyword is None else "startfrom"]), _step(how["keystep"])
    if find_type == "keynum":
        first, keynum = _integer(how["firstkey"]), _integer(how["keynumidx"])
        return KeySpec(start, keyword, first=first, step=step, keynum=keynum, is_key=is_key)
    last, limit = _integer(how["lastkey"]), _integer(how["limit"])
    return KeySpec(start, keyword, last=last, step=step, limit=limit, is_key=is_key)


def _legacy(entry: Any) -> KeySpec | None:
    """Make a specification of first key, last key and step.  Servers before 7.0 send nothing else."""
    first, last, step = map(_integer, entry[3:6])
    return KeySpec(first, last=last - first if last > 0 else last, step=_step(step)) if first else None


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{type(value).__name__} where a number is expected")
    return value


def _step(value: object) -> int:
    step = _integer(value)
    if step < 1:
        raise ValueError(f"the step between keys is {step}, but must be at least 1")
    return step


def _text(value: object) -> str:
    if not isinstance(value, (bytes, str)):
        raise TypeError(f"{type(value).__name__} where text is expected")
    return value.decode() if isinstance(value, bytes) else value


def _mapping(value: Any) -> dict[str, Any]:
    pairs = value.items() if isinstance(value, dict) else zip(value[::2], value[1::2], strict=True)
    return {_text(name): item for name, item in pairs}

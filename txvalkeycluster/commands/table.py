"""Name -> command, for the commands of the server in use, learnt from its own COMMAND reply."""

from __future__ import annotations

from typing import Any

from ..errors import ProtocolError
from .model import Command, KeySpec

# Names come from the program, in few spellings; the bound is for one that passes on what strangers type.
_MAX_SPELLINGS = 4096


class CommandTable(dict[Any, Command]):
    """Every spelling of a name seen so far -> command: a look-up of ``"GET"``, ``b"get"`` or ``"Get"`` is one access.

    A name that the server does not know gives a command without keys, so that the server itself says what is wrong.
    """

    def __init__(self, commands: list[Command]) -> None:
        super().__init__({command.name: command for command in commands})
        self._spellings = len(self) + _MAX_SPELLINGS

    def __missing__(self, name: object) -> Command:
        if isinstance(name, (bytes, bytearray, memoryview)):
            plain = bytes(name).decode("utf-8", "replace").upper()
        elif isinstance(name, str):
            plain = name.upper()
        else:
            raise TypeError(f"the name of a command is text or bytes, not {type(name).__name__}")
        command = self.get(plain)
        if command is None:
            return Command(plain)
        if len(self) < self._spellings and name.__hash__ is not None:
            self[name if isinstance(name, (bytes, str)) else bytes(name)] = command
        return command

    def __repr__(self) -> str:
        return f"<CommandTable of {len({id(command) for command in self.values()})} commands>"

    @classmethod
    def from_reply(cls, reply: object) -> CommandTable:
        """Read a COMMAND reply in its RESP2 or RESP3 shape.  Raises ProtocolError naming the entry that is broken."""
        if not isinstance(reply, list):
            raise ProtocolError(f"COMMAND answered {type(reply).__name__}, not a list")
        return cls([_command(entry, f"COMMAND entry {index}") for index, entry in enumerate(reply)])


def _command(entry: Any, where: str) -> Command:
    try:
        name = _text(entry[0]).upper()
        where = f"{where} ({name})"
        flags = frozenset(_text(flag) for flag in entry[2])
        # Servers before 7.0 tell of blocking in a category only.
        if "@blocking" in (_text(category) for category in (entry[6] if len(entry) > 6 else ())):
            flags |= {"blocking"}
        tips = dict(_text(tip).partition(":")[::2] for tip in (entry[7] if len(entry) > 7 else ()))
        specs = [_key_spec(_mapping(spec)) for spec in entry[8]] if len(entry) > 8 else [_legacy(entry)]
        subcommands = [_command(sub, where) for sub in (entry[9] if len(entry) > 9 else ())]
    except ProtocolError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"{where} cannot be read: {error}") from error
    return Command(
        name=name.replace("|", " "),
        flags=flags,
        key_specs=tuple(spec for spec in specs if spec is not None),
        request_policy=tips.get("request_policy"),
        response_policy=tips.get("response_policy"),
        subcommands={sub.name.rpartition(" ")[2]: sub for sub in subcommands},
    )


def _key_spec(spec: dict[str, Any]) -> KeySpec | None:
    begin, find = _mapping(spec["begin_search"]), _mapping(spec["find_keys"])
    where, how = _mapping(begin["spec"]), _mapping(find["spec"])
    begin_type, find_type = _text(begin["type"]), _text(find["type"])
    if begin_type not in ("index", "keyword") or find_type not in ("range", "keynum"):
        return None
    keyword = _text(where["keyword"]).upper().encode() if begin_type == "keyword" else None
    start, step = _integer(where["index" if keyword is None else "startfrom"]), _step(how["keystep"])
    if find_type == "keynum":
        first, keynum = _integer(how["firstkey"]), _integer(how["keynumidx"])
        return KeySpec(start, keyword, first=first, step=step, keynum=keynum)
    return KeySpec(start, keyword, last=_integer(how["lastkey"]), step=step, limit=_integer(how["limit"]))


def _legacy(entry: Any) -> KeySpec | None:
    """First key, last key and step, all that servers before 7.0 tell."""
    first, last, step = map(_integer, entry[3:6])
    return KeySpec(first, last=last - first if last > 0 else last, step=_step(step)) if first else None


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{type(value).__name__} in the place of a number")
    return value


def _step(value: Any) -> int:
    if _integer(value) < 1:
        raise ValueError(f"the step from key to key is {value}")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, (bytes, str)):
        raise TypeError(f"{type(value).__name__} in the place of text")
    return value.decode() if isinstance(value, bytes) else value


def _mapping(value: Any) -> dict[str, Any]:
    pairs = value.items() if isinstance(value, dict) else zip(value[::2], value[1::2], strict=True)
    return {_text(name): item for name, item in pairs}

"""What the arguments of a command look like: names, types, and shapes that a method has a parameter for."""

from __future__ import annotations

import keyword
import re

from txvalkeycluster.commands.arguments import Argument, is_count

_TYPES = {"string": "Value", "key": "Key", "integer": "int", "double": "float", "pattern": "Key", "unix-time": "int"}
# Where the JSON says less than the server takes.
_TYPES_BY_NAME = {
    ("double", "min"): "Bound",
    ("double", "max"): "Bound",
    ("integer", "cursor"): "Value",
    ("integer", "weight"): "float",
}


def identifier(text: str) -> str:
    """A word of a command as a name of Python's."""
    name = re.sub(r"[^0-9a-z]+", "_", text.lower()).strip("_") or "value"
    if name[0].isdigit():
        name = f"_{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def plural(name: str) -> str:
    """Of an argument's name."""
    return name if name.endswith("s") else f"{name}s"


def quoted(word: str | None) -> str:
    return '"' + (word or "").replace("\\", "\\\\").replace('"', '\\"') + '"'


def token_words(argument: Argument) -> list[str]:
    return [] if argument.token is None else [quoted(argument.token)]


def name_in(condition: str) -> str:
    """The parameter that an expression asks for."""
    return re.split(r"[ ()]", condition.removeprefix("bool("))[0]


def scalar_type(argument: Argument) -> str:
    return _TYPES_BY_NAME.get((argument.type, argument.name), _TYPES[argument.type])


def are_tokens(argument: Argument) -> bool:
    return all(part.type == "pure-token" for part in argument.arguments)


def are_flags(argument: Argument) -> bool:
    """Whether each alternative makes a keyword of its own."""
    return argument.token is None and all(re.fullmatch(r"[A-Za-z]\w*", p.token or "") for p in argument.arguments)


def literal_type(argument: Argument) -> str:
    return f"Literal[{', '.join(quoted(part.token) for part in argument.arguments)}]"


def is_streams(block: Argument) -> bool:
    return len(block.arguments) == 2 and all(part.is_scalar and part.multiple for part in block.arguments)


def scalars_of(block: Argument) -> tuple[Argument, ...] | None:
    """The parts of a block that are one needed word each, or None."""
    parts = block.arguments
    return parts if all(p.is_scalar and not p.optional and not p.multiple and p.token is None for p in parts) else None


def mapping_type(name: str, value: str) -> str:
    return f"Mapping[{'AnyKey' if name == 'Key' else 'AnyValue'}, {value}]"


def row_type(block: Argument) -> str:
    return f"tuple[{', '.join(scalar_type(part) for part in block.arguments)}]"


def row_of(block: Argument) -> tuple[str | None, list[str]] | None:
    """Token and types of a block that a tuple can say: words that are all needed, led by its token or its first's."""
    if any(part.optional or part.multiple or part.type == "block" for part in block.arguments):
        return None
    if any(part.token is not None for part in block.arguments[1:]) or len(block.arguments) < 2:
        return None
    if any(part.type == "pure-token" or (part.type == "oneof" and not are_tokens(part)) for part in block.arguments):
        return None
    types = [literal_type(part) if part.type == "oneof" else scalar_type(part) for part in block.arguments]
    return (block.token or block.arguments[0].token, types)


def counted_rows(block: Argument) -> tuple[str, Argument] | None:
    """A token, a number and as many rows."""
    if len(block.arguments) != 2:
        return None
    count, rows = block.arguments
    if is_count(count) and count.token is not None and rows.multiple and rows.type == "block" and scalars_of(rows):
        return count.token, rows
    return None

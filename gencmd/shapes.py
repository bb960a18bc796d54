"""Names and types for arguments, and functions that recognize the forms of arguments that a parameter can express."""

from __future__ import annotations

import keyword
import re

from txvalkeycluster.commands.arguments import Argument, is_count

_TYPES = {"string": "Value", "key": "Key", "integer": "int", "double": "float", "pattern": "Key", "unix-time": "int"}
# Exceptions: the server accepts more than the JSON says.
_TYPES_BY_NAME = {
    ("double", "min"): "Bound",
    ("double", "max"): "Bound",
    ("integer", "cursor"): "Value",
    ("integer", "weight"): "float",
}


def identifier(text: str) -> str:
    """Return the Python name for a word of a command."""
    name = re.sub(r"[^0-9a-z]+", "_", text.lower()).strip("_") or "value"
    if name[0].isdigit():
        name = f"_{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def plural(name: str) -> str:
    """Return the plural of the name of an argument."""
    return name if name.endswith("s") else f"{name}s"


def quoted(word: str | None) -> str:
    """Return a word as a Python string literal."""
    return '"' + (word or "").replace("\\", "\\\\").replace('"', '\\"') + '"'


def token_words(argument: Argument) -> list[str]:
    """Return the token of an argument as a list of one string literal; empty if it has none."""
    return [] if argument.token is None else [quoted(argument.token)]


def name_in(condition: str) -> str:
    """Return the name of the parameter that a condition tests."""
    return re.split(r"[ ()]", condition.removeprefix("bool("))[0]


def scalar_type(argument: Argument) -> str:
    """Return the type annotation of a scalar argument."""
    return _TYPES_BY_NAME.get((argument.type, argument.name), _TYPES[argument.type])


def are_tokens(argument: Argument) -> bool:
    """Tell whether all inner arguments are tokens."""
    return all(part.type == "pure-token" for part in argument.arguments)


def are_flags(argument: Argument) -> bool:
    """Tell whether each alternative can be a keyword argument with the name of its token."""
    return argument.token is None and all(re.fullmatch(r"[A-Za-z]\w*", p.token or "") for p in argument.arguments)


def literal_type(argument: Argument) -> str:
    """Return the Literal type of a choice between tokens."""
    return f"Literal[{', '.join(quoted(part.token) for part in argument.arguments)}]"


def is_streams(block: Argument) -> bool:
    """Tell whether a block has the form of STREAMS in XREAD: all keys, then as many ids."""
    return len(block.arguments) == 2 and all(part.is_scalar and part.multiple for part in block.arguments)


def scalars_of(block: Argument) -> tuple[Argument, ...] | None:
    """Return the parts of a block if each of them is one required word, else None."""
    parts = block.arguments
    return parts if all(p.is_scalar and not p.optional and not p.multiple and p.token is None for p in parts) else None


def mapping_type(name: str, value: str) -> str:
    """Return the type of a mapping from names to values of the given types."""
    return f"Mapping[{'AnyKey' if name == 'Key' else 'AnyValue'}, {value}]"


def row_type(block: Argument) -> str:
    """Return the tuple type of the scalar parts of a block."""
    return f"tuple[{', '.join(scalar_type(part) for part in block.arguments)}]"


def row_of(block: Argument) -> tuple[str | None, list[str]] | None:
    """Return the token and the types of a block that one tuple can express, else None.

    All parts of such a block are required words.  Only the block or its first part has a token.
    """
    if any(part.optional or part.multiple or part.type == "block" for part in block.arguments):
        return None
    if any(part.token is not None for part in block.arguments[1:]) or len(block.arguments) < 2:
        return None
    if any(part.type == "pure-token" or (part.type == "oneof" and not are_tokens(part)) for part in block.arguments):
        return None
    types = [literal_type(part) if part.type == "oneof" else scalar_type(part) for part in block.arguments]
    return (block.token or block.arguments[0].token, types)


def counted_rows(block: Argument) -> tuple[str, Argument] | None:
    """Return the token and the rows of a block that has the form: token, number of rows, rows.  Else None."""
    if len(block.arguments) != 2:
        return None
    count, rows = block.arguments
    if is_count(count) and count.token is not None and rows.multiple and rows.type == "block" and scalars_of(rows):
        return count.token, rows
    return None

"""Types and functions that the generated methods use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from ..sentinel import Sentinel
from .converters import Convert
from .encoder import Arg

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    #: The type of text in replies: bytes, or str with the option ``encoding``.
    Text = TypeVar("Text", bound=bytes | str, default=bytes)
else:
    from typing import TypeVar

    Text = TypeVar("Text", bound=bytes | str)

#: The type of a key.
Key = bytes | str | bytearray | memoryview
#: The type of any other argument.
Value = Arg
#: The names of a mapping.  Mapping is invariant in them, so ``Mapping[Key, ...]`` would reject a ``dict[str, ...]``.
AnyKey = TypeVar("AnyKey", bound=Key)
#: As `AnyKey`, for values.
AnyValue = TypeVar("AnyValue", bound=Value)
#: A bound of scores: a number, or text such as ``(1`` or ``-inf``.
Bound = float | bytes | str
#: The default of an argument that was not given.
MISSING: Any = Sentinel("MISSING")
_LONE = (bytes, str, bytearray, memoryview, int, float)


class Runner:
    """Base class of the methods: a subclass sends the commands that they lay out."""

    def _run(self, words: Sequence[Arg], convert: Convert | None = None) -> Deferred[Any]:
        raise NotImplementedError


def each(items: Arg | Iterable[Arg]) -> tuple[Arg, ...]:
    """Return one value, or several values, as a tuple."""
    return (items,) if isinstance(items, _LONE) else tuple(items)


def flat(rows: Mapping[Any, Arg] | Iterable[Sequence[Arg]]) -> list[Arg]:
    """Return the words of all rows in one list.  The rows of a mapping are its pairs of name and value.

    Raises TypeError for a row that is not a tuple.
    """
    return [word for row in (rows.items() if isinstance(rows, Mapping) else rows) for word in _row(row)]


def flat_reversed(rows: Mapping[Any, Arg] | Iterable[Sequence[Arg]]) -> list[Arg]:
    """As `flat`, but with the value before the name.  Only a mapping is reversed; rows already have this order."""
    return flat([(value, name) for name, value in rows.items()] if isinstance(rows, Mapping) else rows)


def _row(row: Sequence[Arg]) -> Sequence[Arg]:
    if isinstance(row, _LONE):
        raise TypeError(f"{type(row).__name__} where a tuple is expected")
    return row


def stream_entry(id: Any, data: Any) -> tuple[Any, Any]:
    """Return the id and the fields of a stream entry.  The id may be left out.  Raises TypeError without fields."""
    if data is not MISSING:
        return id, data
    if isinstance(id, Mapping):
        return "*", id
    raise TypeError("XADD needs the fields of the entry, as in xadd(key, '*', {'field': 'value'})")


def columns(mapping: Mapping[Any, Arg]) -> Iterator[Arg]:
    """Iterate over all names, then over all values."""
    yield from mapping.keys()
    yield from mapping.values()


def exclusive(command: str, *, needed: bool = False, **values: object) -> None:
    """Check options that exclude each other.

    Args:
        command: The name of the command, for the error text.
        needed: Whether one of the options must be given.
        **values: The options with their values.  None, False and () mean "not given".

    Raises:
        TypeError: More than one option is given, or none although one is needed.
    """
    names = [name for name, value in values.items() if value is not None and value is not False and value != ()]
    if len(names) > 1:
        raise TypeError(f"{command} takes one of {', '.join(values)}, but got {' and '.join(names)}")
    if needed and not names:
        raise TypeError(f"{command} needs one of {', '.join(values)}")


def leaderless(command: str, leader: str, others: str) -> TypeError:
    """Return the error for options that require another option."""
    return TypeError(f"{command} takes {others} only together with {leader}")


def needed(command: str, **given: Arg | None) -> Arg:
    """Return the value of the only keyword argument.  Raises TypeError if it is None."""
    ((name, value),) = given.items()
    if value is None:
        raise TypeError(f"{command} needs {name}")
    return value

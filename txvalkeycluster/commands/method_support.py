"""What the generated methods are made of: the types in their signatures, and helpers that lay out their arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from ..sentinel import Sentinel
from .converters import Convert
from .encoder import Arg

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    #: What text in replies is: bytes, or str where ``encoding`` is given.
    Text = TypeVar("Text", bound=bytes | str, default=bytes)
else:
    from typing import TypeVar

    Text = TypeVar("Text", bound=bytes | str)

Key = bytes | str | bytearray | memoryview
Value = Arg
# A mapping takes just one type of name, so that a dict of str is none of bytes or str.
AnyKey = TypeVar("AnyKey", bound=Key)
AnyValue = TypeVar("AnyValue", bound=Value)
#: A bound of scores: a number, or text such as ``(1`` and ``-inf``.
Bound = float | bytes | str
#: In the place of an argument that was not given.
MISSING: Any = Sentinel("MISSING")
_LONE = (bytes, str, bytearray, memoryview, int, float)


class Runner:
    """Whoever carries out what the methods lay out."""

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Deferred[Any]:
        raise NotImplementedError


def each(items: Any) -> tuple[Any, ...]:
    """Several, or one that stands alone."""
    return (items,) if isinstance(items, _LONE) else tuple(items)


def flat(rows: Mapping[Any, Any] | Iterable[Sequence[Any]]) -> list[Any]:
    """The words of rows one after the other; a mapping's are name and value."""
    return [word for row in (rows.items() if isinstance(rows, Mapping) else rows) for word in _row(row)]


def flat_reversed(rows: Mapping[Any, Any] | Iterable[Sequence[Any]]) -> list[Any]:
    """As `flat`, for rows whose name comes last while a mapping has it first."""
    return flat([(value, name) for name, value in rows.items()] if isinstance(rows, Mapping) else rows)


def _row(row: Sequence[Any]) -> Sequence[Any]:
    if isinstance(row, _LONE):
        raise TypeError(f"{type(row).__name__} in the place of a tuple")
    return row


def stream_entry(id: Any, data: Any) -> tuple[Any, Any]:
    """The id and the fields of an entry, of which the id may be left out.  Raises TypeError without fields."""
    if data is not MISSING:
        return id, data
    if isinstance(id, Mapping):
        return "*", id
    raise TypeError("XADD needs the fields of the entry, as in xadd(key, '*', {'field': 'value'})")


def columns(mapping: Mapping[Any, Any]) -> Iterator[Any]:
    """All names, then all values."""
    yield from mapping.keys()
    yield from mapping.values()


def exclusive(command: str, *, needed: bool = False, **values: Any) -> None:
    """Raise TypeError unless at most one is given, and at least one if it is needed."""
    names = [name for name, value in values.items() if value is not None and value is not False and value != ()]
    if len(names) > 1:
        raise TypeError(f"{command} takes one of {', '.join(values)}, and was given {' and '.join(names)}")
    if needed and not names:
        raise TypeError(f"{command} needs one of {', '.join(values)}")


def leaderless(command: str, leader: str, others: str) -> TypeError:
    """The error for options that mean something only beside another."""
    return TypeError(f"{command} takes {others} only together with {leader}")


def needed(command: str, **given: Any) -> Any:
    """The one value given, which must not be left out.  Raises TypeError."""
    ((name, value),) = given.items()
    if value is None:
        raise TypeError(f"{command} needs {name}")
    return value

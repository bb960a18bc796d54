"""The arguments of a command as its JSON and COMMAND DOCS describe them: a tree; and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..sentinel import Sentinel
from .model import KeySpec

SCALARS = frozenset(["string", "key", "integer", "double", "pattern", "unix-time"])
# What is longer is not written a second time to say that it may be repeated.
_LONG = 40
_TYPES = SCALARS | {"pure-token", "oneof", "block"}


class DefinitionError(ValueError):
    """A definition of a command that cannot be used; the text names where it is wrong."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument, or a group of them."""

    name: str
    type: str
    token: str | None = None
    optional: bool = False
    multiple: bool = False
    multiple_token: bool = False
    arguments: tuple[Argument, ...] = ()

    @property
    def is_scalar(self) -> bool:
        """Whether it is one word of the caller's."""
        return self.type in SCALARS

    @property
    def syntax(self) -> str:
        """It, as the first line of a command's documentation shows it."""
        inner = [argument.syntax for argument in self.arguments]
        if self.type == "pure-token":
            text = self.token or self.name
        elif self.type == "oneof":
            text = " | ".join(inner)
        else:
            text = " ".join(inner) or self.name
        if self.token is not None and self.type != "pure-token":
            text = f"{self.token} <{text}>" if self.type == "oneof" else f"{self.token} {text}"
        elif self.type == "oneof" and not self.optional:
            text = f"<{text}>"
        if self.multiple:
            again = text.partition(" ")[2] if self.token is not None and not self.multiple_token else text
            text = f"{text} [{again} ...]" if len(again) <= _LONG else f"{text} ..."
        return f"[{text}]" if self.optional else text


def argument_from(raw: Any, where: str) -> Argument:
    """Read one argument of a JSON file.  Raises DefinitionError."""
    if not isinstance(raw, Mapping):
        raise DefinitionError(f"{where} is {type(raw).__name__}, not an object")
    name, kind = member(raw, "name", str, where), member(raw, "type", str, where)
    if kind not in _TYPES:
        raise DefinitionError(f"{where}.type is {kind!r}, not one of {', '.join(sorted(_TYPES))}")
    inner = member(raw, "arguments", list, where, [])
    if bool(inner) != (kind in ("oneof", "block")):
        raise DefinitionError(f"{where}.arguments: {kind} {'without' if not inner else 'with'} arguments of its own")
    token = member(raw, "token", str, where, None)
    if kind == "pure-token" and token is None:
        raise DefinitionError(f"{where}.token is missing")
    if token == '""':
        token = ""
    elif token is not None and kind != "pure-token":
        # Files differ in how they write those that lead values.
        token = token.upper()
    return Argument(
        name=name.lower(),
        type=kind,
        token=token,
        optional=member(raw, "optional", bool, where, False),
        multiple=member(raw, "multiple", bool, where, False),
        multiple_token=member(raw, "multiple_token", bool, where, False),
        arguments=tuple(argument_from(item, f"{where}.arguments[{index}]") for index, item in enumerate(inner)),
    )


_REQUIRED: Any = Sentinel("REQUIRED")


def member(raw: Mapping[str, Any], name: str, kind: type, where: str, default: Any = _REQUIRED) -> Any:
    """A member of a JSON object, of the type it has to have.  Raises DefinitionError."""
    value = raw.get(name, default)
    if value is _REQUIRED:
        raise DefinitionError(f"{where}.{name} is missing")
    if kind is bool and value in ("true", "false"):
        # Valkey's own client-capa.json has it so.
        return value == "true"
    if value is not default and type(value) is not kind:
        raise DefinitionError(f"{where}.{name} is {type(value).__name__}, not {kind.__name__}")
    return value


def arity_of(arguments: tuple[Argument, ...], words: int) -> int:
    """The arity of a command whose name has so many words."""
    least, fixed = _width(arguments)
    return words + least if fixed else -(words + least)


def _width(arguments: tuple[Argument, ...]) -> tuple[int, bool]:
    """The least number of words, and whether it can be no other."""
    total, fixed = 0, True
    for argument in arguments:
        least, exact = _width_of_one(argument)
        if argument.optional:
            least, exact = 0, False
        total += least
        fixed = fixed and exact and not argument.multiple
    return total, fixed


def _width_of_one(argument: Argument) -> tuple[int, bool]:
    token = 0 if argument.token is None else 1
    if argument.type == "pure-token":
        return 1, True
    if argument.type == "oneof":
        widths = [_width((alternative,)) for alternative in argument.arguments]
        least = min(width for width, _ in widths)
        return token + least, all(exact and width == least for width, exact in widths)
    if argument.type == "block":
        least, exact = _width(argument.arguments)
        return token + least, exact
    return token + 1, True


def key_specs_of(arguments: tuple[Argument, ...], words: int, where: str) -> tuple[KeySpec, ...]:
    """Where the keys are, told from the arguments alone, as modules publish them.  Raises DefinitionError."""
    finder = _Finder(words, where)
    finder.walk(arguments, words, ())
    # Alternatives may have their keys in the same place.
    return tuple(dict.fromkeys(finder.found))


class _Finder:
    """Walks the arguments, knowing the index of each as long as all before it have a fixed number of words."""

    def __init__(self, words: int, where: str) -> None:
        self.found: list[KeySpec] = []
        self._where = where
        # No index is below this one from here on.
        self._least = words

    def walk(self, arguments: tuple[Argument, ...], index: int | None, rest: tuple[Argument, ...]) -> None:
        """Note the keys among ``arguments``, the first of which stands at ``index``, and which ``rest`` follows."""
        for place, argument in enumerate(arguments):
            if _has_key(argument):
                before = arguments[place - 1] if place else None
                self._note(argument, index, before, arguments[place + 1 :] + rest)
            least, fixed = _width((argument,))
            self._least += least
            index = index + least if index is not None and fixed else None

    def _note(self, argument: Argument, index: int | None, before: Argument | None, rest: tuple[Argument, ...]) -> None:
        keyword = argument.token.upper().encode() if argument.token is not None else None
        is_choice = argument.type == "oneof" and not argument.multiple
        if is_choice and keyword is None:
            self._alternatives(argument, index, rest)
            return
        if keyword is not None and (index is None or argument.optional):
            # Its own keyword leads to it, wherever it stands.
            begin = self._least
        elif index is not None:
            begin, keyword = index + (keyword is not None), None
        else:
            raise DefinitionError(f"{self._where}.arguments: the place of {argument.name} varies; give key_specs")
        if argument.multiple:
            self._several(argument, KeySpec(begin, keyword), index, before, rest)
        elif argument.is_scalar:
            self.found.append(KeySpec(begin, keyword))
        elif not (rest or is_choice) and all(item.is_scalar and item.multiple for item in argument.arguments):
            # STREAMS key ... id ...
            self.found.append(KeySpec(begin, keyword, last=-1, limit=len(argument.arguments)))
        elif keyword is not None:
            raise DefinitionError(f"{self._where}.arguments: the keys behind {argument.token} vary; give key_specs")
        elif is_choice:
            self._alternatives(argument, begin, rest)
        else:
            least = self._least
            self.walk(argument.arguments, begin, rest)
            self._least = least

    def _alternatives(self, argument: Argument, index: int | None, rest: tuple[Argument, ...]) -> None:
        for alternative in argument.arguments:
            if _has_key(alternative):
                self._note(alternative, index, None, rest)

    def _several(
        self,
        argument: Argument,
        start: KeySpec,
        index: int | None,
        before: Argument | None,
        rest: tuple[Argument, ...],
    ) -> None:
        members = argument.arguments if argument.type == "block" else (replace(argument, optional=False),)
        if not all(item.is_scalar and not item.optional for item in members):
            raise DefinitionError(f"{self._where}.arguments: {argument.name} varies in shape; give key_specs")
        offset = next(place for place, item in enumerate(members) if item.type == "key")
        step = len(members)
        if before is not None and is_count(before):
            if index is None:
                raise DefinitionError(f"{self._where}.arguments: the place of {before.name} varies; give key_specs")
            self.found.append(KeySpec(index - 1, first=1 + offset, step=step, keynum=0))
            return
        after, fixed = _width(rest)
        if not fixed:
            raise DefinitionError(f"{self._where}.arguments: where {argument.name} ends varies; give key_specs")
        self.found.append(replace(start, begin=start.begin + offset, last=-1 - after, step=step))


def is_count(argument: Argument) -> bool:
    """Whether it is the number of what follows it, which the caller need not give."""
    return argument.type == "integer" and argument.name.lower().startswith("num") and not argument.multiple


def _has_key(argument: Argument) -> bool:
    return argument.type == "key" or any(map(_has_key, argument.arguments))

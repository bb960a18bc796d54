"""Reads the arguments of a command from its JSON, and derives the arity and the key positions from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..sentinel import Sentinel
from .model import KeySpec

#: The argument types that are one word of the command.
SCALARS = frozenset(["string", "key", "integer", "double", "pattern", "unix-time"])
# A longer argument that may be repeated is shown as "text ...", not as "text [text ...]".
_LONG = 40
_TYPES = SCALARS | {"pure-token", "oneof", "block"}


class DefinitionError(ValueError):
    """The definition of a command is wrong.

    Raised by ``client.commands.extend()`` and ``python -m gencmd``.  The text names the file or the reply, and the
    field.
    """


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument, or a group of arguments.

    The attributes are those of Valkey's JSON files: https://valkey.io/topics/command-arguments/
    """

    #: The name, in lower case.
    name: str
    #: One of `SCALARS`, or ``pure-token``, ``oneof`` or ``block``.
    type: str
    #: The word that precedes the value, or that is the argument.
    token: str | None = None
    #: Whether the argument may be left out.
    optional: bool = False
    #: Whether the argument may be repeated.
    multiple: bool = False
    #: Whether the token is repeated with each value.
    multiple_token: bool = False
    #: The parts of a block, or the alternatives of a ``oneof``.
    arguments: tuple[Argument, ...] = ()

    @property
    def is_scalar(self) -> bool:
        """Whether it is a single value that the caller gives."""
        return self.type in SCALARS

    @property
    def syntax(self) -> str:
        """The argument as the documentation of a command shows it, such as ``[COUNT count]``."""
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


def argument_from(raw: object, where: str) -> Argument:
    """Read one argument of a JSON file.

    Args:
        raw: The JSON object, decoded.
        where: The place of the object, for error texts.

    Returns:
        The argument.

    Raises:
        DefinitionError: The object is not a valid argument.
    """
    if not isinstance(raw, Mapping):
        raise DefinitionError(f"{where} is {type(raw).__name__}, not an object")
    name, kind = member(raw, "name", str, where), member(raw, "type", str, where)
    if kind not in _TYPES:
        raise DefinitionError(f"{where}.type is {kind!r}, not one of {', '.join(sorted(_TYPES))}")
    inner = member(raw, "arguments", list, where, [])
    if bool(inner) != (kind in ("oneof", "block")):
        raise DefinitionError(f"{where}.arguments: {kind} {'must' if not inner else 'must not'} have inner arguments")
    token = member(raw, "token", str, where, None)
    if kind == "pure-token" and token is None:
        raise DefinitionError(f"{where}.token is missing")
    if token == '""':
        token = ""
    elif token is not None and kind != "pure-token":
        # The files do not agree on the case of tokens that precede a value.
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
    """Return a member of a JSON object after checking its type.

    Args:
        raw: The JSON object, decoded.
        name: The name of the member.
        kind: The type that the member must have.
        where: The place of the object, for error texts.
        default: The value of a missing member.  Without it, the member is required.

    Returns:
        The member, or ``default``.

    Raises:
        DefinitionError: The member is missing or has another type.
    """
    value = raw.get(name, default)
    if value is _REQUIRED:
        raise DefinitionError(f"{where}.{name} is missing")
    if kind is bool and value in ("true", "false"):
        # client-capa.json of Valkey has the text "true" where it should have true.
        return value == "true"
    if value is not default and type(value) is not kind:
        raise DefinitionError(f"{where}.{name} is {type(value).__name__}, not {kind.__name__}")
    return value


def arity_of(arguments: tuple[Argument, ...], words: int) -> int:
    """Return the arity of a command.

    Args:
        arguments: The arguments of the command.
        words: The number of words in its name.

    Returns:
        The number of words of a call, the name included.  It is negative if more words are possible.
    """
    least, fixed = _width(arguments)
    return words + least if fixed else -(words + least)


def _width(arguments: tuple[Argument, ...]) -> tuple[int, bool]:
    """Return the smallest number of words, and whether the number is fixed."""
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
    """Derive the key specifications from the arguments, for the JSON of modules, which may lack ``key_specs``.

    Args:
        arguments: The arguments of the command.
        words: The number of words in its name.
        where: The place of the definition, for error texts.

    Returns:
        The key specifications.

    Raises:
        DefinitionError: The arguments do not determine where the keys are.
    """
    finder = _Finder(words, where)
    finder.walk(arguments, words, ())
    # Alternatives can have their keys in the same place.
    return tuple(dict.fromkeys(finder.found))


class _Finder:
    """Walks through the arguments and collects key specifications.

    The index of an argument is known as long as all arguments before it have a fixed number of words.
    """

    def __init__(self, words: int, where: str) -> None:
        self.found: list[KeySpec] = []
        self._where = where
        # All further arguments have at least this index.
        self._least = words

    def walk(self, arguments: tuple[Argument, ...], index: int | None, rest: tuple[Argument, ...]) -> None:
        """Collect the keys among ``arguments``, which start at ``index`` and are followed by ``rest``."""
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
            # The server finds the key by its keyword.
            begin = self._least
        elif index is not None:
            begin, keyword = index + (keyword is not None), None
        else:
            raise DefinitionError(f"{self._where}.arguments: the position of {argument.name} varies; give key_specs")
        if argument.multiple:
            self._several(argument, KeySpec(begin, keyword), index, before, rest)
        elif argument.is_scalar:
            self.found.append(KeySpec(begin, keyword))
        elif not (rest or is_choice) and all(item.is_scalar and item.multiple for item in argument.arguments):
            # STREAMS key ... id ...
            self.found.append(KeySpec(begin, keyword, last=-1, limit=len(argument.arguments)))
        elif keyword is not None:
            raise DefinitionError(f"{self._where}.arguments: the keys after {argument.token} vary; give key_specs")
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
            raise DefinitionError(f"{self._where}.arguments: the form of {argument.name} varies; give key_specs")
        offset = next(place for place, item in enumerate(members) if item.type == "key")
        step = len(members)
        if before is not None and is_count(before):
            if index is None:
                raise DefinitionError(f"{self._where}.arguments: the position of {before.name} varies; give key_specs")
            self.found.append(KeySpec(index - 1, first=1 + offset, step=step, keynum=0))
            return
        after, fixed = _width(rest)
        if not fixed:
            raise DefinitionError(f"{self._where}.arguments: the end of {argument.name} varies; give key_specs")
        self.found.append(replace(start, begin=start.begin + offset, last=-1 - after, step=step))


def is_count(argument: Argument) -> bool:
    """Tell whether an argument is the number of the arguments after it.  The methods count them for the caller."""
    return argument.type == "integer" and argument.name.lower().startswith("num") and not argument.multiple


def _has_key(argument: Argument) -> bool:
    return argument.type == "key" or any(map(_has_key, argument.arguments))

"""Makes the parameters of a method from the arguments of its command, and the code that builds the command."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from txvalkeycluster.commands import Command
from txvalkeycluster.commands.arguments import Argument, is_count

from .shapes import (
    are_flags,
    are_tokens,
    counted_rows,
    identifier,
    is_streams,
    literal_type,
    mapping_type,
    name_in,
    plural,
    quoted,
    row_of,
    row_type,
    scalar_type,
    scalars_of,
    token_words,
)

_TYPES_BY_COMMAND = {("ZINCRBY", "increment"): "float"}


@dataclass
class Parameter:
    """One parameter of a method."""

    #: The name.
    name: str
    #: The annotation.
    type: str
    #: The expression of the default value; None if the parameter is required.
    default: str | None = None
    #: Whether it is a ``*name`` parameter.
    star: bool = False

    def __str__(self) -> str:
        text = f"{'*' if self.star else ''}{self.name}: {self.type}"
        return text if self.default is None else f"{text} = {self.default}"


@dataclass
class Signature:
    """The parameters of a method and its code."""

    #: The positional parameters.
    positional: list[Parameter] = field(default_factory=list)
    #: The keyword-only parameters.
    keywords: list[Parameter] = field(default_factory=list)
    #: The statements that append to ``words``.
    code: list[str] = field(default_factory=list)
    #: The expressions of the first words, which need no statement.
    opening: list[str] = field(default_factory=list)
    #: The statements that check the arguments.
    checks: list[str] = field(default_factory=list)
    #: Whether one of the keywords must be given.
    needs_one: bool = False

    @property
    def only_options(self) -> bool:
        """Whether a call without keywords consists of the opening words alone."""
        named = {parameter.name for parameter in self.keywords}
        return all(line.startswith("    ") or any(f"if {n}" in line for n in named) for line in self.code)

    @property
    def parameters(self) -> list[str]:
        """The parameters as text, in the order that Python requires."""
        plain = [p for p in self.positional if not p.star and p.default is None]
        optional = [p for p in self.positional if not p.star and p.default is not None]
        star = [p for p in self.positional if p.star]
        # After *names, no parameter can be positional.  Before it, a caller could not leave out an optional one.
        keywords = self.keywords if not star else [*optional, *self.keywords]
        head = plain if star else [*plain, *optional]
        divider = [str(p) for p in star] or (["*"] if keywords else [])
        return [*map(str, head), *divider, *map(str, keywords)]


def signature_of(command: Command, arguments: tuple[Argument, ...]) -> Signature:
    """Make the signature of one command.

    Args:
        command: The command.
        arguments: Its arguments.  If there are none although the command takes some, the method takes any words.

    Returns:
        The signature.

    Raises:
        NotImplementedError: The arguments have a form that no parameter can express.
    """
    builder = _Builder(command.name)
    takes_more = command.arity < -len(command.name.split())
    return builder.build(arguments) if arguments or not takes_more else builder.anything()


class _Builder:
    def __init__(self, command: str) -> None:
        self._command = command
        self._signature = Signature(opening=[quoted(word) for word in command.split()])
        self._names: set[str] = {"self", "words"}

    def build(self, arguments: tuple[Argument, ...]) -> Signature:
        self._sequence(arguments, "", top=True)
        return self._signature

    def anything(self) -> Signature:
        """Make the signature of a command that takes arguments, but has no description of them."""
        self._signature.positional.append(Parameter("args", "Value", star=True))
        self._append("", "*args")
        return self._signature

    # ---- names and statements

    def _type(self, argument: Argument) -> str:
        return _TYPES_BY_COMMAND.get((self._command, argument.name)) or scalar_type(argument)

    def _name(self, *wanted: str) -> str:
        for text in wanted:
            name = identifier(text)
            if name not in self._names:
                self._names.add(name)
                return name
        number = 2
        while f"{name}_{number}" in self._names:
            number += 1
        self._names.add(f"{name}_{number}")
        return f"{name}_{number}"

    def _append(self, indent: str, *words: str) -> None:
        code, opening = self._signature.code, self._signature.opening
        if not indent and not code:
            opening += words
        elif code and (before := re.fullmatch(rf"{indent}words \+= \((.*)\)", code[-1])):
            code[-1] = f"{indent}words += ({before[1].rstrip(',')}, {', '.join(words)})"
        else:
            code.append(f"{indent}words += ({', '.join(words)}{',' if len(words) == 1 else ''})")

    def _statement(self, indent: str, text: str) -> None:
        self._signature.code.append(indent + text)

    def _required(self, type_: str, *names: str) -> str:
        name = self._name(*names)
        self._signature.positional.append(Parameter(name, type_))
        return name

    def _keyword(self, type_: str, default: str, *names: str) -> str:
        name = self._name(*names)
        self._signature.keywords.append(Parameter(name, type_, default))
        return name

    # ---- shapes

    def _sequence(self, arguments: tuple[Argument, ...], indent: str, *, top: bool = False) -> None:
        place = 0
        while place < len(arguments):
            argument = arguments[place]
            following = arguments[place + 1] if place + 1 < len(arguments) else None
            last = place + 1 >= len(arguments)
            if is_count(argument) and argument.token is None and following is not None and following.multiple:
                self._counted(following, indent, last=top and place + 2 >= len(arguments))
                place += 2
                continue
            self._one(argument, indent, last=top and last)
            place += 1

    def _one(self, argument: Argument, indent: str, *, last: bool) -> None:
        if argument.multiple:
            self._multiple(argument, indent, last=last)
        elif argument.optional:
            self._optional(argument, indent, last=last)
        elif argument.type == "pure-token":
            self._append(indent, quoted(argument.token))
        elif argument.is_scalar:
            name = self._required(self._type(argument), argument.name)
            self._append(indent, *token_words(argument), name)
        elif argument.type == "block":
            if is_streams(argument):
                self._streams(argument, indent)
                return
            if argument.token is not None:
                self._append(indent, quoted(argument.token))
            self._sequence(argument.arguments, indent, top=last)
        else:
            self._choice(argument, indent)

    def _optional(self, argument: Argument, indent: str, *, last: bool) -> None:
        if argument.type == "oneof" and not are_tokens(argument):
            self._alternatives(argument, indent, needed=False)
        else:
            self._alternative(argument, indent, positional=last)

    def _alternative(self, argument: Argument, indent: str, *, positional: bool = False) -> list[str]:
        """Make parameters for an optional argument; return the conditions that tell whether it was given."""
        if argument.multiple:
            return self._multiple(argument, indent, last=False)
        if argument.type == "pure-token":
            name = self._keyword("bool", "False", argument.token or argument.name)
            self._statement(indent, f"if {name}:")
            self._append(indent + "    ", quoted(argument.token))
            return [name]
        if argument.is_scalar:
            type_ = f"{self._type(argument)} | None"
            if argument.token is None:
                name = self._name(argument.name)
                into = self._signature.positional if positional or not indent else self._signature.keywords
                into.append(Parameter(name, type_, "None"))
            else:
                name = self._keyword(type_, "None", argument.token, argument.name)
            self._statement(indent, f"if {name} is not None:")
            self._append(indent + "    ", *token_words(argument), name)
            return [f"{name} is not None"]
        if argument.type == "oneof":
            if are_tokens(argument) and not (are_flags(argument) and self._are_free(argument)):
                return self._literal_keyword(argument, indent)
            return self._alternatives(argument, indent, needed=False)
        row = row_of(argument)
        if row is not None:
            token, types = row
            name = self._keyword(f"tuple[{', '.join(types)}] | None", "None", token or argument.name)
            self._statement(indent, f"if {name} is not None:")
            self._append(indent + "    ", *([quoted(token)] if token is not None else []), f"*{name}")
            return [f"{name} is not None"]
        polygon = counted_rows(argument)
        if polygon is not None:
            token, rows = polygon
            name = self._keyword(f"Iterable[{row_type(rows)}]", "()", token)
            self._statement(indent, f"if {name}:")
            self._statement(indent, f"    rows = list({name})")
            self._append(indent + "    ", quoted(token), "len(rows)", "*flat(rows)")
            return [f"bool({name})"]
        return self._open_block(argument, indent)

    def _are_free(self, argument: Argument) -> bool:
        """Tell whether no token of a choice has the name of another parameter."""
        return not any(identifier(part.token or "") in self._names for part in argument.arguments)

    def _literal_keyword(self, argument: Argument, indent: str) -> list[str]:
        names = [argument.name] if argument.token is None else [argument.token, argument.name]
        name = self._keyword(f"{literal_type(argument)} | None", "None", *names)
        self._statement(indent, f"if {name} is not None:")
        self._append(indent + "    ", *token_words(argument), name)
        return [f"{name} is not None"]

    def _open_block(self, block: Argument, indent: str) -> list[str]:
        """Make one parameter for each part of a block.  The first required part must be given with any other part."""
        leader = next((part for part in block.arguments if not part.optional), None)
        if leader is None:
            given: list[str] = []
            if block.token is not None:
                raise NotImplementedError(f"{self._command}: {block.name} has a token, but no required part")
            for part in block.arguments:
                given += self._alternative(part, indent)
            return given
        dependents: list[str] = []
        if leader.type == "pure-token":
            condition = name = self._keyword("bool", "False", leader.token or leader.name)
        else:
            type_ = literal_type(leader) if leader.type == "oneof" else self._type(leader)
            name = self._keyword(f"{type_} | None", "None", leader.token or block.token or leader.name, leader.name)
            condition = f"{name} is not None"
        self._statement(indent, f"if {condition}:")
        inner = indent + "    "
        if block.token is not None:
            self._append(inner, quoted(block.token))
        for part in block.arguments:
            if part is leader:
                self._append(inner, *token_words(part), *([name] if part.type != "pure-token" else []))
            elif part.optional:
                dependents += self._alternative(part, inner)
            else:
                needed = part
                type_ = literal_type(needed) if needed.type == "oneof" else self._type(needed)
                own = self._keyword(f"{type_} | None", "None", needed.token or needed.name, needed.name)
                self._append(inner, *token_words(needed), f"needed({quoted(self._command)}, {own}={own})")
                dependents.append(f"{own} is not None")
        if dependents:
            self._statement(indent, f"elif {' or '.join(dependents)}:")
            others = ", ".join(name_in(dependent) for dependent in dependents)
            self._statement(inner, f"raise leaderless({quoted(self._command)}, {quoted(name)}, {quoted(others)})")
        return [condition, *dependents]

    def _choice(self, argument: Argument, indent: str) -> None:
        """Make parameters for a required choice."""
        if are_tokens(argument):
            self._append(indent, *token_words(argument), self._required(literal_type(argument), argument.name))
            return
        plain = [part for part in argument.arguments if part.type != "pure-token"]
        if len(plain) == 1 and plain[0].is_scalar and plain[0].token is None and not plain[0].multiple:
            # The token is a special value of the other alternative, such as * for the id of XADD.
            self._append(indent, *token_words(argument), self._required(self._type(plain[0]), plain[0].name))
        elif any(part.type == "block" and part.token is None and are_tokens(part) for part in plain):
            name = self._name(argument.name)
            self._signature.positional.append(Parameter(name, "Value", star=True))
            self._append(indent, f"*{name}")
        else:
            self._alternatives(argument, indent, needed=True)

    def _alternatives(self, argument: Argument, indent: str, *, needed: bool, check: bool = True) -> list[str]:
        given: list[str] = []
        counts: list[str] = []
        names: list[str] = []
        place = len(self._signature.code)
        for part in argument.arguments:
            of_part = self._alternative(part, indent)
            given += of_part
            counts.append(of_part[0] if len(of_part) == 1 else " or ".join(of_part))
            # The first required part of a block stands for the block.  If it has none, any of its parts does.
            led = part.type == "block" and any(not inner.optional for inner in part.arguments)
            names += map(name_in, of_part[:1] if led else of_part)
        if argument.token is not None:
            statements = [f"{indent}if {' or '.join(given)}:", f"{indent}    words += ({quoted(argument.token)},)"]
            self._signature.code[place:place] = statements
        if check and not any(part.multiple for part in argument.arguments) and len(counts) > 1:
            conditions = [f"{name}={name}" for name in names]
            flag = "needed=True, " if needed else ""
            test = " + ".join(f"({count})" if " " in count else count for count in counts)
            test = f"{test} != 1" if needed else f"{test} > 1"
            self._signature.needs_one |= needed
            self._signature.checks.append(f"if {test}:")
            self._signature.checks.append(f"    exclusive({quoted(self._command)}, {flag}{', '.join(conditions)})")
        return given

    def _multiple(self, argument: Argument, indent: str, *, last: bool) -> list[str]:
        if argument.is_scalar:
            return self._several_scalars(argument, indent, last=last)
        if argument.type == "oneof" and all(p.token is not None and p.type != "block" for p in argument.arguments):
            return self._alternatives(argument, indent, needed=False)
        row = None if argument.type == "oneof" else scalars_of(argument)
        name_type = "Sequence[Value]" if row is None else row_type(argument)
        if row is None and not argument.multiple_token:
            # The form is too complex for a signature: each item is a tuple of words.
            name = self._name(argument.name)
            self._signature.positional.append(Parameter(name, name_type, star=True))
            self._append(indent, f"*flat({name})")
            return []
        token = argument.token
        reverse = row is not None and len(row) == 2 and row[0].type in ("double", "integer") and row[1].type == "string"
        if row is not None and len(row) == 2:
            first, second = map(scalar_type, reversed(row) if reverse else row)
            name_type = f"{mapping_type(first, second)} | Iterable[{row_type(argument)}]"
        else:
            name_type = f"Iterable[{name_type}]"
        lay_out = "flat_reversed" if reverse else "flat"
        if argument.multiple_token:
            name = self._keyword(name_type, "()", token or argument.name)
            rows = f"{name}.items() if isinstance({name}, Mapping) else {name}" if "Mapping" in name_type else name
            self._statement(indent, f"for row in {rows}:")
            self._append(indent + "    ", quoted(token), "*row")
            return [f"bool({name})"]
        if argument.optional or token is not None:
            name = self._keyword(name_type, "()", token or argument.name)
            self._statement(indent, f"if {name}:")
            self._append(indent + "    ", *token_words(argument), f"*{lay_out}({name})")
            return [f"bool({name})"]
        name = self._required(name_type, argument.name)
        self._append(indent, f"*{lay_out}({name})")
        return []

    def _several_scalars(self, argument: Argument, indent: str, *, last: bool) -> list[str]:
        type_ = self._type(argument)
        if argument.multiple_token:
            name = self._keyword(f"{type_} | Iterable[{type_}]", "()", argument.token or argument.name)
            self._statement(indent, f"for item in each({name}):")
            self._append(indent + "    ", quoted(argument.token), "item")
            return [f"bool({name})"]
        if argument.token is not None:
            name = self._keyword(f"{type_} | Iterable[{type_}]", "()", argument.token, argument.name)
            self._statement(indent, f"if listed := each({name}):")
            self._append(indent + "    ", quoted(argument.token), "*listed")
            return [f"{name} != ()"]
        name = self._name(plural(argument.name))
        if last and not any(parameter.default for parameter in self._signature.positional):
            self._signature.positional.append(Parameter(name, type_, star=True))
            self._append(indent, f"*{name}")
            return []
        default = "()" if argument.optional else None
        self._signature.positional.append(Parameter(name, f"{type_} | Iterable[{type_}]", default))
        self._append(indent, f"*each({name})")
        return [f"{name} != ()"]

    def _counted(self, argument: Argument, indent: str, *, last: bool) -> None:
        """Make a parameter for a number and as many values.  The method counts the values."""
        if argument.is_scalar:
            type_ = self._type(argument)
            name = self._name(plural(argument.name))
            if last and not argument.optional:
                self._signature.positional.append(Parameter(name, type_, star=True))
                self._append(indent, f"len({name})", f"*{name}")
                return
            default = "()" if argument.optional else None
            self._signature.positional.append(Parameter(name, f"{type_} | Iterable[{type_}]", default))
            self._statement(indent, f"listed = each({name})")
            self._append(indent, "len(listed)", "*listed")
            return
        row = scalars_of(argument)
        if row is None or len(row) != 2:
            raise NotImplementedError(f"{self._command}: {argument.name} must be a block of two values")
        first, second = map(scalar_type, row)
        name = self._required(f"{mapping_type(first, second)} | Iterable[{row_type(argument)}]", argument.name)
        self._statement(indent, f"listed = flat({name})")
        self._append(indent, "len(listed) // 2", "*listed")

    def _streams(self, block: Argument, indent: str) -> None:
        first, second = map(scalar_type, block.arguments)
        name = self._required(mapping_type(first, second), block.name)
        self._append(indent, *token_words(block), f"*columns({name})")

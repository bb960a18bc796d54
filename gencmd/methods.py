"""Writes the typed methods: one per command, for the client, and in the same words for whatever queues commands."""

from __future__ import annotations

import builtins
import re
import textwrap
from collections.abc import Iterable, Mapping

from txvalkeycluster.commands import DefinitionError, converters
from txvalkeycluster.commands.definition import Definition
from txvalkeycluster.commands.overrides import REFUSED

from .shapes import identifier
from .signature import Signature, signature_of

_WIDTH = 116
_PAGE = "https://valkey.io/commands/{}/"
# Options from which on the case that none is given has a way of its own.
_MANY = 5
_NOTES = {
    "MSET": "Over several slots it is not atomic: others may see some keys set and others not yet, and a failure may "
    "leave it so.",
    "WAIT": "On a cluster the least of what every shard's primary says.",
    "SCAN": "Of one node: give it to one with execute_on, or use scan_iter for all of them.",
}
_HEADER = '"""{title}  Written by gencmd; do not edit."""\n\n'
_MODULE = """from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, Literal

from twisted.internet.defer import Deferred

from {package} import converters
from {method_support} import (
    MISSING,
    AnyKey,
    AnyValue,
    Bound,
    Key,
    Runner,
    Text,
    Value,
    columns,
    each,
    exclusive,
    flat,
    flat_reversed,
    leaderless,
    needed,
    stream_entry,
)
"""
_QUEUED = """from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Literal, Self

from .method_support import MISSING, AnyKey, AnyValue, Bound, Key, Text, Value

class {name}(Generic[Text]):
"""


_ALIASES = {"DEL": "delete"}


def write_methods(
    definitions: Iterable[Definition], of: Mapping[str, tuple[str, str | None]], class_name: str, inside: bool
) -> str:
    """The module with the methods; ``inside`` the package it imports from next door."""
    chosen = callable_ones(definitions)
    constants = {
        f"_{identifier(definition.name).upper()}": convert
        for definition in chosen
        if (convert := of[definition.name][1]) is not None and _is_made(convert)
    }
    methods = [_method(definition, *of[definition.name]) for definition in chosen]
    methods += [f"    {alias} = {name}" for name, alias in _aliases(chosen)]
    body = "\n\n".join(methods)
    package = "" if inside else "txvalkeycluster.commands"
    header = _MODULE.format(package=package or ".", method_support=f"{package}.method_support")
    title = "Every command as a method."
    made = "".join(line + "\n" for name, convert in constants.items() for line in _constant(name, convert))
    klass = f"\n\nclass {class_name}(Runner, Generic[Text]):\n"
    klass += '    """One method per command; ``Text`` is what replies hold."""\n\n'
    made = f"\n{made}" if made else ""
    return _HEADER.format(title=title) + _only_used(header, made + klass + body) + made + klass + body + "\n"


def write_queued(definitions: Iterable[Definition], queued_name: str) -> str:
    """The stub that says the same of what queues commands: each method returns the queue itself."""
    title = "The methods of `methods`, as they are typed where commands are queued."
    heads = [_head(definition, _signature(definition), "Self") + " ..." for definition in callable_ones(definitions)]
    header = _HEADER.format(title=title) + _QUEUED.format(name=queued_name)
    heads += [f"    {alias} = {name}" for name, alias in _aliases(callable_ones(definitions))]
    return _only_used(header, f"(Generic[Text]) {' '.join(heads)}") + "\n".join(heads) + "\n"


def _aliases(definitions: Iterable[Definition]) -> list[tuple[str, str]]:
    """The names that other clients use for what Python has no name for: ``delete`` for DEL."""
    return [(identifier(d.name), _ALIASES[d.name]) for d in definitions if d.name in _ALIASES]


def callable_ones(definitions: Iterable[Definition]) -> list[Definition]:
    """Those that get a method, by name: not the refused ones, and not those that are nothing without a subcommand."""
    definitions = list(definitions)
    containers = {definition.name.split()[0] for definition in definitions if " " in definition.name}
    empty = {d.name for d in definitions if d.name in containers and d.command.arity < -1}
    chosen = sorted((d for d in definitions if d.name not in REFUSED and d.name not in empty), key=lambda d: d.name)
    methods: dict[str, str] = {}
    for definition in chosen:
        name = identifier(definition.name)
        if name in methods:
            raise DefinitionError(f"{methods[name]} and {definition.name} would both be the method {name}")
        methods[name] = definition.name
    return chosen


def _only_used(header: str, body: str) -> str:
    """The header without the imported names that nothing in the body uses."""
    kept: list[str] = []
    for line in header.splitlines():
        one = re.fullmatch(r"    (\w+),", line)
        if one and not re.search(rf"\b{one[1]}\b", body):
            continue
        names = re.fullmatch(r"((?:from \S+ )?import) ([\w, ]+)", line)
        if names and "__future__" not in line:
            used = [name for name in names[2].split(", ") if re.search(rf"\b{name}\b", body)]
            line = f"{names[1]} {', '.join(used)}" if used else ""
            if not used:
                continue
        kept.append(line)
    return "\n".join(kept) + "\n"


def _of_converters(convert: str) -> str:
    """A converter's expression with its names looked up in the module."""
    names = {name for name, value in vars(converters).items() if not name.startswith("_") and builtins.callable(value)}
    return re.sub(r"(?<![\w\"-])([a-z_]+)\b(?!=)", lambda m: f"converters.{m[0]}" if m[0] in names else m[0], convert)


def _signature(definition: Definition) -> Signature:
    signature = signature_of(definition.command, definition.arguments)
    if definition.name == "XADD":
        # Other clients take the id last, and make one if there is none.
        next(parameter for parameter in signature.positional if parameter.name == "data").default = "MISSING"
        signature.checks.append("id, data = stream_entry(id, data)")
    return signature


def _head(definition: Definition, signature: Signature, returns: str) -> str:
    name = identifier(definition.name)
    parameters = ["self", *signature.parameters]
    line = f"    def {name}({', '.join(parameters)}) -> {returns}:"
    if len(line) <= _WIDTH:
        return line
    one = f"    def {name}(\n        {', '.join(parameters)}\n    ) -> {returns}:"
    if max(map(len, one.splitlines())) <= _WIDTH:
        return one
    return f"    def {name}(\n        " + ",\n        ".join(parameters) + f",\n    ) -> {returns}:"


def _method(definition: Definition, type_: str, convert: str | None) -> str:
    signature = _signature(definition)
    lines = [_head(definition, signature, f"Deferred[{type_}]"), *_docstring(definition)]
    result = ""
    if convert is not None:
        made = _is_made(convert)
        result = f", _{identifier(definition.name).upper()}" if made else f", {_of_converters(convert)}"
    opening = ", ".join(signature.opening)
    tuple_ = f"({opening},)" if len(signature.opening) == 1 else f"({opening})"
    if not signature.code:
        lines += _wrapped(f"        return self._run({tuple_}{result})")
    else:
        lines += _short_way(signature, f"        return self._run({tuple_}{result})")
        lines += [wrapped for check in signature.checks for wrapped in _wrapped(f"        {check}")]
        lines.append(f"        words: list[Any] = [{opening}]")
        lines += [wrapped for line in signature.code for wrapped in _wrapped(f"        {line}")]
        lines += _wrapped(f"        return self._run(words{result})")
    return "\n".join(lines)


def _short_way(signature: Signature, call: str) -> list[str]:
    """Of a command with many options, none of which is given: of SET's cost this leaves a third."""
    if len(signature.keywords) < _MANY or not signature.only_options or signature.needs_one or "if " in call:
        return []
    if sum(line.startswith("if ") for line in signature.code) == 1:
        # All of them are one block's, and that it is not there is told as soon.
        return []
    tests = [p.name if p.default == "False" else f"{p.name} is not None" for p in signature.keywords]
    if any(p.default not in ("False", "None") for p in signature.keywords):
        return []
    test = " or ".join(tests)
    if len(test) > _WIDTH - 24:
        # The words of each term stay together.
        rows = textwrap.wrap(test.replace(" is not None", "~" * 12), _WIDTH - 12, break_long_words=False)
        rows = [row.replace("~" * 12, " is not None") for row in rows]
        return ["        if not (", *(f"            {row}" for row in rows), "        ):", f"    {call}"]
    return [f"        if not ({test}):", f"    {call}"]


def _is_made(convert: str) -> bool:
    """Whether a converter is put together from others, which is done once."""
    return "(" in convert


def _constant(name: str, convert: str) -> list[str]:
    line = f"{name} = {_of_converters(convert)}"
    if len(line) <= _WIDTH + 4:
        return [line]
    head, _, tail = line.partition("(")
    return [f"{head}(", *(f"    {part}" for part in textwrap.wrap(tail.removesuffix(")"), _WIDTH)), ")"]


def _wrapped(line: str) -> list[str]:
    """A statement of one call, its arguments on a line of their own if it is long."""
    if len(line) <= _WIDTH + 4:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    head, _, tail = line.partition("(")
    return [f"{head}(", f"{indent}    {tail.removesuffix(')')}", f"{indent})"]


def _docstring(definition: Definition) -> list[str]:
    syntax = " ".join([definition.name, *(argument.syntax for argument in definition.arguments)])
    first, *more = textwrap.wrap(syntax, _WIDTH - 12, break_long_words=False, break_on_hyphens=False)
    lines = [f'        """{first}', *(f"            {line}" for line in more), ""]
    facts = [_complexity(definition.complexity)]
    facts.append(f"Since {definition.since}." if definition.since else "")
    if definition.deprecated_since:
        facts.append(f"Deprecated since {definition.deprecated_since}.")
    if definition.group != "module" and definition.group:
        facts.append(_PAGE.format(definition.name.lower().replace(" ", "-")))
    lines.append("        " + "  ".join(fact for fact in facts if fact))
    if definition.name in _NOTES:
        note = textwrap.wrap(_NOTES[definition.name], _WIDTH - 8)
        lines += ["", *(f"        {line}" for line in note)]
    return [*lines, '        """']


def _complexity(text: str) -> str:
    """The orders named in a text, in the order they come."""
    found: list[str] = []
    for match in re.finditer(r"\bO\(", text):
        depth, end = 1, match.end()
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        found.append(text[match.start() : end])
    return f"{', '.join(dict.fromkeys(found))}." if found else ""

"""Call every generated method with each of its options, and compare the command with the documented syntax."""

from __future__ import annotations

import inspect
import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from twisted.internet.defer import Deferred

from gencmd.shapes import identifier
from tests.cases import SynchronousTestCase
from txvalkeycluster.commands import CommandTable
from txvalkeycluster.commands.converters import Convert
from txvalkeycluster.commands.encoder import pack
from txvalkeycluster.commands.method_support import MISSING
from txvalkeycluster.commands.methods import Commands

TABLE = CommandTable()
#: The full names of commands, by method name.
COMMANDS = {
    identifier(command.name): command.name for each in TABLE.commands for command in (each, *each.subcommands.values())
}
#: Sample values for arguments whose types do not determine their form.
FREE: dict[tuple[str, str], list[Any]] = {
    ("bitfield", "operation"): [("GET", "u8", 10), ("OVERFLOW", "WRAP", "INCRBY", "u8", 20, 30)],
    ("cluster_replicate", "args"): ["id-1"],
    ("cluster_migrateslots", "migration_group"): [("SLOTSRANGE", 10, 20, "NODE", "id-1")],
}
#: Commands whose arguments are not documented.
UNDOCUMENTED = ["DEBUG"]
#: Commands that need one of their options, though the documentation marks each as optional.
NEED_MORE = ["CLIENT KILL", "GEOSEARCH", "GEOSEARCHSTORE"]
COLLECTIONS = (Mapping, Iterable, Sequence)

ENDS = {"[": "]", "<": ">"}
# Tokens are upper-case. The few lower-case tokens match as values.
VALUE = "[a-z0-9][a-z0-9._-]* "

# The errors of methods whose options exclude or need each other.
TAKES_ONE = re.compile("takes one of (?P<all>.+), but got (?P<given>.+)")
NEEDS_ONE = re.compile("needs one of (?P<all>.+)")
ONLY_WITH = re.compile("takes (?P<given>.+) only together with (?P<missing>.+)")
NEEDS = re.compile("needs (?P<missing>.+)")


class Recorder(Commands[bytes]):
    """Records the words of a command and sends nothing."""

    def __init__(self) -> None:
        self.words: list[Any] = []

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Deferred[Any]:
        assert convert is None or callable(convert)
        self.words = list(words)
        return Deferred()


class Samples:
    """Different sample values for all parameters. With ``lone``, one value where several are allowed."""

    def __init__(self, method: str, *, lone: bool) -> None:
        self._method = method
        self._lone = lone
        # Larger than any count that a method computes.
        self._numbers = itertools.count(1001)

    def of(self, name: str, hint: Any) -> Any:
        """Return a sample value of a type."""
        origin, parts = get_origin(hint), get_args(hint)
        if origin in (Union, UnionType):
            return self.of(name, self._chosen([part for part in parts if part is not NoneType]))
        if origin is Literal:
            return parts[-1 if self._lone else 0]
        if origin is tuple:
            return tuple(self.of(name, part) for part in parts)
        if origin is Mapping:
            return {self.of(name, parts[0]): self.of(name, parts[1]) for _ in range(2)}
        if origin in COLLECTIONS:
            return [self.of(name, parts[0]) for _ in range(2)]
        number = next(self._numbers)
        if hint is bool:
            return True
        if isinstance(hint, TypeVar) or hint in (bytes, str):
            return f"{name}-{number}"
        return hint(number)

    def free(self, name: str, hint: Any) -> Any:
        """Return sample values for ``*name``."""
        return FREE.get((self._method, name)) or [self.of(name, hint) for _ in range(2)]

    def _chosen(self, parts: list[Any]) -> Any:
        several = [part for part in parts if get_origin(part) in COLLECTIONS]
        if several and len(several) < len(parts):
            parts = [part for part in parts if (part in several) != self._lone]
        elif several:
            # The choice is between a mapping and rows.
            return several[-1 if self._lone else 0]
        return bytes if bytes in parts else parts[0]


class Method:
    """One method, with a sample value for each of its parameters."""

    def __init__(self, name: str, *, lone: bool = False) -> None:
        self.name = name
        function: Callable[..., Any] = getattr(Commands, name)
        syntax = " ".join((inspect.getdoc(function) or "").split("\n\n")[1].split())
        self.command = COMMANDS[name]
        self.pattern = pattern_of(syntax)
        self._parameters = list(inspect.signature(function).parameters.values())[1:]
        hints, samples = get_type_hints(function), Samples(name, lone=lone)
        self.values = {
            one.name: (samples.free if one.kind is one.VAR_POSITIONAL else samples.of)(one.name, hints[one.name])
            for one in self._parameters
        }
        self.options = [one.name for one in self._parameters if one.default not in (one.empty, MISSING)]

    def call(self, options: Collection[str] = ()) -> list[Any]:
        """Return the words of a call with the required parameters and some options.

        Raises the TypeError of the method.
        """
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for one in self._parameters:
            value = self.values[one.name]
            if one.kind is one.VAR_POSITIONAL:
                args += value
            elif one.name not in self.options:
                args.append(value)
            elif one.name in options:
                kwargs[one.name] = value
        recorder = Recorder()
        result = getattr(recorder, self.name)(*args, **kwargs)
        assert isinstance(result, Deferred)
        return recorder.words

    def given(self, options: Collection[str]) -> list[str]:
        """Return the names of the parameters that such a call passes."""
        return [one.name for one in self._parameters if one.name not in self.options or one.name in options]


def methods(*, lone: bool = False) -> Iterator[Method]:
    for name, function in inspect.getmembers(Commands, inspect.isfunction):
        # An alias is the same method again.
        if not name.startswith("_") and function.__name__ == name:
            yield Method(name, lone=lone)


def both() -> Iterator[Method]:
    """Return each method twice: with several values where several are allowed, and with one."""
    yield from methods()
    yield from methods(lone=True)


def leaves(value: Any) -> list[Any]:
    """Return the words in a value."""
    if isinstance(value, Mapping):
        return [word for pair in value.items() for word in pair]
    if isinstance(value, (list, tuple)):
        return [word for item in value for word in leaves(item)]
    return [] if value is True else [value]


def pattern_of(syntax: str) -> re.Pattern[str]:
    """Return a pattern for the documented syntax of a command; a space follows each word."""
    parts = iter([*re.findall(r"\.\.\.|[\[\]<>|]|[^\s\[\]<>|]+", syntax), ""])

    def until(end: str) -> str:
        made, repeated = "", False
        while (part := next(parts)) != end:
            if part == "...":
                repeated = True
            elif part in ENDS:
                made += until(ENDS[part])
            elif part == "|":
                made += part
            elif part == part.upper():
                made += re.escape(part) + " "
            else:
                made += VALUE
        if not end:
            return made + (f"(?:{VALUE}|[A-Z]+ )*$" if repeated else "$")
        times = {("]", False): "?", ("]", True): "*", (">", False): "", (">", True): "+"}
        return f"(?:{made}){times[end, repeated]}"

    return re.compile("^" + until(""))


class MethodTests(SynchronousTestCase):
    def test_patterns_of_documented_syntax(self) -> None:
        """A pattern accepts correct calls and refuses wrong ones."""
        for syntax, right, wrong in [
            ("X key [NX | XX]", ["X k ", "X k NX "], ["X ", "X k NX XX ", "X k nx ", "Y k "]),
            ("X <A a | B> [C]", ["X A 1 ", "X B C "], ["X ", "X C ", "X A B "]),
            ("X a [a ...]", ["X 1 ", "X 1 2 3 "], ["X "]),
            ("X <A | B> ...", ["X A B "], ["X c? "]),
        ]:
            for words in right:
                self.assertRegex(words, pattern_of(syntax))
            for words in wrong:
                self.assertNotRegex(words, pattern_of(syntax))

    def test_required_parameters(self) -> None:
        """Every method builds a documented command without options."""
        for method in both():
            self.assert_builds(method, ())

    def test_one_option(self) -> None:
        """Every option builds the documented command, together with the options that it needs."""
        for method in both():
            for option in method.options:
                given = self.assert_builds(method, [option])
                self.assertIn(option, given)

    def test_two_options(self) -> None:
        """Every pair of options builds a documented command, or is refused for a reason that is true."""
        for method in methods():
            for options in itertools.combinations(method.options, 2):
                try:
                    words = method.call(options)
                except TypeError as error:
                    self.reason(method, options, error)
                else:
                    self.assert_documented(method, options, words)

    def test_all_options(self) -> None:
        """All options that do not exclude each other build a documented command."""
        for method in both():
            self.assert_builds(method, method.options)

    def test_a_missing_alternative_is_refused(self) -> None:
        """Some commands need one of several options. The server would refuse a call without one."""
        for name in ("client_setinfo", "cluster_setslot", "cluster_slot_stats", "geosearch", "geosearchstore"):
            self.assertIn("needs one of", str(self.assertRaises(TypeError, Method(name).call)), name)

    def test_an_exclusive_option(self) -> None:
        """SHUTDOWN ABORT is refused together with any other option, not only with the first."""
        method = Method("shutdown")
        for other in ("nosave", "save", "now", "force", "safe", "failover"):
            error = self.assertRaises(TypeError, method.call, [other, "abort"])
            self.assertIn(f"but got {other} and abort", str(error))

    def assert_builds(self, method: Method, options: Collection[str]) -> Collection[str]:
        """Check a call, after adding the options that errors ask for and removing those that errors exclude.

        Returns the options of the successful call.
        """
        given, dropped = list(options), set[str]()
        while True:
            try:
                words = method.call(given)
                break
            except TypeError as error:
                add, remove = self.reason(method, given, error)
            if add and not dropped.intersection(add):
                given += add
            else:
                dropped.update(remove)
                given = [option for option in given if option not in remove]
        self.assert_documented(method, given, words)
        return given

    def reason(self, method: Method, options: Collection[str], error: TypeError) -> tuple[list[str], list[str]]:
        """Check the text of an error; return the options to add, or else to remove, to avoid the error."""
        name, _, text = str(error).partition(method.command + " ")
        self.assertEqual(name, "", error)
        if found := TAKES_ONE.fullmatch(text):
            given = found["given"].split(" and ")
            self.assertGreater(len(given), 1, error)
            self.assertLessEqual(set(given), {*options} & {*found["all"].split(", ")}, error)
            return [], given[1:]
        if found := NEEDS_ONE.fullmatch(text):
            alternatives = found["all"].split(", ")
            self.assertFalse({*options} & {*alternatives}, error)
            return alternatives[:1], []
        found = ONLY_WITH.fullmatch(text) or NEEDS.fullmatch(text)
        assert found is not None, error
        self.assertIn(found["missing"], set(method.options) - {*options}, error)
        dependents = found.groupdict().get("given", "").split(", ")
        self.assertTrue(dependents == [""] or {*options} & {*dependents}, error)
        return [found["missing"]], dependents

    def assert_documented(self, method: Method, options: Collection[str], words: list[Any]) -> None:
        """Check that the words are the documented command, with every given value in the documented order."""
        command = TABLE[words[0]].resolve(words)
        self.assertEqual(words[: len(command.name.split())], command.name.split())
        self.assertEqual((command.known, command.name), (True, method.command), words)
        if command.name not in NEED_MORE:
            fits = len(words) == command.arity if command.arity > 0 else len(words) >= -command.arity
            self.assertTrue(fits, words)
        self.assertTrue(pack(words))
        if command.name not in UNDOCUMENTED:
            self.assertRegex("".join(f"{word} " for word in words), method.pattern)
        places: list[int] = []
        for name in method.given(options):
            value = method.values[name]
            if value is True:
                self.assertIn(name, [identifier(word) for word in words if isinstance(word, str)], words)
                continue
            missing = Counter(leaves(value)) - Counter(words)
            self.assertFalse(missing, words)
            if name not in method.options:
                places.append(min(map(words.index, leaves(value))))
        self.assertEqual(places, sorted(places), words)

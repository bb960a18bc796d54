"""The command line of gencmd: the code that it writes for a module, and its errors."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from gencmd import __main__ as generator
from gencmd.__main__ import main
from tests.cases import SynchronousTestCase

ROOT = Path(__file__).parents[2]
MODULE = json.loads((ROOT / "examples/counters.json").read_text())


class GeneratorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        # A module that is written twice within a second can have the same size: Python would load the cached first one.
        self.patch(sys, "dont_write_bytecode", True)

    def run_main(self, *arguments: str) -> tuple[int, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*arguments, "-o", str(self.folder / "out"), "--class", "Counters"])
        return code, err.getvalue()

    def written(self, name: str, content: Any) -> str:
        file = self.folder / name
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(file)

    def load(self, name: str) -> Any:
        spec = importlib.util.spec_from_file_location(name, self.folder / "out" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def made_of(self, *arguments: dict[str, Any], **fields: Any) -> Any:
        """Return an object whose method ``x`` has these arguments and returns the words of the command."""
        self.run_main(self.written("one.json", {"X": {"arguments": arguments, **fields}}))
        made = self.load("methods").Counters()
        made._run = lambda words, convert=None: list(words)
        return made

    def test_a_module(self) -> None:
        """The written methods build the commands of the module, and the written table finds their keys."""
        self.assertEqual(self.run_main(str(ROOT / "examples/counters.json")), (0, ""))
        counters = self.load("methods").Counters()
        counters._run = lambda words, convert=None: (list(words), convert and convert(b"1.5"))
        self.assertEqual(counters.ct_add("k", {"a": 1, "b": 2})[0], ["CT.ADD", "k", "a", 1, "b", 2])
        self.assertEqual(counters.ct_sum("a", ["k", "l"]), (["CT.SUM", "a", 2, "k", "l"], 1.5))
        self.assertEqual(counters.ct_sum("a", "k", scale=2)[0], ["CT.SUM", "a", 1, "k", "SCALE", 2])
        commands = {command.name: command for command in self.load("generated").COMMANDS}
        self.assertEqual(commands["CT.ADD"].keyed, True)
        self.assertEqual(list(commands["CT.SUM"].keys(["CT.SUM", "a", 2, "k", "l"])), ["k", "l"])

    def test_forms_of_arguments(self) -> None:
        """Every form of argument that JSON can describe has a signature and builds the right words."""
        word, number = {"name": "word", "type": "string"}, {"name": "number", "type": "integer"}
        yes, no = ({"name": name, "type": "pure-token", "token": name.upper()} for name in ("yes", "no"))
        several = {**word, "token": "W", "multiple": True}
        cases: list[tuple[list[Any], Any, dict[str, Any], list[Any]]] = [
            ([word, {**number, "optional": True}], ["w"], {}, ["w"]),
            ([word, {**number, "optional": True}], ["w", 5], {}, ["w", 5]),
            ([{**word, "multiple": True}], ["a", "b"], {}, ["a", "b"]),
            ([{**word, "multiple": True}, number], [["a", "b"], 1], {}, ["a", "b", 1]),
            ([{**word, "multiple": True}, number], ["a", 1], {}, ["a", 1]),
            ([{**yes, "optional": True}], [], {"yes": True}, ["YES"]),
            ([{"name": "x", "type": "oneof", "arguments": [yes, no]}], ["NO"], {}, ["NO"]),
            ([{"name": "x", "type": "oneof", "optional": True, "arguments": [yes, no]}], [], {"no": True}, ["NO"]),
            (
                [{"name": "x", "type": "oneof", "optional": True, "token": "IF", "arguments": [yes, no]}],
                [], {"if_": "NO"}, ["IF", "NO"],
            ),
            (
                [{"name": "x", "type": "block", "optional": True, "token": "LIMIT", "arguments": [word, number]}],
                [], {"limit": ("w", 1)}, ["LIMIT", "w", 1],
            ),
            (
                [{"name": "x", "type": "block", "multiple": True, "arguments": [word, number]}],
                [{"a": 1}], {}, ["a", 1],
            ),
            (
                [{"name": "x", "type": "block", "multiple": True, "arguments": [word, number, word]}],
                [[("a", 1, "b")]], {}, ["a", 1, "b"],
            ),
            (
                [{"name": "x", "type": "block", "optional": True, "token": "OF",
                  "arguments": [word, {**number, "optional": True, "token": "N"}]}],
                [], {"of": "w", "n": 3}, ["OF", "w", "N", 3],
            ),
            ([{**several, "multiple_token": True}], [], {"w": ["a", "b"]}, ["W", "a", "W", "b"]),
            ([{**several, "optional": True}], [], {"w": ["a", "b"]}, ["W", "a", "b"]),
            ([{**word, "name": name} for name in ("from", "self", "from")], "abc", {}, ["a", "b", "c"]),
        ]  # fmt: skip
        for arguments, args, kwargs, words in cases:
            self.assertEqual(self.run_main(self.written("one.json", {"X.Y": {"arguments": arguments}})), (0, ""))
            made = self.load("methods").Counters()
            made._run = lambda words, convert=None: list(words)
            self.assertEqual(made.x_y(*args, **kwargs), ["X.Y", *words], arguments)

    def test_an_option_that_needs_another_option(self) -> None:
        """An option that is valid only with another option is refused without it."""
        number = {"name": "count", "type": "integer"}
        any_ = {"name": "any", "type": "pure-token", "token": "ANY", "optional": True}
        block = {"name": "x", "type": "block", "optional": True, "arguments": [{**number, "token": "COUNT"}, any_]}
        made = self.made_of(block)
        self.assertEqual(made.x(count=1, any=True), ["X", "COUNT", 1, "ANY"])
        self.assertIn("only together with count", str(self.assertRaises(TypeError, made.x, any=True)))

    def test_two_commands_with_the_same_method_name(self) -> None:
        code, error = self.run_main(self.written("one.json", {"A.B": {"arity": 1}, "A-B": {"arity": 1}}))
        self.assertEqual(code, 1)
        self.assertIn("A-B and A.B would both be the method a_b", error)

    def test_very_many_flags(self) -> None:
        """A command with very many flags still gives valid Python."""
        flags = [f"A_LONG_FLAG_{number}" for number in range(20)]
        self.run_main(self.written("one.json", {"X": {"arity": 1, "command_flags": flags}}))
        self.assertEqual(len(self.load("generated").COMMANDS[0].flags), 20)

    def test_alternatives_exclude_each_other(self) -> None:
        values = [{"name": name, "type": "integer", "token": name.upper()} for name in ("ex", "px")]
        made = self.made_of({"name": "x", "type": "oneof", "arguments": values})
        self.assertEqual(made.x(ex=0), ["X", "EX", 0])
        self.assertIn("ex and px", str(self.assertRaises(TypeError, made.x, ex=0, px=1)))
        self.assertIn("needs one of ex, px", str(self.assertRaises(TypeError, made.x)))

    def test_a_missing_alternative_is_refused(self) -> None:
        """A call without any of the alternatives is refused, however many there are."""
        values = [{"name": name, "type": "integer", "token": name.upper()} for name in ("a", "b", "c", "d", "e")]
        made = self.made_of({"name": "x", "type": "oneof", "arguments": values})
        self.assertEqual(made.x(e=1), ["X", "E", 1])
        self.assertIn("needs one of a, b, c, d, e", str(self.assertRaises(TypeError, made.x)))

    def test_an_exclusive_option(self) -> None:
        """An exclusive option is refused together with each other option."""
        flags = [{"name": name, "type": "pure-token", "token": name.upper(), "optional": True} for name in "ab"]
        alone = {"name": "alone", "type": "pure-token", "token": "ALONE"}
        options = {"name": "options", "type": "block", "arguments": flags}
        made = self.made_of({"name": "x", "type": "oneof", "optional": True, "arguments": [options, alone]})
        self.assertEqual([made.x(a=True, b=True), made.x(alone=True)], [["X", "A", "B"], ["X", "ALONE"]])
        for name in ("a", "b"):
            error = self.assertRaises(TypeError, made.x, **{name: True}, alone=True)
            self.assertIn(f"but got {name} and alone", str(error))

    def test_docstrings(self) -> None:
        """The first line of a docstring is the first sentence of the summary.  No summary can break the module."""
        for summary, first, details in [
            ("Adds up. Then it forgets.", "Adds up.", "Then it forgets."),
            ("Adds up", "Adds up.", ""),
            ("", "Executes X.", ""),
            ("x" * 200, "Executes X.", "x" * 100),
            ('Ends it """\nearly\\', "Ends it ''' early/.", ""),
        ]:
            made = self.made_of(summary=summary)
            doc = inspect.getdoc(made.x) or ""
            self.assertEqual(doc.split("\n\n")[:2], [first, "X"])
            self.assertIn(details, doc)

    def test_installed(self) -> None:
        """An installed generator does not write the installed package: it demands a folder."""
        self.patch(generator, "IN_CHECKOUT", False)
        error = io.StringIO()
        with contextlib.redirect_stderr(error):
            self.assertRaises(SystemExit, main, [str(ROOT / "examples/counters.json")])
        self.assertIn("arguments are required: -o", error.getvalue())
        self.assertEqual(self.run_main(str(ROOT / "examples/counters.json")), (0, ""))

    def test_bad_input(self) -> None:
        """The error names the file and the field, and no file is written."""
        good = self.written("good.json", MODULE)
        for files, text in [
            ([self.written("bad.json", "{")], "bad.json: not valid JSON"),
            ([self.written("wrong.json", {"X": {"arity": "two"}})], "wrong.json: X.arity is str"),
            ([self.written("less.json", {"X": {}})], "less.json: X.arity is missing"),
            ([good, self.written("again.json", MODULE)], "CT.ADD is in good.json and in again.json"),
            ([str(self.folder / "none.json")], "none.json"),
            ([str(ROOT / "examples" / "..")], "no JSON files"),
        ]:
            code, error = self.run_main(*files)
            self.assertEqual(code, 1)
            self.assertIn(text, error)
            self.assertFalse((self.folder / "out").exists())
        self.assertRaises(SystemExit, self.run_main)
        self.assertRaises(SystemExit, self.run_main, good, "--server", "valkey://h")
        command = [sys.executable, "-m", "gencmd", "--server", "valkey://127.0.0.1:1", "-o", str(self.folder / "out")]
        asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        self.assertEqual(asked.returncode, 1)
        self.assertRegex(asked.stderr, "^gencmd: no node gave a slot map\n  127.0.0.1:1: ")

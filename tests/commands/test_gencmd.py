"""The generator's command line: what it writes for a module, and what it says of bad input."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gencmd.__main__ import main

ROOT = Path(__file__).parents[2]
MODULE = json.loads((ROOT / "examples/counters.json").read_text())


class GeneratorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

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

    def made_of(self, *arguments: dict[str, Any]) -> Any:
        """An object with a method ``x`` of such arguments, which returns its words."""
        self.run_main(self.written("one.json", {"X": {"arguments": arguments}}))
        made = self.load("methods").Counters()
        made._run = lambda words, convert=None: list(words)
        return made

    def test_a_module(self) -> None:
        """Its methods lay out their words, and its table knows the keys."""
        self.assertEqual(self.run_main(str(ROOT / "examples/counters.json")), (0, ""))
        counters = self.load("methods").Counters()
        counters._run = lambda words, convert=None: (list(words), convert and convert(b"1.5"))
        self.assertEqual(counters.ct_add("k", {"a": 1, "b": 2})[0], ["CT.ADD", "k", "a", 1, "b", 2])
        self.assertEqual(counters.ct_sum("a", ["k", "l"]), (["CT.SUM", "a", 2, "k", "l"], 1.5))
        self.assertEqual(counters.ct_sum("a", "k", scale=2)[0], ["CT.SUM", "a", 1, "k", "SCALE", 2])
        commands = {command.name: command for command in self.load("generated").COMMANDS}
        self.assertEqual(commands["CT.ADD"].keyed, True)
        self.assertEqual(list(commands["CT.SUM"].keys(["CT.SUM", "a", 2, "k", "l"])), ["k", "l"])

    def test_shapes(self) -> None:
        """Every shape of argument that JSON can describe has a signature that lays it out."""
        word, number = {"name": "word", "type": "string"}, {"name": "number", "type": "integer"}
        yes, no = ({"name": name, "type": "pure-token", "token": name.upper()} for name in ("yes", "no"))
        several = {**word, "token": "W", "multiple": True}
        for arguments, args, kwargs, words in [
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
        ]:  # fmt: skip
            self.assertEqual(self.run_main(self.written("one.json", {"X.Y": {"arguments": arguments}})), (0, ""))
            made = self.load("methods").Counters()
            made._run = lambda words, convert=None: list(words)
            self.assertEqual(made.x_y(*args, **kwargs), ["X.Y", *words], arguments)

    def test_options_of_options(self) -> None:
        """What means something only beside another is refused without it, not dropped."""
        number = {"name": "count", "type": "integer"}
        any_ = {"name": "any", "type": "pure-token", "token": "ANY", "optional": True}
        block = {"name": "x", "type": "block", "optional": True, "arguments": [{**number, "token": "COUNT"}, any_]}
        made = self.made_of(block)
        self.assertEqual(made.x(count=1, any=True), ["X", "COUNT", 1, "ANY"])
        self.assertIn("only together with count", str(self.assertRaises(TypeError, made.x, any=True)))

    def test_names_that_meet(self) -> None:
        code, error = self.run_main(self.written("one.json", {"A.B": {"arity": 1}, "A-B": {"arity": 1}}))
        self.assertEqual(code, 1)
        self.assertIn("A-B and A.B would both be the method a_b", error)

    def test_long_rows(self) -> None:
        """However many flags, the table is Python."""
        flags = [f"A_LONG_FLAG_{number}" for number in range(20)]
        self.run_main(self.written("one.json", {"X": {"arity": 1, "command_flags": flags}}))
        self.assertEqual(len(self.load("generated").COMMANDS[0].flags), 20)

    def test_alternatives_exclude_each_other(self) -> None:
        values = [{"name": name, "type": "integer", "token": name.upper()} for name in ("ex", "px")]
        made = self.made_of({"name": "x", "type": "oneof", "arguments": values})
        self.assertEqual(made.x(ex=0), ["X", "EX", 0])
        self.assertIn("ex and px", str(self.assertRaises(TypeError, made.x, ex=0, px=1)))
        self.assertIn("needs one of ex, px", str(self.assertRaises(TypeError, made.x)))

    def test_one_of_many_options_is_needed(self) -> None:
        """However many options there are, the call without any is refused too."""
        values = [{"name": name, "type": "integer", "token": name.upper()} for name in ("a", "b", "c", "d", "e")]
        made = self.made_of({"name": "x", "type": "oneof", "arguments": values})
        self.assertEqual(made.x(e=1), ["X", "E", 1])
        self.assertIn("needs one of a, b, c, d, e", str(self.assertRaises(TypeError, made.x)))

    def test_options_beside_what_stands_alone(self) -> None:
        """Each of them is refused beside it, whichever comes first."""
        flags = [{"name": name, "type": "pure-token", "token": name.upper(), "optional": True} for name in "ab"]
        alone = {"name": "alone", "type": "pure-token", "token": "ALONE"}
        options = {"name": "options", "type": "block", "arguments": flags}
        made = self.made_of({"name": "x", "type": "oneof", "optional": True, "arguments": [options, alone]})
        self.assertEqual([made.x(a=True, b=True), made.x(alone=True)], [["X", "A", "B"], ["X", "ALONE"]])
        for name in ("a", "b"):
            error = self.assertRaises(TypeError, made.x, **{name: True}, alone=True)
            self.assertIn(f"and was given {name} and alone", str(error))

    def test_bad_input(self) -> None:
        """Named by file and field, and nothing is written."""
        good = self.written("good.json", MODULE)
        for files, text in [
            ([self.written("bad.json", "{")], "bad.json: no JSON"),
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

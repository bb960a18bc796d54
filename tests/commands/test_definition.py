"""Command definitions from JSON, with and without key specifications, and the errors for malformed ones."""

from __future__ import annotations

import json
from typing import Any

from tests.cases import SynchronousTestCase
from txvalkeycluster.commands import Command, CommandTable, DefinitionError
from txvalkeycluster.commands.definition import assemble, read_definitions
from txvalkeycluster.slots import argument_slot

KEY = {"name": "key", "type": "key"}
KEYS = {**KEY, "multiple": True}
TEXT = {"name": "text", "type": "string"}
ALL = {"name": "all", "type": "pure-token", "token": "ALL"}
MODULE: dict[str, Any] = {
    "JSON.GET": {
        "arity": -2,
        "command_flags": ["READONLY"],
        "arguments": [KEY, {"name": "path", "type": "string", "optional": True, "multiple": True}],
    },
    "JSON.MGET": {"arguments": [KEYS, TEXT]},
    "JSON.MSET": {
        "arguments": [
            {
                "name": "row",
                "type": "block",
                "multiple": True,
                "arguments": [KEY, {"name": "path", "type": "string"}, {"name": "value", "type": "string"}],
            }
        ]
    },
    "JSON.MERGED": {
        "arguments": [
            {"name": "destination", "type": "key"},
            {"name": "numkeys", "type": "integer"},
            {**KEY, "multiple": True},
            {"name": "into", "type": "key", "token": "INTO", "optional": True},
        ]
    },
    "DEBUG": {"container": "JSON", "arity": -3, "arguments": [KEY]},
}


def table(definitions: dict[str, Any]) -> CommandTable:
    made = CommandTable([])
    made.extend(definitions)
    return made


class ModuleTests(SynchronousTestCase):
    def test_keys_from_arguments(self) -> None:
        """Modules publish no key specifications, so the positions of keys come from the arguments."""
        commands = table(MODULE)
        for call, keys in [
            ("JSON.GET k", ["k"]),
            ("json.get k .a .b", ["k"]),
            ("JSON.MGET a b c .path", ["a", "b", "c"]),
            ("JSON.MSET a . 1 b . 2", ["a", "b"]),
            ("JSON.MERGED d 2 a b", ["d", "a", "b"]),
            ("JSON.MERGED d 2 a b INTO e", ["d", "a", "b", "e"]),
            ("JSON DEBUG k", ["k"]),
        ]:
            self.assertEqual(commands.keys_of(call.split()), keys, call)

    def test_arity_from_arguments(self) -> None:
        commands = table(MODULE)
        self.assertEqual(
            {name: commands[name].arity for name in ("JSON.GET", "JSON.MGET", "JSON.MSET", "JSON.MERGED", "JSON")},
            {"JSON.GET": -2, "JSON.MGET": -3, "JSON.MSET": -4, "JSON.MERGED": -4, "JSON": -2},
        )

    def test_flags(self) -> None:
        commands = table(MODULE)
        self.assertTrue(commands["JSON.GET"].repeatable)
        self.assertFalse(commands["JSON.MSET"].repeatable)

    def test_extending_a_table(self) -> None:
        """New commands and subcommands are found, also by spellings looked up before. Other tables do not change."""
        commands = CommandTable()
        self.assertFalse(commands["json.get"].known)
        commands.extend(json.dumps(MODULE))
        self.assertTrue(commands["json.get"].known)
        self.assertEqual(commands["json.get"].keyed, True)
        commands.extend({"MINE": {"container": "CLIENT", "arity": 3, "arguments": [KEY]}})
        self.assertEqual(commands.keys_of(["CLIENT", "MINE", "k"]), ["k"])
        self.assertEqual(commands["CLIENT"].resolve(["CLIENT", "LIST"]).name, "CLIENT LIST")
        self.assertNotIn("MINE", CommandTable()["CLIENT"].subcommands)

    def test_learnt_commands_are_bounded(self) -> None:
        """The table stays small, however many names a program asks for."""
        commands = CommandTable()
        known = len(commands.commands)
        for number in range(10000):
            commands.learn([Command(f"NAME{number}")])
        self.assertLess(len(commands.commands), known + 5000)
        self.assertTrue(commands["NAME9999"].known)
        self.assertTrue(commands["GET"].known)


def x_with(*arguments: dict[str, Any]) -> CommandTable:
    """Return a table whose command X has these arguments."""
    return table({"X": {"arguments": list(arguments)}})


def group(kind: str, *arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": kind, "type": kind, "arguments": list(arguments), **more}


class NestedArgumentTests(SynchronousTestCase):
    def test_keys_within_groups(self) -> None:
        """Keys are found inside blocks and alternatives, and end where the next argument begins."""
        texts, path = {**TEXT, "multiple": True}, {**TEXT, "name": "path"}
        optional = {**TEXT, "optional": True, "token": "OPTION"}
        into = group("oneof", {**KEY, "name": "list"}, {**KEY, "name": "set"}, token="INTO")
        for arguments, call, keys in [
            ([group("block", TEXT, KEY)], "X t k", "k"),
            ([group("block", KEYS), TEXT], "X k l t", "k l"),
            ([group("block", KEYS, texts, token="STREAMS")], "X STREAMS k l 0 0", "k l"),
            ([optional, group("block", KEYS, texts, token="STREAMS")], "X OPTION t STREAMS k 0", "k"),
            ([group("oneof", KEY, ALL)], "X k", "k"),
            ([group("oneof", KEYS, ALL), TEXT], "X k l t", "k l"),
            ([group("oneof", KEY, {**KEY, "name": "other"})], "X k", "k"),
            ([group("oneof", group("block", KEY, path), group("block", ALL, TEXT)), KEY], "X k p l", "k l"),
            ([into, TEXT], "X INTO k t", "k"),
            ([TEXT, {**KEY, "token": "KEY"}], "X t KEY k", "k"),
        ]:
            self.assertEqual(x_with(*arguments).keys_of(call.split()), keys.split(), arguments)

    def test_an_empty_token(self) -> None:
        """JSON files write an empty token as two quotes."""
        (definition,) = read_definitions(json.dumps({"X": {"arguments": [{**ALL, "token": '""'}]}}), "my.json")
        self.assertEqual([argument.token for argument in definition.arguments], [""])

    def test_booleans_as_text(self) -> None:
        """Some JSON files have booleans in quotes."""
        for text, arity in [("true", -1), ("false", 2)]:
            self.assertEqual(x_with({**TEXT, "optional": text})["X"].arity, arity)


class KeySpecificationTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """Keys are found by index or keyword, as a range or by a count. A NOT_KEY argument routes but is not a key."""
        index, keyword = {"index": {"pos": 1}}, {"keyword": {"keyword": "keys", "startfrom": 1}}
        up_to_the_end = {"range": {"lastkey": -1, "step": 1, "limit": 0}}
        counted = {"keynum": {"keynumidx": 0, "firstkey": 1, "step": 1}}
        for begin, find, call, keys in [
            (index, up_to_the_end, "X k l", "k l"),
            (keyword, up_to_the_end, "X t KEYS k l", "k l"),
            (index, counted, "X 2 k l t", "k l"),
            (keyword, counted, "X t keys 1 k l", "k"),
            ({"unknown": None}, up_to_the_end, "X k", ""),
            (index, {"unknown": None}, "X k", ""),
        ]:
            spec = {"begin_search": begin, "find_keys": find}
            commands = table({"X": {"arity": -2, "key_specs": [spec]}})
            self.assertEqual(commands.keys_of(call.split()), keys.split(), spec)
            commands = table({"X": {"arity": -2, "key_specs": [{**spec, "flags": ["NOT_KEY"]}]}})
            self.assertEqual(commands.keys_of(call.split()), [], spec)
            places = commands["X"].places(call.split())
            self.assertEqual([call.split()[place] for place in places], keys.split(), spec)

    def test_commands_of_sentinel_are_left_out(self) -> None:
        """Nodes of a cluster do not have the commands of Sentinel."""
        flags = {"command_flags": ["ONLY_SENTINEL"]}
        self.assertEqual(read_definitions(json.dumps({"X": {"arity": 1, **flags}}), "my.json"), [])


class MalformedTests(SynchronousTestCase):
    def assert_wrong(self, content: Any, *parts: str) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        error = self.assertRaises(DefinitionError, read_definitions, text, "my.json")
        self.assertTrue(str(error).startswith("my.json: "), str(error))
        for part in parts:
            self.assertIn(part, str(error))

    def test_text_that_is_not_an_object_of_commands(self) -> None:
        for text in ("", "{", "nope", '{"X": }'):
            self.assert_wrong(text, "not valid JSON")
        contents: list[Any] = [[], 5, None, "text"]
        for content in contents:
            self.assert_wrong(json.dumps(content), "not an object of commands")
        self.assert_wrong({"X": []}, "X is list")

    def test_malformed_fields(self) -> None:
        """The error names the file, the command and the field."""
        good = {"arity": 2, "arguments": [KEY]}
        spec = {"begin_search": {"index": {"pos": 1}}, "find_keys": {"range": {"lastkey": 0, "step": 1, "limit": 0}}}
        changes: list[tuple[dict[str, Any], str]] = [
            ({"arity": "2"}, "X.arity is str, not int"),
            ({"arguments": {}}, "X.arguments is dict, not list"),
            ({"arguments": [5]}, "X.arguments[0] is int"),
            ({"arguments": [{"type": "key"}]}, "X.arguments[0].name is missing"),
            ({"arguments": [{"name": "key"}]}, "X.arguments[0].type is missing"),
            ({"arguments": [{"name": "key", "type": "kee"}]}, "X.arguments[0].type is 'kee'"),
            ({"arguments": [{**KEY, "optional": "perhaps"}]}, "X.arguments[0].optional is str"),
            ({"arguments": [{"name": "x", "type": "block"}]}, "X.arguments[0].arguments"),
            ({"arguments": [{"name": "x", "type": "oneof", "arguments": [KEY, 7]}]}, "X.arguments[0].arguments[1]"),
            ({"arguments": [{"name": "x", "type": "pure-token"}]}, "X.arguments[0].token is missing"),
            ({"key_specs": [7]}, "X.key_specs[0] is int"),
            ({"key_specs": [{}]}, "X.key_specs[0].begin_search is missing"),
            ({"key_specs": [{**spec, "begin_search": {"odd": 1}}]}, "X.key_specs[0].begin_search has neither"),
            ({"key_specs": [{**spec, "find_keys": {"odd": 1}}]}, "X.key_specs[0].find_keys has neither"),
            (
                {"key_specs": [{**spec, "find_keys": {"range": {"lastkey": 0, "step": 0, "limit": 0}}}]},
                "X.key_specs[0].find_keys.range.step is 0",
            ),
            ({"key_specs": [{**spec, "begin_search": {"index": {}}}]}, "X.key_specs[0].begin_search.index.pos is"),
            ({"command_flags": "WRITE"}, "X.command_flags is str"),
            ({"container": 5}, "X.container is int"),
            ({"reply_schema": []}, "X.reply_schema is list"),
        ]
        for change, part in changes:
            self.assert_wrong({"X": {**good, **change}}, part)
        self.assert_wrong({"X": {}}, "X.arity is missing")

    def test_ambiguous_key_positions(self) -> None:
        """If the arguments do not determine where a key is, the error asks for key_specs."""
        optional, several = {**TEXT, "optional": True}, {**TEXT, "multiple": True}
        count = {"name": "numkeys", "type": "integer"}
        for arguments in [
            [optional, KEY],
            [several, KEY],
            [KEYS, optional],
            [optional, count, KEYS],
            [{**count, "optional": True}, KEYS],
            [optional, count, {**KEYS, "token": "KEYS"}],
            [group("block", KEYS, several), TEXT],
            [group("block", KEY, several, token="OF", optional=True)],
            [group("block", KEY, optional, multiple=True)],
            [group("oneof", KEY, ALL, multiple=True)],
        ]:
            self.assert_wrong({"X": {"arity": -2, "arguments": arguments}}, "X.arguments: ", "give key_specs")

    def test_a_command_that_is_defined_twice(self) -> None:
        definitions = read_definitions(json.dumps({"X": {"arity": 1}}), "a") * 2
        self.assertIn("X is defined twice", str(self.assertRaises(DefinitionError, assemble, definitions)))


class SlotOfModuleCommandTests(SynchronousTestCase):
    def test_a_path_is_not_a_key(self) -> None:
        """JSON.GET with a path is routed by its key."""
        commands = table(MODULE)
        command = commands["JSON.GET"]
        self.assertEqual(argument_slot(next(command.keys(["JSON.GET", "k", "path"]))), argument_slot("k"))

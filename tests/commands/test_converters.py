"""Converters give the same Python value for the RESP2 form and for the RESP3 form of a reply."""

from __future__ import annotations

from typing import Any

from tests.cases import SynchronousTestCase
from txvalkeycluster.commands import converters
from txvalkeycluster.commands.converters import Convert, list_of, mapping, number, pair, pairs, row


class ReplyTests(SynchronousTestCase):
    def test_resp2_and_resp3_give_the_same_value(self) -> None:
        cases: list[tuple[Convert, Any, Any, Any]] = [
            (number, b"1.5", 1.5, 1.5),
            (number, "inf", float("inf"), float("inf")),
            (number, None, None, None),
            (number, 3, 3, 3),
            (list_of(number), [b"1", None, b"-inf"], [1.0, None, float("-inf")], [1.0, None, float("-inf")]),
            (mapping(), [b"a", b"1", b"b", b"2"], {b"a": b"1", b"b": b"2"}, {b"a": b"1", b"b": b"2"}),
            (mapping(fields={"n": number}), [b"n", b"1", b"m", b"1"], {b"n": 1.0, b"m": b"1"}, {b"n": 1.0, b"m": b"1"}),
            (mapping(fields={"n": number}), ["n", "1"], {"n": 1.0}, {"n": 1.0}),
            (mapping(number), [b"a", b"1"], {b"a": 1.0}, {b"a": 1.0}),
            (row(None, number, rest=number), [b"1", b"2", b"3"], [b"1", 2.0, 3.0], [b"1", 2.0, 3.0]),
            (pairs(number), [b"a", b"1", b"b", b"2"], [[b"a", 1.0], [b"b", 2.0]], [(b"a", 1.0), (b"b", 2.0)]),
            (pairs(), [], [], []),
            (pair(None, number), [b"a", b"1"], [b"a", 1.0], (b"a", 1.0)),
            (converters.as_set, [b"a", b"b"], [b"b", b"a"], {b"a", b"b"}),
            (converters.as_set, b"a", b"a", b"a"),
            (converters.popped, [], [], None),
            (converters.streams, [[b"s", [[b"1-1", [b"f", b"v"]]]]], {b"s": [[b"1-1", [b"f", b"v"]]]},
             {b"s": [(b"1-1", {b"f": b"v"})]}),
            (converters.streams, None, None, {}),
            (converters.entries, [[b"1-1", None], None], [[b"1-1", None], None], [(b"1-1", None), None]),
            (converters.entries, [b"1-1"], [b"1-1"], [b"1-1"]),
            (converters.located, [b"m", b"0.5", 7, [b"1.5", b"2.5"]], [b"m", b"0.5", 7, [1.5, 2.5]],
             [b"m", b"0.5", 7, (1.5, 2.5)]),
            (converters.nested_mapping, [b"db.0", [b"x", 5], b"r", b"1.5"], {b"db.0": {b"x": 5}, b"r": 1.5},
             {b"db.0": {b"x": 5}, b"r": 1.5}),
        ]  # fmt: skip
        for convert, old, new, value in cases:
            self.assertEqual(convert(old), value)
            self.assertEqual(convert(new), value)

    def test_text_in_a_nested_reply_stays_text(self) -> None:
        """Text that is not a number is not converted."""
        self.assertEqual(converters.nested_mapping([b"a", b"jemalloc", b"b", b"0.5"]), {b"a": b"jemalloc", b"b": 0.5})

    def test_the_reply_of_each_node_is_converted(self) -> None:
        self.assertEqual(converters.by_node(number)({"h:1": b"1.5", "h:2": None}), {"h:1": 1.5, "h:2": None})

    def test_nested_replies(self) -> None:
        """Every nested map becomes a dict, at any depth and in both RESP versions."""
        cases: list[tuple[Convert, Any, Any]] = [
            (converters.stream_groups,
             [[b"name", b"g", b"consumers", [[b"name", b"c"]]]], [{b"name": b"g", b"consumers": [{b"name": b"c"}]}]),
            (converters.stream_groups, 2, 2),
            (converters.command_docs,
             [b"x", [b"arguments", [[b"name", b"a", b"arguments", [[b"name", b"b"]]]],
                     b"subcommands", [b"x|y", [b"since", b"9"]]]],
             {b"x": {b"arguments": [{b"name": b"a", b"arguments": [{b"name": b"b"}]}],
                     b"subcommands": {b"x|y": {b"since": b"9"}}}}),
            (converters.command_info,
             [[b"x", 1, [], 0, 0, 0, [], [],
               [[b"begin_search", [b"type", b"index", b"spec", [b"index", 1]], b"find_keys", [b"type", b"range"]]],
               [[b"x|y", 2]]], None],
             [[b"x", 1, [], 0, 0, 0, [], [],
               [{b"begin_search": {b"type": b"index", b"spec": {b"index": 1}}, b"find_keys": {b"type": b"range"}}],
               [[b"x|y", 2]]], None]),
            (converters.function_stats,
             [b"running_script", [b"name", b"f"], b"engines", [b"LUA", [b"libraries_count", 1]]],
             {b"running_script": {b"name": b"f"}, b"engines": {b"LUA": {b"libraries_count": 1}}}),
            (converters.function_stats, [b"running_script", None], {b"running_script": None}),
        ]  # fmt: skip
        for convert, flat, nested in cases:
            self.assertEqual(convert(flat), nested)
            self.assertEqual(convert(nested), nested)

    def test_null_stays_none(self) -> None:
        """Converters return None for a null reply."""
        for convert in (list_of(number), mapping(), row(number), pair(number), pairs(), number, converters.as_set):
            self.assertIs(convert(None), None)

"""How commands are routed and split by slot, and how the replies of several nodes are combined."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.cases import SynchronousTestCase
from txvalkeycluster.commands import CommandTable
from txvalkeycluster.errors import RoutingError
from txvalkeycluster.requests.target import ANY_NODE
from txvalkeycluster.routing.plan import Plan, Scope, cut, plan_command
from txvalkeycluster.routing.response_policy import combine
from txvalkeycluster.slots import key_slot

TABLE = CommandTable()


def routed(call: str, *, split: bool = True) -> Plan:
    args = call.split()
    return plan_command(TABLE[args[0]].resolve(args), args, split=split)


class RouteTests(SynchronousTestCase):
    def test_by_key(self) -> None:
        """Keys in one slot give that slot, at any position. A shard channel is routed like a key."""
        for call, key in [
            ("GET k", "k"), ("MSET {k}a 1 {k}b 2", "k"), ("EVAL s 2 {k}a {k}b x", "k"), ("SORT k STORE {k}d", "k"),
            ("XREAD COUNT 1 STREAMS k 0", "k"), ("OBJECT ENCODING k", "k"), ("SPUBLISH k m", "k"),
            ("SINTERSTORE {k}d {k}a {k}b", "k"), ("MIGRATE h 1 k 0 9", "k"),
        ]:  # fmt: skip
            self.assertEqual(routed(call), Plan(Scope.ONE, key_slot(key)), call)

    def test_without_keys(self) -> None:
        """A command without keys goes where its policy says, or to any node."""
        for call, scope in [
            ("DBSIZE", Scope.SHARDS), ("FLUSHALL", Scope.SHARDS), ("KEYS *", Scope.SHARDS),
            ("SCRIPT LOAD s", Scope.NODES), ("CONFIG SET a b", Scope.NODES), ("PUBSUB CHANNELS", Scope.NODES),
            ("PING", Scope.ONE), ("EVAL s 0", Scope.ONE), ("PUBLISH c m", Scope.ONE), ("CLIENT ID", Scope.ONE),
            ("CLIENT SETNAME x", Scope.ONE), ("GET", Scope.ONE), ("RANDOMKEY", Scope.SHARDS),
        ]:  # fmt: skip
            self.assertEqual(routed(call), Plan(scope, ANY_NODE), call)
        for call in ("SCAN 0",):
            self.assertIn("execute_on", str(self.assertRaises(RoutingError, routed, call)))

    def test_keys_in_several_slots(self) -> None:
        """A few commands are split by slot. The error for the others names two keys and their slots."""
        split = ["MGET a b", "MSET a 1 b 2", "MSETEX 2 a 1 b 2", "DEL a b", "UNLINK a b", "EXISTS a b", "TOUCH a b"]
        for call in split:
            self.assertEqual(routed(call), Plan(Scope.SLOTS), call)
            error = self.assertRaises(RoutingError, routed, call, split=False)
            self.assertIn(f"'a' in {key_slot('a')} and 'b' in {key_slot('b')}", str(error))
        for call in (
            "SINTER a b", "RENAME a b", "MSETNX a 1 b 2", "EVAL s 2 a b", "PFCOUNT a b", "SORT a STORE b",
            "MSETEX 2 a 1 b 2 NX", "MSETEX 2 a 1 b 2 EX 5 xx", "XREAD STREAMS a b 0 0", "SUNION a a b",
        ):  # fmt: skip
            error = self.assertRaises(RoutingError, routed, call)
            self.assertIn(f"'a' in {key_slot('a')} and 'b' in {key_slot('b')}", str(error), call)
        long = self.assertRaises(RoutingError, routed, f"SINTER a {'b' * 9999}")
        self.assertLess(len(str(long)), 300)

    def test_an_mset_that_lacks_a_value(self) -> None:
        """The client refuses an MSET over several slots that lacks a value, so that no part is written."""
        error = self.assertRaises(RoutingError, routed, "MSET a 1 b")
        self.assertEqual(str(error), "MSET has no value for its last key")
        self.assertEqual(routed("MSET {k}a 1 {k}b"), Plan(Scope.ONE, key_slot("k")))


class CutTests(SynchronousTestCase):
    @given(st.lists(st.text(alphabet="abc{}", min_size=1, max_size=4), min_size=2, max_size=30))
    def test_every_key_is_in_one_part(self, keys: list[str]) -> None:
        """Every key is in the part of its slot, in the order of the caller and with its value."""
        pairs = [word for number, key in enumerate(keys) for word in (key, number)]
        calls: list[tuple[list[Any], list[Any], list[Any]]] = [
            (["MGET"], keys, []),
            (["MSET"], pairs, []),
            (["MSETEX", len(keys)], pairs, ["EX", 10]),
        ]
        for head, rows, tail in calls:
            args = (*head, *rows, *tail)
            command = TABLE[args[0]]
            parts = list(cut(command, args, [key_slot(key) for key in keys]))
            self.assertEqual(sorted(number for _, _, numbers in parts for number in numbers), list(range(len(keys))))
            self.assertEqual(len({slot for slot, _, _ in parts}), len(parts))
            for slot, words, numbers in parts:
                self.assertEqual(plan_command(command, words), Plan(Scope.ONE, slot))
                self.assertEqual(list(command.keys(words)), [keys[number] for number in numbers])
                if "MSET" in str(head[0]):
                    values = words[len(head) + 1 : len(words) - len(tail) : 2]
                    self.assertEqual(list(values), list(numbers))
                self.assertEqual(list(words[len(words) - len(tail) :]), tail)


class CombineTests(SynchronousTestCase):
    def combined(self, policy: str | None, *replies: Any) -> Any:
        return combine(policy, [(f"node {number}", reply) for number, reply in enumerate(replies)])

    def test_numbers(self) -> None:
        cases: list[tuple[str, list[Any], Any]] = [
            ("agg_sum", [1, 2, 3], 6), ("agg_min", [3, 1, 2], 1), ("agg_max", [3, 1, 2], 3),
            ("agg_logical_and", [1, 1, 1], 1), ("agg_logical_and", [1, 0, 1], 0),
            ("agg_logical_or", [0, 0], 0), ("agg_logical_or", [0, 1], 1),
            ("agg_logical_and", [[1, 1, 0], [1, 0, 0]], [1, 0, 0]), ("agg_min", [[1, 5], [2, 3]], [1, 3]),
            ("agg_sum", [7], 7),
        ]  # fmt: skip
        for policy, replies, result in cases:
            self.assertEqual(self.combined(policy, *replies), result, (policy, replies))

    def test_collections(self) -> None:
        cases: list[tuple[str | None, list[Any], Any]] = [
            (None, [[b"a"], [], [b"b", b"c"]], [b"a", b"b", b"c"]),
            (None, [{b"a": 1}, {b"b": 2}], {b"a": 1, b"b": 2}),
            (None, [b"x", b"x"], b"x"),
            ("union", [[b"a", b"b"], [b"b", b"c"]], [b"a", b"b", b"c"]),
            ("sum_by_name", [[b"a", 1, b"b", 2], [b"b", 3, b"c", 0]], [b"a", 1, b"b", 5, b"c", 0]),
            ("all_succeeded", [b"OK", b"OK"], b"OK"),
            ("any_not_null", [None, b"k", None], b"k"),
            ("any_not_null", [None, None], None),
            ("special", [b"x", b"y"], {"node 0": b"x", "node 1": b"y"}),
        ]
        for policy, replies, result in cases:
            self.assertEqual(self.combined(policy, *replies), result, (policy, replies))

    def test_random_key(self) -> None:
        """RANDOMKEY has the keys of every node, not always those of the first."""
        found = {self.combined("any_not_null", b"a", None, b"b") for _ in range(200)}
        self.assertEqual(found, {b"a", b"b"})

    def test_numbers_in_any_order(self) -> None:
        numbers = list(range(20))
        random.Random(1).shuffle(numbers)
        self.assertEqual(self.combined("agg_sum", *numbers), 190)
        self.assertEqual(self.combined("agg_min", *numbers), 0)

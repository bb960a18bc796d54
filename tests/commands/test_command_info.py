"""How the command table reads COMMAND and COMMAND INFO."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.cases import SynchronousTestCase
from tests.commands.command_infos import REPLY, Part, entry, flat, spec_reply
from txvalkeycluster.commands import CommandTable
from txvalkeycluster.errors import ProtocolError


class ReplyTests(SynchronousTestCase):
    def check(self, table: CommandTable) -> None:
        mset, xread, script = table["MSET"], table["XREAD"], table["EVAL"]
        self.assertEqual((mset.keyed, mset.request_policy, mset.flags), (False, "multi_shard", {"write"}))
        self.assertEqual(list(mset.keys(["MSET", "a", "1", "b", "2"])), ["a", "b"])
        self.assertEqual(list(xread.keys(["XREAD", "COUNT", "1", "STREAMS", "a", "b", "0", "0"])), ["a", "b"])
        self.assertEqual((xread.keyed, xread.repeatable), (False, True))
        self.assertEqual(list(script.keys(["EVAL", "s", "2", "a", "b", "c"])), ["a", "b"])
        self.assertEqual(list(table["SORT"].keys(["SORT", "k", "STORE", "d"])), ["k", "d"])
        flush = table["FLUSHALL"]
        self.assertEqual((flush.request_policy, flush.response_policy), ("all_shards", "all_succeeded"))
        self.assertEqual(set(table["OBJECT"].subcommands), {"ENCODING", "HELP"})
        self.assertTrue(table["OBJECT"].subcommands["ENCODING"].repeatable)

    def test_resp3(self) -> None:
        """The table reads maps, as RESP3 sends them."""
        self.check(CommandTable.from_reply(REPLY))

    def test_resp2(self) -> None:
        """The table reads flat lists, as RESP2 sends them."""
        self.check(CommandTable.from_reply(flat(REPLY)))

    def test_decoded(self) -> None:
        """The table reads text, as a client with an encoding receives it."""

        def text(value: Any) -> Any:
            if isinstance(value, dict):
                return {text(name): text(item) for name, item in value.items()}
            if isinstance(value, list):
                return [text(item) for item in value]
            return value.decode() if isinstance(value, bytes) else value

        self.check(CommandTable.from_reply(text(REPLY)))

    def test_sets(self) -> None:
        """The table reads sets of flags, categories and tips."""
        reply = copy.deepcopy(REPLY)
        for row in reply:
            for place in (2, 6, 7):
                row[place] = set(row[place])
        self.check(CommandTable.from_reply(reply))

    def test_entries_of_old_servers(self) -> None:
        """Old servers send first key, last key and step, and mark blocking commands by a category."""
        for row, args, found in [
            ([b"get", 2, [b"readonly"], 1, 1, 1], "GET a b", "a"),
            ([b"mset", -3, [b"write"], 1, -1, 2, []], "MSET a 1 b 2", "a b"),
            ([b"rename", 3, [b"write"], 1, 2, 1, [b"@keyspace"]], "RENAME a b c", "a b"),
            ([b"bitop", -4, [b"write"], 2, -1, 1, []], "BITOP AND a b c", "a b c"),
            ([b"ping", -1, [b"stale"], 0, 0, 0, []], "PING x", ""),
            ([b"xgroup", -2, [b"write"], 2, 2, 1, []], "XGROUP CREATE a g $", "a"),
            ([b"brpop", -3, [b"write"], 1, -2, 1, [b"@list", b"@blocking"], []], "BRPOP a b 0", "a b"),
        ]:
            words = args.split()
            command = CommandTable.from_reply([row])[words[0]]
            self.assertEqual(list(command.keys(words)), found.split(), args)
            self.assertEqual("blocking" in command.flags, words[0] == "BRPOP")
        self.assertTrue(command.blocks(words))

    def test_unknown_kinds_of_key_specifications(self) -> None:
        """A key specification of an unknown kind is ignored."""
        for begin, find in [("index", "tree"), ("regex", "range")]:
            reply = [entry("x", spec_reply((begin, {"new": 1}), (find, {"new": 1})))]
            self.assertEqual(CommandTable.from_reply(reply)["X"].key_specs, ())

    def test_a_server_without_commands(self) -> None:
        """An empty reply gives a table in which every command is unknown."""
        self.assertEqual(CommandTable.from_reply([])["GET"].key_specs, ())

    def test_a_reply_that_is_not_a_list(self) -> None:
        """The error names the type of the reply."""
        replies: list[Any] = [None, b"OK", {}, 5, OSError("x")]
        for reply in replies:
            error = self.assertRaises(ProtocolError, CommandTable.from_reply, reply)
            self.assertIn(f"the reply to COMMAND is {type(reply).__name__}", str(error))

    def assert_named(self, broken: Any, where: str = "COMMAND entry 1") -> None:
        reply = [REPLY[0], broken, REPLY[1]]
        error = self.assertRaises(ProtocolError, CommandTable.from_reply, reply)
        self.assertIn(where, str(error), broken)
        self.assertIn("is not valid", str(error))

    def test_malformed_entries(self) -> None:
        """The error names the position of the entry, and its command name if that can be read."""
        for broken in [5, b"get", b"", [], {}, {b"name": b"get"}, OSError("x"), [None], [[b"get"]], [b"\xff"]]:
            self.assert_named(broken)
        for broken in [
            [b"get"],
            [b"get", 2, None],
            [b"get", 2, 5],
            [b"get", 2, [5], 1, 1, 1],
            [b"get", 2, [None], 1, 1, 1],
            [b"get", 2, [b"\xff"], 1, 1, 1],
            [b"get", 2, []],
            [b"get", 2, [], 1, 1],
            [b"get", 2, [], b"1", 1, 1],
            [b"get", 2, [], 1, b"1", 1],
            [b"get", 2, [], 1, None, 1],
            [b"get", 2, [], 1, 1, 0],
            [b"get", 2, [], 1, 1, -1],
            [b"get", 2, [], 1.0, 1, 1],
            [b"get", 2, [], 1, 1, 1, None],
            [b"get", 2, [], 1, 1, 1, [], None],
            [b"get", 2, [], 1, 1, 1, [], [5]],
            [b"get", 2, [], 1, 1, 1, [], [], None],
            [b"get", 2, [], 1, 1, 1, [], [], [None]],
            [b"get", 2, [], 1, 1, 1, [], [], [[b"odd"]]],
            [b"get", 2, [], 1, 1, 1, [], [], [{}]],
            [b"get", 2, [], 1, 1, 1, [], [], [], None],
            [b"get", 2, [], 1, 1, 1, [], [], [], [None]],
        ]:
            self.assert_named(broken, "COMMAND entry 1 (GET)")
        self.assert_named(entry("object", subs=(entry("object|help"), [b"object|freq", 3])), "(OBJECT) (OBJECT|FREQ)")

    def test_malformed_specifications(self) -> None:
        """A key specification is refused if a field is missing or has the wrong type."""
        good: list[tuple[Part, Part]] = [
            (("index", {"index": 1}), ("range", {"lastkey": -1, "keystep": 1, "limit": 0})),
            (("keyword", {"keyword": b"K", "startfrom": 1}), ("keynum", {"keynumidx": 0, "firstkey": 1, "keystep": 1})),
        ]
        for parts in good:
            CommandTable.from_reply([entry("x", spec_reply(*parts))])
            wrong: list[Any] = [None, [], b"\xff", "1", 1.5, True, {}]
            for which in (0, 1):
                for field in parts[which][1]:
                    for value in wrong:
                        if field == "keyword" and value == "1":
                            continue
                        broken: list[Any] = [*parts]
                        broken[which] = (parts[which][0], {**parts[which][1], field: value})
                        self.assert_named(entry("x", spec_reply(*broken)), "COMMAND entry 1 (X)")
                        self.assert_named(flat(entry("x", spec_reply(*broken))), "COMMAND entry 1 (X)")
                    missing: list[Any] = [*parts]
                    missing[which] = (parts[which][0], {k: v for k, v in parts[which][1].items() if k != field})
                    self.assert_named(entry("x", spec_reply(*missing)), "COMMAND entry 1 (X)")
            whole = spec_reply(*parts)
            for name in (b"begin_search", b"find_keys"):
                for value in (None, 5, b"x", [], {}, {b"type": b"index"}, {b"spec": {}}, {b"type": 5, b"spec": {}}):
                    self.assert_named(entry("x", {**whole, name: value}), "COMMAND entry 1 (X)")
                self.assert_named(entry("x", {k: v for k, v in whole.items() if k != name}))

    @given(
        st.recursive(
            st.none() | st.integers(-3, 3) | st.binary(max_size=4) | st.floats() | st.sampled_from([b"get", b"index"]),
            lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.binary(max_size=4), inner, max_size=3),
            max_leaves=30,
        )
    )
    def test_any_reply_gives_a_table_or_a_protocol_error(self, reply: Any) -> None:
        """Any reply gives a usable table or a ProtocolError, and no other error."""
        for answer in (reply, [reply], [[b"get", 2, [], 1, 1, 1, [], [], reply, reply]]):
            try:
                table = CommandTable.from_reply(answer)
            except ProtocolError as error:
                self.assertTrue(str(error))
            else:
                for command in list(table.values()):
                    list(command.resolve(["X", "a"]).keys(["X", "a", 1, "b"]))

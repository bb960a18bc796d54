"""What commands mean: keys by every kind of specification, spellings, refusals, and COMMAND replies of every shape."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txvalkeycluster.commands import Command, CommandTable, KeySpec
from txvalkeycluster.commands.encoder import pack
from txvalkeycluster.errors import ProtocolError, RoutingError
from txvalkeycluster.slots import argument_slot, key_slot

STREAMS = KeySpec(1, b"STREAMS", last=-1, limit=2)
ANY_ARGUMENT = (
    st.text(max_size=6) | st.binary(max_size=6) | st.integers() | st.floats() | st.none() | st.sampled_from(["STREAMS"])
)


def keys(spec: KeySpec | tuple[KeySpec, ...], *args: Any) -> list[Any]:
    specs = spec if isinstance(spec, tuple) else (spec,)
    return list(Command("X", key_specs=specs).keys(args))


def spec_reply(begin: tuple[str, dict[str, Any]], find: tuple[str, dict[str, Any]]) -> dict[bytes, Any]:
    """A key specification as RESP3 sends it."""

    def part(kind: str, spec: dict[str, Any]) -> dict[bytes, Any]:
        return {b"type": kind.encode(), b"spec": {name.encode(): value for name, value in spec.items()}}

    return {b"flags": [b"RW"], b"begin_search": part(*begin), b"find_keys": part(*find)}


def entry(
    name: str, *specs: Any, flags: tuple[str, ...] = (), tips: tuple[str, ...] = (), subs: tuple[Any, ...] = ()
) -> list[Any]:
    """An entry of COMMAND as servers from 7.0 on send it."""
    wire = [[text.encode() for text in texts] for texts in (flags, tips)]
    return [name.encode(), -2, wire[0], 0, 0, 0, [b"@read"], wire[1], list(specs), list(subs)]


def flat(value: Any) -> Any:
    """The RESP2 shape of a reply: lists for maps."""
    if isinstance(value, dict):
        return [flat(item) for pair in value.items() for item in pair]
    return [flat(item) for item in value] if isinstance(value, list) else value


INDEX = ("index", {"index": 1})
ONE = ("range", {"lastkey": 0, "keystep": 1, "limit": 0})
RANGE = ("range", {"lastkey": -1, "keystep": 2, "limit": 0})
REPLY: list[Any] = [
    entry("mset", spec_reply(INDEX, RANGE), flags=("write",), tips=("request_policy:multi_shard",)),
    entry(
        "xread",
        spec_reply(
            ("keyword", {"keyword": b"streams", "startfrom": 1}), ("range", {"lastkey": -1, "keystep": 1, "limit": 2})
        ),
        flags=("readonly", "blocking", "movablekeys"),
    ),
    entry(
        "eval", spec_reply(("index", {"index": 2}), ("keynum", {"keynumidx": 0, "firstkey": 1, "keystep": 1})),
        flags=("noscript",),
    ),
    entry("sort", spec_reply(INDEX, ONE), spec_reply(("unknown", {}), ("unknown", {}))),
    entry(
        "object",
        subs=(
            entry("object|encoding", spec_reply(("index", {"index": 2}), RANGE), flags=("readonly",)),
            entry("object|help"),
        ),
    ),
    entry("flushall", tips=("request_policy:all_shards", "response_policy:all_succeeded", "nondeterministic_output")),
]  # fmt: skip


class KeySpecTests(SynchronousTestCase):
    def test_ranges(self) -> None:
        """From the begin to a place relative to it, or to the end of the command."""
        for spec, args, found in [
            (KeySpec(1), "X a b", "a"),
            (KeySpec(1), "X", ""),
            (KeySpec(2), "X a", ""),
            (KeySpec(2), "X a b", "b"),
            (KeySpec(1, last=1), "X a b c", "a b"),
            (KeySpec(1, last=1), "X a", "a"),
            (KeySpec(1, last=-1), "X a b c", "a b c"),
            (KeySpec(1, last=-2), "X a b 0", "a b"),
            (KeySpec(1, last=-2), "X a", ""),
            (KeySpec(1, last=-9), "X a b", ""),
            (KeySpec(1, last=-1, step=2), "X a 1 b 2", "a b"),
            (KeySpec(1, last=-1, step=2), "X a 1 b", "a b"),
            (KeySpec(1, last=2, step=2), "X a 1 b 2 c 3", "a b"),
            (KeySpec(1, last=999999999999999999999), "X a b", "a b"),
            (KeySpec(0), "X a", ""),
            (KeySpec(-1), "X a", ""),
        ]:
            self.assertEqual(keys(spec, *args.split()), found.split(), (spec, args))

    def test_limits(self) -> None:
        """A half or a third of what is left; 0 and 1 are no limit."""
        for limit, found in [(0, "a b 1 2"), (1, "a b 1 2"), (2, "a b"), (4, "a"), (5, "")]:
            self.assertEqual(keys(KeySpec(1, last=-1, limit=limit), "X", "a", "b", "1", "2"), found.split(), limit)
        self.assertEqual(keys(KeySpec(1, last=-1, limit=3), *["X", "a", "b", "1", "2", "3", "4"]), ["a", "b"])
        self.assertEqual(keys(KeySpec(1, last=-1, limit=2), *["X", "a", "b", "1"]), ["a"])

    def test_key_numbers(self) -> None:
        """As many as their number says, as far as there are any."""
        script = KeySpec(2, first=1, keynum=0)
        for number, found in [
            ("0", []), ("1", ["a"]), (b"2", ["a", "b"]), (2, ["a", "b"]), (bytearray(b"3"), ["a", "b", "c"]),
            (memoryview(b"1"), ["a"]), ("9", ["a", "b", "c"]), (10**30, ["a", "b", "c"]), ("-1", []), (-(10**30), []),
            ("x", []), (b"\xff", []), ("", []), (None, []), ([], []), (float("nan"), []), (float("inf"), []),
        ]:  # fmt: skip
            self.assertEqual(keys(script, "EVAL", "return 1", number, "a", "b", "c"), found, number)
        for args in ("EVAL", "EVAL s", "EVAL s 1"):
            self.assertEqual(keys(script, *args.split()), [], args)
        self.assertEqual(keys(KeySpec(1, first=1, step=2, keynum=0), "MSETEX", 2, "a", 1, "b", 2, "EX", 9), ["a", "b"])
        self.assertEqual(keys(KeySpec(1, first=2, keynum=1), *["X", "opt", "2", "a", "b", "c"]), ["a", "b"])
        self.assertEqual(keys(KeySpec(1, first=1, keynum=9), *["X", "1", "a"]), [])

    def test_keyword_forwards(self) -> None:
        """Behind the first one at or after the start, in any case and type."""
        for args, found in [
            ("XREAD STREAMS a 0", "a"),
            ("XREAD COUNT 2 STREAMS a b 0 0", "a b"),
            ("XREAD streams streams 0", "streams"),
            ("XREAD StReAmS a b STREAMS 0 0 0", "a b STREAMS"),
            ("XREAD STREAMS", ""),
            ("XREAD a 0", ""),
            ("XREAD", ""),
        ]:
            self.assertEqual(keys(STREAMS, *args.split()), found.split(), args)
        for word in (b"streams", bytearray(b"Streams"), memoryview(b"STREAMS")):
            self.assertEqual(keys(STREAMS, "XREAD", word, "a", "0"), ["a"])
        group = KeySpec(4, b"STREAMS", last=-1, limit=2)
        self.assertEqual(keys(group, *["XREADGROUP", "GROUP", "streams", "me", "STREAMS", "a", ">"]), ["a"])
        self.assertEqual(keys(group, *["XREADGROUP", "GROUP", "g", "streams", "STREAMS", "a", ">"]), ["a"])

    def test_keyword_backwards(self) -> None:
        """Behind the last one at or before the start, never the command itself."""
        last = KeySpec(-2, b"KEYS", last=-1)
        for args, found in [
            ("X h KEYS a b", "a b"),
            ("X KEYS a KEYS b", "b"),
            ("X h a KEYS", ""),
            ("KEYS a", ""),
            ("X", ""),
            ("", ""),
        ]:
            self.assertEqual(keys(last, *args.split()), found.split(), args)
        self.assertEqual(keys(KeySpec(-99, b"KEYS", last=-1), "X", "KEYS", "a"), [])

    def test_several(self) -> None:
        """In the order of the specifications, whatever types the keys have."""
        store = (KeySpec(1), KeySpec(2, first=1, keynum=0))
        self.assertEqual(keys(store, "ZUNIONSTORE", b"dst", 2, 5, 1.5, "WEIGHTS", 1, 2), [b"dst", 5, 1.5])

    @given(
        st.builds(
            KeySpec,
            st.integers(-5, 5),
            st.none() | st.just(b"STREAMS"),
            st.integers(0, 3),
            st.integers(-4, 4),
            st.integers(1, 3),
            st.integers(0, 4),
            st.none() | st.integers(0, 3),
        ),
        st.lists(ANY_ARGUMENT, max_size=8),
    )
    def test_positions_are_of_arguments(self, spec: KeySpec, args: list[Any]) -> None:
        """Whatever the arguments, no position is the name or beyond the last."""
        for position in spec.positions(args):
            self.assertTrue(0 < position < len(args))


class CommandTests(SynchronousTestCase):
    def test_keyed(self) -> None:
        """Set only where there is one key, always in the first place, and nothing has to be looked at first."""
        for command, keyed in [
            (Command("GET", key_specs=(KeySpec(1),)), True),
            (Command("RESTORE", key_specs=(KeySpec(2),)), False),
            (Command("BITOP", key_specs=(KeySpec(2), KeySpec(3, last=-1))), False),
            (Command("MGET", key_specs=(KeySpec(1, last=-1),)), False),
            (Command("PING"), False),
            (Command("XREAD", key_specs=(STREAMS,)), False),
            (Command("EVAL", key_specs=(KeySpec(2, first=1, keynum=0),)), False),
            (Command("X", key_specs=(KeySpec(0),)), False),
            (Command("X", key_specs=(KeySpec(-1),)), False),
            (Command("BLPOP", frozenset(["blocking"]), (KeySpec(1, last=-2),)), False),
            (Command("WATCH", key_specs=(KeySpec(1, last=-1),)), False),
            (Command("SSUBSCRIBE", key_specs=(KeySpec(1, last=-1),)), False),
            (Command("OBJECT", key_specs=(KeySpec(1),), subcommands={"HELP": Command("OBJECT HELP")}), False),
            (Command("MIGRATE", key_specs=(KeySpec(3), KeySpec(-2, b"KEYS", last=-1))), False),
        ]:
            self.assertEqual(command.keyed, keyed, command)

    def test_migrate(self) -> None:
        """Its one key, or the many behind KEYS, but never the empty text in between, nor a password."""
        migrate = Command("MIGRATE", key_specs=(KeySpec(3), KeySpec(-2, b"KEYS", last=-1)))
        for args, found in [
            ("MIGRATE h 1 k 0 9", ["k"]),
            ("MIGRATE h 1 k 0 9 COPY REPLACE", ["k"]),
            ("MIGRATE h 1 '' 0 9 KEYS a b", ["a", "b"]),
            ("MIGRATE h 1 '' 0 9 AUTH pw keys a", ["a"]),
            ("MIGRATE h 1 k 0 9 AUTH keys REPLACE", ["k"]),
            ("MIGRATE h 1 '' 0 9", [""]),
            ("MIGRATE h 1", []),
            ("MIGRATE", []),
        ]:
            words = [word.strip("'") for word in args.split()]
            self.assertEqual(list(migrate.keys(words)), found, args)
            wire = [word.encode() for word in words]
            self.assertEqual(list(migrate.keys(wire)), [key.encode() for key in found], args)

    def test_repeatable(self) -> None:
        """What only reads, and a few that neither read nor write."""
        for command, repeatable in [
            (Command("GET", frozenset(["readonly", "fast"])), True),
            (Command("PING"), True),
            (Command("SET", frozenset(["write"])), False),
            (Command("PUBLISH", frozenset(["pubsub"])), False),
            (Command("EVAL"), False),
            (Command("UNHEARD-OF"), False),
        ]:
            self.assertEqual(command.repeatable, repeatable, command)

    def test_policies(self) -> None:
        """The server's, except where any one node's answer is the answer, or where it tells none."""
        for name, told, policies in [
            ("DBSIZE", ("all_shards", "agg_sum"), ("all_shards", "agg_sum")),
            ("PING", ("all_shards", "all_succeeded"), (None, None)),
            ("CLIENT SETNAME", ("all_nodes", "all_succeeded"), (None, None)),
            ("RANDOMKEY", ("all_shards", "special"), ("all_shards", "any_not_null")),
            ("PUBSUB CHANNELS", (None, None), ("all_nodes", "union")),
        ]:
            command = Command(name, request_policy=told[0], response_policy=told[1])
            self.assertEqual((command.request_policy, command.response_policy), policies, name)

    def test_subcommands(self) -> None:
        """In any case and type; unknown ones and none at all are the command's own."""
        table = CommandTable.from_reply(REPLY)
        whole = table["OBJECT"]
        for word in ("ENCODING", "encoding", b"Encoding", bytearray(b"encoding"), memoryview(b"ENCODING")):
            command = whole.resolve(["OBJECT", word, "k"])
            self.assertEqual((command.name, list(command.keys(["OBJECT", word, "k"]))), ("OBJECT ENCODING", ["k"]))
        for args in [["OBJECT"], ["OBJECT", "nonsense", "k"], ["OBJECT", 5], ["OBJECT", None], ["OBJECT", b"\xff"]]:
            self.assertIs(whole.resolve(args), whole)
        self.assertEqual(list(whole.resolve(["OBJECT", "HELP"]).keys(["OBJECT", "HELP", "x"])), [])
        self.assertIs(table["MSET"].resolve(["MSET", "ENCODING"]), table["MSET"])


class RefusalTests(SynchronousTestCase):
    def refused(self, command: Command, *args: Any) -> bool:
        try:
            command.check_allowed(args)
        except RoutingError as error:
            self.assertTrue(str(error).startswith(f"{command.name} is not sent: "))
            return True
        return False

    def test_state_and_pubsub(self) -> None:
        """Refused whether the server knows them or not."""
        table = CommandTable.from_reply(REPLY)
        for name in [
            "AUTH", "HELLO", "SELECT", "RESET", "QUIT", "READONLY", "READWRITE", "ASKING", "MULTI", "EXEC", "DISCARD",
            "WATCH", "UNWATCH", "MONITOR", "SYNC", "PSYNC", "REPLCONF", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE",
            "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE",
        ]:  # fmt: skip
            for spelling in (name, name.lower(), name.encode(), name.title().encode()):
                self.assertTrue(self.refused(table[spelling], spelling, "x"), spelling)
                self.assertTrue(self.refused(table[spelling], spelling), spelling)

    def test_subcommands(self) -> None:
        """CLIENT REPLY and DEBUG PROTOCOL, whether the server tells of subcommands or not; their siblings are sent."""
        reply = Command("CLIENT REPLY")
        known = Command("CLIENT", subcommands={"REPLY": reply, "LIST": Command("CLIENT LIST")})
        for client in (known, Command("CLIENT")):
            for word in ("REPLY", b"reply", bytearray(b"Reply")):
                args = ("CLIENT", word, "OFF")
                self.assertTrue(self.refused(client.resolve(args), *args), word)
            for args in [("CLIENT", "LIST"), ("CLIENT",), ("CLIENT", 5), ("CLIENT", "SETNAME", "REPLY")]:
                self.assertFalse(self.refused(client.resolve(args), *args), args)
        self.assertTrue(self.refused(Command("DEBUG"), "DEBUG", "protocol", "push"))
        self.assertFalse(self.refused(Command("DEBUG"), "DEBUG", "SLEEP", 0))

    def test_blocking(self) -> None:
        """By the server's flag; it is no refusal."""
        for name, flags, blocks in [("BLPOP", ["blocking"], True), ("WAIT", ["blocking"], True), ("LPOP", [], False)]:
            command = Command(name, frozenset(flags))
            self.assertEqual(command.blocks((name, "BLOCK")), blocks)
            self.assertFalse(self.refused(command, name, "BLOCK"))

    def test_streams(self) -> None:
        """They block with the option BLOCK only, which a group, a consumer, a key and a count may look like."""
        for args, blocks in [
            ("XREAD STREAMS a 0", False),
            ("XREAD COUNT 1 STREAMS a 0", False),
            ("XREAD BLOCK 0 STREAMS a $", True),
            ("XREAD COUNT 1 block 0 STREAMS a $", True),
            ("XREAD STREAMS BLOCK 0", False),
            ("XREAD STREAMS a BLOCK 0 0", False),
            ("XREAD COUNT BLOCK STREAMS a 0", False),
            ("XREAD COUNT STREAMS BLOCK 0 STREAMS a $", True),
            ("XREAD", False),
            ("XREAD COUNT", False),
            ("XREADGROUP GROUP g me STREAMS a >", False),
            ("XREADGROUP GROUP g me BLOCK 0 STREAMS a >", True),
            ("XREADGROUP GROUP g me NOACK COUNT 1 BLOCK 0 STREAMS a >", True),
            ("XREADGROUP BLOCK 0 GROUP g me STREAMS a >", True),
            ("XREADGROUP COUNT 5 GROUP block me STREAMS a >", False),
            ("XREADGROUP GROUP block me STREAMS a >", False),
            ("XREADGROUP GROUP g block STREAMS a >", False),
            ("XREADGROUP GROUP streams me BLOCK 0 STREAMS a >", True),
            ("XREADGROUP GROUP g streams BLOCK 0 STREAMS a >", True),
            ("XREADGROUP GROUP g group BLOCK 0 STREAMS a >", True),
            ("XREADGROUP GROUP g me STREAMS BLOCK >", False),
        ]:
            words = args.split()
            command = Command(words[0], frozenset(["blocking"]), (STREAMS,))
            self.assertEqual(command.blocks(words), blocks, args)
            self.assertEqual(command.blocks([word.lower().encode() for word in words]), blocks, args)


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.table = CommandTable.from_reply(REPLY)

    def test_spellings(self) -> None:
        """Every one gives the same command, the first time and ever after."""
        for _ in range(2):
            for name in ("MSET", "mset", "mSet", b"MSET", b"mset", b"MseT", memoryview(b"mseT")):
                self.assertIs(self.table[name], self.table["MSET"], name)

    def test_look_up(self) -> None:
        """It is that of a dictionary, with nothing of ours in between, once a spelling has been seen."""
        self.assertIs(CommandTable.__getitem__, dict.__getitem__)
        self.assertNotIn("mSeT", dict(self.table))
        self.assertIs(self.table["mSeT"], dict(self.table)["mSeT"])

    def test_buffers_that_change(self) -> None:
        """They cannot be looked up, and packing refuses them, so that no queue holds a command without a name."""
        for name in (bytearray(b"MSET"), memoryview(bytearray(b"MSET"))):
            self.assertRaises((TypeError, ValueError), self.table.__getitem__, name)
            self.assertIn("the name of a command", str(self.assertRaises(TypeError, pack, (name, "k", "v"))))

    def test_names_of_other_types(self) -> None:
        """They are a TypeError that says so."""
        for name in (5, None, 1.5, True, ("MSET",), Command("MSET")):
            if name.__hash__ is not None and not isinstance(name, Command):
                self.assertIn("text or bytes", str(self.assertRaises(TypeError, self.table.__getitem__, name)))
        self.assertRaises(TypeError, self.table.__getitem__, ["MSET"])

    def test_unknown(self) -> None:
        """A command that is not known, without keys, and the table does not grow by it."""
        before = len(self.table)
        for name in ("nonsense", b"nonsense", b"\xff", "", b"", "MSET ", "OBJECT ENCODING", "object|help", "\u00e9"):
            command = self.table[name]
            self.assertEqual((command.key_specs, command.keyed, command.repeatable), ((), False, False), name)
            self.assertFalse(command.known)
            command.check_allowed((name,))
        self.assertEqual(self.table["nonsense"].name, "NONSENSE")
        self.assertEqual(len(self.table), before)

    def test_spellings_are_bounded(self) -> None:
        """However a program spells, the table does not grow without end, and stays right."""
        name = "flushall"
        for bits in range(2 ** len(name)):
            spelt = "".join(c.upper() if bits >> place & 1 else c for place, c in enumerate(name))
            for spelling in (spelt, spelt.encode()):
                self.assertIs(self.table[spelling], self.table["FLUSHALL"])
        wide = CommandTable([Command("A" * 13)])
        for bits in range(2**13):
            wide["".join("a" if bits >> place & 1 else "A" for place in range(13))]
        self.assertTrue(len(wide) < 5000)
        self.assertEqual(wide["a" * 12 + "A"].name, "A" * 13)

    def test_repr(self) -> None:
        """It counts commands, not spellings."""
        self.table["mset"], self.table[b"mset"]
        self.assertEqual(repr(self.table), f"<CommandTable of {len(REPLY)} commands>")


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
        """Maps."""
        self.check(CommandTable.from_reply(REPLY))

    def test_resp2(self) -> None:
        """Flat lists."""
        self.check(CommandTable.from_reply(flat(REPLY)))

    def test_decoded(self) -> None:
        """Text, as a connection that decodes replies reads it."""

        def text(value: Any) -> Any:
            if isinstance(value, dict):
                return {text(name): text(item) for name, item in value.items()}
            if isinstance(value, list):
                return [text(item) for item in value]
            return value.decode() if isinstance(value, bytes) else value

        self.check(CommandTable.from_reply(text(REPLY)))

    def test_sets(self) -> None:
        """Flags, categories and tips may come as sets."""
        reply = copy.deepcopy(REPLY)
        for row in reply:
            for place in (2, 6, 7):
                row[place] = set(row[place])
        self.check(CommandTable.from_reply(reply))

    def test_legacy(self) -> None:
        """First key, last key and step; blocking is a category."""
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

    def test_kinds_of_the_future(self) -> None:
        """A kind of specification that nobody knows yet is like one that cannot be told."""
        for begin, find in [("index", "tree"), ("regex", "range")]:
            reply = [entry("x", spec_reply((begin, {"new": 1}), (find, {"new": 1})))]
            self.assertEqual(CommandTable.from_reply(reply)["X"].key_specs, ())

    def test_empty(self) -> None:
        """A server without commands makes a table where all are unknown."""
        self.assertEqual(CommandTable.from_reply([])["GET"].key_specs, ())

    def test_no_list(self) -> None:
        """The text says what came instead."""
        for reply, kind in [(None, "NoneType"), (b"OK", "bytes"), ({}, "dict"), (5, "int"), (OSError("x"), "OSError")]:
            error = self.assertRaises(ProtocolError, CommandTable.from_reply, reply)
            self.assertIn(f"COMMAND answered {kind}", str(error))

    def assert_named(self, broken: Any, where: str = "COMMAND entry 1") -> None:
        reply = [REPLY[0], broken, REPLY[1]]
        error = self.assertRaises(ProtocolError, CommandTable.from_reply, reply)
        self.assertIn(where, str(error), broken)
        self.assertIn("cannot be read", str(error))

    def test_malformed_entries(self) -> None:
        """Each is named by its place, and by its name once that is known."""
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
        """Every field that is missing, or is no number where one belongs."""
        good = [
            (("index", {"index": 1}), ("range", {"lastkey": -1, "keystep": 1, "limit": 0})),
            (("keyword", {"keyword": b"K", "startfrom": 1}), ("keynum", {"keynumidx": 0, "firstkey": 1, "keystep": 1})),
        ]
        for parts in good:
            CommandTable.from_reply([entry("x", spec_reply(*parts))])
            for which in (0, 1):
                for field in parts[which][1]:
                    for value in (None, [], b"\xff", "1", 1.5, True, {}):
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
    def test_anything_is_a_table_or_a_clear_error(self, reply: Any) -> None:
        """Whatever a server sends gives a table that works, or ProtocolError."""
        for answer in (reply, [reply], [[b"get", 2, [], 1, 1, 1, [], [], reply, reply]]):
            try:
                table = CommandTable.from_reply(answer)
            except ProtocolError as error:
                self.assertTrue(str(error))
            else:
                for command in list(table.values()):
                    list(command.resolve(["X", "a"]).keys(["X", "a", 1, "b"]))


class SlotOfArgumentTests(SynchronousTestCase):
    @given(st.binary() | st.text() | st.integers() | st.floats())
    def test_slot_is_that_of_the_wire_form(self, key: Any) -> None:
        """A key is routed by the bytes that are sent for it."""
        packed = pack(("GET", key))
        assert isinstance(packed, bytes)
        wire = packed.split(b"\r\n", 4)[4][:-2]
        self.assertEqual(argument_slot(key), key_slot(wire))
        if isinstance(key, bytes):
            for buffer in (bytearray(key), memoryview(key), memoryview(bytearray(key))):
                self.assertEqual(argument_slot(buffer), key_slot(wire))

    def test_no_key(self) -> None:
        """What has no wire form has no slot."""
        for key in (None, True, [], {}, object()):
            self.assertIn("not " + type(key).__name__, str(self.assertRaises(TypeError, argument_slot, key)))

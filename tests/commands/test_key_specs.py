"""Where the keys of a command are, and the other properties of a ``Command``."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.cases import SynchronousTestCase
from tests.commands.command_infos import REPLY, STREAMS, keys
from txvalkeycluster.commands import Command, CommandTable, KeySpec

ANY_ARGUMENT = (
    st.text(max_size=6) | st.binary(max_size=6) | st.integers() | st.floats() | st.none() | st.sampled_from(["STREAMS"])
)


class KeySpecTests(SynchronousTestCase):
    def test_ranges(self) -> None:
        """A range ends at a position relative to its first key, or at the end of the command."""
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
        """A limit of N takes the first Nth of the remaining arguments; 0 and 1 are no limit."""
        for limit, found in [(0, "a b 1 2"), (1, "a b 1 2"), (2, "a b"), (4, "a"), (5, "")]:
            self.assertEqual(keys(KeySpec(1, last=-1, limit=limit), "X", "a", "b", "1", "2"), found.split(), limit)
        self.assertEqual(keys(KeySpec(1, last=-1, limit=3), *["X", "a", "b", "1", "2", "3", "4"]), ["a", "b"])
        self.assertEqual(keys(KeySpec(1, last=-1, limit=2), *["X", "a", "b", "1"]), ["a"])

    def test_key_counts(self) -> None:
        """A count says how many keys follow. A count that is not a positive number gives no keys."""
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
        self.assertEqual(keys(KeySpec(1, first=-1, keynum=0), *["X", "1", "a"]), [])

    def test_keyword_forwards(self) -> None:
        """The keys follow the first keyword at or after the start, in any case and any type."""
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
        """The keys follow the last keyword at or before the start. The command name is never the keyword."""
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

    def test_several_specifications(self) -> None:
        """The keys come in the order of the specifications, and keep their types."""
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
    def test_positions_are_within_the_arguments(self, spec: KeySpec, args: list[Any]) -> None:
        """No position is that of the command name or beyond the last argument."""
        for position in spec.positions(args):
            self.assertTrue(0 < position < len(args))


class CommandTests(SynchronousTestCase):
    def test_keyed(self) -> None:
        """``keyed`` is set only if the one key is always the first argument and no other argument changes the route."""
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
        """The keys of MIGRATE are its key argument, or the arguments after KEYS. A password is never a key."""
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
        """Commands that only read are repeatable, and so are a few that neither read nor write."""
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
        """The policies are those of the server, except where any node can answer or the server names no policy."""
        for name, sent, policies in [
            ("DBSIZE", ("all_shards", "agg_sum"), ("all_shards", "agg_sum")),
            ("PING", ("all_shards", "all_succeeded"), (None, None)),
            ("CLIENT SETNAME", ("all_nodes", "all_succeeded"), (None, None)),
            ("RANDOMKEY", ("all_shards", "special"), ("all_shards", "any_not_null")),
            ("PUBSUB CHANNELS", (None, None), ("all_nodes", "union")),
        ]:
            command = Command(name, request_policy=sent[0], response_policy=sent[1])
            self.assertEqual((command.request_policy, command.response_policy), policies, name)

    def test_subcommands(self) -> None:
        """Subcommands are found in any case and type. Otherwise the container command itself is used."""
        table = CommandTable.from_reply(REPLY)
        whole = table["OBJECT"]
        for word in ("ENCODING", "encoding", b"Encoding", bytearray(b"encoding"), memoryview(b"ENCODING")):
            command = whole.resolve(["OBJECT", word, "k"])
            self.assertEqual((command.name, list(command.keys(["OBJECT", word, "k"]))), ("OBJECT ENCODING", ["k"]))
        others: list[list[Any]] = [[], ["nonsense", "k"], [5], [None], [b"\xff"]]
        for args in (["OBJECT", *other] for other in others):
            self.assertIs(whole.resolve(args), whole)
        self.assertEqual(list(whole.resolve(["OBJECT", "HELP"]).keys(["OBJECT", "HELP", "x"])), [])
        self.assertIs(table["MSET"].resolve(["MSET", "ENCODING"]), table["MSET"])

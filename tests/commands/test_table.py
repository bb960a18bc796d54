"""The command table: refused commands, blocking commands, spellings, and the slot of an argument."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.cases import SynchronousTestCase
from tests.commands.command_infos import REPLY, STREAMS
from txvalkeycluster.commands import Command, CommandTable
from txvalkeycluster.commands.encoder import pack
from txvalkeycluster.errors import RoutingError
from txvalkeycluster.slots import argument_slot, key_slot

ANY_ARGUMENT = (
    st.text(max_size=6) | st.binary(max_size=6) | st.integers() | st.floats() | st.none() | st.sampled_from(["STREAMS"])
)


class RefusalTests(SynchronousTestCase):
    def refused(self, command: Command, *args: Any) -> bool:
        try:
            command.check_allowed(args)
        except RoutingError as error:
            self.assertTrue(str(error).startswith(f"{command.name} is not sent: "))
            return True
        return False

    def test_connection_state_and_subscriptions_are_refused(self) -> None:
        """AUTH, SELECT, MULTI, SUBSCRIBE and the like are refused, whether the server lists them or not."""
        table = CommandTable.from_reply(REPLY)
        for name in [
            "AUTH", "HELLO", "SELECT", "RESET", "QUIT", "READONLY", "READWRITE", "ASKING", "MULTI", "EXEC", "DISCARD",
            "WATCH", "UNWATCH", "MONITOR", "SYNC", "PSYNC", "REPLCONF", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE",
            "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE",
        ]:  # fmt: skip
            for spelling in (name, name.lower(), name.encode(), name.title().encode()):
                self.assertTrue(self.refused(table[spelling], spelling, "x"), spelling)
                self.assertTrue(self.refused(table[spelling], spelling), spelling)

    def test_some_subcommands_are_refused(self) -> None:
        """CLIENT REPLY and DEBUG PROTOCOL are refused, also without a list of subcommands. Others are sent."""
        reply = Command("CLIENT REPLY")
        known = Command("CLIENT", subcommands={"REPLY": reply, "LIST": Command("CLIENT LIST")})
        for client in (known, Command("CLIENT")):
            for word in ("REPLY", b"reply", bytearray(b"Reply")):
                call = ("CLIENT", word, "OFF")
                self.assertTrue(self.refused(client.resolve(call), *call), word)
            for args in [("CLIENT", "LIST"), ("CLIENT",), ("CLIENT", 5), ("CLIENT", "SETNAME", "REPLY")]:
                self.assertFalse(self.refused(client.resolve(args), *args), args)
        self.assertTrue(self.refused(Command("DEBUG"), "DEBUG", "protocol", "push"))
        self.assertFalse(self.refused(Command("DEBUG"), "DEBUG", "SLEEP", 0))

    def test_blocking_commands(self) -> None:
        """A command blocks if the server flags it so. Blocking commands are not refused."""
        for name, flags, blocks in [("BLPOP", ["blocking"], True), ("WAIT", ["blocking"], True), ("LPOP", [], False)]:
            command = Command(name, frozenset(flags))
            self.assertEqual(command.blocks((name, "BLOCK")), blocks)
            self.assertFalse(self.refused(command, name, "BLOCK"))

    def test_streams_block_only_with_the_option_block(self) -> None:
        """A group, a consumer, a key or a count named BLOCK is not the option."""
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
        """Every spelling of a name gives the same command, at the first look-up and later."""
        for _ in range(2):
            for name in ("MSET", "mset", "mSet", b"MSET", b"mset", b"MseT", memoryview(b"mseT")):
                self.assertIs(self.table[name], self.table["MSET"], name)

    def test_a_known_spelling_needs_only_a_dict_look_up(self) -> None:
        """The table uses the look-up of dict itself, and stores each new spelling."""
        self.assertIs(CommandTable.__getitem__, dict.__getitem__)
        self.assertNotIn("mSeT", dict(self.table))
        self.assertIs(self.table["mSeT"], dict(self.table)["mSeT"])

    def test_mutable_buffers_are_refused_as_names(self) -> None:
        """The table and the encoder refuse a mutable buffer, so that no queue holds a command whose name can change."""
        for name in (bytearray(b"MSET"), memoryview(bytearray(b"MSET"))):
            self.assertRaises((TypeError, ValueError), self.table.__getitem__, name)
            self.assertIn("the name of a command", str(self.assertRaises(TypeError, pack, (name, "k", "v"))))

    def test_names_that_are_not_text_or_bytes(self) -> None:
        """The TypeError says which types a name may have."""
        for name in (5, None, 1.5, True, ("MSET",), Command("MSET")):
            if name.__hash__ is not None and not isinstance(name, Command):
                self.assertIn("str or bytes", str(self.assertRaises(TypeError, self.table.__getitem__, name)))
        self.assertRaises(TypeError, self.table.__getitem__, ["MSET"])

    def test_unknown_commands(self) -> None:
        """An unknown command has no keys, and its look-up adds nothing to the table."""
        before = len(self.table)
        for name in ("nonsense", b"nonsense", b"\xff", "", b"", "MSET ", "OBJECT ENCODING", "object|help", "\u00e9"):
            command = self.table[name]
            self.assertEqual((command.key_specs, command.keyed, command.repeatable), ((), False, False), name)
            self.assertFalse(command.known)
            command.check_allowed((name,))
        self.assertEqual(self.table["nonsense"].name, "NONSENSE")
        self.assertEqual(len(self.table), before)

    def test_spellings_are_bounded(self) -> None:
        """However many spellings a program uses, the table stays bounded and correct."""
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
        """The repr counts commands, not spellings."""
        self.table["mset"], self.table[b"mset"]
        self.assertEqual(repr(self.table), f"<CommandTable of {len(REPLY)} commands>")


class SlotOfArgumentTests(SynchronousTestCase):
    @given(st.binary() | st.text() | st.integers() | st.floats())
    def test_the_slot_is_that_of_the_sent_bytes(self, key: Any) -> None:
        """A key is routed by the bytes that are sent for it."""
        packed = pack(("GET", key))
        assert isinstance(packed, bytes)
        wire = packed.split(b"\r\n", 4)[4][:-2]
        self.assertEqual(argument_slot(key), key_slot(wire))
        if isinstance(key, bytes):
            for buffer in (bytearray(key), memoryview(key), memoryview(bytearray(key))):
                self.assertEqual(argument_slot(buffer), key_slot(wire))

    def test_values_that_cannot_be_sent(self) -> None:
        """A value that cannot be sent has no slot."""
        for key in (None, True, [], {}, object()):
            self.assertIn("not " + type(key).__name__, str(self.assertRaises(TypeError, argument_slot, key)))

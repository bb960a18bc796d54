"""What ``overrides`` adds to Valkey's JSON: key positions, block times, and which commands can fail after a write."""

from __future__ import annotations

from tests.cases import SynchronousTestCase
from txvalkeycluster.commands import Command, CommandTable, can_fail_after_writing
from txvalkeycluster.commands.overrides import block_time

TABLE = CommandTable()


class KeyTests(SynchronousTestCase):
    def test_key_positions_of_sort_and_georadius(self) -> None:
        """A value that looks like an option stays a value. If an option is given twice, the last one counts."""
        for call, keys in [
            ("SORT", ""),
            ("SORT k", "k"),
            ("SORT k STORE", "k"),
            ("SORT k BY w_* LIMIT 0 5 GET # ALPHA STORE d", "k d"),
            ("SORT k BY STORE GET store DESC", "k"),
            ("SORT k STORE d STORE e", "k e"),
            ("SORT k store STORE", "k STORE"),
            ("GEORADIUS", ""),
            ("GEORADIUS k 15 37 200 km", "k"),
            ("GEORADIUS k 15 37 200 km STORE d", "k d"),
            ("GEORADIUS k 15 37 200 km STORE d STOREDIST e", "k e"),
            ("GEORADIUSBYMEMBER k m 200 km COUNT 1 storedist d", "k d"),
            ("GEORADIUSBYMEMBER k m 200 km STORE", "k"),
        ]:
            self.assertEqual(TABLE.keys_of(call.split()), keys.split(), call)

    def test_a_shard_channel_routes_but_is_not_a_key(self) -> None:
        """SPUBLISH is routed by its channel, and the channel is not a key."""
        args = ["SPUBLISH", "channel", "message"]
        self.assertEqual((TABLE.keys_of(args), list(TABLE["SPUBLISH"].places(args))), ([], [1]))


class BlockTimeTests(SynchronousTestCase):
    def test_position_and_unit_of_the_block_time(self) -> None:
        """Streams give the block time in milliseconds, other commands in seconds. WAIT has no known block time."""
        for call, time, units in [
            ("XREAD COUNT 1 BLOCK 99 STREAMS k 0", "99", 1000.0),
            ("XREADGROUP GROUP g c BLOCK 99 STREAMS k >", "99", 1000.0),
            ("BLMPOP 99 1 k LEFT", "99", 1.0),
            ("BZMPOP 99 1 k MIN", "99", 1.0),
            ("BLPOP k l 99", "99", 1.0),
            ("BRPOP k 99", "99", 1.0),
            ("BLMOVE k l LEFT LEFT 99", "99", 1.0),
            ("BRPOPLPUSH k l 99", "99", 1.0),
            ("BZPOPMIN k 99", "99", 1.0),
            ("BZPOPMAX k 99", "99", 1.0),
        ]:
            args = call.split()
            found = block_time(args[0], args)
            assert found is not None, call
            self.assertEqual((args[found[0]], found[1]), (time, units), call)
        self.assertIsNone(block_time("WAIT", ["WAIT", "1", "99"]))


class FailAfterWriteTests(SynchronousTestCase):
    def test_which_commands_can_fail_after_writing(self) -> None:
        """Scripts and writing commands of modules can write before they fail. Valkey's own commands check first."""
        for command, doubtful in [
            (TABLE["EVAL"], True),
            (TABLE["FCALL_RO"], True),
            (TABLE["SET"], False),
            (TABLE["GET"], False),
            (TABLE["XGROUP"].subcommands["CREATE"], False),
            (Command("JSON.SET", frozenset(["write"])), True),
            (Command("JSON.GET", frozenset(["readonly"])), False),
        ]:
            self.assertEqual(can_fail_after_writing(command), doubtful, command.name)

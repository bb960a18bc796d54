"""Damaged replies to HELLO and to COMMAND INFO."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.python.failure import Failure

from tests.cases import SynchronousTestCase
from tests.connection.wire import Base
from tests.fuzz.inputs import any_reply, damaged_bytes, damaged_value, for_inputs, in_chunks, wire
from txvalkeycluster.address import Address
from txvalkeycluster.commands import CommandTable
from txvalkeycluster.commands.command_info import read_reply
from txvalkeycluster.connection.connect_errors import connect_error
from txvalkeycluster.connection.handshake import ServerInfo
from txvalkeycluster.errors import ConnectFailed, ProtocolError

SECRET = "hunter2zzz"
LONGEST = 1024
HELLO = {
    b"server": b"valkey", b"version": b"9.1.2", b"proto": 3, b"id": 77, b"mode": b"cluster", b"role": b"replica",
    b"modules": [], b"availability_zone": b"eu-1a",
}  # fmt: skip
SUBCOMMAND = [b"mod.set|sub", -3, [b"write"], 2, 2, 1, [], [b"request_policy:all_shards"], [], []]
INFO = [
    [
        b"mod.get", -2, [b"readonly", b"fast"], 1, 1, 1, [b"@read"], [b"response_policy:agg_sum"],
        [
            {
                b"flags": [b"RO"],
                b"begin_search": {b"type": b"index", b"spec": {b"index": 1}},
                b"find_keys": {b"type": b"range", b"spec": {b"lastkey": -1, b"keystep": 2, b"limit": 0}},
            },
            {
                b"begin_search": {b"type": b"keyword", b"spec": {b"keyword": b"KEYS", b"startfrom": -1}},
                b"find_keys": {b"type": b"keynum", b"spec": {b"keynumidx": 0, b"firstkey": 1, b"keystep": 1}},
            },
        ],
        [],
    ],
    [b"mod.set", -2, [b"write"], 1, -1, 1, [b"@write"], [], [], [SUBCOMMAND]],
    [b"old", 3, [b"write"], 1, 2, 1],
    None,
]  # fmt: skip
CALLS: list[list[Any]] = [
    ["mod.get"], ["mod.get", "a", "b", "3", "c"], ["mod.set", "sub", "KEYS", "99999999999999999999", "k"],
    ["old", "-5", "KEYS", "2"], ["x", b"\xff", 7, 0.5],
]  # fmt: skip


class HelloTests(Base):
    def test_known_or_refused(self) -> None:
        """A damaged reply to HELLO gives a usable connection, or a ConnectFailed without the password."""
        for_inputs(10, "hello", self.check)

    def check(self, random: Random) -> None:
        self.connect(password=SECRET, db=random.choice((0, 1)))
        done: list[Any] = []
        self.shake_hands().addBoth(done.append)
        self.clock.advance(0)
        hello = any_reply(random) if random.random() < 0.1 else wire(damaged_value(random, HELLO))
        hello = damaged_bytes(random, hello) if random.random() < 0.2 else hello
        for chunk in in_chunks(random, hello + b"+OK\r\n" * 4):
            self.receive(chunk)
        # The server is silent from now on.
        self.clock.pump([0.5] * 10)
        self.lose()
        (result,) = done
        if isinstance(result, ServerInfo):
            self.assertGreaterEqual(result.major, 0)
            self.assertIs(type(result.client_id), int)
            self.assertLess(len(repr(result)), LONGEST)
            return
        self.assertIsInstance(result, Failure)
        error = connect_error(Address("h", 1), result, self.options)
        self.assertIsInstance(error, ConnectFailed)
        self.assertNotIn(SECRET, str(error))


class CommandInfoTests(SynchronousTestCase):
    def test_read_or_refused(self) -> None:
        """A damaged reply to COMMAND INFO is a ProtocolError, or gives commands that find keys in their arguments."""
        for_inputs(10, "command info", self.check)

    def check(self, random: Random) -> None:
        reply = damaged_value(random, INFO)
        try:
            commands = read_reply(reply)
        except ProtocolError as error:
            self.assertLess(len(str(error)), LONGEST)
            return
        table = CommandTable(commands)
        for command in commands:
            for call in CALLS:
                resolved = table[command.name].resolve(call)
                places = resolved.places(call)
                self.assertLessEqual(len(places), max(1, len(resolved.key_specs)) * len(call))
                self.assertTrue(all(0 < place < len(call) for place in places), (resolved, call))

"""The keys that the client finds in commands are the keys that the server finds."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor

from tests.cases import TestCase
from txvalkeycluster import ReplyError
from txvalkeycluster.commands import CommandTable
from txvalkeycluster.testing import LocalCluster

CALLS = """
GET k
SET k v EX 10
SET k v NX GET
GETEX k PERSIST
GETDEL k
APPEND k v
SETRANGE k 1 v
INCRBYFLOAT k 1.5
MGET a b c
MSET a 1 b 2 c 3
MSETNX a 1 b 2
MSETEX 2 a 1 b 2 EX 10
LCS a b LEN
DEL a b c
UNLINK a
EXISTS a a b
TOUCH a b
TYPE k
EXPIRE k 10 NX
RENAME a b
RENAMENX a b
COPY a b REPLACE
MOVE k 1
DUMP k
RESTORE k 0 x REPLACE
RESTORE-ASKING k 0 x
SORT k BY nosort LIMIT 0 1 ALPHA
SORT_RO k DESC
OBJECT ENCODING k
OBJECT FREQ k
object idletime k
MEMORY USAGE k SAMPLES 5
BITCOUNT k 0 1 BIT
BITFIELD k GET u8 0
BITFIELD_RO k GET u8 0
BITOP AND d a b
BITOP NOT d a
BITPOS k 1
SETBIT k 1 1
HSET k f v
HGETALL k
HRANDFIELD k 2 WITHVALUES
HEXPIRE k 10 FIELDS 2 f g
HSETEX k EX 10 FIELDS 1 f v
HSCAN k 0 MATCH x
LPUSH k a b
LINSERT k BEFORE a b
LMOVE a b LEFT RIGHT
LMPOP 2 a b LEFT COUNT 2
LPOS k a RANK 1
RPOPLPUSH a b
BLPOP a b 0
BRPOP a 0
BLMOVE a b LEFT RIGHT 0
BLMPOP 0 2 a b LEFT
BRPOPLPUSH a b 0
BZMPOP 0 2 a b MIN
BZPOPMIN a b 0
BZPOPMAX a 0
SADD k a b
SMOVE a b m
SINTER a b
SINTERSTORE d a b
SINTERCARD 2 a b LIMIT 1
SUNION a b
SUNIONSTORE d a b
SDIFF a b
SDIFFSTORE d a
SMISMEMBER k a b
SSCAN k 0
ZADD k NX 1 a
ZUNION 2 a b WEIGHTS 1 2 WITHSCORES
ZUNIONSTORE d 2 a b AGGREGATE MAX
ZINTER 1 a
ZINTERSTORE d 3 a b c
ZINTERCARD 2 a b LIMIT 1
ZDIFF 2 a b
ZDIFFSTORE d 2 a b
ZMPOP 2 a b MIN COUNT 1
ZRANGE k 0 -1 REV
ZRANGESTORE d k 0 -1
ZRANGEBYSCORE k 0 1 LIMIT 0 1
ZPOPMIN k 1
ZSCAN k 0
GEOADD k 1 2 m
GEODIST k a b km
GEOSEARCH k FROMMEMBER a BYRADIUS 1 m
GEOSEARCHSTORE d k FROMMEMBER a BYRADIUS 1 m
GEORADIUS k 1 2 3 m
GEORADIUS k 1 2 3 m STORE d
GEORADIUS k 1 2 3 m COUNT 1 storedist d
GEORADIUS_RO k 1 2 3 m
GEORADIUSBYMEMBER k m 3 m STORE d
GEORADIUSBYMEMBER k m 3 m
GEORADIUSBYMEMBER_RO k m 3 m
PFADD k a b
PFCOUNT a b
PFMERGE d a b
PFDEBUG ENCODING k
XADD k MAXLEN 5 * f v
XACK k g 1-1
XCLAIM k g c 10 1-1
XAUTOCLAIM k g c 10 0
XDEL k 1-1
XLEN k
XRANGE k - +
XPENDING k g
XTRIM k MAXLEN 5
XSETID k 1-1
XREAD STREAMS a 0
XREAD COUNT 1 BLOCK 0 STREAMS a b 0 0
XREAD streams streams 0
XREADGROUP GROUP g c STREAMS a >
XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a b > >
XREADGROUP GROUP streams c STREAMS a >
XREADGROUP GROUP g streams STREAMS a >
XGROUP CREATE k g $ MKSTREAM
XGROUP DESTROY k g
XINFO STREAM k FULL
XINFO CONSUMERS k g
EVAL s 0 arg
EVAL s 2 a b arg
EVAL_RO s 1 a
EVALSHA sha 2 a b
EVALSHA_RO sha 1 a
FCALL f 2 a b arg
FCALL_RO f 1 a
MIGRATE h 1 k 0 100
MIGRATE h 1 k 0 100 COPY AUTH KEYS
MIGRATE h 1 k 0 100 AUTH KEYS REPLACE
MIGRATE h 1 '' 0 100 KEYS a b c
MIGRATE h 1 '' 0 100 REPLACE AUTH2 user pw KEYS a
MIGRATE h 1 '' 0 100 KEYS a keys c
SORT k STORE d
SORT k BY w_* GET o_* STORE d
SORT k STORE d STORE e
GEORADIUS k 1 2 3 m STORE d STOREDIST e
SPUBLISH channel message
SSUBSCRIBE one two
SUNSUBSCRIBE one
CLUSTERSCAN 0
JSON.GET k path
WATCH a b
"""


def words(call: str) -> list[str]:
    """Split a call into words.  Two quotes are an empty word."""
    return [word.replace("''", "") for word in call.split()]


class KeyPositionTests(TestCase):
    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.cluster = LocalCluster(reactor, primaries=1, replicas=0)
        self.addCleanup(self.cluster.stop)
        await self.cluster.start()

    async def ask(self, *args: Any) -> Any:
        return await self.cluster.ask(self.cluster.servers[0], *args)

    async def server_keys(self, args: list[str]) -> list[str] | None:
        """Return the keys that the server finds, or None if it does not know the command."""
        try:
            return [key.decode() for key in await self.ask("COMMAND", "GETKEYS", *args)]
        except ReplyError as error:
            if "no key arguments" in str(error):
                return []
            if "Invalid command" in str(error):
                return None
            raise

    async def test_keys_are_those_of_the_server(self) -> None:
        """For every command COMMAND GETKEYS finds the same keys as the generated table and the table of the server."""
        generated, read = CommandTable(), CommandTable.from_reply(await self.ask("COMMAND"))
        calls = [words(call) for call in CALLS.strip().splitlines()]
        calls += plain_calls(generated, {generated[call[0]].resolve(call).name for call in calls})
        unknown = []
        for args in calls:
            expected = await self.server_keys(args)
            if expected is None:
                unknown.append(args[0])
                continue
            self.assertEqual(read.keys_of(args), expected, args)
            self.assertEqual(generated.keys_of(args), expected, args)
        # JSON.GET belongs to a module that is not loaded.  Older servers lack the other commands.
        self.assertLessEqual(set(unknown), {"JSON.GET", "MSETEX", "HEXPIRE", "HSETEX"})


def plain_calls(table: CommandTable, tried: set[str]) -> list[list[str]]:
    """Return a call of every other command, with the fewest arguments that it takes."""
    every = [sub for command in table.commands for sub in (command, *command.subcommands.values())]
    calls = []
    for command in every:
        if command.name not in tried and not command.subcommands:
            name = command.name.split()
            calls.append([*name, *(f"k{number}" for number in range(len(name), abs(command.arity)))])
    return calls

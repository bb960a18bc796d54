"""The generated command table and methods against a real server."""

from __future__ import annotations

import inspect
import re
import tokenize
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import NoneType, UnionType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

from twisted.internet import reactor

from gencmd.__main__ import PACKAGE, read_server, write
from gencmd.replies import remembered
from tests.cluster.base import ClusterTests
from tests.cluster.every_method import CALLS, LIBRARY, NOT_CALLED
from txvalkeycluster import ClusterClient, ValkeyError
from txvalkeycluster.commands import methods as generated
from txvalkeycluster.commands.methods import Commands

# The replies of these calls differ from call to call, so only their types are compared.
VARY = re.compile(
    r"acl_cat|acl_genpass|acl_log|client_(id|info|list)|cluster_|info|lastsave|latency_|lolwut|memory_|role|slowlog|commandlog"
    r"|time\(\)|randomkey|(h|z)randfield|srandmember|dump|xinfo_consumers|xpending|object_idletime|command"
    r"|function_|config_get|p?ttl|bgrewriteaof|xinfo_stream|debug|scan|hpttl|keys|spop"
)


def split_calls(text: str) -> Iterator[str]:
    """Yield the calls in a text.  Each call ends with its last closing bracket."""
    depth = 0
    words: list[str] = []
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type in (tokenize.NAME, tokenize.NUMBER, tokenize.STRING, tokenize.OP):
            words.append(token.string)
            depth += {"(": 1, ")": -1}.get(token.string, 0)
            if token.string == ")" and not depth:
                yield "".join(words)
                words = []


def shape(value: Any) -> Any:
    """Return the types that a value is made of."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items() if not isinstance(item, int)}
    return {type(value), *(str(shape(item)) for item in value)} if isinstance(value, (list, tuple)) else type(value)


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value has the type of an annotation.  A type variable stands for bytes."""
    if hint is Any:
        return True
    if isinstance(hint, TypeVar):
        return isinstance(value, bytes)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, arg) for arg in args)
    if hint in (None, NoneType):
        return value is None
    if origin is None:
        return type(value) is hint or (hint is float and type(value) is int)
    if type(value) is not origin:
        return False
    if origin is tuple:
        return len(value) == len(args) and all(map(fits, value, args))
    if origin is dict:
        return all(fits(name, args[0]) and fits(item, args[1]) for name, item in value.items())
    return all(fits(item, args[0]) for item in value)


class GeneratedTests(ClusterTests):
    timeout = 300
    options: ClassVar[dict[str, Any]] = {"config": {"cluster-databases": "2"}}

    async def test_committed_files_equal_those_of_the_server(self) -> None:
        """The output of gencmd is the same from COMMAND and COMMAND DOCS as from the JSON files of Valkey."""
        definitions = await read_server(reactor, self.cluster.url)
        with TemporaryDirectory() as folder:
            for made in write(definitions, remembered(definitions), Path(folder), inside=True):
                self.assertEqual(made.read_text(), (PACKAGE / made.name).read_text(), made.name)

    async def test_every_method(self) -> None:
        """Every method succeeds, its reply has the annotated type, and RESP2 and RESP3 give the same reply."""
        results = []
        differences: list[str] = []
        for protocol in (3, 2):
            client = await self.connect(protocol=protocol)
            await client.flushall()
            results.append(await self.call_all(client))
            await client.close()
        for (call, new), (_, old) in zip(*results, strict=True):
            if VARY.match(call):
                new, old = shape(new), shape(old)
            if new != old:
                differences.append(f"{call}: {new!r} and {old!r}")
        self.assertEqual(differences, [], "\n".join(differences))

    async def call_all(self, client: ClusterClient[bytes]) -> list[tuple[str, Any]]:
        """Make every call, check the types of the replies, and return calls and replies."""
        await client.set("{t}k", "v")
        names: dict[str, Any] = {
            "client": client,
            "DUMPED": await client.dump("{t}k"),
            "SHA": (await client.script_load("return 'loaded'")).decode(),
            "LIBRARY": LIBRARY,
            "NODE": client.topology.primaries[0].id,
        }
        await client.function_load(names["LIBRARY"], replace=True)
        names["FUNCTIONS"] = await client.function_dump()
        await client.function_flush()
        await client.del_("{t}k")
        found = inspect.getmembers(Commands, inspect.isfunction)
        # Aliases of a method are not counted.
        methods = {name: method for name, method in found if method.__name__ == name and not name.startswith("_")}
        called: set[str] = set()
        problems: list[str] = []
        results: list[tuple[str, Any]] = []
        for call in split_calls(CALLS):
            name = call.partition("(")[0]
            called.add(name)
            try:
                value = await eval(f"client.{call}", names)
            except (ValkeyError, TypeError) as error:
                problems.append(f"{call}: {error!r}")
                continue
            (hint,) = get_args(eval(methods[name].__annotations__["return"], vars(generated)))
            if not fits(value, hint):
                problems.append(f"{call} gave {value!r}, not {hint}")
            results.append((call, value))
        self.assertEqual(problems, [], "\n".join(problems))
        self.assertEqual(set(methods) - called, set(NOT_CALLED))
        return results

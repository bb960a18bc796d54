"""The future of a command for asyncio in C does what the Python code does."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from contextvars import ContextVar
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError

from tests.acceleration.test_same_parts import GET, NO_EXTENSION
from tests.cases import SynchronousTestCase
from txvalkeycluster.acceleration import fast
from txvalkeycluster.aio import AsyncClient
from txvalkeycluster.aio.reply import CommandReply, PythonReplyRecord, Reply
from txvalkeycluster.errors import ClientClosed, CommandTimeout, PartialFailure, ProtocolError, WrongThread

CALLER: ContextVar[str] = ContextVar("caller", default="nobody")
_OWN = {name: value for name, value in vars(CommandReply).items() if name not in ("__dict__", "__weakref__")}
#: The class that the package uses without the extension.
_metaclass: Any = type(Reply)
PythonCommandReply = _metaclass("PythonCommandReply", (PythonReplyRecord, Reply), _OWN)
COMMAND_REPLIES: list[Any] = [CommandReply, PythonCommandReply]


def convert(reply: Any) -> Any:
    """Convert a reply, or refuse it."""
    if reply == b"refused":
        raise ValueError("not a number")
    return [reply]


ACTIONS = st.lists(
    st.sampled_from(
        ["wait", "wait", "callback", "called later", "error", "cancelled", "cancel", "turn", "convert", "refused",
         "shielded", "in a step"]
    ),
    min_size=1,
    max_size=8,
)  # fmt: skip


class World:
    """One reply, and what happens to it."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.log: list[Any] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def make(self) -> Any:
        return self.kind(b"payload", GET, 5, 1, 2.5, True, lambda _: self.log.append("canceller"))

    async def wait(self, number: int, reply: Any) -> Any:
        try:
            result = await reply
            self.log.append((number, result, CALLER.get(), asyncio.current_task() is not None))
            # Twice, and another one that has ended.
            self.log.append((number, await reply))
        except (Exception, asyncio.CancelledError) as error:
            self.log.append((number, type(error), str(error), CALLER.get()))

    async def play(self, actions: list[str]) -> list[Any]:
        reply = self.make()
        loop = asyncio.get_running_loop()
        for number, action in enumerate(actions):
            if action == "wait":
                CALLER.set(f"caller {number}")
                self.tasks.append(asyncio.create_task(self.wait(number, reply)))
                await asyncio.sleep(0)
            elif action == "shielded":
                self.tasks.append(asyncio.create_task(self.wait(number, asyncio.shield(reply))))
                await asyncio.sleep(0)
            elif action == "turn":
                await asyncio.sleep(0)
            elif action == "cancel":
                self.log.append(reply.cancel())
            elif action == "called later":
                reply.add_done_callback(lambda done: self.log.append(("called", done is reply, CALLER.get())))
            elif action == "convert":
                reply.convert = convert
            elif not reply.called:
                errors = {"error": ValueError("no"), "cancelled": CancelledError()}
                results: dict[str, Any] = {**errors, "refused": b"refused"}
                end = reply.errback if action in errors else reply.callback
                if action == "in a step":
                    # Within a step of this task, so that no other task can run at once.
                    end(b"reply")
                else:
                    loop.call_soon(end, results.get(action, b"reply"))
                    await asyncio.sleep(0)
            ended = reply.done() and not reply.cancelled()
            self.log.append((action, reply.called, reply.done(), ended and repr(reply.exception())))
        if not reply.called:
            reply.callback(b"last")
        await asyncio.gather(*self.tasks)
        return self.log


class SameReplyTests(SynchronousTestCase):
    skip = NO_EXTENSION

    @given(ACTIONS)
    def test_the_same_events(self, actions: list[str]) -> None:
        seen = [asyncio.run(World(kind).play(actions)) for kind in COMMAND_REPLIES]
        self.assertEqual(*seen)

    def test_attributes(self) -> None:
        async def main(kind: Any) -> list[Any]:
            reply = World(kind).make()
            before = [reply.payload, reply.command, reply.target, reply.since, reply.deadline, reply.repeatable]
            before += [reply.called, reply.history, reply.convert, isinstance(reply, asyncio.Future)]
            reply.note = "of an application"
            reply.payload = b""
            return [*before, reply.note, reply.payload, asyncio.isfuture(reply), repr(reply)[:13]]

        first, second = (asyncio.run(main(kind)) for kind in COMMAND_REPLIES)
        self.assertEqual(first[:-1], second[:-1])

    def test_wrong_arguments(self) -> None:
        async def main() -> None:
            for kind in COMMAND_REPLIES:
                reply = World(kind).make()
                for wrong in ((), (print, 1), (print, 1, 2, 3)):
                    with self.assertRaises(TypeError):  # type: ignore[call-arg, attr-defined]
                        reply.add_done_callback(*wrong)
                with self.assertRaises(TypeError):  # type: ignore[call-arg, attr-defined]
                    reply.add_done_callback(print, other=1)

        asyncio.run(main())

    def test_a_conversion_that_fails(self) -> None:
        async def main(kind: Any) -> Any:
            reply = World(kind).make()
            reply.convert = convert
            reply.callback(b"refused")
            return reply.exception()

        for kind in COMMAND_REPLIES:
            self.assertIsInstance(asyncio.run(main(kind)), ProtocolError)

    def test_nothing_is_kept(self) -> None:
        """A reply that nobody refers to is collected, with its task; so are cycles."""

        async def main() -> None:
            for kind in COMMAND_REPLIES:
                world = World(kind)
                reply = world.make()
                reply.itself = reply
                task = asyncio.create_task(world.wait(0, reply))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.sleep(0)
                await task
                gone = [weakref.ref(each) for each in (reply, task, world)]
                del reply, task, world
                gc.collect()
                self.assertEqual([each() for each in gone], [None] * 3)

        asyncio.run(main())

    def test_references(self) -> None:
        async def main() -> None:
            payload, command = b"payload" * 3, GET
            for _ in range(100):
                reply: Any = CommandReply(payload, command, 5, 1.0, 2.0, True, print)
                reply.callback(payload)
                await reply

        asyncio.run(main())
        before = sys.getrefcount(GET), sys.getrefcount(None), sys.getrefcount(CommandReply)
        asyncio.run(main())
        gc.collect()
        after = sys.getrefcount(GET), sys.getrefcount(None), sys.getrefcount(CommandReply)
        self.assertTrue(all(abs(one - other) < 50 for one, other in zip(before, after, strict=True)), (before, after))

    def test_what_sends(self) -> None:
        """A client for asyncio sends by the function in C; views, and clients with listeners, send as in Python."""

        async def main() -> None:
            client = AsyncClient("valkey://127.0.0.1:1", timeout=0.01)
            self.assertIsInstance(client._run, fast.ReplySender)
            for view in (client, client.with_options(timeout=0.02)):
                for reply in (view.get("key"), view.hgetall("key"), view.mget("a", "b"), view.execute("GET", "key")):
                    self.assertIsInstance(reply, Reply)
                    with self.assertRaises((CommandTimeout, PartialFailure)):  # type: ignore[call-arg, attr-defined]
                        await reply
            seen: list[str] = []
            client.add_command_listener(lambda finished: seen.append(finished.name))
            with self.assertRaises(CommandTimeout):  # type: ignore[call-arg, attr-defined]
                await client.get("key")
            self.assertEqual(seen, ["GET"])
            with self.assertRaises(TypeError):  # type: ignore[call-arg, attr-defined]
                await client.set("key", None)  # type: ignore[arg-type]
            await client.close()
            with self.assertRaises(ClientClosed):  # type: ignore[call-arg, attr-defined]
                await client.get("key")
            clients.append(client)

        clients: list[Any] = []
        asyncio.run(main())
        error = self.assertRaises(WrongThread, clients[0].get, "key")
        self.assertIn("outside of an event loop", str(error))

    def test_one_class(self) -> None:
        self.assertRaises(ValueError, fast.reply_record, asyncio.Future, None, None, None, None)
        self.assertRaises(TypeError, fast.use_reply, 5)
        self.assertRaises(TypeError, fast.ReplySender, print, 1, 2, 3)
        self.assertRaises(TypeError, fast.ReplySender.__new__(fast.ReplySender))

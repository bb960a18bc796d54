"""What programs of asyncio do with a client.  Each coroutine function here is a test of its own.

`test_scenarios` calls each of them with the URL of a cluster that is empty.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable
from contextlib import aclosing, suppress
from contextvars import ContextVar
from typing import Any

from txvalkeycluster import (
    Address,
    ClientClosed,
    CommandTimeout,
    Credentials,
    FinishedCommand,
    Message,
    ReplyError,
    WatchError,
    aio,
)
from txvalkeycluster.errors import WrongThread
from txvalkeycluster.pubsub.feed import BufferedFeed

_request: ContextVar[str] = ContextVar("request", default="none")


async def raises(kind: type[BaseException], awaitable: Awaitable[Any]) -> Any:
    """Await, and return the error, which must be of a kind."""
    try:
        result = await awaitable
    except kind as error:
        return error
    raise AssertionError(f"the result is {result!r} instead of {kind.__name__}")


async def until(condition: Any) -> None:
    """Wait until a function returns something true."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def blocked(client: aio.AsyncClient[Any]) -> int:
    """Return the number of clients that are blocked on the servers."""
    infos = [await client.execute_on(node, "INFO", "clients") for node in client.primaries()]
    lines = [line for info in infos for line in info.decode().splitlines() if line.startswith("blocked_clients:")]
    return sum(int(line.partition(":")[2]) for line in lines)


async def pause(client: aio.AsyncClient[Any], milliseconds: int) -> None:
    """Let every primary stop answering for some time."""
    await asyncio.gather(*(client.execute_on(node, "CLIENT", "PAUSE", milliseconds, "ALL") for node in client.nodes()))


async def until_blocked(client: aio.AsyncClient[Any], count: int) -> None:
    async with asyncio.timeout(5):
        while await blocked(client) != count:
            await asyncio.sleep(0.005)


# ---- commands


async def commands(url: str) -> None:
    """Commands give the values of the Deferred interface, with every kind of reply and error."""
    async with await aio.connect(url) as client:
        assert await client.set("key", "value", ex=60) == b"OK"
        assert await client.get("key") == b"value"
        assert await client.mget("key", "none") == [b"value", None]
        assert await client.hset("hash", {"a": "1"}) == 1
        assert await client.hgetall("hash") == {b"a": b"1"}
        assert await client.execute("STRLEN", "key") == 5
        (node, *_) = client.primaries()
        assert await client.execute_on(node, "PING") == b"PONG"
        await raises(ReplyError, client.hget("key", "field"))
        await raises(TypeError, client.execute())
        await raises(TypeError, client.set("key", object()))  # type: ignore[arg-type]
        results = await asyncio.gather(*(client.incr(f"n{n}") for n in range(100)))
        assert results == [1] * 100
        assert client.statistics.commands > 100
        assert (await client.refresh_topology()) is client.topology
        assert "AsyncClient" in repr(client)


async def tasks_that_wait(url: str) -> None:
    """Tasks and callbacks that wait for the same command, and a task that ends another command, all continue."""
    async with await aio.connect(url) as client:
        called: list[asyncio.Future[Any]] = []
        for end in ("result", "error", "cancel"):
            reply = client.get("key") if end != "error" else client.execute("NOSUCH")
            reply.add_done_callback(called.append)

            async def wait(reply: aio.Reply[Any] = reply) -> Any:
                return await reply

            tasks = [asyncio.create_task(wait()) for _ in range(3)] + [asyncio.create_task(reply)]
            await asyncio.sleep(0)
            if end == "cancel":
                reply.cancel()
            async with asyncio.timeout(3):
                results = await asyncio.gather(*tasks, return_exceptions=True)
            kinds = {"result": type(None), "error": ReplyError, "cancel": asyncio.CancelledError}
            assert all(isinstance(result, kinds[end]) for result in results), results
        await asyncio.sleep(0)
        assert len(called) == 3
        # A read that brings many replies goes on after each task.
        events: list[int] = []

        async def follow(number: int) -> None:
            await client.incr("n")
            events.append(number)
            await client.incr("n")

        await asyncio.gather(*(follow(number) for number in range(200)))
        assert events == list(range(200))


async def encoding(url: str) -> None:
    """With an encoding, every interface gives str."""
    async with aio.AsyncClient(url, encoding="utf-8") as client:
        await client.set("key", "\u00e9")
        assert await client.get("key") == "\u00e9"
        assert await client.pipeline().get("key").execute() == ["\u00e9"]
        assert await client.transaction().get("key").execute() == ["\u00e9"]
        assert [key async for key in client.scan_iter()] == ["key"]
        assert await client.with_options(timeout=1.0).get("key") == "\u00e9"
        async with client.watch("key") as session:
            assert await session.get("key") == "\u00e9"
        async with client.subscribe("c") as subscription:
            await client.publish("c", "\u00e9")
            message = await anext(subscription.messages())
            assert (message.channel, message.data) == ("c", "\u00e9")


async def views(url: str) -> None:
    """A view has its own timeout, and closes the client."""
    client = await aio.connect(url)
    view = client.with_options(timeout=0.05)
    await pause(client, 300)
    await raises(CommandTimeout, view.get("key"))
    assert await client.get("key") is None
    await view.close()
    await raises(ClientClosed, client.get("key"))


async def groups(url: str) -> None:
    """Task groups run replies; a command that fails cancels the others."""
    async with await aio.connect(url) as client:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.incr("n")) for _ in range(50)]
        assert sorted(task.result() for task in tasks) == list(range(1, 51))
        other: Any = None
        try:
            async with asyncio.TaskGroup() as group:
                other = client.blpop("list", 0)
                group.create_task(other)
                group.create_task(client.hget("n", "field"))
        except* ReplyError:
            pass
        assert other.cancelled()
        await until_blocked(client, 0)


async def context(url: str) -> None:
    """Context variables are kept: after a command, in functions of streams and transactions, in reports."""
    seen: set[str] = set()
    reports: list[FinishedCommand] = []
    async with await aio.connect(url) as client:
        client.add_command_listener(reports.append)

        async def note(*_: object) -> None:
            seen.add(_request.get())

        async def function(session: aio.AsyncWatchSession[bytes]) -> None:
            await session.get("key")
            seen.add(_request.get())

        async def request(name: str) -> None:
            _request.set(name)
            await client.set("key", name)
            seen.add(_request.get())
            await client.stream([("GET", "key")] * 3, lambda index, result: seen.add(_request.get()))
            await client.stream([("GET", "key")] * 3, note)
            await client.optimistically(function, "key")

        for name in ("a", "b"):
            seen.clear()
            await asyncio.create_task(request(name))
            assert seen == {name}, seen
        sets = [report.context[_request] for report in reports if report.name == "SET"]
        assert sets == ["a", "b"], sets


async def observed(url: str) -> None:
    """With a listener of commands, results, errors, conversions and cancellations are as without."""
    names: list[tuple[str, bool]] = []
    async with await aio.connect(url) as client:

        def listener(finished: FinishedCommand) -> None:
            names.append((finished.name, finished.error is None))

        client.add_command_listener(listener)
        assert await client.hset("hash", {"a": "1"}) == 1
        assert await client.hgetall("hash") == {b"a": b"1"}
        await raises(ReplyError, client.get("hash"))
        reply = client.get("key")
        reply.cancel()
        await raises(asyncio.CancelledError, reply)
        await client.pipeline().get("a").get("b").execute()
        assert names == [
            ("HSET", True),
            ("HGETALL", True),
            ("GET", False),
            ("GET", False),
            ("PIPELINE GET", True),
        ], names
        client.remove_command_listener(listener)
        assert await client.hgetall("hash") == {b"a": b"1"}
        assert len(names) == 5


# ---- cancellation


async def cancelled_before_the_write(url: str) -> None:
    """A command that is cancelled before it is written is not sent."""
    async with await aio.connect(url) as client:
        await client.set("n", 0)
        reply = client.incr("n")
        assert reply.cancel("why")
        await raises(asyncio.CancelledError, reply)
        task = asyncio.create_task(client.incr("n"))
        task.cancel()
        # uvloop writes before the task takes its first step, which is the first time that it can be cancelled.
        await raises(asyncio.CancelledError, task)
        assert await client.get("n") in (b"0", b"1")


async def cancelled_after_the_write(url: str) -> None:
    """A command that is cancelled after it was written leaves the replies of the others in order."""
    async with await aio.connect(url) as client:
        await client.set("key", "value")
        for round in range(20):
            replies = [client.execute("GET", "key") if n % 2 else client.incr("{key}n") for n in range(20)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for reply in replies[1::2]:
                reply.cancel()
            results = await asyncio.gather(*replies, return_exceptions=True)
            assert results[::2] == list(range(round * 10 + 1, round * 10 + 11))
            assert all(isinstance(each, (asyncio.CancelledError, bytes)) for each in results[1::2])


async def timeouts(url: str) -> None:
    """asyncio.timeout() and wait_for() end a command in time, and the client stays usable."""
    async with await aio.connect(url) as client:
        await pause(client, 200)
        loop = asyncio.get_running_loop()
        before = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get("key")
                raise AssertionError("no timeout")
        await raises(TimeoutError, asyncio.wait_for(client.get("key"), 0.05))
        assert loop.time() - before < 0.19
        assert await client.get("key") is None


async def cancelled_while_blocked(url: str) -> None:
    """A task that is cancelled in BLPOP unblocks the client on the server, and takes nothing."""
    async with await aio.connect(url) as client:
        task = asyncio.create_task(client.blpop("list", 0))
        await until_blocked(client, 1)
        task.cancel()
        await raises(asyncio.CancelledError, task)
        await until_blocked(client, 0)
        await client.rpush("list", "item")
        assert await client.blpop("list", 1) == (b"list", b"item")


async def cancelled_pipeline(url: str) -> None:
    """A pipeline, a transaction and a script can be cancelled; the next ones work."""
    async with await aio.connect(url) as client:
        script = client.script("return 1")
        for start in (
            lambda: client.pipeline().incr("n").execute(),
            lambda: client.transaction().incr("n").execute(),
            lambda: script(["n"]),
        ):
            for steps in (0, 1, 2):
                task = asyncio.create_task(start())
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await raises(asyncio.CancelledError, task)
            await start()


async def cancelled_stream(url: str) -> None:
    """A stream that is cancelled ends only after its coroutine function has ended."""
    async with await aio.connect(url) as client:
        events: list[str] = []

        async def each(index: int, result: object) -> None:
            events.append("begin")
            try:
                await asyncio.sleep(10)
            finally:
                await asyncio.sleep(0.01)
                events.append("end")

        task = asyncio.create_task(client.stream([("GET", "key")] * 5, each))
        await until(lambda: events)
        task.cancel()
        await raises(asyncio.CancelledError, task)
        assert events == ["begin", "end"], events

        async def failing(index: int, result: object) -> None:
            raise KeyError("x")

        await raises(KeyError, client.stream([("GET", "key")] * 5, failing))
        empty: dict[int, str] = {}
        await raises(KeyError, client.stream([("GET", "key")] * 5, lambda index, result: empty[index]))


async def closed_in_a_stream(url: str) -> None:
    """The function of a stream may abort the client, which ends other commands of the stream."""
    client = await aio.connect(url)
    closing: list[asyncio.Task[None]] = []

    def each(index: int, result: object) -> None:
        if not closing:
            closing.append(asyncio.create_task(client.abort()))
            client._client.abort()

    with suppress(ClientClosed):
        await client.stream([("GET", f"key{n}") for n in range(50)], each)
    await closing[0]


# ---- transactions


async def watches(url: str) -> None:
    """An error in a watch session leaves the session, and the next one works."""
    async with await aio.connect(url, max_exclusive=1) as client:
        with suppress(KeyError):
            async with client.watch("key"):
                raise KeyError("x")
        async with client.watch("key") as session:
            await client.set("key", "1")
            await raises(WatchError, session.transaction().set("key", "2").execute())
        async with client.watch("key") as session:
            assert await session.get("key") == b"1"
            assert await session.transaction().set("key", "3").get("key").execute() == [b"OK", b"3"]


async def cancelled_watches(url: str) -> None:
    """A task that is cancelled anywhere in a watch session gives the connection of the session back."""
    async with await aio.connect(url, max_exclusive=1) as client:

        async def work() -> None:
            async with client.watch("key") as session:
                await session.get("key")
                await session.transaction().set("key", "1").execute()

        for steps in range(25):
            task = asyncio.create_task(work())
            for _ in range(steps):
                await asyncio.sleep(0.0002 if steps % 2 else 0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        # One more session needs the only connection.
        async with asyncio.timeout(3):
            await work()


async def cancelled_when_watched(url: str) -> None:
    """A task that is cancelled when the keys are watched, and before it continues, gives the connection back."""
    async with await aio.connect(url, max_exclusive=1) as client:
        session = client.watch("key")

        async def work() -> None:
            async with session:
                raise AssertionError("it was cancelled")

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        while session._session._lease is None:
            # This task runs before the other one, which is woken by the same step of the loop.
            await asyncio.sleep(0)
        task.cancel()
        await raises(asyncio.CancelledError, task)
        async with asyncio.timeout(3), client.watch("key"):
            pass


async def optimistic(url: str) -> None:
    """optimistically() repeats the function until nobody interferes; errors of the function end it."""
    async with await aio.connect(url) as client:
        await client.set("n", 0)

        async def add(session: aio.AsyncWatchSession[bytes]) -> int:
            value = int(await session.get("n") or 0) + 1
            await session.transaction().set("n", value).execute()
            return value

        results = await asyncio.gather(*(client.optimistically(add, "n") for _ in range(10)))
        assert sorted(results) == list(range(1, 11)), results

        async def fail(session: aio.AsyncWatchSession[bytes]) -> None:
            raise KeyError("x")

        await raises(KeyError, client.optimistically(fail, "n"))
        await raises(ValueError, client.optimistically(add, "n", attempts=0))

        async def interfered(session: aio.AsyncWatchSession[bytes]) -> None:
            await client.incr("n")
            await session.transaction().get("n").execute()

        await raises(WatchError, client.optimistically(interfered, "n", attempts=2))
        await raises(WatchError, client.optimistically(interfered, "n", timeout=0.01))


async def cancelled_optimistic(url: str) -> None:
    """optimistically() that is cancelled ends only after its function has ended."""
    async with await aio.connect(url, max_exclusive=1) as client:
        events: list[str] = []

        async def function(session: aio.AsyncWatchSession[bytes]) -> None:
            try:
                events.append("begin")
                await asyncio.sleep(10)
            finally:
                await asyncio.sleep(0.01)
                events.append("end")

        task = asyncio.create_task(client.optimistically(function, "n"))
        await until(lambda: events)
        task.cancel()
        await raises(asyncio.CancelledError, task)
        assert events == ["begin", "end"], events
        async with asyncio.timeout(3), client.watch("n"):
            pass


async def scripts(url: str) -> None:
    """Scripts and functions return replies."""
    library = "#!lua name=lib\nserver.register_function('double', function(keys, args) return 2 * args[1] end)"
    async with await aio.connect(url) as client:
        assert await client.script("return ARGV[1] .. KEYS[1]")(["world"], ["hello "]) == b"hello world"
        assert await client.function("double", library)(["key"], [4]) == 8
        await raises(ReplyError, client.script("return redis.error_reply('MY error')")(["key"]))


# ---- iterators


async def scans(url: str) -> None:
    """Scans give everything, can be left early, and can be closed."""
    async with await aio.connect(url) as client:
        keys = [f"key{n}".encode() for n in range(300)]
        pipeline = client.pipeline()
        for key in keys:
            pipeline.set(key, 1)
        await pipeline.execute()
        assert sorted({key async for key in client.scan_iter(count=10)}) == sorted(keys)
        async for _ in client.scan_iter(count=10):
            break
        async with aclosing(client.scan_iter(count=10)) as scan:  # type: ignore[type-var]
            async for _ in scan:
                break
        await client.hset("hash", {"a": "1"})
        await client.sadd("set", "a")
        await client.zadd("zset", {"a": 1.5})
        assert [item async for item in client.hscan_iter("hash")] == [(b"a", b"1")]
        assert [item async for item in client.sscan_iter("set")] == [b"a"]
        assert [item async for item in client.zscan_iter("zset")] == [(b"a", 1.5)]
        await raises(ReplyError, anext(client.sscan_iter("hash")))


async def cancelled_scan(url: str) -> None:
    """A scan that is cancelled leaves nothing."""
    async with await aio.connect(url) as client:
        await asyncio.gather(*(client.set(f"key{n}", 1) for n in range(100)))
        for steps in range(0, 30, 3):

            async def work() -> None:
                async for _ in client.scan_iter(count=10):
                    pass

            task = asyncio.create_task(work())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def subscriptions(url: str) -> None:
    """A subscription gives messages, waits with timeouts that lose nothing, and ends with its block."""
    async with await aio.connect(url) as client:
        async with client.subscribe("a", "b") as subscription:
            assert set(subscription.channels) == {b"a", b"b"}
            messages = subscription.messages()
            await client.publish("a", "1")
            assert (await anext(messages)).data == b"1"
            for number in range(20):
                await raises(TimeoutError, asyncio.wait_for(anext(messages), 0.001))
                await client.publish("b", str(number))
                async with asyncio.timeout(3):
                    assert (await anext(messages)).data == b"%d" % number
            await subscription.add("c")
            await subscription.remove("b")
            await client.publish("c", "2")
            async for item in subscription:
                assert isinstance(item, Message) and item.data == b"2"
                break
        assert [item async for item in subscription] == []
        async with client.ssubscribe("s") as sharded:
            await client.spublish("s", "3")
            assert (await anext(sharded.messages())).data == b"3"
        got: list[Any] = []
        listening = await client.psubscribe("x*", listener=got.append).ready()
        await client.publish("xy", "4")
        await until(lambda: got)
        await raises(TypeError, anext(aiter(listening)))
        await listening.close()
        assert "closed" in repr(listening)


async def cancelled_with_a_message(url: str) -> None:
    """A task that is cancelled when its message is there leaves the message to the next call."""
    async with await aio.connect(url) as client, client.subscribe("a") as subscription:
        messages = subscription.messages()
        feed = subscription._subscription._feed
        assert isinstance(feed, BufferedFeed)
        task = asyncio.ensure_future(anext(messages))
        await client.publish("a", "1")
        while not len(feed):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            assert (await task).data == b"1"
            return
        async with asyncio.timeout(3):
            assert (await anext(messages)).data == b"1"


async def cancelled_subscribers(url: str) -> None:
    """A task that is cancelled in a subscription, at its begin or in its loop, leaves no subscription."""
    async with await aio.connect(url) as client:

        async def work() -> None:
            async with client.subscribe("a", listener=lambda item: None) as subscription:
                await asyncio.sleep(10)
                await subscription.close()

        async def iterate() -> None:
            async with client.subscribe("a") as subscription:
                async for _ in subscription:
                    pass

        for function in (work, iterate):
            for steps in range(20):
                task = asyncio.create_task(function())
                for _ in range(steps):
                    await asyncio.sleep(0.0002 if steps % 2 else 0)
                task.cancel()
                await raises(asyncio.CancelledError, task)
        async with asyncio.timeout(3):
            while any([await client.execute_on(node, "PUBSUB", "NUMSUB", "a") != [b"a", 0] for node in client.nodes()]):
                await asyncio.sleep(0.01)


async def closed_client_ends_iterators(url: str) -> None:
    """close() ends the iterators of subscriptions."""
    client = await aio.connect(url)
    subscription = await client.subscribe("a").ready()
    task = asyncio.ensure_future(anext(aiter(subscription)))
    await asyncio.sleep(0)
    await client.close()
    await raises((ClientClosed, StopAsyncIteration), task)  # type: ignore[arg-type]


# ---- the end


async def closed_often(url: str) -> None:
    """close() can be called twice, by several tasks at once, and with abort()."""
    client = await aio.connect(url)
    await asyncio.gather(client.close(), client.close(), client.with_options(timeout=1).close())
    await client.close()
    await client.abort()
    await raises(ClientClosed, client.get("key"))
    await raises(ClientClosed, client.pipeline().get("key").execute())
    client = await aio.connect(url)
    await client.abort()
    await client.close()
    unused = aio.AsyncClient(url)
    await unused.close()


async def pending_at_the_end(url: str) -> None:
    """close() waits for commands and ends blocking ones; abort() fails them."""
    client = await aio.connect(url)
    replies = [client.incr("n") for _ in range(100)]
    blocking = client.blpop("list", 0)
    await until_blocked(client, 1)
    await client.close()
    assert [await reply for reply in replies] == list(range(1, 101))
    assert await blocking is None
    client = await aio.connect(url)
    replies = [client.incr("n") for _ in range(100)]
    blocking = client.blpop("list", 0)
    await asyncio.sleep(0)
    await client.abort()
    results = await asyncio.gather(*replies, blocking, return_exceptions=True)
    assert all(isinstance(result, (ClientClosed, int)) for result in results), results


async def cancelled_while_closing(url: str) -> None:
    """close() that is cancelled aborts the client, and leaves nothing."""
    client = await aio.connect(url, timeout=None)
    await pause(client, 1000)
    reply = client.get("key")
    await asyncio.sleep(0)
    others = asyncio.create_task(client.close())
    await raises(TimeoutError, asyncio.wait_for(client.close(), 0.05))
    await raises(ClientClosed, reply)
    await others
    async with await aio.connect(url) as other:
        # Until the pause is over.
        await other.get("key")


async def cancelled_while_connecting(url: str) -> None:
    """connect() that is cancelled or fails leaves nothing."""
    for steps in range(12):
        task = asyncio.create_task(aio.connect(url))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await (await task).close()
    await raises(ConnectionError, aio.connect("valkey://127.0.0.1:1"))
    await raises(TypeError, aio.connect(url, no_such_option=1))  # type: ignore[call-overload]
    await raises(ValueError, aio.connect("http://x"))


async def dropped(url: str) -> None:
    """A client that is dropped without close() is reported, and the loop can be used."""
    client = await aio.connect(url)
    await client.get("key")
    inside = client._client
    del client
    await inside.abort().asFuture(asyncio.get_running_loop())
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def credentials(url: str) -> None:
    """The function for credentials may be a coroutine function of asyncio, or an ordinary one."""
    async with await aio.connect(url) as admin:
        for node in admin.nodes():
            await admin.execute_on(node, "ACL", "SETUSER", "app", "on", ">secret", "+@all", "~*")
    asked = 0

    async def later(address: Address) -> Credentials:
        nonlocal asked
        await asyncio.sleep(0)
        asked += 1
        return Credentials("app", "secret")

    for function in (later, lambda address: Credentials("app", "secret")):
        async with await aio.connect(url, credentials=function) as client:
            assert await client.acl_whoami() == b"app"
    assert asked > 0


async def names(url: str) -> None:
    """Host names are looked up in threads, which end with the client."""
    before = threading.active_count()
    host = url.replace("127.0.0.1", "localhost")
    async with await aio.connect(host) as client:
        await client.get("key")
        assert threading.active_count() > before
    await until(lambda: threading.active_count() == before)


async def several_clients(url: str) -> None:
    """Clients of one loop share its reactor, and it ends with the last one."""
    first, second = await aio.connect(url), await aio.connect(url)
    await first.close()
    await second.set("key", "1")
    third = await aio.connect(url)
    await second.close()
    assert await third.get("key") == b"1"
    await third.close()


async def wrong_use(url: str) -> None:
    """Every interface raises in another thread or another loop, and sends nothing."""
    async with await aio.connect(url) as client, client.subscribe("a") as subscription:
        session = client.watch("key")
        pipeline = client.pipeline().incr("n")
        transaction = client.transaction().incr("n")
        script = client.script("return 1")
        messages, scan = aiter(subscription), client.scan_iter()
        calls: list[Any] = [
            lambda: client.incr("n"),
            lambda: client.execute("INCR", "n"),
            lambda: client.execute_on("127.0.0.1:1", "PING"),
            lambda: client.with_options(timeout=1).incr("n"),
            lambda: session.execute("GET", "key"),
            lambda: session.get("key"),
            lambda: pipeline.execute(),
            lambda: transaction.execute(),
            lambda: script(["key"]),
            lambda: subscription.add("b"),
            lambda: client.subscribe("b"),
            lambda: client.refresh_topology(),
        ]
        coroutines: list[Any] = [
            client.close,
            client.abort,
            session.__aenter__,
            lambda: anext(messages),
            lambda: anext(scan),
            lambda: client.stream([("INCR", "n")], lambda index, result: None),
        ]

        def outside() -> None:
            for call in calls:
                try:
                    call()
                except WrongThread as error:
                    assert "outside of an event loop" in str(error)
                else:
                    raise AssertionError("a call outside of the loop did not raise")

        async def other_loop() -> None:
            for call in calls:
                try:
                    call()
                except RuntimeError as error:
                    assert "another event loop" in str(error)
                else:
                    raise AssertionError("a call in another loop did not raise")
            for function in coroutines:
                await raises(WrongThread, function())

        await asyncio.to_thread(outside)
        await asyncio.to_thread(lambda: asyncio.run(other_loop()))
        assert await pipeline.execute() == [1]
        assert await transaction.execute() == [2]
    await asyncio.get_running_loop().shutdown_default_executor()
    gc.collect()

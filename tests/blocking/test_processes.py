"""Whole programs: Ctrl-C, the end of the interpreter, forks, and a global reactor in another thread."""

from __future__ import annotations

from tests.blocking.base import BlockingTests

# Every warning is an error.
STRICT = ("-W", "error", "-X", "dev")
# Python 3.12 warns at each fork of a process with threads.
FORKING = (*STRICT, "-W", "ignore::DeprecationWarning")
# Warnings and errors of Twisted's log go to standard error.
LOGGING = """
import sys
from twisted.logger import FilteringLogObserver, LogLevel, LogLevelFilterPredicate, globalLogBeginner
from twisted.logger import textFileLogObserver
bad = LogLevelFilterPredicate(LogLevel.warn)
observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [bad])
globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)
"""
CTRL_C = """
import os, signal, sys, threading, time
from txvalkeycluster import blocking

client = blocking.connect(sys.argv[1], encoding="utf-8")

def interrupt_after(seconds):
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()

for call in (
    lambda: client.blpop("interrupt", 60),
    lambda: client.with_options(timeout=None).execute("BLPOP", "interrupt", 0),
    lambda: client.subscribe("interrupt").get(),
    lambda: next(iter(client.subscribe("interrupt"))),
):
    begun = time.monotonic()
    interrupt_after(0.3)
    try:
        call()
    except KeyboardInterrupt:
        print("interrupted", time.monotonic() - begun < 10, client.ping())
# The server does not wait any more: nobody takes this item.
client.rpush("interrupt", "item")
time.sleep(0.1)
print(client.lpop("interrupt"))
# At any moment of many calls.
interrupted = wrong = count = 0
left = threading.Event()

def many():
    while not left.wait(0.01):
        os.kill(os.getpid(), signal.SIGINT)

main = threading.Thread(target=many)
main.start()
end = time.monotonic() + 1.5
try:
    while time.monotonic() < end:
        try:
            count += 1
            client.set("many", count)
            wrong += client.get("many") != str(count)
        except KeyboardInterrupt:
            interrupted += 1
finally:
    while not left.is_set():
        try:
            left.set()
            main.join()
        except KeyboardInterrupt:
            pass
print(interrupted > 10, wrong, client.ping())
client.close()
"""
HANDLER = """
import signal, sys, threading, os
from txvalkeycluster import blocking

client = blocking.connect(sys.argv[1], encoding="utf-8")
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(client.incr("handler")))
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
client.delete("handler")
print(client.blpop("handler-list", 1), seen)
client.close()
"""
EXIT = """
import sys, threading, time
from txvalkeycluster import ClientClosed, blocking

url = sys.argv[1]
client = blocking.connect(url.replace("127.0.0.1", "localhost"), encoding="utf-8")
subscription = client.subscribe("exit").ready()
print(client.set("exit", 1))
if sys.argv[2] == "daemon":
    threading.Thread(target=lambda: client.blpop("exit-list", 60), daemon=True).start()
    threading.Thread(target=lambda: subscription.get(), daemon=True).start()
    time.sleep(0.2)
elif sys.argv[2] == "thread":
    threading.Thread(target=lambda: print(client.blpop("exit-list", 1))).start()
elif sys.argv[2] == "error":
    raise SystemExit(3)
elif sys.argv[2] == "atexit":
    import atexit
    atexit.register(lambda: print(client.ping()))
elif sys.argv[2] == "early-atexit":
    client.close()
    import atexit
    atexit.unregister(blocking.background._at_exit)
    def ping():
        try:
            client.ping()
        except ClientClosed as error:
            print(error)
    atexit.register(ping)
    atexit.register(blocking.background._at_exit)
    client = blocking.connect(url, encoding="utf-8")
"""
NO_GLOBAL_REACTOR = """
import sys
from txvalkeycluster import blocking

with blocking.connect(sys.argv[1]) as client:
    client.ping()
    print("twisted.internet.reactor" in sys.modules)
from twisted.internet import asyncioreactor
asyncioreactor.install()
"""
FORK = """
import os, sys, threading, time
from txvalkeycluster import ClientClosed, blocking

client = blocking.connect(sys.argv[1], encoding="utf-8")
lazy = blocking.BlockingClient(sys.argv[1], encoding="utf-8")
client.set("fork", 0)
pipeline, subscription, scan = client.pipeline().incr("fork"), client.subscribe("fork").ready(), client.scan_iter()
next(scan)
stop, errors = threading.Event(), []

def work(number):
    count = 0
    while not stop.is_set():
        count += 1
        client.set(f"fork:{number}", count)
        if client.get(f"fork:{number}") != str(count):
            errors.append(count)

threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
children = []
for index in range(6):
    time.sleep(0.05)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if index == 4:
                # Two threads of the child use the client for the first time.
                made = []
                both = [threading.Thread(target=lambda: made.append(client.incr("fork"))) for _ in range(8)]
                for each in both:
                    each.start()
                for each in both:
                    each.join()
                if len(made) != 8 or sum(each.name == "txvalkeycluster" for each in threading.enumerate()) != 1:
                    os._exit(4)
            elif index == 5:
                os._exit(0)
            for _ in range(20):
                client.incr("fork")
                lazy.incr("fork")
            for old in (pipeline.execute, subscription.ready, lambda: subscription.get(5), lambda: list(scan)):
                try:
                    old()
                    os._exit(2)
                except ClientClosed as error:
                    if "parent process" not in str(error):
                        os._exit(3)
            if index % 2:
                client.close()
                lazy.close()
                os._exit(0)
            # Without close(): the end of the interpreter ends the rest.
            sys.exit(0)
        except SystemExit:
            if index:
                os._exit(0)
            status = 0
            stop.set()
            raise
        finally:
            if status:
                import traceback
                traceback.print_exc()
                os._exit(status)
    children.append(child)
    client.publish("fork", index)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
stop.set()
for thread in threads:
    thread.join()
print(errors, client.get("fork"), pipeline.execute(), [subscription.get(5).data for _ in range(6)])
client.close()
lazy.close()
"""
CHILD_AFTER_GLOBAL_REACTOR = """
import os, sys, threading
from twisted.internet import reactor
from txvalkeycluster import blocking

started = threading.Event()
reactor.callWhenRunning(started.set)
running = threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False})
running.start()
started.wait()
client = blocking.connect(sys.argv[1], encoding="utf-8")
print(client.set("after", 1), any(each.name == "txvalkeycluster" for each in threading.enumerate()), flush=True)
child = os.fork()
if child == 0:
    # The thread of the global reactor does not exist here.
    print(client.get("after"), [each.name for each in threading.enumerate()][1:], flush=True)
    client.close()
    os._exit(0)
os.waitpid(child, 0)
print(client.get("after"))
reactor.callFromThread(reactor.stop)
running.join()
"""
STOPPED = """
import sys, threading
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from txvalkeycluster import ClientClosed, blocking

made = []

def work(number):
    client = blocking.connect(sys.argv[1], encoding="utf-8")
    made.append(client)
    if len(made) == 4:
        reactor.callFromThread(reactor.callLater, 0.3, reactor.stop)
    try:
        client.with_options(timeout=None).blpop(f"stopped:{number}", 0)
    except ClientClosed as error:
        # One write: other threads print, too.
        sys.stdout.write(f"ClientClosed {error} {error.maybe_executed}" + chr(10))

for number in range(2):
    # Threads of the reactor, for which it waits when it stops, and other threads.
    reactor.callWhenRunning(deferToThread, work, number)
    reactor.callWhenRunning(threading.Thread(target=work, args=(number,)).start)
reactor.run()
for client in made:
    try:
        client.ping()
    except ClientClosed:
        pass
    client.close()
with blocking.connect(sys.argv[1], encoding="utf-8") as client:
    print(client.ping())
"""
STARTS_LATER = """
import sys
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from txvalkeycluster import blocking

client = blocking.connect(sys.argv[1], encoding="utf-8")

def work():
    client.set("later", 1)
    with blocking.connect(sys.argv[1], encoding="utf-8") as other:
        return client.get("later"), other.get("later")

def begin():
    try:
        client.ping()
    except RuntimeError as error:
        print(error)
    deferToThread(work).addCallback(print).addBoth(lambda _: reactor.stop())

reactor.callWhenRunning(begin)
reactor.run()
print(client.get("later"))
client.close()
"""


class ProcessTests(BlockingTests):
    def check(self, program: str, expected: str, *words: str, options: tuple[str, ...] = STRICT, code: int = 0) -> None:
        """Run a program; compare its exit status, its output and its error output, which must be empty."""
        result = self.run_program(LOGGING + program, *words, options=options)
        self.assertEqual(result, (code, expected, ""), "\n".join(map(str, result)))

    def test_ctrl_c(self) -> None:
        """KeyboardInterrupt comes at once and cancels the command; the client works on."""
        self.check(CTRL_C, "interrupted True PONG\n" * 4 + "item\nTrue 0 PONG\n", options=())

    def test_a_call_in_a_handler_of_a_signal(self) -> None:
        """It works while the same thread waits for another call."""
        self.check(HANDLER, "None [1]\n")

    def test_exit_without_close(self) -> None:
        """The interpreter ends at once, without a message, with and without threads that wait."""
        options = ("-W", "error", "-W", "ignore::ResourceWarning")
        self.check(EXIT, "OK\n", "plain", options=options)
        self.check(EXIT, "OK\n", "daemon", options=options)
        self.check(EXIT, "OK\nNone\n", "thread", options=options)
        self.check(EXIT, "OK\n", "error", options=options, code=3)
        self.check(EXIT, "OK\nPONG\n", "atexit", options=options)
        self.check(EXIT, "OK\nthe reactor of the client has stopped\n", "early-atexit", options=options)

    def test_no_global_reactor(self) -> None:
        """The client installs no reactor: the program can still install one."""
        self.check(NO_GLOBAL_REACTOR, "False\n")

    def test_fork(self) -> None:
        """Children make connections of their own, and do not disturb the parent, whose threads are in calls."""
        expected = f"[0, 0, 0, 0, 0, 0]\n[] {5 * 40 + 8} [{5 * 40 + 9}] ['0', '1', '2', '3', '4', '5']\n"
        self.check(FORK, expected, options=FORKING)

    def test_fork_with_a_global_reactor_in_a_thread(self) -> None:
        """The child does not wait for the reactor of the parent."""
        expected = "OK False\n1 ['txvalkeycluster']\n1\n"
        self.check(CHILD_AFTER_GLOBAL_REACTOR, expected, options=("-W", "ignore"))

    def test_a_global_reactor_that_stops(self) -> None:
        """Calls that wait fail with ClientClosed, also in threads for which the reactor waits."""
        line = "ClientClosed the reactor of the client has stopped True\n"
        self.check(STOPPED, line * 4 + "PONG\n")

    def test_a_global_reactor_that_starts_later(self) -> None:
        """A client that was made before works in threads, and raises in the thread of the reactor."""
        refusal = "a blocking call in the thread of the reactor would stop the reactor: "
        refusal += "use the Deferreds of ClusterClient, or deferToThread\n"
        self.check(STARTS_LATER, refusal + "('1', '1')\n1\n")

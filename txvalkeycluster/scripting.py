"""`Script` and `Function`: server-side code as callables, loaded into the nodes that do not have it.

Source: https://valkey.io/topics/eval-intro and https://valkey.io/topics/functions-intro
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha1
from typing import Any, Generic

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .commands.method_support import Key, Text, Value, each
from .commands.methods import Commands
from .errors import PartialFailure, ReplyError

# The whole texts are compared: a script that did run can fail with the same first word.
_NO_SCRIPT = ("NOSCRIPT No matching script.", "NOSCRIPT No matching script. Please use EVAL.")
_NO_FUNCTION = ("ERR Function not found",)

#: One key, or several.
Keys = Key | Iterable[Key]
#: One argument, or several.
Values = Value | Iterable[Value]


class Script(Generic[Text]):
    """A Lua script.  `ClusterClient.script` makes one.

    A call sends the SHA-1 of the script (EVALSHA), and the whole script (EVAL) if the node does not have it.

    Example:
        greet = client.script("return ARGV[1] .. KEYS[1]")
        print(await greet("world", ["hello "]))
    """

    def __init__(self, commands: Commands[Text], source: str | bytes, *, repeats: bool = True) -> None:
        """Make a script; nothing is sent yet.

        Args:
            commands: The client, or a view of it.
            source: The Lua code.
            repeats: The option ``repeat_scripts``.  False: each call sends the whole script, once.
        """
        #: The Lua code.
        self.source = source
        #: The SHA-1 of the code in hexadecimal digits; servers know the script by it.
        self.sha = sha1(source if isinstance(source, bytes) else source.encode()).hexdigest()
        self._commands = commands
        self._repeats = repeats

    def __repr__(self) -> str:
        return f"<Script {self.sha}>"

    def __call__(self, keys: Keys = (), args: Values = (), *, read_only: bool = False) -> Deferred[Any]:
        """Run the script on the node of its keys.

        Args:
            keys: The keys that the script uses, all in one slot: one, or several.  Without keys it runs on any primary.
            args: The other arguments: one, or several.
            read_only: True makes the server refuse writes of the script (EVALSHA_RO).

        Returns:
            A Deferred that fires with what the script returns, or fails with an error that `ClusterClient.execute`
            lists.
        """
        run, send = ("EVALSHA_RO", "EVAL_RO") if read_only else ("EVALSHA", "EVAL")
        named = each(keys)
        rest = (len(named), *named, *each(args))
        if not self._repeats:
            return self._commands._run((send, self.source, *rest))
        done = self._commands._run((run, self.sha, *rest))

        def missing(failure: Failure) -> Any:
            _only(failure, _NO_SCRIPT)
            return self._commands._run((send, self.source, *rest))

        return done.addErrback(missing)


class Function(Generic[Text]):
    """A function of a library on the servers.  `ClusterClient.function` makes one.

    If the node does not have the function and the code of the library is known, the client loads the library into every
    primary (FUNCTION LOAD) and calls the function again.

    Example:
        add = client.function("add", Path("lib.lua").read_text())
        print(await add("counter", [5]))
    """

    def __init__(
        self, commands: Commands[Text], name: str, library: str | bytes | None, *, repeats: bool = True
    ) -> None:
        """Make a function; nothing is sent yet.

        Args:
            commands: The client, or a view of it.
            name: The name of the function.
            library: The code of the library.  None: it is not loaded.
            repeats: The option ``repeat_scripts``.  False: each call is sent once, and the library is not loaded.
        """
        #: The name of the function.
        self.name = name
        self._repeats = repeats
        self._commands = commands
        self._library = library

    def __repr__(self) -> str:
        return f"<Function {self.name}>"

    def __call__(self, keys: Keys = (), args: Values = (), *, read_only: bool = False) -> Deferred[Any]:
        """Call the function on the node of its keys.

        Args:
            keys: The keys that the function uses, all in one slot: one, or several.  Without keys it runs on any
                primary.
            args: The other arguments: one, or several.
            read_only: True makes the server refuse a function that may write (FCALL_RO).

        Returns:
            A Deferred that fires with what the function returns, or fails with an error that `ClusterClient.execute`
            lists.
        """
        named = each(keys)
        call = ("FCALL_RO" if read_only else "FCALL", self.name, len(named), *named, *each(args))
        done = self._commands._run(call)

        def missing(failure: Failure) -> Any:
            _only(failure, _NO_FUNCTION)
            if self._library is None or not self._repeats:
                return failure
            # Without REPLACE: a shard that already has the library, maybe a newer version, keeps its own.
            loaded = self._commands.function_load(self._library).addErrback(_there_already)
            return loaded.addCallback(lambda _: self._commands._run(call))

        return done.addErrback(missing)


def _there_already(failure: Failure) -> None:
    """Ignore the errors of shards that already have the library; raise all others."""
    error = failure.value
    errors = [what for _, what in error.outcomes] if isinstance(error, PartialFailure) else [error]
    if any(isinstance(what, Exception) and "already exists" not in str(what) for what in errors):
        failure.raiseException()


def _only(failure: Failure, texts: tuple[str, ...]) -> None:
    """Raise the error again, unless it is a ReplyError with one of these texts."""
    if not isinstance(failure.value, ReplyError) or str(failure.value) not in texts:
        failure.raiseException()

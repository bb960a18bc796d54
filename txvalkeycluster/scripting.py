"""Scripts and functions as callables, loaded where they are missed."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha1
from typing import Any, Generic

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .commands.method_support import Key, Text, Value, each
from .commands.methods import Commands
from .errors import PartialFailure, ReplyError

# To the letter, since a script that did run may fail with the same first word.
_NO_SCRIPT = ("NOSCRIPT No matching script.", "NOSCRIPT No matching script. Please use EVAL.")
_NO_FUNCTION = ("ERR Function not found",)

Keys = Key | Iterable[Key]
Values = Value | Iterable[Value]


class Script(Generic[Text]):
    """A Lua script, sent by its hash, and whole to a node that does not have it yet."""

    def __init__(self, commands: Commands[Text], source: str | bytes, *, repeats: bool = True) -> None:
        """Without ``repeats`` it is always sent whole, so that no reply can have it sent twice."""
        self.source = source
        #: Its SHA-1 in hexadecimal, by which servers know it.
        self.sha = sha1(source if isinstance(source, bytes) else source.encode()).hexdigest()
        self._commands = commands
        self._repeats = repeats

    def __repr__(self) -> str:
        return f"<Script {self.sha}>"

    def __call__(self, keys: Keys = (), args: Values = (), *, read_only: bool = False) -> Deferred[Any]:
        """Run it on the node of its keys; ``read_only`` has the server refuse writes in it."""
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
    """A function of a library; given the library's code, it is loaded into every shard if it is not there."""

    def __init__(
        self, commands: Commands[Text], name: str, library: str | bytes | None, *, repeats: bool = True
    ) -> None:
        """Without ``repeats`` the library is not loaded after a call that missed it."""
        self.name = name
        self._repeats = repeats
        self._commands = commands
        self._library = library

    def __repr__(self) -> str:
        return f"<Function {self.name}>"

    def __call__(self, keys: Keys = (), args: Values = (), *, read_only: bool = False) -> Deferred[Any]:
        """Call it on the node of its keys; ``read_only`` has the server refuse functions that may write."""
        named = each(keys)
        call = ("FCALL_RO" if read_only else "FCALL", self.name, len(named), *named, *each(args))
        done = self._commands._run(call)

        def missing(failure: Failure) -> Any:
            _only(failure, _NO_FUNCTION)
            if self._library is None or not self._repeats:
                return failure
            # Without REPLACE: a shard that has it, maybe in a newer version, keeps it.
            loaded = self._commands.function_load(self._library).addErrback(_there_already)
            return loaded.addCallback(lambda _: self._commands._run(call))

        return done.addErrback(missing)


def _there_already(failure: Failure) -> None:
    """Pass over shards that have the library."""
    error = failure.value
    errors = [what for _, what in error.outcomes] if isinstance(error, PartialFailure) else [error]
    if any(isinstance(what, Exception) and "already exists" not in str(what) for what in errors):
        failure.raiseException()


def _only(failure: Failure, texts: tuple[str, ...]) -> None:
    """Raise what failed unless it is an error with one of these texts."""
    if not isinstance(failure.value, ReplyError) or str(failure.value) not in texts:
        failure.raiseException()

"""Runs the reactor for one command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import click
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.python.failure import Failure

from ..errors import ValkeyError
from ..testing import NoServer


def run(main: Callable[[Any], Coroutine[Any, Any, int | None]]) -> NoReturn:
    """Run a coroutine with the reactor and exit with its result; what went wrong is one message, not a traceback."""
    code: list[int] = []

    def start(reactor: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(main(reactor)).addCallbacks(lambda result: code.append(result or 0), failed)

    def failed(failure: Failure) -> None:
        if not isinstance(failure.value, (ValkeyError, NoServer, ValueError, OSError)):
            # By default it goes to Twisted's log, which nobody has begun.
            failure.printTraceback(sys.stderr)  # type: ignore[no-untyped-call]
        else:
            click.echo(f"Error: {failure.value}", err=True)
        code.append(1)

    try:
        react(start)
    except SystemExit as stopped:
        # Ended by a signal, the coroutine has given no result.
        sys.exit(code[0] if code else stopped.code or 130)

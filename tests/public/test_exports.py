"""The names that an application can import from ``txvalkeycluster``."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import txvalkeycluster
from tests.cases import SynchronousTestCase
from txvalkeycluster import errors, events, testing
from txvalkeycluster.commands.methods import Commands
from txvalkeycluster.log import ClusterLog
from txvalkeycluster.requests.raw_batch import RawPart
from txvalkeycluster.routing.router import Router
from txvalkeycluster.routing.transaction_request import TransactionRequest

# The base class of the methods; what only the client passes to `WatchSession.send` and `RelayBatch.parted`; and
# attributes of the client that are its own.
INTERNAL = {Commands, TransactionRequest, RawPart, Router, ClusterLog}


class ExportTests(SynchronousTestCase):
    def test_errors_and_events(self) -> None:
        """Every error class and every event class is exported."""
        for module in (errors, events):
            for name, value in vars(module).items():
                if isinstance(value, type) and value.__module__ == module.__name__:
                    self.assertIn(name, txvalkeycluster.__all__)

    def test_types_of_public_members(self) -> None:
        """Every class of the package that is in the type of a public method, property or field is exported."""
        exported = [getattr(txvalkeycluster, name) for name in txvalkeycluster.__all__]
        named: set[type] = set()
        for value in exported:
            if isinstance(value, type):
                for member in members(value):
                    for hint in get_type_hints(member).values():
                        named.update(ours(hint))
        self.assertGreater(len(named), 10)
        self.assertEqual(named - INTERNAL - set(exported), set())

    def test_all(self) -> None:
        """Every name in ``__all__`` exists and is listed once. The repr of a sentinel is its name."""
        for module in (txvalkeycluster, testing):
            self.assertEqual(len(module.__all__), len(set(module.__all__)))
            for name in module.__all__:
                self.assertTrue(hasattr(module, name), name)
        for sentinel in ("CLOSE", "SILENCE", "DEFAULT_REPLY"):
            self.assertEqual(repr(getattr(testing, sentinel)), sentinel)
        self.assertEqual(repr(txvalkeycluster.DEFAULT), "DEFAULT")


def members(cls: type) -> Iterator[Any]:
    """Yield what has type hints in a class: the class itself for its fields, and its public functions."""
    if not issubclass(cls, BaseException):
        yield cls
    for name, value in vars(cls).items():
        function = value.fget if isinstance(value, property) else value
        if isinstance(function, types.FunctionType) and not name.startswith("_"):
            yield function


def ours(hint: Any) -> Iterator[type]:
    """Yield the classes of this package in a type hint."""
    if isinstance(hint, type) and hint.__module__.startswith("txvalkeycluster"):
        yield hint
    for argument in get_args(hint):
        yield from ours(argument)

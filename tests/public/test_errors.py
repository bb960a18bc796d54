"""Errors survive pickling and copying completely, and have the documented base classes."""

import copy
import inspect
import pickle
from typing import Any

from twisted.python.failure import Failure

from tests.cases import SynchronousTestCase
from txvalkeycluster import errors
from txvalkeycluster.errors import (
    AuthenticationFailed,
    ClientClosed,
    ClusterUnavailable,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    MaybeExecuted,
    PartialFailure,
    ProtocolError,
    ReplyError,
    RoutingError,
    TLSFailed,
    TooManyPending,
    TopologyError,
    TransactionAborted,
    TransactionRefused,
    ValkeyError,
    WritesUnconfirmed,
)

CLASSES: list[Any] = [
    made
    for _, made in inspect.getmembers(errors, inspect.isclass)
    if issubclass(made, BaseException) and made.__module__ == errors.__name__
]
ATTEMPTS = [("10.0.0.1:7000", "refused"), ("[::1]:7001", "no answer within 2 s")]
OUTCOMES = [("10.0.0.1:7000", 5), ("10.0.0.2:7000", ReplyError("LOADING wait"))]


def examples() -> list[ValkeyError]:
    """Return errors of every class, with every attribute that they can have."""
    found: list[ValkeyError] = []
    for made in CLASSES:
        found.append(made("WRONGTYPE a text"))
        if issubclass(made, MaybeExecuted):
            found += [made("a text", maybe_executed=True), made("", maybe_executed=False)]
    found += [TransactionAborted("ERR no; ERR nor this", ["ERR no", "ERR nor this"])]
    found += [TransactionRefused("NOPERM MULTI", [b"OK", ReplyError("ERR no")], maybe_executed=True)]
    found += [ClusterUnavailable("no map", ATTEMPTS), PartialFailure("DBSIZE failed", OUTCOMES)]
    return [*found, ReplyError(""), ReplyError("\u00e9 \x00\n")]


def state(error: BaseException) -> tuple[object, ...]:
    """Return everything that must survive."""
    names = ("maybe_executed", "code", "attempts", "errno", "__notes__")
    refusals = getattr(error, "refusals", ())
    outcomes = [(where, str(what)) for where, what in getattr(error, "outcomes", ())]
    outcomes += [("result", str(what)) for what in getattr(error, "results", ())]
    plain = [getattr(error, name, "none") for name in names]
    return type(error), str(error), str(error.args), outcomes, refusals, *plain


class CopyTests(SynchronousTestCase):
    def test_every_class_is_tried(self) -> None:
        """The examples have every class."""
        self.assertEqual({type(error) for error in examples()}, set(CLASSES))
        self.assertEqual(len(CLASSES), 20)

    def test_pickle(self) -> None:
        """Every protocol restores class, text and attributes."""
        for error in examples():
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                self.assertEqual(state(pickle.loads(pickle.dumps(error, protocol))), state(error))

    def test_copy(self) -> None:
        """Shallow and deep copies have the same state."""
        for error in examples():
            error.add_note("while testing")
            for made in (copy.copy(error), copy.deepcopy(error)):
                self.assertIsNot(made, error)
                self.assertEqual(state(made), state(error))

    def test_failure(self) -> None:
        """A Failure with an error can be pickled, as between processes, and the error has the same state."""
        for error in examples():
            try:
                raise error
            except ValkeyError:
                failure = Failure()  # type: ignore[no-untyped-call]
            value = pickle.loads(pickle.dumps(failure)).value
            self.assertEqual(state(value), state(error))

    def test_raised_anew(self) -> None:
        """Raising does not change an error, and every error is a ValkeyError."""
        for error in examples():
            before = state(error)
            caught = self.assertRaises(ValkeyError, self._raise, error)
            self.assertIs(caught, error)
            self.assertEqual(state(caught), before)

    def _raise(self, error: Exception) -> None:
        raise error


class ClassTests(SynchronousTestCase):
    def test_builtins(self) -> None:
        """Code that catches builtin exceptions catches these errors and no others."""
        connection = {
            ConnectionLost,
            WritesUnconfirmed,
            ConnectFailed,
            AuthenticationFailed,
            TLSFailed,
            ClusterUnavailable,
        }
        for made in CLASSES:
            self.assertEqual(issubclass(made, ConnectionError), made in connection, made)
            self.assertEqual(issubclass(made, TimeoutError), made is CommandTimeout, made)
            self.assertEqual(issubclass(made, OSError), made in connection | {CommandTimeout}, made)
            self.assertTrue(issubclass(made, ValkeyError))
            self.assertFalse(issubclass(made, (ValueError, TypeError, AssertionError)), made)

    def test_families(self) -> None:
        """Each base class has exactly these subclasses."""
        families: dict[type[ValkeyError], set[type[ValkeyError]]] = {
            MaybeExecuted: {
                ConnectionLost,
                WritesUnconfirmed,
                CommandTimeout,
                ClientClosed,
                TransactionRefused,
                ProtocolError,
            },
            ConnectionLost: {WritesUnconfirmed},
            ConnectFailed: {AuthenticationFailed, TLSFailed},
            ReplyError: {TransactionAborted},
            TooManyPending: set(),
            ProtocolError: set(),
            RoutingError: set(),
            TopologyError: set(),
            ClusterUnavailable: set(),
        }
        for base, kinds in families.items():
            found = {made for made in CLASSES if issubclass(made, base) and made is not base}
            self.assertEqual(found, kinds, base)

    def test_maybe_executed(self) -> None:
        """The default is False. The argument is keyword-only, so that no other argument is taken for it."""
        for made in (ConnectionLost, CommandTimeout, ClientClosed):
            self.assertIs(made("x").maybe_executed, False)
            self.assertIs(made("x", maybe_executed=True).maybe_executed, True)
            self.assertEqual(str(made("x", maybe_executed=True)), "x")
            self.assertRaises(TypeError, made, "x", True)

    def test_code(self) -> None:
        """The code is the first word, unchanged, and the text stays complete."""
        for text, code in [
            ("WRONGTYPE Operation against a key", "WRONGTYPE"),
            ("NOAUTH", "NOAUTH"),
            ("ERR  two spaces", "ERR"),
            ("myError Of a script", "myError"),
            (" ERR", ""),
            ("", ""),
        ]:
            error = ReplyError(text)
            self.assertEqual((error.code, str(error)), (code, text))
        self.assertRaises(AttributeError, setattr, ReplyError("x"), "code", "y")


class ClusterUnavailableTests(SynchronousTestCase):
    def test_text(self) -> None:
        """The text has one line for each attempt, in order."""
        error = ClusterUnavailable("no node gave a slot map", ATTEMPTS)
        self.assertEqual(
            str(error),
            "no node gave a slot map\n  10.0.0.1:7000: refused\n  [::1]:7001: no answer within 2 s",
        )
        self.assertEqual(error.attempts, tuple(ATTEMPTS))

    def test_without_attempts(self) -> None:
        """The text is the message alone."""
        error = ClusterUnavailable("no seeds")
        self.assertEqual((str(error), error.attempts), ("no seeds", ()))

    def test_attempts_are_copied(self) -> None:
        """Later changes to the given list have no effect. An address may occur twice."""
        attempts = [("a:1", "refused"), ("a:1", "refused")]
        error = ClusterUnavailable("no map", attempts)
        attempts.clear()
        self.assertEqual(len(error.attempts), 2)
        self.assertEqual(str(error).count("a:1: refused"), 2)

"""Lets a test see what is written to Twisted's log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import LogEvent, globalLogPublisher

from tests.cases import SynchronousTestCase


def observe_log(case: SynchronousTestCase, observe: Callable[[LogEvent], object]) -> None:
    """Call a function with each event of the log until the end of a test."""
    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    case.addCleanup(globalLogPublisher.removeObserver, observer)

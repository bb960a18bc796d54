"""A program that uses a cache."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from tests.proxy.client_libraries.libraries import Threads
from tests.proxy.client_libraries.values import Values
from tests.proxy.client_libraries.workers import Workers


class Cache(Workers):
    """A cache of Django or of Flask-Caching, with keys in many slots; and one whose keys are in one slot."""

    elsewhere = ("one", "several", "add", "memoize")

    def __init__(self, name: str, threads: Threads, everywhere: Any, together: Any) -> None:
        super().__init__("", threads)
        self.name = name
        self._cache, self._together = everywhere, together
        self._values = Values()
        self._calls: Counter[int] = Counter()
        self._logged = 0
        self._handler = logging.Handler(logging.ERROR)
        self._handler.emit = self.emit  # type: ignore[method-assign]
        if hasattr(everywhere, "memoize"):
            logging.getLogger("flask_caching").addHandler(self._handler)
        memoize = {"memoize": self._memoize} if hasattr(everywhere, "memoize") else {}
        self.start(one=self._one, several=self._several, add=self._add, **memoize)

    async def _one(self, number: int) -> None:
        """Keys in all slots."""
        key = f"key{number % 30}"
        self._values.writes(key, number)
        self._cache.set(key, number)
        self._values.has(key, number)
        self._values.has(key, self._cache.get(key))
        if number % 3 == 0:
            self._values.writes(key, None)
            self._cache.delete(key)
            self._values.has(key, None)
            assert self._cache.get(key) is None

    async def _several(self, number: int) -> None:
        """Set_many of Django is a transaction, whose keys must be in one slot."""
        keys = [f"many{number % 10}:{index}" for index in range(5)]
        for key in keys:
            self._values.writes(key, number)
        self._together.set_many(dict.fromkeys(keys, number))
        for key in keys:
            self._values.has(key, number)
        found = self._together.get_many(*keys) if hasattr(self._together, "memoize") else self._together.get_many(keys)
        found = list(found.values()) if isinstance(found, dict) else found
        assert found == [number] * 5, (found, number)
        if number % 2:
            for key in keys:
                self._values.writes(key, None)
            delete_many = self._together.delete_many
            delete_many(*keys) if hasattr(self._together, "memoize") else delete_many(keys)
            for key in keys:
                self._values.has(key, None)

    async def _add(self, number: int) -> None:
        """A second add does nothing."""
        key = f"add{number}"
        self._values.writes(key, 1)
        assert self._cache.add(key, 1)
        self._values.has(key, 1)
        assert not self._cache.add(key, 2)
        self._values.has(key, self._cache.get(key))

    async def _memoize(self, number: int) -> None:
        """A function is called once for each argument, unless its result could not be stored."""
        argument = number // 3

        @self._cache.memoize()  # type: ignore[untyped-decorator]
        def square(value: int) -> int:
            self._calls[value] += 1
            return value * value

        assert square(argument) == argument * argument
        assert self._calls[argument] <= 1 + self._logged, "the function was called again"

    def emit(self, record: logging.LogRecord) -> None:
        """Note an error that Flask-Caching has only logged."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            self._logged += 1
            self.errors.append(f"logged: {type(error).__name__}: {error}")

    async def stop(self) -> None:
        await super().stop()
        logging.getLogger("flask_caching").removeHandler(self._handler)

"""A cache backend for Django on a Valkey cluster.

Settings::

    CACHES = {
        "default": {
            "BACKEND": "django_cache.ValkeyClusterCache",
            "LOCATION": "valkey://10.0.0.1:7000,10.0.0.2:7000",
            "KEY_PREFIX": "shop",
            "OPTIONS": {"timeout": 0.5},
        }
    }

All threads of a process share one client.  A forked worker, such as one of gunicorn with ``--preload``, makes its own.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from txvalkeycluster import blocking

# Adds to a number that is there, and keeps its time to live.
_ADD = """
if redis.call('EXISTS', KEYS[1]) == 0 then
    return false
end
return redis.call('INCRBY', KEYS[1], ARGV[1])
"""
_DELETED_AT_ONCE = 1000
# Django makes a backend for each thread.
_clients: dict[str, blocking.BlockingClient[bytes]] = {}
_lock = Lock()


class ValkeyClusterCache(BaseCache):
    """Keeps values in a cluster: integers as numbers, everything else as pickles."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        """Find the client of the process for this cache.

        Args:
            server: The URL of the cluster.
            params: The settings of the cache.  ``OPTIONS`` are those of the client.
        """
        super().__init__(params)
        options = params.get("OPTIONS", {})
        name = f"{server} {sorted(options.items())}"
        with _lock:
            if name not in _clients:
                _clients[name] = blocking.BlockingClient(server, **options)
        self._client = _clients[name]

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """Return a value, or ``default``."""
        found = self._client.get(self._key(key, version))
        return default if found is None else _load(found)

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Store a value."""
        made, lifetime = self._key(key, version), self._milliseconds(timeout)
        if lifetime == 0:
            self._client.unlink(made)
        else:
            self._client.set(made, _dump(value), px=lifetime)

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Store a value if there is none; return whether it was stored."""
        made, lifetime = self._key(key, version), self._milliseconds(timeout)
        if lifetime == 0:
            return not self._client.exists(made)
        return self._client.set(made, _dump(value), px=lifetime, nx=True) is not None

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Change when a value expires; return whether there is one."""
        made, lifetime = self._key(key, version), self._milliseconds(timeout)
        if lifetime is not None:
            return bool(self._client.pexpire(made, lifetime))
        self._client.persist(made)
        return bool(self._client.exists(made))

    def delete(self, key: str, version: int | None = None) -> bool:
        """Delete a value; return whether there was one."""
        return bool(self._client.unlink(self._key(key, version)))

    def has_key(self, key: str, version: int | None = None) -> bool:
        """Return whether there is a value."""
        return bool(self._client.exists(self._key(key, version)))

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Add to a number.

        Raises:
            ValueError: There is no value.
        """
        found = self._client.script(_ADD)([self._key(key, version)], [delta])
        if found is None:
            raise ValueError(f"Key '{key}' not found")
        return int(found)

    def get_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        """Return the values that are there."""
        names = list(keys)
        if not names:
            return {}
        found = self._client.with_options(split_keys=True).mget(*(self._key(name, version) for name in names))
        return {name: _load(value) for name, value in zip(names, found, strict=True) if value is not None}

    def set_many(
        self, data: Mapping[str, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[str]:
        """Store values; return the keys that could not be stored."""
        lifetime = self._milliseconds(timeout)
        pipeline = self._client.pipeline()
        for key, value in data.items():
            made = self._key(key, version)
            if lifetime == 0:
                pipeline.unlink(made)
            else:
                pipeline.set(made, _dump(value), px=lifetime)
        return [key for key, result in zip(data, pipeline.execute(), strict=True) if isinstance(result, Exception)]

    def delete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        """Delete values."""
        pipeline = self._client.pipeline()
        for key in keys:
            pipeline.unlink(self._key(key, version))
        pipeline.execute(raise_first=True)

    def clear(self) -> None:
        """Delete all values with the ``KEY_PREFIX`` of this cache."""
        prefix = re.sub(r"([*?\[\]\\^])", r"\\\1", self.key_prefix)
        names: list[bytes] = []
        for name in self._client.scan_iter(f"{prefix}:*", count=_DELETED_AT_ONCE):
            names.append(name)
            if len(names) == _DELETED_AT_ONCE:
                self._unlink(names)
        self._unlink(names)

    def _unlink(self, names: list[bytes]) -> None:
        pipeline = self._client.pipeline()
        for name in names:
            pipeline.unlink(name)
        pipeline.execute(raise_first=True)
        names.clear()

    def _key(self, key: str, version: int | None) -> str:
        made: str = self.make_and_validate_key(key, version=version)
        return made

    def _milliseconds(self, timeout: Any) -> int | None:
        """Return how long a value lives; None is forever, and 0 means that it is not stored."""
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return None if seconds is None else max(int(seconds * 1000), 0)


def _dump(value: Any) -> bytes | int:
    # A server can add to a number.  bool is a kind of int, and must stay a bool.
    return value if type(value) is int else pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def _load(found: bytes) -> Any:
    try:
        return int(found)
    except ValueError:
        return pickle.loads(found)

"""The methods that iterate over keys, and over the members of one key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ..commands.converters import converted, flat_pairs, scored
from ..commands.encoder import Arg
from ..commands.method_support import Key, Text
from ..scan import KeyScan, MemberScan
from .base import ClientBase


class ScanMethods(ClientBase[Text]):
    """Scans the whole cluster, or a hash, a set or a sorted set."""

    def scan_iter(
        self, match: Key | None = None, *, count: int | None = None, type: str | None = None
    ) -> AsyncIterator[Text]:
        """Iterate over the keys of the whole cluster.

        Every key that exists from the beginning to the end is given at least once, also if slots move or a primary
        fails over meanwhile.  A key can be given more than once.  docs/scans.md describes the one case
        that the client cannot see.

        Args:
            match: A glob pattern that the keys must match, such as ``"user:*"``.
            count: How many keys the server looks at in one step; a hint.  The server's default is 10.
            type: The type that the values must have, such as ``"hash"``.

        Returns:
            An asynchronous iterator over the keys: bytes, or str with the option ``encoding``.

        Raises:
            CommandTimeout: No slot was scanned completely for ``timeout`` seconds (the option).
            ReplyError: A server refused a command.  The user needs the rights to SCAN and CLUSTER NODES.
            ProtocolError: A reply to SCAN is not a cursor and keys.
            ClientClosed: The client is closed or aborted.

        Example:
            async for key in client.scan_iter("session:*", count=1000):
                await client.unlink(key)
        """
        options = _scan_options(match, count) + (("TYPE", type) if type is not None else ())
        return KeyScan(self._router, options, self.options.timeout).keys()

    async def hscan_iter(
        self, key: Key, match: Key | None = None, *, count: int | None = None
    ) -> AsyncIterator[tuple[Text, Text]]:
        """Iterate over the fields of a hash with their values.

        All that exist from the beginning to the end are given at least once.  If the slot moves or the connection is
        replaced, the scan starts again, and some are given twice.
        Source: https://valkey.io/commands/hscan/

        Args:
            key: The key.
            match: A glob pattern that the fields must match.
            count: How many fields the server looks at in one step; a hint.  The server's default is 10.

        Yields:
            The pairs of field and value.

        Raises:
            ReplyError: The key holds another type, or the server refused the command.
            ProtocolError: The reply is not a cursor and a list.
            CommandTimeout: One step took longer than the option ``timeout``.
            ClientClosed: The client is closed or aborted.
        """
        async for members in self._members("HSCAN", key, match, count):
            for item in converted(members, flat_pairs):
                yield item

    async def sscan_iter(self, key: Key, match: Key | None = None, *, count: int | None = None) -> AsyncIterator[Text]:
        """Iterate over the members of a set.

        All that exist from the beginning to the end are given at least once.  If the slot moves or the connection is
        replaced, the scan starts again, and some are given twice.
        Source: https://valkey.io/commands/sscan/

        Args:
            key: The key.
            match: A glob pattern that the members must match.
            count: How many members the server looks at in one step; a hint.  The server's default is 10.

        Yields:
            The members.

        Raises:
            ReplyError: The key holds another type, or the server refused the command.
            ProtocolError: The reply is not a cursor and a list.
            CommandTimeout: One step took longer than the option ``timeout``.
            ClientClosed: The client is closed or aborted.
        """
        async for members in self._members("SSCAN", key, match, count):
            for member in members:
                yield member

    async def zscan_iter(
        self, key: Key, match: Key | None = None, *, count: int | None = None
    ) -> AsyncIterator[tuple[Text, float]]:
        """Iterate over the members of a sorted set with their scores.

        All that exist from the beginning to the end are given at least once.  If the slot moves or the connection is
        replaced, the scan starts again, and some are given twice.
        Source: https://valkey.io/commands/zscan/

        Args:
            key: The key.
            match: A glob pattern that the members must match.
            count: How many members the server looks at in one step; a hint.  The server's default is 10.

        Yields:
            The pairs of member and score.

        Raises:
            ReplyError: The key holds another type, or the server refused the command.
            ProtocolError: The reply is not a cursor and a list.
            CommandTimeout: One step took longer than the option ``timeout``.
            ClientClosed: The client is closed or aborted.
        """
        async for members in self._members("ZSCAN", key, match, count):
            for item in converted(members, scored):
                yield item

    def _members(self, command: str, key: Key, match: Key | None, count: int | None) -> AsyncIterator[list[Any]]:
        return MemberScan(self._router, command, key, _scan_options(match, count), self.options.timeout).replies()


def _scan_options(match: Key | None, count: int | None) -> tuple[Arg, ...]:
    return (("MATCH", match) if match is not None else ()) + (("COUNT", count) if count is not None else ())

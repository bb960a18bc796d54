"""The proxy's own users: a file with one line for each, which holds a hash of the password.

A line is ``name:scrypt:cost:salt:hash``; ``python -m txvalkeycluster.proxy.users NAME`` writes one.  Empty lines and
lines that begin with ``#`` are ignored.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import os
import re
import sys
from binascii import hexlify, unhexlify
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.internet.threads import deferToThread

# 16 MiB and 40 ms for each check, as RFC 7914 recommends for interactive logins.
_COST = 14
# With the highest cost, a check needs 128 MiB.
_MOST_COST = 17
_SALT = 16
_MOST_REMEMBERED = 1024
# How many passwords are checked at the same time.  The other processors are left for the requests of clients.
_AT_ONCE = max(1, (os.cpu_count() or 1) // 2)


_NAME = re.compile(r"[^\s:]+").fullmatch


class UsersError(ValueError):
    """The file of the users is not valid.  The text names the file and the line."""


@dataclass(frozen=True, slots=True)
class _User:
    cost: int
    salt: bytes = field(repr=False)
    hash: bytes = field(repr=False)

    def has(self, password: bytes) -> bool:
        return hmac.compare_digest(_hash(password, self.salt, self.cost), self.hash)


class Users:
    """The users of one file."""

    def __init__(self, path: Path, in_thread: Callable[..., Deferred[bool]] = deferToThread) -> None:
        """Read the file.

        Args:
            path: The file.
            in_thread: Runs a function in a thread, as `deferToThread`.

        Raises:
            UsersError: A line is not valid, a name is there twice, or there is no user.
            OSError: The file cannot be read.
        """
        self._in_thread = in_thread
        self._users = _read(path)
        # What has been checked already, by a keyed hash: a client that connects often does not wait again.
        self._secret = os.urandom(32)
        self._checked: dict[bytes, None] = {}
        self._checking: DeferredSemaphore = DeferredSemaphore(_AT_ONCE)

    def __len__(self) -> int:
        return len(self._users)

    def __repr__(self) -> str:
        return f"<Users of {len(self)} names>"

    def __contains__(self, name: object) -> bool:
        return name in self._users

    def check(self, name: str, password: bytes) -> Deferred[bool]:
        """Check a login.

        Args:
            name: The name of the user.
            password: The password.

        Returns:
            A Deferred that fires with whether they belong together.
        """
        digest = hmac.digest(self._secret, b"%b\0%b" % (name.encode("utf-8", "surrogateescape"), password), "sha256")
        if digest in self._checked:
            return succeed(True)
        user = self._users.get(name) or self._nobody(name)
        checked: Deferred[bool] = self._checking.run(self._in_thread, user.has, password)
        return checked.addCallback(self._remember, digest)

    def _nobody(self, name: str) -> _User:
        """Return a user without a password.  A check takes as long as for one of the users, always the same."""
        digest = hmac.digest(self._secret, name.encode("utf-8", "surrogateescape"), "sha256")
        users = list(self._users.values())
        like = users[int.from_bytes(digest[:8], "big") % len(users)]
        return _User(like.cost, like.salt, b"")

    def _remember(self, right: bool, digest: bytes) -> bool:
        if right:
            if len(self._checked) >= _MOST_REMEMBERED:
                self._checked.clear()
            self._checked[digest] = None
        return right


def line_for(name: str, password: bytes) -> str:
    """Return the line of a user.

    Args:
        name: The name, without colons and spaces.
        password: The password.

    Raises:
        ValueError: The name cannot be used.
    """
    if not _NAME(name) or name.startswith("#"):
        raise ValueError(f"{name!r} cannot be the name of a user: it may not be empty or have spaces or colons")
    salt = os.urandom(_SALT)
    digest = _hash(password, salt, _COST)
    return f"{name}:scrypt:{_COST}:{hexlify(salt).decode()}:{hexlify(digest).decode()}"


def _hash(password: bytes, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=1 << cost, r=8, p=1, maxmem=1 << 28, dklen=32)


def _read(path: Path) -> dict[str, _User]:
    users: dict[str, _User] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            raise UsersError(f"{path}, line {number} is not UTF-8") from None
        if not text or text.startswith("#"):
            continue
        where = f"{path}, line {number}"
        try:
            name, kind, cost, salt, digest = text.split(":")
            user = _User(int(cost), unhexlify(salt), unhexlify(digest))
        except ValueError:
            raise UsersError(f"{where} is not name:scrypt:cost:salt:hash") from None
        if not _NAME(name):
            raise UsersError(f"{where}: the name is empty, or has spaces")
        if kind != "scrypt" or not 10 <= user.cost <= _MOST_COST or len(user.hash) != 32:
            raise UsersError(f"{where} is not name:scrypt:cost:salt:hash, with a cost of 10 to {_MOST_COST}")
        if name in users:
            raise UsersError(f"{where}: the user {name} is there twice")
        users[name] = user
    if not users:
        raise UsersError(f"{path} has no users")
    return users


def main(arguments: list[str], ask: Callable[[str], Any] = getpass.getpass) -> int:
    """Print the line of a user, after asking for the password."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m txvalkeycluster.proxy.users NAME\n")
        return 2
    password = ask("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    try:
        print(line_for(arguments[0], password.encode()))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

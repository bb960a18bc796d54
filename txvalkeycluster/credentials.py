"""`Credentials`: a user name and a password, which may change while a client runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from .address import Address


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password.

    Raises:
        TypeError: A field has a wrong type.
        ValueError: A value is not allowed.  The text never holds the password.

    Example:
        Credentials("app", token, expires_in=900)
    """

    #: The name of the server's user.  None: the server's user ``default``.
    username: str | None
    #: The password, or a token that the server takes as one.
    password: str = field(repr=False)
    #: In how many seconds the password becomes invalid.  The client logs in with new credentials before that.  None:
    #: it stays valid.
    expires_in: float | None = None

    def __post_init__(self) -> None:
        check_text("username", self.username)
        check_text("password", self.password)
        if self.password is None:
            raise TypeError("password is None; it must be str")
        if self.expires_in is not None and not isinstance(self.expires_in, (int, float)):
            raise TypeError(f"expires_in is {type(self.expires_in).__name__}; it must be a number of seconds, or None")
        if self.expires_in is not None and not self.expires_in > 0:
            raise ValueError(f"expires_in is {self.expires_in!r}; it must be above 0, or None")


#: A function that gives the credentials for a node: at once, or later as a Deferred or a coroutine.
CredentialsFunction = Callable[[Address], Credentials | Awaitable[Credentials]]


def check_text(name: str, text: object) -> None:
    """Check a text that is sent to a server.

    Args:
        name: Its name, for the error.
        text: The text, or None.

    Raises:
        TypeError: It is neither str nor None.
        ValueError: It cannot be written in UTF-8.
    """
    if not isinstance(text, (str, type(None))):
        raise TypeError(f"{name} is {type(text).__name__}; it must be str")
    if text is not None and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{name} holds half of a surrogate pair, which cannot be written in UTF-8")

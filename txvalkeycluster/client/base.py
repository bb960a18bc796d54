"""What the methods of the client share."""

from __future__ import annotations

from typing import Generic

from ..commands.method_support import Text
from ..options import DEFAULT, Options
from ..routing.router import Router


class ClientBase(Generic[Text]):
    """The attributes of a client that its methods use."""

    options: Options
    _router: Router

    def _given(self, timeout: float | None) -> float | None:
        """Return the timeout that applies for an argument."""
        return self.options.timeout if timeout is DEFAULT else timeout

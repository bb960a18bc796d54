"""The methods of the client for asyncio.

They are the same functions as those of the client.  The stub ``async_commands.pyi`` gives them other types: each method
returns a `txvalkeycluster.aio.Reply`.
"""

from .methods import Commands as AsyncCommands

__all__ = ["AsyncCommands"]

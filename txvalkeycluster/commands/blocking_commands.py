"""The methods of the client for threads.

They are the same functions as those of the client.  The stub ``blocking_commands.pyi`` gives them other types: each
method returns the reply itself.
"""

from .methods import Commands as BlockingCommands

__all__ = ["BlockingCommands"]

"""The methods of pipelines and transactions.

They are the same functions as those of the client.  The stub ``queued.pyi`` gives them other types: each method
returns the pipeline or the transaction.
"""

from .methods import Commands as QueuedCommands

__all__ = ["QueuedCommands"]

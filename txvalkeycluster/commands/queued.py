"""The methods where commands are queued: the same, and typed differently in the stub beside."""

from .methods import Commands as QueuedCommands

__all__ = ["QueuedCommands"]

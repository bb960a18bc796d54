"""What a command's arguments mean: where its keys are, whether it may be repeated, what it does to a connection."""

from .arguments import DefinitionError
from .model import Command, KeySpec
from .table import CommandTable, can_fail_after_writing

__all__ = ["Command", "CommandTable", "DefinitionError", "KeySpec", "can_fail_after_writing"]

"""What commands mean: where their keys are, whether they may be repeated, whether they block.

`table` knows all commands (`model`), generated from Valkey's JSON (`definition`, `arguments`, `generated`) or read of
a server (`command_info`); `overrides` corrects it by hand.  `encoder` makes bytes of arguments, `converters` Python
values of replies.  `methods` has a method for each command, made by ``python -m gencmd`` of `method_support`.
"""

from .arguments import DefinitionError
from .model import Command, KeySpec
from .table import CommandTable, can_fail_after_writing

__all__ = ["Command", "CommandTable", "DefinitionError", "KeySpec", "can_fail_after_writing"]

"""Facts about commands: where their keys are, whether they may be repeated, and whether they block.

`table` looks up commands (`model`).  Its entries are generated from Valkey's JSON files (`definition`, `arguments`,
`generated`) or come from a server's COMMAND reply (`command_info`), with corrections by hand (`overrides`).  `encoder`
packs arguments into bytes, and `converters` turn replies into Python values.  `methods` has one method for each
command.  ``python -m gencmd`` generates it; it uses `method_support`.
"""

from .arguments import DefinitionError
from .model import Command, KeySpec
from .table import CommandTable, can_fail_after_writing

__all__ = ["Command", "CommandTable", "DefinitionError", "KeySpec", "can_fail_after_writing"]

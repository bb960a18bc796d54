"""Name -> command: Valkey's own, as generated, and what is learnt beside them."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .command_info import read_reply
from .definition import assemble, read_definitions
from .generated import COMMANDS
from .model import Command
from .overrides import SCRIPTS

# Names come from the program, in few spellings; the bound is for one that passes on what strangers type.
_MAX_SPELLINGS = 4096
_VALKEYS_OWN = frozenset(command.name for command in COMMANDS)


def can_fail_after_writing(command: Command) -> bool:
    """Whether an error reply leaves open what the command has done before.

    Valkey's own commands check everything before they write.  Scripts, functions and commands of modules need not.
    """
    if command.name in SCRIPTS:
        return True
    return "readonly" not in command.flags and command.name.partition(" ")[0] not in _VALKEYS_OWN


class CommandTable(dict[Any, Command]):
    """Every spelling of a name seen so far -> command: a look-up of ``"GET"``, ``b"get"`` or ``"Get"`` is one access.

    A name that is not in the table gives a command that is not ``known``.
    """

    def __init__(self, commands: Iterable[Command] = COMMANDS) -> None:
        """Valkey's commands, or others in their place."""
        super().__init__()
        self._names: dict[str, Command] = {}
        self._learnt: OrderedDict[str, None] = OrderedDict()
        self.add(commands)

    def __missing__(self, name: object) -> Command:
        if isinstance(name, (bytes, bytearray, memoryview)):
            plain = bytes(name).decode("utf-8", "replace").upper()
        elif isinstance(name, str):
            plain = name.upper()
        else:
            raise TypeError(f"the name of a command is text or bytes, not {type(name).__name__}")
        command = self._names.get(plain)
        if command is None:
            return Command(plain, known=False)
        if len(self) < len(self._names) + _MAX_SPELLINGS and name.__hash__ is not None:
            self[name if isinstance(name, (bytes, str)) else bytes(name)] = command
        return command

    def __repr__(self) -> str:
        return f"<CommandTable of {len(self._names)} commands>"

    @property
    def commands(self) -> tuple[Command, ...]:
        """Every command, without its spellings."""
        return tuple(self._names.values())

    def add(self, commands: Iterable[Command]) -> None:
        """Add commands, in place of those of the same name."""
        self._names.update((command.name, command) for command in commands)
        self.clear()
        self.update(self._names)

    def learn(self, commands: Iterable[Command]) -> None:
        """Add what a server has told of names that the table did not hold, some at a time."""
        for command in commands:
            self._learnt[command.name] = None
            if len(self._learnt) > _MAX_SPELLINGS:
                self._names.pop(self._learnt.popitem(last=False)[0], None)
            self._names[command.name] = command

    def extend(self, definitions: str | Mapping[str, Any]) -> None:
        """Add commands from JSON in the form of Valkey's ``src/commands``, as text or as what json.loads made of it.

        A subcommand joins its container.  Raises DefinitionError naming the field that is wrong.
        """
        text = definitions if isinstance(definitions, str) else json.dumps(definitions)
        for command in assemble(read_definitions(text, "commands")):
            known = self._names.get(command.name)
            if known is not None:
                command.subcommands.update({**known.subcommands, **command.subcommands})
            self.add([command])

    def keys_of(self, args: Sequence[Any]) -> list[Any]:
        """The keys among a command's arguments, as the server's COMMAND GETKEYS tells them."""
        command = self[args[0]].resolve(args)
        return list(command.keys(args))

    @classmethod
    def from_reply(cls, reply: object) -> CommandTable:
        """A table of a server's commands alone, from its COMMAND reply.  Raises ProtocolError."""
        return cls(read_reply(reply))

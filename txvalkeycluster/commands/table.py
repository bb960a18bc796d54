"""The table of commands by name: Valkey's own, and those that were added or learnt from a server."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .command_info import read_reply
from .definition import assemble, read_definitions
from .encoder import Arg
from .generated import COMMANDS
from .model import Command
from .overrides import SCRIPTS

# A program uses few spellings.  The limit protects a program that passes on names that its users type.
_MAX_SPELLINGS = 4096
_VALKEYS_OWN = frozenset(command.name for command in COMMANDS)


def can_fail_after_writing(command: Command) -> bool:
    """Tell whether a command may have written something although it answered with an error.

    Valkey's own commands check everything before they write.  Scripts, functions and commands of modules can write
    before they fail.

    Args:
        command: The command.
    """
    if command.name in SCRIPTS:
        return True
    return "readonly" not in command.flags and command.name.partition(" ")[0] not in _VALKEYS_OWN


class CommandTable(dict[Any, Command]):
    """The commands that a client knows: ``client.commands``.

    A look-up such as ``table["GET"]``, ``table[b"get"]`` or ``table["Get"]`` returns a `Command`.  Its ``known`` is
    false if the table does not have the name.

    The dict holds every spelling of a name that was looked up before, so that the next look-up is one access.

    Example:
        >>> CommandTable().keys_of(["MSET", "a", 1, "b", 2])
        ['a', 'b']
    """

    def __init__(self, commands: Iterable[Command] = COMMANDS) -> None:
        """Make a table.

        Args:
            commands: The commands of the table; by default, those of Valkey.
        """
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
            raise TypeError(f"the name of a command must be str or bytes, not {type(name).__name__}")
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
        """All commands."""
        return tuple(self._names.values())

    def add(self, commands: Iterable[Command]) -> None:
        """Add commands.  They replace commands with the same names.

        Args:
            commands: The commands.
        """
        self._names.update((command.name, command) for command in commands)
        self.clear()
        self.update(self._names)

    def learn(self, commands: Iterable[Command]) -> None:
        """Add commands that a server has described.  The table keeps a limited number of them.

        Args:
            commands: The commands.
        """
        for command in commands:
            self._learnt[command.name] = None
            if len(self._learnt) > _MAX_SPELLINGS:
                self._names.pop(self._learnt.popitem(last=False)[0], None)
            self._names[command.name] = command

    def extend(self, definitions: str | Mapping[str, Any]) -> None:
        """Add commands from JSON in the form of Valkey's ``src/commands``, as modules publish it.

        A subcommand is added to its container command.

        Args:
            definitions: The JSON text, or the object that ``json.loads`` made of it.

        Raises:
            DefinitionError: A field is wrong.  The error names it.

        Example:
            ::

                client.commands.extend(Path("examples/counters.json").read_text())
        """
        text = definitions if isinstance(definitions, str) else json.dumps(definitions)
        for command in assemble(read_definitions(text, "commands")):
            known = self._names.get(command.name)
            if known is not None:
                command.subcommands.update({**known.subcommands, **command.subcommands})
            self.add([command])

    def keys_of(self, args: Sequence[Arg]) -> list[Arg]:
        """Return the keys of a call, as the server's COMMAND GETKEYS does.

        Args:
            args: The name of the command and its arguments.

        Returns:
            The keys, unchanged.

        Raises:
            TypeError: The name is neither str nor bytes.
        """
        command = self[args[0]].resolve(args)
        return list(command.keys(args))

    @classmethod
    def from_reply(cls, reply: object) -> CommandTable:
        """Make a table of the commands of one server.

        Args:
            reply: The server's reply to COMMAND.

        Returns:
            A table that has only these commands.

        Raises:
            ProtocolError: The reply is not valid.
        """
        return cls(read_reply(reply))

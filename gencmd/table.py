"""Writes the table of commands."""

from __future__ import annotations

from collections.abc import Iterable

from txvalkeycluster.commands.model import Command, KeySpec

_HEADER = '''"""What every command's arguments mean.  Written by gencmd; do not edit."""

from __future__ import annotations

from {package}.model import Command, KeySpec


def _command(
    name: str,
    arity: int,
    flags: str,
    *key_specs: KeySpec,
    request: str | None = None,
    response: str | None = None,
    subcommands: tuple[Command, ...] = (),
) -> Command:
    by_name = {{command.name.rpartition(" ")[2]: command for command in subcommands}}
    return Command(name, frozenset(flags.split()), key_specs, request, response, by_name, arity)


COMMANDS = (
'''
_DEFAULTS = KeySpec(1)


def write_table(commands: Iterable[Command], inside: bool) -> str:
    """The module with the table; ``inside`` the package it imports from next door."""
    header = _HEADER.format(package="" if inside else "txvalkeycluster.commands")
    return header + "".join(_command(command, "    ") for command in commands) + ")\n"


def _command(command: Command, indent: str) -> str:
    parts = [f'"{command.name}"', str(command.arity), f'"{" ".join(sorted(command.flags))}"']
    parts += map(_key_spec, command.key_specs)
    parts += [f'request="{command.request_policy}"'] if command.request_policy is not None else []
    parts += [f'response="{command.response_policy}"'] if command.response_policy is not None else []
    inner = "".join(_command(sub, indent + "        ") for sub in command.subcommands.values())
    if not inner:
        line = f"{indent}_command({', '.join(parts)}),"
        if len(line) <= 120:
            return line + "\n"
    rows = [""]
    for part in parts:
        if len(rows[-1]) + len(part) > 112 - len(indent):
            rows.append("")
        rows[-1] += f"{' ' if rows[-1] else ''}{part},"
    head = f"{indent}_command(\n" + "".join(f"{indent}    {row}\n" for row in rows)
    return head + (f"{indent}    subcommands=(\n{inner}{indent}    ),\n" if inner else "") + f"{indent}),\n"


def _key_spec(spec: KeySpec) -> str:
    parts = [str(spec.begin)]
    for name in ("keyword", "first", "last", "step", "limit", "keynum", "is_key"):
        value = getattr(spec, name)
        if value != getattr(_DEFAULTS, name):
            text = f'b"{value.decode()}"' if isinstance(value, bytes) else value
            parts.append(f"{name}={text}")
    return f"KeySpec({', '.join(parts)})"

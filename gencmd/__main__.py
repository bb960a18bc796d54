"""Generates the table of commands and the typed methods from JSON files or from a running server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import react

from txvalkeycluster import ClientOptions, ClusterClient, ValkeyError
from txvalkeycluster.commands import DefinitionError
from txvalkeycluster.commands.definition import Definition, assemble, read_definitions

from .methods import write_async, write_blocking, write_methods, write_queued
from .replies import remember, remembered, reply_of
from .server import definitions_from
from .table import write_table

#: The package whose modules this program generates.
PACKAGE = Path(__file__).parent.parent / "txvalkeycluster" / "commands"
#: Whether this is a source checkout.  Only there, the default is to write the modules of the package itself.
IN_CHECKOUT = (Path(__file__).parent.parent / "setup.cfg").exists()


def read_files(paths: list[Path]) -> list[Definition]:
    """Read JSON files.

    Args:
        paths: The files, or folders of files.

    Returns:
        The definitions of all files.

    Raises:
        DefinitionError: There is no file, a file is not valid, or two files define the same command.  The text names
            the file.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    if not files:
        raise DefinitionError(f"no JSON files in {', '.join(map(str, paths))}")
    found: dict[str, tuple[Definition, Path]] = {}
    for file in files:
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise DefinitionError(f"{file.name}: {error}") from None
        for definition in read_definitions(text, file.name):
            if definition.name in found:
                raise DefinitionError(f"{definition.name} is in {found[definition.name][1].name} and in {file.name}")
            found[definition.name] = definition, file
    return [definition for definition, _ in found.values()]


async def read_server(reactor: IReactorTime, url: str, **options: Unpack[ClientOptions]) -> list[Definition]:
    """Read the definitions of a running server.

    Args:
        reactor: Makes the connection.
        url: The URL of the cluster, as for `ClusterClient`.
        **options: Options of the client.

    Returns:
        The definitions.

    Raises:
        ValkeyError: The server cannot be reached or does not answer.
        DefinitionError: A reply is not valid.
    """
    async with ClusterClient(reactor, url, **options) as client:
        node = next(iter((await client.refresh_topology()).primaries))
        commands = await client.execute_on(node, "COMMAND")
        docs = await client.execute_on(node, "COMMAND", "DOCS")
    return definitions_from(commands, as_text(docs))


def as_text(value: object) -> Any:
    """Decode all bytes in a reply of RESP3 to text."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return {as_text(name): as_text(item) for name, item in value.items()} if isinstance(value, dict) else value


def write(
    definitions: list[Definition],
    replies: Mapping[str, tuple[str, str | None]],
    folder: Path,
    class_name: str = "Commands",
    *,
    inside: bool | None = None,
) -> list[Path]:
    """Write the modules.

    Args:
        definitions: The commands.
        replies: The type and the converter of each command, by name.
        folder: The folder to write to.  It is created if it does not exist.
        class_name: The name of the class of methods.
        inside: Whether the modules are part of the package `txvalkeycluster.commands`.  Then the stubs are written
            too.  By default, the folder decides.

    Returns:
        The files.

    Raises:
        DefinitionError: Two commands have the same name, or would have the same method.
    """
    if inside is None:
        inside = folder.resolve() == PACKAGE.resolve()
    texts = {
        "generated.py": write_table(assemble(definitions), inside),
        "methods.py": write_methods(definitions, replies, class_name, inside),
    }
    if inside:
        texts["queued.pyi"] = write_queued(definitions, f"Queued{class_name}")
        texts["async_commands.pyi"] = write_async(definitions, replies, f"Async{class_name}")
        texts["blocking_commands.pyi"] = write_blocking(definitions, replies, f"Blocking{class_name}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; by default, those of the process.

    Returns:
        The exit code: 0, or 1 after an error.
    """
    parser = argparse.ArgumentParser(prog="python -m gencmd", description=__doc__)
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="FILE_OR_DIR",
        help="JSON files in the form of Valkey's src/commands, or folders of such files",
    )
    parser.add_argument("--server", metavar="URL", help="read the commands of this running server, not JSON files")
    parser.add_argument(
        "-o",
        dest="folder",
        type=Path,
        default=PACKAGE,
        required=not IN_CHECKOUT,
        metavar="DIR",
        help="folder to write to (in a source checkout, the default is the package itself)",
    )
    parser.add_argument(
        "--class",
        dest="class_name",
        default="Commands",
        metavar="NAME",
        help="name of the generated class (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if bool(options.paths) == bool(options.server):
        parser.error("give either JSON files or --server URL")
    try:
        if options.paths:
            definitions = read_files(options.paths)
            replies = {definition.name: reply_of(definition) for definition in definitions}
            if options.folder == PACKAGE:
                remember(replies)
        else:
            definitions = _ask(options.server)
            replies = remembered(definitions)
        written = write(definitions, replies, options.folder, options.class_name)
    except (ValkeyError, ValueError) as error:
        print(f"gencmd: {error}", file=sys.stderr)
        return 1
    for file in written:
        print(f"{file.name}: {len(file.read_text().splitlines())} lines")
    return 0


def _ask(url: str) -> list[Definition]:
    found: list[list[Definition]] = []
    failed: list[Exception] = []

    async def ask(reactor: IReactorTime) -> None:
        try:
            found.append(await read_server(reactor, url))
        except ValkeyError as error:
            failed.append(error)

    try:
        react(lambda reactor: ensureDeferred(ask(reactor)))
    except SystemExit:
        if failed:
            raise failed[0] from None
        if not found:
            raise
    return found[0]


if __name__ == "__main__":
    sys.exit(main())

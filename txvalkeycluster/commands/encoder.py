"""Packs the arguments of a command into the bytes of a RESP array.

A float is sent as the shortest text that gives the same float.  None, bool and other types that have no obvious text
are rejected.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from hiredis import pack_command

from ..acceleration import fast
from ..slots import BRACE, argument_slot, key_slot

Arg = bytes | str | int | float | bytearray | memoryview
#: A packed command: bytes, or a list of parts if it has large values.  The parts are not copied.
Packed = bytes | list[bytes]

#: Above this size, in bytes, a value is not copied: a header is sent, and then the value itself.  With 256 KB this
#: takes 19 us.  hiredis copies each argument twice and takes 503 us.  With 8 KB both take the same time.
LARGE = 8192
# Python refuses to format an integer of more than some thousand digits, and hiredis crashes then.
_HUGE = 1 << 1024
_PLAIN = (bytes, str, int, float)
# The header of an argument by its size.  A join of these makes a command in 0.06 us.  hiredis takes 0.15 us, and the
# check of each argument before it 0.1 us.
_LENGTHS = tuple(b"\r\n$%d\r\n" % size for size in range(1025))
_END = b"\r\n"
_join = b"".join


def pack(args: Sequence[Arg]) -> Packed:
    """Pack a command.

    Args:
        args: The name of the command and its arguments.

    Returns:
        The bytes to send.

    Raises:
        TypeError: An argument has a type that cannot be sent.  The text names its position.
        ValueError: A str has surrogates, or an int has more digits than Python formats.
    """
    for arg in args:
        kind = arg.__class__
        if kind is str or kind is bytes:
            if len(arg) > LARGE:  # type: ignore[arg-type]
                return _pack_parts(args)
        elif kind is int:
            if not -_HUGE < arg < _HUGE:  # type: ignore[operator]
                return _pack_parts(args)
        elif kind is not float:
            return _pack_parts(args)
    packed: bytes = pack_command(args if args.__class__ is tuple else tuple(args))  # type: ignore[arg-type]
    return packed


def pack_keyed(wire_name: bytes, args: Sequence[Arg]) -> tuple[int, Packed]:
    """Pack a command whose only key is argument 1, and compute its slot.

    This is the fastest way for one or two short arguments.

    Args:
        wire_name: The ``wire_name`` of the `Command`.
        args: The name of the command and its arguments.

    Returns:
        The slot of the key, and the bytes to send.

    Raises:
        TypeError: As `pack`.
        ValueError: As `pack`.
    """
    key = args[1]
    if key.__class__ is str:
        key = key.encode()
    if key.__class__ is not bytes:
        return argument_slot(key), pack(args)
    # Most keys have no hash tag and do not need the call of key_slot.
    slot = crc_hqx(key, 0) & 16383 if BRACE not in key else key_slot(key)
    count = len(args)
    try:
        if count == 2:
            return slot, _join((b"*2", wire_name, _LENGTHS[len(key)], key, _END))
        if count == 3:
            value = args[2]
            if value.__class__ is str:
                value = value.encode()
            if value.__class__ is bytes:
                return slot, _join((b"*3", wire_name, _LENGTHS[len(key)], key, _LENGTHS[len(value)], value, _END))
    except IndexError:
        # An argument is longer than the headers in _LENGTHS.
        pass
    return slot, pack(args)


if fast is not None and not TYPE_CHECKING:
    pack, pack_keyed = fast.Shortcut("pack", pack), fast.Shortcut("pack_keyed", pack_keyed)


def _pack_parts(args: Sequence[Arg]) -> Packed:
    if not isinstance(args[0], (bytes, str)):
        raise TypeError(f"the name of a command must be str or bytes, not {type(args[0]).__name__}")
    parts: list[bytes] = []
    small = [b"*%d\r\n" % len(args)]
    for index, arg in enumerate(args):
        wire = arg if arg.__class__ is bytes else _wire(_plain(args, index))
        small.append(b"$%d\r\n" % len(wire))
        if len(wire) > LARGE:
            parts += (b"".join(small), wire)
            small = [b"\r\n"]
        else:
            small += (wire, b"\r\n")
    parts.append(b"".join(small))
    return parts if len(parts) > 1 else parts[0]


def _wire(arg: Arg) -> bytes:
    if isinstance(arg, bytes):
        return arg
    if isinstance(arg, str):
        return arg.encode()
    return b"%d" % arg if isinstance(arg, int) else repr(arg).encode()


def _plain(args: Sequence[Arg], index: int) -> Arg:
    """Convert an argument to exactly one of the plain types.

    The repr of a subclass, such as a numpy scalar or an IntEnum, is not the text to send.
    """
    arg = args[index]
    if isinstance(arg, bool) or arg is None:
        raise TypeError(f"argument {index} of {_name(args)} is {arg!r}; give bytes, str, int or float instead")
    for kind in _PLAIN:
        if isinstance(arg, kind):
            return str.__str__(arg) if kind is str else kind(arg)  # type: ignore[arg-type]
    if isinstance(arg, (bytearray, memoryview)):
        return bytes(arg)
    raise TypeError(f"argument {index} of {_name(args)} is {wrong_kind(arg)}")


def wrong_kind(arg: object) -> str:
    """Return the end of an error text: the wrong type of an argument, and what to give instead."""
    text = f"of type {type(arg).__name__}, not bytes, str, int or float"
    if isinstance(arg, (list, tuple, set, frozenset)):
        return f"{text}; give several values one by one, as in mget(*keys)"
    if isinstance(arg, Mapping):
        return f"{text}; only commands that take pairs, such as hset, accept a mapping"
    if isinstance(arg, timedelta):
        return f"{text}; give a number: int(delta.total_seconds()), or delta // timedelta(milliseconds=1)"
    if isinstance(arg, datetime):
        return f"{text}; give the Unix time: int(moment.timestamp())"
    return text


def _name(args: Sequence[Arg]) -> str:
    name = args[0]
    return name if isinstance(name, str) else repr(name)

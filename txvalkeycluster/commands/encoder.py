"""A command's arguments -> the bytes of a RESP array.

Floats go as their shortest exact text; None, bool and everything else without one obvious wire form is refused.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from hiredis import pack_command

from ..slots import BRACE, argument_slot, key_slot

Arg = bytes | str | int | float | bytearray | memoryview
# One write: bytes, or for large values their parts, which are never copied.
Packed = bytes | list[bytes]

# hiredis copies every argument twice: at 256 KB 503 us against 19 us for a header and the value itself, even at 8 KB.
LARGE = 8192
# Python refuses to write integers of more digits than some thousands, which hiredis does not survive.
_HUGE = 1 << 1024
_PLAIN = (bytes, str, int, float)
# What stands before an argument of so many bytes.  Out of these a join makes a command in 0.06 us; hiredis takes 0.15,
# and a look at each argument first, 0.1 more.
_LENGTHS = tuple(b"\r\n$%d\r\n" % size for size in range(1025))
_END = b"\r\n"
_join = b"".join


def pack(args: Sequence[Arg]) -> Packed:
    """Pack a command.

    Raises TypeError that names the argument which has no wire form, by its position, and ValueError for text that is
    not Unicode and integers that Python does not write.
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
    """The slot and the bytes of a command whose one key is argument 1; the quickest way for one or two short arguments.

    ``wire_name`` is that of its `Command`.  Raises as `pack` does.
    """
    key = args[1]
    if key.__class__ is str:
        key = key.encode()
    if key.__class__ is not bytes:
        return argument_slot(key), pack(args)
    # Most keys are spared the call of key_slot.
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
        # Not so short.
        pass
    return slot, pack(args)


def _pack_parts(args: Sequence[Arg]) -> Packed:
    if not isinstance(args[0], (bytes, str)):
        raise TypeError(f"the name of a command is text or bytes, not {type(args[0]).__name__}")
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
    """An argument as exactly one of the plain types; subclasses (numpy scalars, IntEnum) lose their own repr."""
    arg = args[index]
    if isinstance(arg, bool) or arg is None:
        raise TypeError(f"argument {index} of {_name(args)} is {arg!r}: say what to send in its place")
    for kind in _PLAIN:
        if isinstance(arg, kind):
            return str.__str__(arg) if kind is str else kind(arg)  # type: ignore[arg-type]
    if isinstance(arg, (bytearray, memoryview)):
        return bytes(arg)
    raise TypeError(f"argument {index} of {_name(args)} is {wrong_kind(arg)}")


def wrong_kind(arg: object) -> str:
    """What is wrong with the type of an argument, and how to say it instead."""
    text = f"of type {type(arg).__name__}, not bytes, str, int or float"
    if isinstance(arg, (list, tuple, set, frozenset)):
        return f"{text}; give several one by one, as in mget(*keys)"
    if isinstance(arg, Mapping):
        return f"{text}; only commands that take pairs, such as hset, take a mapping"
    if isinstance(arg, timedelta):
        return f"{text}; say in which unit: int(delta.total_seconds()), or delta // timedelta(milliseconds=1)"
    if isinstance(arg, datetime):
        return f"{text}; give the Unix time: int(moment.timestamp())"
    return text


def _name(args: Sequence[Arg]) -> str:
    name = args[0]
    return name if isinstance(name, str) else repr(name)

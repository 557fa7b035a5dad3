"""Opcodes of plain values: None, booleans, numbers, texts and bytes."""

from __future__ import annotations

import codecs
import struct

from converters.pickles.machine import Machine, Row
from converters.pickles.values import BadPickle

MAX_INTEGER_BYTES = 1024


def _none(machine: Machine, _number: int, _payload: bytes) -> None:
    machine.stack.append(None)


def _true(machine: Machine, _number: int, _payload: bytes) -> None:
    machine.stack.append(True)


def _false(machine: Machine, _number: int, _payload: bytes) -> None:
    machine.stack.append(False)


def _small_integer(machine: Machine, number: int, _payload: bytes) -> None:
    machine.stack.append(number)


def _integer_text(machine: Machine, _number: int, payload: bytes) -> None:
    booleans = {b"00": False, b"01": True}
    machine.stack.append(booleans[payload] if payload in booleans else integer(payload))


def _long_text(machine: Machine, _number: int, payload: bytes) -> None:
    machine.stack.append(integer(payload.removesuffix(b"L")))


def _long(machine: Machine, number: int, payload: bytes) -> None:
    if number > MAX_INTEGER_BYTES:
        raise BadPickle(f"a whole number of {number} bytes")
    machine.stack.append(int.from_bytes(payload, "little", signed=True))


def _float(machine: Machine, _number: int, payload: bytes) -> None:
    machine.stack.append(struct.unpack(">d", payload)[0])


def _float_text(machine: Machine, _number: int, payload: bytes) -> None:
    try:
        machine.stack.append(float(payload))
    except ValueError:
        raise BadPickle(f"{payload[:40]!r} is not a number") from None


def _text(machine: Machine, _number: int, payload: bytes) -> None:
    try:
        machine.stack.append(str(payload, "utf-8", "surrogatepass"))
    except UnicodeDecodeError:
        raise BadPickle("a text is not UTF-8") from None
    machine.look_into(payload)


def _raw_unicode(machine: Machine, _number: int, payload: bytes) -> None:
    try:
        text = str(payload, "raw-unicode-escape")
    except UnicodeDecodeError:
        raise BadPickle("a text has a broken escape") from None
    machine.stack.append(text)
    machine.look_into(text.encode("latin-1", "replace"))


def _quoted_string(machine: Machine, _number: int, payload: bytes) -> None:
    line = payload.strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in {b"'", b'"'}:
        raise BadPickle("a text lacks its quotes")
    try:
        _string(machine, 0, codecs.escape_decode(line[1:-1])[0])
    except ValueError:
        raise BadPickle("a text has a broken escape") from None


def _string(machine: Machine, _number: int, payload: bytes) -> None:
    """A string of Python 2, which may be text or bytes: text where it can be."""
    machine.look_into(payload)
    try:
        machine.stack.append(str(payload, "utf-8"))
    except UnicodeDecodeError:
        machine.stack.append(payload)


def _bytes(machine: Machine, _number: int, payload: bytes) -> None:
    machine.stack.append(payload)
    machine.look_into(payload)


def _bytearray(machine: Machine, _number: int, payload: bytes) -> None:
    machine.stack.append(bytearray(payload))
    machine.look_into(payload)


def integer(text: bytes) -> int:
    """A whole number in Python's spelling. Raises BadPickle."""
    if len(text) > 2 * MAX_INTEGER_BYTES:
        raise BadPickle(f"a whole number of {len(text)} digits")
    try:
        return int(text, 0)
    except ValueError:
        raise BadPickle(f"{text[:40]!r} is not a whole number") from None


ROWS: tuple[Row, ...] = (
    (b"N", 16, _none),
    (b"\x88", 16, _true),
    (b"\x89", 16, _false),
    (b"JKM", 40, _small_integer),
    (b"I", 40, _integer_text),
    (b"L", 40, _long_text),
    (b"\x8a\x8b", 40, _long),
    (b"G", 32, _float),
    (b"F", 32, _float_text),
    (b"X\x8c\x8d", 64, _text),
    (b"V", 64, _raw_unicode),
    (b"S", 64, _quoted_string),
    (b"TU", 64, _string),
    (b"BC\x8e", 48, _bytes),
    (b"\x96", 72, _bytearray),
)

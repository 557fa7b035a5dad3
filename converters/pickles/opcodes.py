"""The instruction set of pickle, protocols 0 to 5, and a decoder for it.

Source: CPython `Lib/pickletools.py` (the commented table of opcodes) and `Lib/pickle.py`.
A stream has no jumps, so decoding is linear: what the decoder yields up to STOP is everything an
unpickler that starts at the same byte could execute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from converters.pickles.values import BadPickle

Argument = tuple[int, bytes, int]
"""(number, payload, position after it): an opcode has a number, a payload, or neither."""

Reader = Callable[[bytes, int], Argument]

STOP = ord(".")
PROTO = 0x80
PLAIN_CODES = b"(.012NQRabdeloqstu)]}\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98"


def decode(data: bytes, start: int = 0) -> Iterator[tuple[int, int, bytes, int]]:
    """Yield (opcode, number, payload, position) from `start` on, past STOP never.

    Raises BadPickle at an unknown opcode or where the data ends before STOP.
    """
    position, end = start, len(data)
    while position < end:
        code = data[position]
        reader = _READERS[code]
        if reader is None:
            yield code, 0, b"", position
            if code == STOP:
                return
            position += 1
        else:
            number, payload, after = reader(data, position + 1)
            yield code, number, payload, position
            position = after
    raise BadPickle("it ends before its STOP opcode", truncated=True)


def _unknown(data: bytes, position: int) -> Argument:
    raise BadPickle(f"unknown opcode {data[position - 1]:#04x} at byte {position - 1}")


def _number(size: int, *, signed: bool = False) -> Reader:
    def read(data: bytes, position: int) -> Argument:
        after = position + size
        if after > len(data):
            raise BadPickle("it ends inside a number", truncated=True)
        number = int.from_bytes(data[position:after], "little", signed=signed)
        return number, b"", after

    return read


def _sized(size_of_length: int, *, signed: bool = False) -> Reader:
    def read(data: bytes, position: int) -> Argument:
        begin = position + size_of_length
        length = int.from_bytes(data[position:begin], "little", signed=signed)
        after = begin + length
        if length < 0:
            raise BadPickle(f"a negative length at byte {position}")
        if after > len(data):
            raise BadPickle(f"it ends inside a value of {length} bytes", truncated=True)
        return length, data[begin:after], after

    return read


def _fixed(size: int) -> Reader:
    def read(data: bytes, position: int) -> Argument:
        after = position + size
        if after > len(data):
            raise BadPickle("it ends inside a number", truncated=True)
        return size, data[position:after], after

    return read


def _lines(count: int) -> Reader:
    def read(data: bytes, position: int) -> Argument:
        after = position
        for _ in range(count):
            after = data.find(b"\n", after) + 1
            if not after:
                raise BadPickle("it ends inside a line of text", truncated=True)
        return count, data[position : after - 1], after

    return read


_READERS: list[Reader | None] = [_unknown] * 256
for _code in PLAIN_CODES:
    _READERS[_code] = None
for _codes, _reader in (
    (b"Kqh\x80\x82", _number(1)),
    (b"M\x83", _number(2)),
    (b"J", _number(4, signed=True)),
    (b"rj", _number(4)),
    (b"\x84", _number(4, signed=True)),
    (b"\x95", _number(8)),
    (b"G", _fixed(8)),
    (b"U\x8aC\x8c", _sized(1)),
    (b"T\x8b", _sized(4, signed=True)),
    (b"XB", _sized(4)),
    (b"\x8d\x8e\x96", _sized(8)),
    (b"FILPSVgp", _lines(1)),
    (b"ci", _lines(2)),
):
    for _code in _codes:
        _READERS[_code] = _reader

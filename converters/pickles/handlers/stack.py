"""Opcodes of the stack, its marks and the memo."""

from __future__ import annotations

from converters.pickles.handlers.plain import integer
from converters.pickles.machine import Machine, Row
from converters.pickles.values import BadPickle


def _mark(machine: Machine, _number: int, _payload: bytes) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _stop(machine: Machine, _number: int, _payload: bytes) -> None:
    machine.value = machine.pop()


def _pop(machine: Machine, _number: int, _payload: bytes) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _pop_mark(machine: Machine, _number: int, _payload: bytes) -> None:
    machine.pop_mark()


def _duplicate(machine: Machine, _number: int, _payload: bytes) -> None:
    machine.stack.append(machine.top())


def _skip(_machine: Machine, _number: int, _payload: bytes) -> None:
    """PROTO, FRAME and READONLY_BUFFER change nothing here."""


def _put_text(machine: Machine, _number: int, payload: bytes) -> None:
    machine.memo[_index(payload)] = machine.top()


def _put(machine: Machine, number: int, _payload: bytes) -> None:
    machine.memo[number] = machine.top()


def _memoize(machine: Machine, _number: int, _payload: bytes) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _get_text(machine: Machine, _number: int, payload: bytes) -> None:
    _get(machine, _index(payload), b"")


def _get(machine: Machine, number: int, _payload: bytes) -> None:
    try:
        machine.stack.append(machine.memo[number])
    except KeyError:
        raise BadPickle(f"it recalls value {number}, which it never kept") from None


def _index(payload: bytes) -> int:
    index = integer(payload)
    if index < 0:
        raise BadPickle("a negative memo number")
    return index


ROWS: tuple[Row, ...] = (
    (b"(", 80, _mark),
    (b".", 8, _stop),
    (b"0", 8, _pop),
    (b"1", 8, _pop_mark),
    (b"2", 16, _duplicate),
    (b"\x80\x95\x98", 8, _skip),
    (b"p", 140, _put_text),
    (b"qr", 140, _put),
    (b"\x94", 140, _memoize),
    (b"g", 16, _get_text),
    (b"hj", 16, _get),
)

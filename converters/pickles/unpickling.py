"""Following a pickle to its end on the inert machine: nothing of what it names is run."""

from __future__ import annotations

from dataclasses import dataclass

from converters.pickles.handlers import HANDLERS, WEIGHTS
from converters.pickles.listing import named
from converters.pickles.machine import Machine, Persistent
from converters.pickles.opcodes import decode
from converters.pickles.values import BadPickle, Global

BUDGET = 48 << 20
"""Bytes of memory that one stream may make the machine use, beyond the stream itself."""


@dataclass(frozen=True, slots=True)
class Unpickled:
    """What following one stream gave.

    `value` is None and `stopped` tells why when the stream could not be followed to its STOP;
    `end` is the offset after the last opcode followed. `names` are all names imported, in order;
    `called` those called; `remarks` are further things it does that no plain data needs; `buried`
    are names in values that look like pickles themselves.
    """

    value: object
    end: int
    names: tuple[Global, ...]
    called: frozenset[Global]
    remarks: tuple[str, ...]
    buried: tuple[Global, ...]
    stopped: BadPickle | None


def no_persistent_ids(_identity: object) -> object:
    """The rule for streams that have no storages outside."""
    raise BadPickle("it refers to an object outside the stream")


def unpickle(data: bytes, start: int = 0, persistent: Persistent = no_persistent_ids) -> Unpickled:
    """Follow the pickle that begins at `start`. Never raises: problems are in `stopped`."""
    machine = Machine(persistent)
    stopped: BadPickle | None = None
    try:
        _follow(machine, data, start)
    except BadPickle as error:
        stopped = error
    names = dict.fromkeys(machine.names.values())
    if stopped:
        names.update(dict.fromkeys(named(data, start)))
    return Unpickled(
        value=None if stopped else machine.value,
        end=machine.end,
        names=tuple(names),
        called=frozenset(machine.called),
        remarks=tuple(machine.remarks),
        buried=tuple(machine.buried),
        stopped=stopped,
    )


def _follow(machine: Machine, data: bytes, start: int) -> None:
    """Follow the stream to its STOP. Raises BadPickle."""
    machine.end = start
    for code, number, payload, position in decode(data, start):
        machine.spent += WEIGHTS[code]
        if machine.spent > BUDGET:
            raise BadPickle(f"it asks for more than {BUDGET >> 20} MB of objects")
        handler = HANDLERS[code]
        if handler is None:
            raise BadPickle(f"opcode {code:#04x} at byte {position} needs what no file has")
        handler(machine, number, payload)
        machine.end = position + 1

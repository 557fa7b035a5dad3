"""Opcodes that import names, call them, set state and refer outside: none of it happens."""

from __future__ import annotations

from converters.pickles.constructors.arrays import set_array_state
from converters.pickles.machine import Machine, Row
from converters.pickles.values import Array, ArrayType, BadPickle, Global, Opaque


def _import(machine: Machine, _number: int, payload: bytes) -> None:
    module, _, name = payload.partition(b"\n")
    machine.stack.append(machine.name(_line(module), _line(name)))


def _import_from_stack(machine: Machine, _number: int, _payload: bytes) -> None:
    name, module = machine.pop(), machine.pop()
    if type(module) is str and type(name) is str:
        machine.stack.append(machine.name(module, name))
        return
    machine.remark("imports a name that it computes while loading")
    machine.stack.append(Opaque("a computed name", (module, name)))


def _extension(machine: Machine, number: int, _payload: bytes) -> None:
    machine.remark(f"uses entry {number} of Python's extension registry")
    machine.stack.append(Opaque(f"extension {number}"))


def _reduce(machine: Machine, _number: int, _payload: bytes) -> None:
    args = machine.pop()
    machine.stack.append(machine.call(machine.pop(), args))


def _new_object(machine: Machine, _number: int, _payload: bytes) -> None:
    """NEWOBJ_EX; NEWOBJ does what REDUCE does here."""
    keywords, args, target = machine.pop(), machine.pop(), machine.pop()
    machine.stack.append(machine.call(target, args if not keywords else [args, keywords]))


def _instance(machine: Machine, number: int, payload: bytes) -> None:
    args = tuple(machine.pop_mark())
    _import(machine, number, payload)
    machine.stack.append(machine.call(machine.pop(), args))


def _object(machine: Machine, _number: int, _payload: bytes) -> None:
    items = machine.pop_mark()
    if not items:
        raise BadPickle("it makes an object of no class")
    machine.stack.append(machine.call(items[0], tuple(items[1:])))


def _build(machine: Machine, _number: int, _payload: bytes) -> None:
    state, target = machine.pop(), machine.top()
    if isinstance(target, Opaque):
        _set_state(machine, target, state)
    elif isinstance(target, (Array, ArrayType)):
        set_array_state(target, state)
    elif isinstance(target, Global):
        machine.change(target, "sets attributes of")


def _set_state(machine: Machine, target: Opaque, state: object) -> None:
    """`state` is a dict of attributes, or a pair of that and a dict of slots, or anything."""
    parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    for part in parts:
        if isinstance(part, dict):
            machine.spend(96 * len(part))
            target.state.update(part)


def _persistent_text(machine: Machine, _number: int, payload: bytes) -> None:
    machine.stack.append(machine.persistent(_line(payload)))


def _persistent(machine: Machine, _number: int, _payload: bytes) -> None:
    machine.stack.append(machine.persistent(machine.pop()))


def _line(payload: bytes) -> str:
    """A name on a line of its own; undecodable bytes stay visible instead of ending the reading."""
    return str(payload, "utf-8", "backslashreplace")


ROWS: tuple[Row, ...] = (
    (b"c", 160, _import),
    (b"\x93", 160, _import_from_stack),
    (b"\x82\x83\x84", 480, _extension),
    (b"R\x81", 480, _reduce),
    (b"\x92", 480, _new_object),
    (b"i", 480, _instance),
    (b"o", 480, _object),
    (b"b", 64, _build),
    (b"P", 160, _persistent_text),
    (b"Q", 160, _persistent),
)

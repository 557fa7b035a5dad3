"""Opcodes that make lists, tuples, dicts and sets, and put things into them."""

from __future__ import annotations

from converters.pickles.machine import Handler, Machine, Row
from converters.pickles.values import BadPickle, Opaque


def _empty_list(machine: Machine, _number: int, _payload: bytes) -> None:
    machine.stack.append([])


def _empty_dict(machine: Machine, _number: int, _payload: bytes) -> None:
    machine.stack.append({})


def _empty_set(machine: Machine, _number: int, _payload: bytes) -> None:
    machine.stack.append(set())


def _empty_tuple(machine: Machine, _number: int, _payload: bytes) -> None:
    machine.stack.append(())


def _list(machine: Machine, _number: int, _payload: bytes) -> None:
    items = machine.pop_mark()
    machine.stack.append(items)


def _tuple(machine: Machine, _number: int, _payload: bytes) -> None:
    items = machine.pop_mark()
    machine.stack.append(tuple(items))


def _tuple_of(count: int) -> Handler:
    def handle(machine: Machine, _number: int, _payload: bytes) -> None:
        stack = machine.stack
        if len(stack) < count:
            raise BadPickle("it takes from an empty stack")
        stack[-count:] = [tuple(stack[-count:])]

    return handle


def _dict(machine: Machine, _number: int, _payload: bytes) -> None:
    items = machine.pop_mark()
    entries: dict[object, object] = {}
    _fill(machine, entries, items)
    machine.stack.append(entries)


def _frozenset(machine: Machine, _number: int, _payload: bytes) -> None:
    items = machine.pop_mark()
    machine.spend(64 * len(items))
    machine.stack.append(frozenset(machine.key(item) for item in items))


def _append(machine: Machine, _number: int, _payload: bytes) -> None:
    item = machine.pop()
    _extend(machine, machine.top(), [item])


def _appends(machine: Machine, _number: int, _payload: bytes) -> None:
    items = machine.pop_mark()
    _extend(machine, machine.top(), items)


def _add_items(machine: Machine, _number: int, _payload: bytes) -> None:
    items = machine.pop_mark()
    target = machine.top()
    if isinstance(target, set):
        machine.spend(64 * len(items))
        target.update(machine.key(item) for item in items)
    else:
        _extend(machine, target, items)


def _set_item(machine: Machine, _number: int, _payload: bytes) -> None:
    value = machine.pop()
    key = machine.pop()
    _set_entries(machine, machine.top(), [key, value])


def _set_items(machine: Machine, _number: int, _payload: bytes) -> None:
    items = machine.pop_mark()
    _set_entries(machine, machine.top(), items)


def _extend(machine: Machine, target: object, items: list[object]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, Opaque):
        target.items.extend(items)
    else:
        machine.change(target, "adds to")


def _set_entries(machine: Machine, target: object, items: list[object]) -> None:
    if isinstance(target, dict):
        _fill(machine, target, items)
    elif isinstance(target, Opaque):
        _fill(machine, target.entries, items)
    else:
        machine.change(target, "sets entries of")


def _fill(machine: Machine, entries: dict[object, object], items: list[object]) -> None:
    if len(items) % 2:
        raise BadPickle("a dict has a key without a value")
    machine.spend(48 * len(items))
    keys = items[::2]
    for index, key in enumerate(keys):
        entries[key if type(key) is str else machine.key(key)] = items[2 * index + 1]


ROWS: tuple[Row, ...] = (
    (b"]", 96, _empty_list),
    (b"}", 96, _empty_dict),
    (b"\x8f", 248, _empty_set),
    (b")", 16, _empty_tuple),
    (b"l", 96, _list),
    (b"t", 64, _tuple),
    (b"\x85", 64, _tuple_of(1)),
    (b"\x86", 72, _tuple_of(2)),
    (b"\x87", 80, _tuple_of(3)),
    (b"d", 280, _dict),
    (b"\x91", 248, _frozenset),
    (b"a", 16, _append),
    (b"e", 16, _appends),
    (b"\x90", 64, _add_items),
    (b"s", 120, _set_item),
    (b"u", 120, _set_items),
)

"""The inert machine: it follows a pickle's opcodes and runs nothing of what the pickle names.

Importing a name gives a `Global`, calling one gives an `Opaque`, except for the few constructors of
plain containers, tensors and arrays in `constructors.py`. Everything a stream can make grow is
charged to one budget of bytes, so that neither repeated memo references nor one-byte opcodes cost
more than a fixed amount of memory and time.

Semantics: CPython `Lib/pickle.py` (`_Unpickler`).
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from dataclasses import dataclass

from converters.pickles.constructors import CONSTRUCTORS, set_array_state
from converters.pickles.listing import hidden, may_hide, named
from converters.pickles.opcodes import decode
from converters.pickles.values import MAX_SHOWN, Array, ArrayType, BadPickle, Global, Opaque

BUDGET = 48 << 20
"""Bytes of memory that one stream may make the machine use, beyond the stream itself."""

MAX_INTEGER_BYTES = 1024
MAX_NESTED_CALLS = 8
MAX_ODD_KEYS = 4096
"""Keys whose hash a file can choose (tuples, huge numbers): few, or a dict becomes quadratic."""

Persistent = Callable[[object], object]
"""Gives the value of a persistent id; raises BadPickle when it has no meaning."""


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
        machine.run(data, start)
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


class Machine:
    """One run over one stream; see `unpickle`."""

    def __init__(self, persistent: Persistent) -> None:
        self.value: object = None
        self.end = 0
        self.names: dict[tuple[str, str], Global] = {}
        self.called: dict[Global, None] = {}
        self.remarks: dict[str, None] = {}
        self.buried: dict[Global, None] = {}
        self._persistent = persistent
        self._stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._spent = 0
        self._odd_keys = 0
        self._nesting = 0

    def run(self, data: bytes, start: int) -> None:
        """Follow the stream to its STOP. Raises BadPickle."""
        handlers = [getattr(self, name) if name else None for name in _HANDLERS]
        weights = _WEIGHTS
        self.end = start
        for code, number, payload, position in decode(data, start):
            self._spent += weights[code]
            if self._spent > BUDGET:
                raise BadPickle(f"it asks for more than {BUDGET >> 20} MB of objects")
            handler = handlers[code]
            if handler is None:
                raise BadPickle(f"opcode {code:#04x} at byte {position} needs what no file has")
            handler(number, payload)
            self.end = position + 1

    def spend(self, amount: int) -> None:
        """Charge `amount` bytes of memory to the stream's budget."""
        self._spent += amount

    def call(self, target: object, args: object) -> object:
        """What calling `target` gives: a plain value of known constructors, else a stand-in."""
        if not isinstance(target, Global):
            self._remark_call(target)
            return Opaque("?", args)
        self.called[target] = None
        constructor = CONSTRUCTORS.get(target.dotted)
        if constructor is None or not isinstance(args, tuple):
            return Opaque(target.dotted, args)
        self._nesting += 1
        if self._nesting > MAX_NESTED_CALLS:
            raise BadPickle("it calls a call of a call, and so on")
        made = constructor(self, args)
        self._nesting -= 1
        return made

    def key(self, value: object) -> object:
        """`value` as a key or set member. Raises BadPickle when it cannot or must not be hashed."""
        if isinstance(value, (str, bytes, float, Global, Opaque)) or value is None:
            return value
        if isinstance(value, int) and value.bit_length() < 60:
            return value
        self._odd_keys += 1
        if self._odd_keys > MAX_ODD_KEYS:
            raise BadPickle(f"it has more than {MAX_ODD_KEYS} keys that are not plain")
        _require_flat(value)
        return value

    def look_into(self, value: bytes) -> None:
        """Note the names of pickles inside a value."""
        if may_hide(value):
            self.buried.update(dict.fromkeys(hidden(value)))

    def _remark_call(self, target: object) -> None:
        what = (
            f"what {target.origin[:MAX_SHOWN]} returned"
            if isinstance(target, Opaque)
            else "a plain value"
        )
        self.remarks[f"calls {what}"] = None

    # -- the stack ---------------------------------------------------------------------------

    def _pop(self) -> object:
        if not self._stack:
            raise BadPickle("it takes from an empty stack")
        return self._stack.pop()

    def _top(self) -> object:
        if not self._stack:
            raise BadPickle("it looks at an empty stack")
        return self._stack[-1]

    def _pop_mark(self) -> list[object]:
        if not self._marks:
            raise BadPickle("it looks for a mark that is not there")
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _op_mark(self, number: int, payload: bytes) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _op_stop(self, number: int, payload: bytes) -> None:
        self.value = self._pop()

    def _op_pop(self, number: int, payload: bytes) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _op_pop_mark(self, number: int, payload: bytes) -> None:
        self._pop_mark()

    def _op_dup(self, number: int, payload: bytes) -> None:
        self._stack.append(self._top())

    def _op_skip(self, number: int, payload: bytes) -> None:
        """PROTO, FRAME and READONLY_BUFFER change nothing here."""

    # -- the memo ----------------------------------------------------------------------------

    def _op_put(self, number: int, payload: bytes) -> None:
        self._memo[_index(payload)] = self._top()

    def _op_binput(self, number: int, payload: bytes) -> None:
        self._memo[number] = self._top()

    def _op_memoize(self, number: int, payload: bytes) -> None:
        self._memo[len(self._memo)] = self._top()

    def _op_get(self, number: int, payload: bytes) -> None:
        self._op_binget(_index(payload), b"")

    def _op_binget(self, number: int, payload: bytes) -> None:
        try:
            self._stack.append(self._memo[number])
        except KeyError:
            raise BadPickle(f"it recalls value {number}, which it never kept") from None

    # -- plain values ------------------------------------------------------------------------

    def _op_none(self, number: int, payload: bytes) -> None:
        self._stack.append(None)

    def _op_newtrue(self, number: int, payload: bytes) -> None:
        self._stack.append(True)

    def _op_newfalse(self, number: int, payload: bytes) -> None:
        self._stack.append(False)

    def _op_binint(self, number: int, payload: bytes) -> None:
        self._stack.append(number)

    def _op_int_text(self, number: int, payload: bytes) -> None:
        booleans = {b"00": False, b"01": True}
        self._stack.append(booleans[payload] if payload in booleans else _integer(payload))

    def _op_long_text(self, number: int, payload: bytes) -> None:
        self._stack.append(_integer(payload.removesuffix(b"L")))

    def _op_long(self, number: int, payload: bytes) -> None:
        if number > MAX_INTEGER_BYTES:
            raise BadPickle(f"a whole number of {number} bytes")
        self._stack.append(int.from_bytes(payload, "little", signed=True))

    def _op_binfloat(self, number: int, payload: bytes) -> None:
        self._stack.append(struct.unpack(">d", payload)[0])

    def _op_float_text(self, number: int, payload: bytes) -> None:
        try:
            self._stack.append(float(payload))
        except ValueError:
            raise BadPickle(f"{payload[:40]!r} is not a number") from None

    def _op_text(self, number: int, payload: bytes) -> None:
        try:
            self._stack.append(str(payload, "utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise BadPickle("a text is not UTF-8") from None
        self.look_into(payload)

    def _op_raw_unicode(self, number: int, payload: bytes) -> None:
        try:
            text = str(payload, "raw-unicode-escape")
        except UnicodeDecodeError:
            raise BadPickle("a text has a broken escape") from None
        self._stack.append(text)
        self.look_into(text.encode("latin-1", "replace"))

    def _op_string(self, number: int, payload: bytes) -> None:
        line = payload.strip()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in {b"'", b'"'}:
            raise BadPickle("a text lacks its quotes")
        try:
            self._op_binstring(0, codecs.escape_decode(line[1:-1])[0])
        except ValueError:
            raise BadPickle("a text has a broken escape") from None

    def _op_binstring(self, number: int, payload: bytes) -> None:
        """A string of Python 2, which may be text or bytes: text where it can be."""
        self.look_into(payload)
        try:
            self._stack.append(str(payload, "utf-8"))
        except UnicodeDecodeError:
            self._stack.append(payload)

    def _op_binbytes(self, number: int, payload: bytes) -> None:
        self._stack.append(payload)
        self.look_into(payload)

    def _op_bytearray8(self, number: int, payload: bytes) -> None:
        self._stack.append(bytearray(payload))
        self.look_into(payload)

    # -- containers --------------------------------------------------------------------------

    def _op_empty_list(self, number: int, payload: bytes) -> None:
        self._stack.append([])

    def _op_empty_dict(self, number: int, payload: bytes) -> None:
        self._stack.append({})

    def _op_empty_set(self, number: int, payload: bytes) -> None:
        self._stack.append(set())

    def _op_empty_tuple(self, number: int, payload: bytes) -> None:
        self._stack.append(())

    def _op_make_list(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        self._stack.append(items)

    def _op_make_tuple(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        self._stack.append(tuple(items))

    def _op_tuple1(self, number: int, payload: bytes) -> None:
        self._last_as_tuple(1)

    def _op_tuple2(self, number: int, payload: bytes) -> None:
        self._last_as_tuple(2)

    def _op_tuple3(self, number: int, payload: bytes) -> None:
        self._last_as_tuple(3)

    def _last_as_tuple(self, count: int) -> None:
        stack = self._stack
        if len(stack) < count:
            raise BadPickle("it takes from an empty stack")
        stack[-count:] = [tuple(stack[-count:])]

    def _op_make_dict(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        entries: dict[object, object] = {}
        self._fill(entries, items)
        self._stack.append(entries)

    def _op_make_frozenset(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        self.spend(64 * len(items))
        self._stack.append(frozenset(self.key(item) for item in items))

    def _op_append(self, number: int, payload: bytes) -> None:
        item = self._pop()
        self._extend(self._top(), [item])

    def _op_appends(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        self._extend(self._top(), items)

    def _op_additems(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        target = self._top()
        if isinstance(target, set):
            self.spend(64 * len(items))
            target.update(self.key(item) for item in items)
        else:
            self._extend(target, items)

    def _op_setitem(self, number: int, payload: bytes) -> None:
        value = self._pop()
        key = self._pop()
        self._set_items(self._top(), [key, value])

    def _op_setitems(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        self._set_items(self._top(), items)

    def _extend(self, target: object, items: list[object]) -> None:
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Opaque):
            target.items.extend(items)
        else:
            self._change(target, "adds to")

    def _set_items(self, target: object, items: list[object]) -> None:
        if isinstance(target, dict):
            self._fill(target, items)
        elif isinstance(target, Opaque):
            self._fill(target.entries, items)
        else:
            self._change(target, "sets entries of")

    def _fill(self, entries: dict[object, object], items: list[object]) -> None:
        if len(items) % 2:
            raise BadPickle("a dict has a key without a value")
        self.spend(48 * len(items))
        keys = items[::2]
        for index, key in enumerate(keys):
            entries[key if type(key) is str else self.key(key)] = items[2 * index + 1]

    def _change(self, target: object, how: str) -> None:
        if not isinstance(target, Global):
            raise BadPickle(f"it {how} a {type(target).__name__}")
        self.remarks[f"{how} {target.shown} itself"] = None

    # -- names and calls ---------------------------------------------------------------------

    def _op_import_name(self, number: int, payload: bytes) -> None:
        module, _, name = payload.partition(b"\n")
        self._stack.append(self._name(_line(module), _line(name)))

    def _op_stack_global(self, number: int, payload: bytes) -> None:
        name, module = self._pop(), self._pop()
        if type(module) is str and type(name) is str:
            self._stack.append(self._name(module, name))
            return
        self.remarks["imports a name that it computes while loading"] = None
        self._stack.append(Opaque("a computed name", (module, name)))

    def _op_extension(self, number: int, payload: bytes) -> None:
        self.remarks[f"uses entry {number} of Python's extension registry"] = None
        self._stack.append(Opaque(f"extension {number}"))

    def _name(self, module: str, name: str) -> Global:
        known = self.names.get((module, name))
        if known is None:
            known = self.names[module, name] = Global(module, name)
            self.spend(256)
        return known

    def _op_reduce(self, number: int, payload: bytes) -> None:
        args = self._pop()
        self._stack.append(self.call(self._pop(), args))

    def _op_newobj_ex(self, number: int, payload: bytes) -> None:
        keywords, args, target = self._pop(), self._pop(), self._pop()
        self._stack.append(self.call(target, args if not keywords else [args, keywords]))

    def _op_inst(self, number: int, payload: bytes) -> None:
        args = tuple(self._pop_mark())
        self._op_import_name(number, payload)
        self._stack.append(self.call(self._pop(), args))

    def _op_obj(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        if not items:
            raise BadPickle("it makes an object of no class")
        self._stack.append(self.call(items[0], tuple(items[1:])))

    def _op_build(self, number: int, payload: bytes) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Opaque):
            self._set_state(target, state)
        elif isinstance(target, (Array, ArrayType)):
            set_array_state(target, state)
        elif isinstance(target, Global):
            self._change(target, "sets attributes of")

    def _set_state(self, target: Opaque, state: object) -> None:
        """`state` is a dict of attributes, or a pair of that and a dict of slots, or anything."""
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.spend(96 * len(part))
                target.state.update(part)

    def _op_persid(self, number: int, payload: bytes) -> None:
        self._stack.append(self._persistent(_line(payload)))

    def _op_binpersid(self, number: int, payload: bytes) -> None:
        self._stack.append(self._persistent(self._pop()))


def _index(payload: bytes) -> int:
    index = _integer(payload)
    if index < 0:
        raise BadPickle("a negative memo number")
    return index


def _integer(text: bytes) -> int:
    if len(text) > 2 * MAX_INTEGER_BYTES:
        raise BadPickle(f"a whole number of {len(text)} digits")
    try:
        return int(text, 0)
    except ValueError:
        raise BadPickle(f"{text[:40]!r} is not a whole number") from None


def _line(payload: bytes) -> str:
    """A name on a line of its own; undecodable bytes stay visible instead of ending the reading."""
    return str(payload, "utf-8", "backslashreplace")


def _require_flat(value: object) -> None:
    """Refuse keys whose hashing could recurse deeply or take exponential time."""
    waiting: list[object] = [value]
    for _ in range(64):
        if not waiting:
            return
        part = waiting.pop()
        if isinstance(part, (tuple, frozenset)):
            waiting.extend(part)
        elif not isinstance(part, (str, bytes, int, float, complex, Global, Opaque, type(None))):
            raise BadPickle(f"a {type(part).__name__} as a key")
    raise BadPickle("a key of more than 64 parts")


_TABLE: tuple[tuple[bytes, str, int], ...] = (
    # opcode, method, bytes it may make the machine allocate (at least 8: they bound the time too)
    (b"(", "_op_mark", 80),
    (b".", "_op_stop", 8),
    (b"0", "_op_pop", 8),
    (b"1", "_op_pop_mark", 8),
    (b"2", "_op_dup", 16),
    (b"\x80\x95\x98", "_op_skip", 8),
    (b"p", "_op_put", 140),
    (b"qr", "_op_binput", 140),
    (b"\x94", "_op_memoize", 140),
    (b"g", "_op_get", 16),
    (b"hj", "_op_binget", 16),
    (b"N", "_op_none", 16),
    (b"\x88", "_op_newtrue", 16),
    (b"\x89", "_op_newfalse", 16),
    (b"JKM", "_op_binint", 40),
    (b"I", "_op_int_text", 40),
    (b"L", "_op_long_text", 40),
    (b"\x8a\x8b", "_op_long", 40),
    (b"G", "_op_binfloat", 32),
    (b"F", "_op_float_text", 32),
    (b"X\x8c\x8d", "_op_text", 64),
    (b"V", "_op_raw_unicode", 64),
    (b"S", "_op_string", 64),
    (b"TU", "_op_binstring", 64),
    (b"BC\x8e", "_op_binbytes", 48),
    (b"\x96", "_op_bytearray8", 72),
    (b"]", "_op_empty_list", 96),
    (b"}", "_op_empty_dict", 96),
    (b"\x8f", "_op_empty_set", 248),
    (b")", "_op_empty_tuple", 16),
    (b"l", "_op_make_list", 96),
    (b"t", "_op_make_tuple", 64),
    (b"\x85", "_op_tuple1", 64),
    (b"\x86", "_op_tuple2", 72),
    (b"\x87", "_op_tuple3", 80),
    (b"d", "_op_make_dict", 280),
    (b"\x91", "_op_make_frozenset", 248),
    (b"a", "_op_append", 16),
    (b"e", "_op_appends", 16),
    (b"\x90", "_op_additems", 64),
    (b"s", "_op_setitem", 120),
    (b"u", "_op_setitems", 120),
    (b"c", "_op_import_name", 160),
    (b"\x93", "_op_stack_global", 160),
    (b"\x82\x83\x84", "_op_extension", 480),
    (b"R\x81", "_op_reduce", 480),
    (b"\x92", "_op_newobj_ex", 480),
    (b"i", "_op_inst", 480),
    (b"o", "_op_obj", 480),
    (b"b", "_op_build", 64),
    (b"P", "_op_persid", 160),
    (b"Q", "_op_binpersid", 160),
)
_HANDLERS: list[str | None] = [None] * 256
_WEIGHTS = [0] * 256
for _codes, _method, _weight in _TABLE:
    for _code in _codes:
        _HANDLERS[_code], _WEIGHTS[_code] = _method, _weight

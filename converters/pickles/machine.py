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
from converters.pickles.values import Array, ArrayType, BadPickle, Global, Opaque

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


def no_persistent_ids(identity: object) -> object:
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
        """What calling `target` amounts to: a plain value for known constructors, else a stand-in."""
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
        what = f"what {target.origin} returned" if isinstance(target, Opaque) else "a plain value"
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

    def mark(self, number: int, payload: bytes) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def stop(self, number: int, payload: bytes) -> None:
        self.value = self._pop()

    def pop(self, number: int, payload: bytes) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def pop_mark(self, number: int, payload: bytes) -> None:
        self._pop_mark()

    def dup(self, number: int, payload: bytes) -> None:
        self._stack.append(self._top())

    def skip(self, number: int, payload: bytes) -> None:
        """PROTO, FRAME and READONLY_BUFFER change nothing here."""

    # -- the memo ----------------------------------------------------------------------------

    def put(self, number: int, payload: bytes) -> None:
        self._memo[_index(payload)] = self._top()

    def binput(self, number: int, payload: bytes) -> None:
        self._memo[number] = self._top()

    def memoize(self, number: int, payload: bytes) -> None:
        self._memo[len(self._memo)] = self._top()

    def get(self, number: int, payload: bytes) -> None:
        self.binget(_index(payload), b"")

    def binget(self, number: int, payload: bytes) -> None:
        try:
            self._stack.append(self._memo[number])
        except KeyError:
            raise BadPickle(f"it recalls value {number}, which it never kept") from None

    # -- plain values ------------------------------------------------------------------------

    def none(self, number: int, payload: bytes) -> None:
        self._stack.append(None)

    def newtrue(self, number: int, payload: bytes) -> None:
        self._stack.append(True)

    def newfalse(self, number: int, payload: bytes) -> None:
        self._stack.append(False)

    def binint(self, number: int, payload: bytes) -> None:
        self._stack.append(number)

    def int_text(self, number: int, payload: bytes) -> None:
        booleans = {b"00": False, b"01": True}
        self._stack.append(booleans[payload] if payload in booleans else _integer(payload))

    def long_text(self, number: int, payload: bytes) -> None:
        self._stack.append(_integer(payload.removesuffix(b"L")))

    def long(self, number: int, payload: bytes) -> None:
        if number > MAX_INTEGER_BYTES:
            raise BadPickle(f"a whole number of {number} bytes")
        self._stack.append(int.from_bytes(payload, "little", signed=True))

    def binfloat(self, number: int, payload: bytes) -> None:
        self._stack.append(struct.unpack(">d", payload)[0])

    def float_text(self, number: int, payload: bytes) -> None:
        try:
            self._stack.append(float(payload))
        except ValueError:
            raise BadPickle(f"{payload[:40]!r} is not a number") from None

    def text(self, number: int, payload: bytes) -> None:
        try:
            self._stack.append(str(payload, "utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise BadPickle("a text is not UTF-8") from None
        self.look_into(payload)

    def raw_unicode(self, number: int, payload: bytes) -> None:
        try:
            text = str(payload, "raw-unicode-escape")
        except UnicodeDecodeError:
            raise BadPickle("a text has a broken escape") from None
        self._stack.append(text)
        self.look_into(text.encode("latin-1", "replace"))

    def string(self, number: int, payload: bytes) -> None:
        line = payload.strip()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in {b"'", b'"'}:
            raise BadPickle("a text lacks its quotes")
        try:
            self.binstring(0, codecs.escape_decode(line[1:-1])[0])
        except ValueError:
            raise BadPickle("a text has a broken escape") from None

    def binstring(self, number: int, payload: bytes) -> None:
        """A string of Python 2, which may be text or bytes: text where it can be."""
        self.look_into(payload)
        try:
            self._stack.append(str(payload, "utf-8"))
        except UnicodeDecodeError:
            self._stack.append(payload)

    def binbytes(self, number: int, payload: bytes) -> None:
        self._stack.append(payload)
        self.look_into(payload)

    def bytearray8(self, number: int, payload: bytes) -> None:
        self._stack.append(bytearray(payload))
        self.look_into(payload)

    # -- containers --------------------------------------------------------------------------

    def empty_list(self, number: int, payload: bytes) -> None:
        self._stack.append([])

    def empty_dict(self, number: int, payload: bytes) -> None:
        self._stack.append({})

    def empty_set(self, number: int, payload: bytes) -> None:
        self._stack.append(set())

    def empty_tuple(self, number: int, payload: bytes) -> None:
        self._stack.append(())

    def make_list(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        self._stack.append(items)

    def make_tuple(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        self._stack.append(tuple(items))

    def tuple1(self, number: int, payload: bytes) -> None:
        self._last_as_tuple(1)

    def tuple2(self, number: int, payload: bytes) -> None:
        self._last_as_tuple(2)

    def tuple3(self, number: int, payload: bytes) -> None:
        self._last_as_tuple(3)

    def _last_as_tuple(self, count: int) -> None:
        stack = self._stack
        if len(stack) < count:
            raise BadPickle("it takes from an empty stack")
        stack[-count:] = [tuple(stack[-count:])]

    def make_dict(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        entries: dict[object, object] = {}
        self._fill(entries, items)
        self._stack.append(entries)

    def make_frozenset(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        self.spend(64 * len(items))
        self._stack.append(frozenset(self.key(item) for item in items))

    def append(self, number: int, payload: bytes) -> None:
        item = self._pop()
        self._extend(self._top(), [item])

    def appends(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        self._extend(self._top(), items)

    def additems(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        target = self._top()
        if isinstance(target, set):
            self.spend(64 * len(items))
            target.update(self.key(item) for item in items)
        else:
            self._extend(target, items)

    def setitem(self, number: int, payload: bytes) -> None:
        value = self._pop()
        key = self._pop()
        self._set_items(self._top(), [key, value])

    def setitems(self, number: int, payload: bytes) -> None:
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
        self.remarks[f"{how} {target.dotted} itself"] = None

    # -- names and calls ---------------------------------------------------------------------

    def import_name(self, number: int, payload: bytes) -> None:
        module, _, name = payload.partition(b"\n")
        self._stack.append(self._name(_line(module), _line(name)))

    def stack_global(self, number: int, payload: bytes) -> None:
        name, module = self._pop(), self._pop()
        if type(module) is str and type(name) is str:
            self._stack.append(self._name(module, name))
            return
        self.remarks["imports a name that it computes while loading"] = None
        self._stack.append(Opaque("a computed name", (module, name)))

    def extension(self, number: int, payload: bytes) -> None:
        self.remarks[f"uses entry {number} of Python's extension registry"] = None
        self._stack.append(Opaque(f"extension {number}"))

    def _name(self, module: str, name: str) -> Global:
        known = self.names.get((module, name))
        if known is None:
            known = self.names[module, name] = Global(module, name)
            self.spend(256)
        return known

    def reduce(self, number: int, payload: bytes) -> None:
        args = self._pop()
        self._stack.append(self.call(self._pop(), args))

    def newobj_ex(self, number: int, payload: bytes) -> None:
        keywords, args, target = self._pop(), self._pop(), self._pop()
        self._stack.append(self.call(target, args if not keywords else [args, keywords]))

    def inst(self, number: int, payload: bytes) -> None:
        args = tuple(self._pop_mark())
        self.import_name(number, payload)
        self._stack.append(self.call(self._pop(), args))

    def obj(self, number: int, payload: bytes) -> None:
        items = self._pop_mark()
        if not items:
            raise BadPickle("it makes an object of no class")
        self._stack.append(self.call(items[0], tuple(items[1:])))

    def build(self, number: int, payload: bytes) -> None:
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

    def persid(self, number: int, payload: bytes) -> None:
        self._stack.append(self._persistent(_line(payload)))

    def binpersid(self, number: int, payload: bytes) -> None:
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
    if not isinstance(value, (int, complex, tuple, frozenset)):
        raise BadPickle(f"a {type(value).__name__} as a key")
    waiting, seen = [value], 0
    while waiting:
        part = waiting.pop()
        seen += 1
        if seen > 64:
            raise BadPickle("a key of more than 64 parts")
        if isinstance(part, (tuple, frozenset)):
            waiting.extend(part)
        elif isinstance(part, (list, dict, set, bytearray)):
            raise BadPickle(f"a {type(part).__name__} inside a key")


_TABLE: tuple[tuple[bytes, str, int], ...] = (
    # opcode, method, bytes it may make the machine allocate
    (b"(", "mark", 80),
    (b".", "stop", 0),
    (b"0", "pop", 0),
    (b"1", "pop_mark", 0),
    (b"2", "dup", 16),
    (b"\x80\x95\x98", "skip", 0),
    (b"p", "put", 140),
    (b"qr", "binput", 140),
    (b"\x94", "memoize", 140),
    (b"g", "get", 16),
    (b"hj", "binget", 16),
    (b"N", "none", 16),
    (b"\x88", "newtrue", 16),
    (b"\x89", "newfalse", 16),
    (b"JKM", "binint", 40),
    (b"I", "int_text", 40),
    (b"L", "long_text", 40),
    (b"\x8a\x8b", "long", 40),
    (b"G", "binfloat", 32),
    (b"F", "float_text", 32),
    (b"X\x8c\x8d", "text", 64),
    (b"V", "raw_unicode", 64),
    (b"S", "string", 64),
    (b"TU", "binstring", 64),
    (b"BC\x8e", "binbytes", 48),
    (b"\x96", "bytearray8", 72),
    (b"]", "empty_list", 96),
    (b"}", "empty_dict", 96),
    (b"\x8f", "empty_set", 248),
    (b")", "empty_tuple", 16),
    (b"l", "make_list", 96),
    (b"t", "make_tuple", 64),
    (b"\x85", "tuple1", 64),
    (b"\x86", "tuple2", 72),
    (b"\x87", "tuple3", 80),
    (b"d", "make_dict", 280),
    (b"\x91", "make_frozenset", 248),
    (b"a", "append", 16),
    (b"e", "appends", 16),
    (b"\x90", "additems", 64),
    (b"s", "setitem", 120),
    (b"u", "setitems", 120),
    (b"c", "import_name", 160),
    (b"\x93", "stack_global", 160),
    (b"\x82\x83\x84", "extension", 480),
    (b"R\x81", "reduce", 480),
    (b"\x92", "newobj_ex", 480),
    (b"i", "inst", 480),
    (b"o", "obj", 480),
    (b"b", "build", 64),
    (b"P", "persid", 160),
    (b"Q", "binpersid", 160),
)
_HANDLERS: list[str | None] = [None] * 256
_WEIGHTS = [0] * 256
for _codes, _method, _weight in _TABLE:
    for _code in _codes:
        _HANDLERS[_code], _WEIGHTS[_code] = _method, _weight

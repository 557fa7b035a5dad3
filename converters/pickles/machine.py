"""The inert machine: it follows a pickle's opcodes and runs nothing of what the pickle names.

Importing a name gives a `Global`, calling one gives an `Opaque`, except for the few constructors of
plain containers, tensors and arrays in `constructors`. Everything a stream can make grow is
charged to one budget of bytes, so that neither repeated memo references nor one-byte opcodes cost
more than a fixed amount of memory and time.

What each opcode does is in `handlers`; `unpickling` follows them.
"""

from __future__ import annotations

from collections.abc import Callable

from converters.pickles.constructors import CONSTRUCTORS
from converters.pickles.listing import hidden, may_hide
from converters.pickles.values import MAX_SHOWN, BadPickle, Global, Opaque

MAX_NESTED_CALLS = 8
MAX_ODD_KEYS = 4096
"""Keys whose hash a file can choose (tuples, huge numbers): few, or a dict becomes quadratic."""

Persistent = Callable[[object], object]
"""Gives the value of a persistent id; raises BadPickle when it has no meaning."""


class Machine:
    """The state of one run over one stream, and what its opcodes may ask for.

    `value` is what STOP left, `end` the offset after the last opcode followed, `spent` what was
    charged so far, in bytes.
    """

    def __init__(self, persistent: Persistent) -> None:
        self.value: object = None
        self.end = 0
        self.spent = 0
        self.stack: list[object] = []
        self.marks: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.names: dict[tuple[str, str], Global] = {}
        self.called: dict[Global, None] = {}
        self.remarks: dict[str, None] = {}
        self.buried: dict[Global, None] = {}
        self.persistent = persistent
        self._odd_keys = 0
        self._nesting = 0

    def spend(self, amount: int) -> None:
        """Charge `amount` bytes of memory to the stream's budget."""
        self.spent += amount

    # -- the stack ---------------------------------------------------------------------------

    def pop(self) -> object:
        """Take the topmost value. Raises BadPickle."""
        if not self.stack:
            raise BadPickle("it takes from an empty stack")
        return self.stack.pop()

    def top(self) -> object:
        """The topmost value, left where it is. Raises BadPickle."""
        if not self.stack:
            raise BadPickle("it looks at an empty stack")
        return self.stack[-1]

    def pop_mark(self) -> list[object]:
        """Take what was put there since the last mark. Raises BadPickle."""
        if not self.marks:
            raise BadPickle("it looks for a mark that is not there")
        items, self.stack = self.stack, self.marks.pop()
        return items

    # -- names and calls ---------------------------------------------------------------------

    def name(self, module: str, name: str) -> Global:
        """The name, which is not imported."""
        known = self.names.get((module, name))
        if known is None:
            known = self.names[module, name] = Global(module, name)
            self.spend(256)
        return known

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

    def change(self, target: object, how: str) -> None:
        """Note a change of what is only a name. Raises BadPickle for what cannot change so."""
        if not isinstance(target, Global):
            raise BadPickle(f"it {how} a {type(target).__name__}")
        self.remark(f"{how} {target.shown} itself")

    def remark(self, what: str) -> None:
        """Note what no plain data needs."""
        self.remarks[what] = None

    def _remark_call(self, target: object) -> None:
        if isinstance(target, Opaque):
            self.remark(f"calls what {target.origin[:MAX_SHOWN]} returned")
        else:
            self.remark("calls a plain value")

    # -- values ------------------------------------------------------------------------------

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


Handler = Callable[[Machine, int, bytes], None]
"""Does what an opcode says, given its number and its payload (see `opcodes`). Raises BadPickle."""

Row = tuple[bytes, int, Handler]
"""Opcodes, the bytes of memory that each may take, and what they do."""


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

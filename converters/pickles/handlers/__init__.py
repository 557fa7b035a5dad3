"""What each opcode does to the machine: one table, a file for each sort of opcodes.

A row names the opcodes, the bytes that one of them may make the machine allocate (at least 8: they
bound the time too), and the function.

Semantics: CPython `Lib/pickle.py` (`_Unpickler`).
"""

from __future__ import annotations

from converters.pickles.handlers import calls, containers, plain, stack
from converters.pickles.machine import Handler

HANDLERS: list[Handler | None] = [None] * 256
"""By opcode; None for those that no file has."""

WEIGHTS = [0] * 256
"""By opcode, in bytes."""

for _codes, _weight, _handler in stack.ROWS + plain.ROWS + containers.ROWS + calls.ROWS:
    for _code in _codes:
        HANDLERS[_code], WEIGHTS[_code] = _handler, _weight

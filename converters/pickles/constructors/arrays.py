"""Constructors of numpy's scalars, types and arrays.

Source: numpy `numpy/_core/multiarray.py` (`scalar`, `_reconstruct`) and `ndarray.__setstate__`.
"""

from __future__ import annotations

import struct

from converters.pickles.constructors.arguments import (
    Args,
    Caller,
    Constructor,
    counts,
    expect,
    under,
)
from converters.pickles.values import Array, ArrayType, BadPickle, Opaque

_SCALARS = {
    "f2": "e", "f4": "f", "f8": "d", "b1": "?",
    "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
}  # fmt: skip


def _array_type(_caller: Caller, args: Args) -> object:
    code = args[0] if args else None
    return ArrayType(code) if isinstance(code, str) else Opaque("numpy.dtype", args)


def _scalar(_caller: Caller, args: Args) -> object:
    """(dtype, bytes): the plain number it is."""
    kind, raw = (*args, None, None)[:2]
    letter = _SCALARS.get(kind.code) if isinstance(kind, ArrayType) else None
    data = _raw_bytes(raw)
    if letter is None or not isinstance(kind, ArrayType) or data is None:
        return Opaque("numpy scalar", args)
    try:
        return struct.unpack((">" if kind.order == ">" else "<") + letter, data)[0]
    except struct.error:
        raise BadPickle("a numpy scalar of the wrong length") from None


def _array(_caller: Caller, _args: Args) -> object:
    """`_reconstruct(ndarray, (0,), b"b")`; BUILD gives shape, type and bytes."""
    return Array()


def _array_from_buffer(_caller: Caller, args: Args) -> object:
    """`_frombuffer(bytes, dtype, shape, order)` of protocol 5."""
    expect(args, 4, "numpy _frombuffer")
    array = Array()
    set_array_state(array, (1, args[2], args[1], args[3] == "F", args[0]))
    return array


def set_array_state(target: Array | ArrayType, state: object) -> None:
    """BUILD on a dtype: (version, order, …); an array: (version, shape, dtype, fortran, bytes)."""
    if not isinstance(state, tuple):
        return
    if isinstance(target, ArrayType):
        if len(state) > 1 and isinstance(state[1], str):
            target.order = state[1][:1]
        return
    if len(state) == 5:
        target.shape = counts(state[1], "shape")
        target.type = state[2] if isinstance(state[2], ArrayType) else None
        target.fortran = bool(state[3])
        target.data = _raw_bytes(state[4])


def _raw_bytes(value: object) -> bytes | None:
    """Bytes, also where Python 2 left them as text; None for anything else."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else None


CONSTRUCTORS: dict[str, Constructor] = {
    **under(
        ("numpy.core.multiarray", "numpy._core.multiarray"),
        {"scalar": _scalar, "_reconstruct": _array},
    ),
    **under(("numpy.core.numeric", "numpy._core.numeric"), {"_frombuffer": _array_from_buffer}),
    **under(("numpy",), {"dtype": _array_type}),
}

"""Whether the numbers of tensors are finite, told from their bits.

In every type that has infinities or NaN these have an exponent of ones; e4m3fn has no infinity and
one pattern for NaN (OCP 8-bit floating point). Types without either are always finite.
"""

from __future__ import annotations

from collections.abc import Iterator

from converters.dtypes import DType
from converters.progress import SILENT, Progress
from converters.statedict import LazyTensor, StateDict

PIECE = 1 << 22
"""Elements that are looked at together."""

_EXPONENT = {
    DType.F64: ("<u8", 0x7FF0_0000_0000_0000),
    DType.F32: ("<u4", 0x7F80_0000),
    DType.F16: ("<u2", 0x7C00),
    DType.BF16: ("<u2", 0x7F80),
    DType.F8_E5M2: ("u1", 0x7C),
    DType.F8_E4M3: ("u1", 0x7F),
}
"""The unsigned integer a value is seen as, and the bits that are all ones in what is not finite."""


def non_finite(state: StateDict, progress: Progress = SILENT) -> Iterator[str]:
    """The names of tensors that hold infinities or NaN. Reads everything; raises FileProblem."""
    for name, tensor in state.items():
        if not all(map(_is_finite, tensor.parts(PIECE))):
            yield name
        progress.advance(tensor.nbytes)


def _is_finite(tensor: LazyTensor) -> bool:
    if tensor.dtype not in _EXPONENT or not tensor.numel:
        return True
    import numpy as np

    kind, ones = _EXPONENT[tensor.dtype]
    bits = np.frombuffer(tensor.read(), kind)
    return not bool(((bits & bits.dtype.type(ones)) == ones).any())

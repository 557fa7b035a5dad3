"""What the numbers of a tensor are like: extremes, mean, deviation, zeros, and what is not finite.

Values are seen in float64, a run of them at a time. Means and deviations of the runs are joined as
in Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances"
(1979), so that large tensors lose no digits. OCP 8-bit floating point: e5m2 is the upper half of a
float16; e4m3fn has a bias of 7, no infinities, and NaN where all bits but the sign are ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from converters.dtypes import DType
from converters.errors import UnsupportedFile
from converters.progress import SILENT, Progress
from converters.statedict import LazyTensor

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, np.dtype[Any]]

PIECE = 1 << 20
"""Elements that are looked at together: 8 MB as float64."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the finite numbers; None where there are none. `zeros` and `non_finite` are counts."""

    numbers: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None
    zeros: int = 0
    non_finite: int = 0

    def to_json(self) -> dict[str, float | int | None]:
        """The entry of the document."""
        return asdict(self)


def statistics(tensor: LazyTensor, progress: Progress = SILENT) -> Statistics:
    """Read a tensor and say what its numbers are like.

    Raises UnsupportedFile for types without numbers of their own (quantised blocks, complex ones),
    FileProblem, Cancelled.
    """
    as_numbers = _SEEN.get(tensor.dtype)
    if as_numbers is None:
        raise UnsupportedFile(f"{tensor.dtype.label} is not looked into")
    found = Statistics(0)
    for piece in tensor.parts(PIECE):
        found = _joined(found, _of(as_numbers(piece.read())))
        progress.advance(piece.nbytes)
    return found


def _of(numbers: Numbers) -> Statistics:
    import numpy as np

    values = numbers.astype(np.float64)
    finite = values[np.isfinite(values)]
    non_finite = int(values.size - finite.size)
    if not finite.size:
        return Statistics(int(values.size), non_finite=non_finite)
    return Statistics(
        int(values.size),
        float(finite.min()),
        float(finite.max()),
        float(finite.mean()),
        float(finite.std()),
        int(finite.size - np.count_nonzero(finite)),
        non_finite,
    )


def _joined(one: Statistics, other: Statistics) -> Statistics:
    n, m = one.numbers - one.non_finite, other.numbers - other.non_finite
    if not n or not m:
        kept = one if n else other
        numbers, lost = one.numbers + other.numbers, one.non_finite + other.non_finite
        return Statistics(
            numbers, kept.minimum, kept.maximum, kept.mean, kept.deviation, kept.zeros, lost
        )
    assert one.minimum is not None and one.maximum is not None  # noqa: PT018
    assert one.mean is not None and one.deviation is not None  # noqa: PT018
    assert other.minimum is not None and other.maximum is not None  # noqa: PT018
    assert other.mean is not None and other.deviation is not None  # noqa: PT018
    apart = other.mean - one.mean
    squares = n * one.deviation**2 + m * other.deviation**2 + apart * apart * n * m / (n + m)
    return Statistics(
        one.numbers + other.numbers,
        min(one.minimum, other.minimum),
        max(one.maximum, other.maximum),
        one.mean + apart * m / (n + m),
        math.sqrt(squares / (n + m)),
        one.zeros + other.zeros,
        one.non_finite + other.non_finite,
    )


# ---- bytes as numbers


def _stored(kind: str) -> Callable[[Any], Numbers]:
    def read(buffer: Any) -> Numbers:
        import numpy as np

        return np.frombuffer(buffer, kind)

    return read


def _bfloat16(buffer: Any) -> Numbers:
    """The upper half of a float32."""
    import numpy as np

    return (np.frombuffer(buffer, "<u2").astype(np.uint32) << 16).view(np.float32)


def _e5m2(buffer: Any) -> Numbers:
    import numpy as np

    return (np.frombuffer(buffer, "u1").astype(np.uint16) << 8).view(np.float16)


def _e4m3(buffer: Any) -> Numbers:
    import numpy as np

    table = np.array([_e4m3_value(bits) for bits in range(256)], np.float64)
    numbers: Numbers = table[np.frombuffer(buffer, "u1")]
    return numbers


def _e4m3_value(bits: int) -> float:
    """One of the 256 values.

    >>> _e4m3_value(0x38), _e4m3_value(0x7E), _e4m3_value(0x81)
    (1.0, 448.0, -0.001953125)
    """
    sign, exponent, fraction = -1 if bits & 0x80 else 1, bits >> 3 & 15, bits & 7
    if bits & 0x7F == 0x7F:
        return math.nan
    if not exponent:
        return float(sign * fraction * 2.0**-9)
    return float(sign * (8 + fraction) * 2.0 ** (exponent - 10))


_SEEN: dict[DType, Callable[[Any], Numbers]] = {
    DType.F64: _stored("<f8"),
    DType.F32: _stored("<f4"),
    DType.F16: _stored("<f2"),
    DType.BF16: _bfloat16,
    DType.F8_E5M2: _e5m2,
    DType.F8_E4M3: _e4m3,
    DType.I64: _stored("<i8"),
    DType.I32: _stored("<i4"),
    DType.I16: _stored("<i2"),
    DType.I8: _stored("i1"),
    DType.U64: _stored("<u8"),
    DType.U32: _stored("<u4"),
    DType.U16: _stored("<u2"),
    DType.U8: _stored("u1"),
    DType.BOOL: _stored("u1"),
}

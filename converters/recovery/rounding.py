"""What storing numbers in few bits does to them: the steps between neighbours, and their energy.

A value that is rounded to the nearest of a grid with steps h is off by h / √12 on average (root of
the mean square; B. Widrow and I. Kollár, Quantization Noise, 2008).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.dtypes import DType

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    from converters.recovery.sampling import Values


@dataclass(frozen=True, slots=True)
class Grid:
    """The numbers of a type: bits after the leading one, exponent of the smallest normal number."""

    label: str
    mantissa: int
    lowest: int


FP32, FP16, BF16 = Grid("fp32", 23, -126), Grid("fp16", 10, -14), Grid("bf16", 7, -126)
_STORED: Mapping[DType, Grid] = {
    DType.F16: FP16,
    DType.BF16: BF16,
    DType.F8_E4M3: Grid("fp8_e4m3", 3, -6),
    DType.F8_E5M2: Grid("fp8_e5m2", 2, -14),
    DType.F8_E4M3FNUZ: Grid("fp8_e4m3fnuz", 3, -7),
    DType.F8_E5M2FNUZ: Grid("fp8_e5m2fnuz", 2, -15),
}


def grid_of(values: Values, dtype: DType) -> Grid:
    """The grid that values lie on: a file in float32 may hold what was rounded to fewer bits."""
    if dtype in _STORED:
        return _STORED[dtype]
    return next((grid for grid in (BF16, FP16) if (rounded(values, grid) == values).all()), FP32)


def steps(values: NDArray[float64] | Values, grid: Grid) -> NDArray[float64]:
    """The distance of each value's neighbours on the grid."""
    import numpy as np

    _, exponents = np.frexp(values)  # of mantissas from 0.5 to 1
    normal = np.where(values == 0, grid.lowest, np.maximum(exponents - 1, grid.lowest))
    found: NDArray[float64] = np.ldexp(1.0, normal - grid.mantissa)
    return found


def rounded(values: NDArray[float64] | Values, grid: Grid) -> NDArray[float64]:
    """The nearest numbers of the grid, as float64."""
    import numpy as np

    wide = np.asarray(values, np.float64)
    step = steps(wide, grid)
    nearest: NDArray[float64] = np.rint(wide / step) * step
    return nearest


def rounding_energy(values: Values, grid: Grid) -> float:
    """The sum of the squares of what rounding did to values, as far as can be expected."""
    import numpy as np

    return float(np.square(steps(values, grid)).sum()) / 12

"""A matrix as the product of two thin ones: the best of a rank, or the thinnest of an energy.

The energy of a matrix is the sum of the squares of its singular values, which is the square of its
Frobenius norm; truncation keeps the largest (Eckart and Young 1936). Where few singular values are
wanted of many, they come from a random sketch with power iterations: Halko, Martinsson and Tropp,
Finding structure with randomness (2011), algorithms 4.4 and 5.1. The sketch is the same every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.errors import BadValue

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    Matrix = NDArray[float32]

_OVERSAMPLING = 16
_POWER_ITERATIONS = 3
_SKETCHED_SHARE = 4
"""A sketch pays when it is this many times thinner than the matrix."""
_FIRST_GUESS = 16
_ROUNDING = 1e-12
"""Share of an energy that its sum may lack by rounding."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to keep: a rank, or a share of the energy above 0 and at most 1."""

    rank: int | None = None
    energy: float | None = None

    @classmethod
    def of(cls, rank: int | None, energy: float | None, norm: float | None) -> Size:
        """The size by a rank, an energy, or a share of the Frobenius norm, the energy's root.

        Raises BadValue unless exactly one is given and makes sense.
        """
        if sum(each is not None for each in (rank, energy, norm)) != 1:
            raise BadValue("give one of --rank, --energy and --norm")
        if norm is None:
            size = cls(rank, energy)
            size.check()
            return size
        if not 0 < norm <= 1:
            raise BadValue(f"a share of a norm is above 0 and at most 1, not {norm}")
        return cls(energy=norm * norm)

    def check(self) -> None:
        """Raises BadValue unless exactly one is given and makes sense."""
        if (self.rank is None) == (self.energy is None):
            raise BadValue("give either --rank or --energy")
        if self.rank is not None and self.rank < 1:
            raise BadValue(f"a rank is at least 1, not {self.rank}")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise BadValue(f"an energy is above 0 and at most 1, not {self.energy}")


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The largest singular values (r), and their vectors as columns (out, r) and rows (r, in)."""

    left: Matrix
    values: Matrix
    right: Matrix

    def factors(self) -> tuple[Matrix, Matrix]:
        """The product up (out, r) · down (r, in), the values shared evenly between the two."""
        import numpy as np

        roots = np.sqrt(self.values)
        return self.left * roots, roots[:, None] * self.right

    def first(self, rank: int) -> Spectrum:
        """The largest `rank` of them."""
        return Spectrum(self.left[:, :rank], self.values[:rank], self.right[:rank])


def truncated(matrix: Matrix, size: Size) -> Spectrum:
    """The singular values of a matrix (out, in) that `size` asks for, at least one."""
    if size.rank is not None:
        return _largest(matrix, size.rank)
    return _with_energy(matrix, size.energy or 1.0)


def energy_of(matrix: Matrix) -> float:
    """The energy of a matrix."""
    import numpy as np

    return float(np.square(matrix, dtype=np.float64).sum())


def rank_of_energy(values: Matrix, wanted: float) -> int | None:
    """How many of the singular values together have an energy; None when they do not suffice."""
    import numpy as np

    reached = np.cumsum(np.square(values, dtype=np.float64))
    enough = np.flatnonzero(reached >= wanted * (1 - _ROUNDING))
    return int(enough[0]) + 1 if enough.size else None


def _with_energy(matrix: Matrix, share: float) -> Spectrum:
    wanted = share * energy_of(matrix)
    guess = _FIRST_GUESS
    while guess * _SKETCHED_SHARE < min(matrix.shape):
        spectrum = _sketched(matrix, guess)
        rank = rank_of_energy(spectrum.values, wanted)
        if rank is not None:
            return spectrum.first(rank)
        guess *= 2
    spectrum = _exact(matrix)
    return spectrum.first(rank_of_energy(spectrum.values, wanted) or len(spectrum.values))


def _largest(matrix: Matrix, rank: int) -> Spectrum:
    if rank * _SKETCHED_SHARE < min(matrix.shape):
        return _sketched(matrix, rank)
    return _exact(matrix).first(rank)


def _exact(matrix: Matrix) -> Spectrum:
    import numpy as np

    return Spectrum(*np.linalg.svd(matrix, full_matrices=False))


def _sketched(matrix: Matrix, rank: int) -> Spectrum:
    """The largest `rank` singular values, from the matrix's effect on random vectors."""
    import numpy as np

    width = min(rank + _OVERSAMPLING, *matrix.shape)
    random = np.random.Generator(np.random.PCG64(0))
    probe = random.standard_normal((matrix.shape[1], width), dtype=np.float32)
    basis, _ = np.linalg.qr(matrix @ probe)
    for _ in range(_POWER_ITERATIONS):
        inner, _ = np.linalg.qr(matrix.T @ basis)
        basis, _ = np.linalg.qr(matrix @ inner)
    small = _exact(basis.T @ matrix)
    return Spectrum(basis @ small.left, small.values, small.right).first(rank)

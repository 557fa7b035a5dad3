"""What a component was made of, as a value: the candidates, their weights, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Certainty(StrEnum):
    """How well an explanation holds, the best first.

    EXACT predicts the stored values, ROUNDING leaves over no more than rounding does,
    PARTIAL explains a share of the change.
    """

    EXACT = "exact"
    ROUNDING = "within rounding"
    PARTIAL = "partial"
    NONE = "unexplained"


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A candidate (by its number), its weight, and how far off that may be (standard deviation).

    `blocks` are weights by slot where they are not the same everywhere; `weight` is the mean then.
    `same` are candidates whose values are the same within rounding.
    """

    candidate: int
    weight: float
    deviation: float
    blocks: Mapping[str, float] = field(default_factory=dict)
    same: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a component was made of, the heaviest ingredient first.

    `explained` is the share of the squared difference to the first ingredient that the others
    explain, None where there is no difference but rounding. `residual`, `rounding` and `change` are
    roots of mean squares: of what is left over, of what rounding leaves, of that difference.
    `excess` is the largest share of squares left over to those of rounding in any slot. `equal` is
    the share of the `values` that the recipe gives as they are stored, in `precision`. `unknown` is
    the weight of models that are none of the candidates. `rivals` are other recipes that explain as
    much, as weights by candidate; `alike` are models that differ by no more than rounding.
    """

    certainty: Certainty
    ingredients: tuple[Ingredient, ...]
    explained: float | None
    residual: float
    rounding: float
    change: float
    excess: float
    equal: float
    values: int
    precision: str
    unknown: float = 0.0
    rivals: tuple[Mapping[int, float], ...] = ()
    alike: tuple[int, ...] = ()

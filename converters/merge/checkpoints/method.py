"""What a way of merging checkpoints is: a pure function on tensors, and what the engine may assume.

Every method gets the tensors of the models in their order, A first, in float32 and of one shape. It
may make its result in their memory: nobody looks at them afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.compute import Tensor

A, B, C = 0, 1, 2
"""Positions of the models."""

Spread = tuple[float, float]
"""The lowest and the highest of the values that a method looks at before it merges."""

Models = Sequence["Tensor"]
"""One tensor as every model has it."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a method is told about one tensor.

    `alpha` and `beta` are weights, `density` the share of the differences that TIES keeps, `drop`
    the share that DARE drops, by a mask that `seed` and the tensor's `name` decide. `spread` is
    what the method's survey of all tensors found.
    """

    alpha: float = 0.0
    beta: float = 0.0
    density: float = 1.0
    drop: float = 0.0
    seed: int = 0
    name: str = ""
    spread: Spread = (0.0, 1.0)


def unmoved(numbers: Numbers) -> int | None:
    """With a weight of zero, the result is A."""
    return A if numbers.alpha == 0 else None


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table of methods.

    It takes from `least` to `most` models (None: any number) and the `options` by name. Where the
    models at the positions `alike` (all when empty) have the same bytes, the result is A's; `picks`
    tells for which numbers it is the tensor of one model (None: for none). An `elementwise` method
    may be given any run of the elements, others see whole tensors. Components in `spared` stay A's.
    `survey` looks at all tensors that will be merged, before the first of them is.
    """

    name: str
    combine: Callable[[Models, Numbers], Tensor]
    least: int = 2
    most: int | None = 2
    options: frozenset[str] = frozenset({"alpha"})
    picks: Callable[[Numbers], int | None] | None = unmoved
    alike: tuple[int, ...] = ()
    elementwise: bool = True
    spared: frozenset[str] = frozenset()
    survey: Callable[[Iterable[Models]], Spread] | None = None

    def models(self, given: int, *, beta: bool) -> int:
        """How many of the given models take part; the others can only be sources of components.

        A method that takes one more model with `beta` has none without it.
        """
        if self.most is None:
            return given
        return self.most if beta or "beta" not in self.options else self.least

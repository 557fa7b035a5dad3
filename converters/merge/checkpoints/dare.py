"""DARE: most of each model's difference to A is dropped at random, the rest scaled up and added.

For δ_t = model_t - A and a mask that is 0 with the probability p: A + α · Σ_t mask_t · δ_t / (1-p).
Source: Yu et al., Language Models are Super Mario (arXiv:2311.03099), section 3, with the sum of
task arithmetic.

The mask of a tensor depends on seed, model and name alone, so that neither order nor threads change
a result. It is made of the raw numbers of Philox-4x64-10 (Salmon et al. 2011), a fixed sequence in
every version of numpy.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from converters.merge.checkpoints.method import A, Method, Models, Numbers

if TYPE_CHECKING:
    from numpy import bool_
    from numpy.typing import NDArray

    from converters.compute import Tensor

_STEPS = 1 << 32
"""Numbers of 32 bits decide: probabilities are multiples of their reciprocal."""


def dare(models: Models, numbers: Numbers) -> Tensor:
    """A with what is left of the differences."""
    result = models[A].clone()
    scale = numbers.alpha / (1 - numbers.drop)
    for position, model in enumerate(models[1:], 1):
        mask = kept(numbers, position, result.numel())
        delta = (model - models[A]).reshape(-1).numpy()
        delta *= mask  # in place: the tensor shares the memory
        result.add_(model.new_tensor(delta).reshape(result.shape), alpha=scale)
    return result


def kept(numbers: Numbers, position: int, count: int) -> NDArray[bool_]:
    """Which of `count` elements of the model at `position` stay."""
    import numpy as np

    text = f"{numbers.seed}:{position}:{numbers.name}".encode("utf-8", "surrogatepass")
    key = int.from_bytes(hashlib.sha256(text).digest()[:16], "little")
    raw = np.random.Philox(key=key).random_raw((count + 1) // 2).view("<u4")[:count]
    return np.asarray(raw >= round(numbers.drop * _STEPS))


DARE = Method(
    "dare",
    dare,
    most=None,
    options=frozenset({"alpha", "drop", "seed"}),
    elementwise=False,
)

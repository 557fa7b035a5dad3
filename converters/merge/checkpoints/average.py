"""Average: the mean of any number of models, Σ model_t / n.

Source: Wortsman et al., Model soups (arXiv:2203.05482), the uniform soup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.merge.checkpoints.method import Method, Models, Numbers

if TYPE_CHECKING:
    from converters.compute import Tensor


def average(models: Models, _: Numbers) -> Tensor:
    """The mean of the models."""
    total = models[0]
    for model in models[1:]:
        total.add_(model)
    return total.div_(len(models))


AVERAGE = Method("average", average, most=None, options=frozenset(), picks=None)

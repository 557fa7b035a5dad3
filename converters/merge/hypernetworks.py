"""A hypernetwork folded into the weights that it acts on, where that is exact.

A hypernetwork feeds c + m · H(c) to the keys and values of every attention layer whose context c
has its width. Where H is linear, H(c) = A · c with A the product of its layers, keys become
W · (c + m · A · c), so that W' = W + m · W · A says the same. With an activation, a layer norm or a
bias no weight does; dropout acts in training only. Source: lllyasviel/stable-diffusion-webui-forge
`modules/hypernetworks/hypernetwork.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from converters.adapters.finite import all_finite
from converters.adapters.places import DENOISER, Place
from converters.adapters.targets import Target
from converters.errors import MergeProblem, UnsupportedFile
from converters.hypernetworks import Hypernetwork, read_hypernetwork
from converters.merge.changes import View
from converters.merge.fitting import Fit, Placed
from converters.statedict import LazyTensor, StateDict

if TYPE_CHECKING:
    from converters.compute import Tensor

_TAKES_CONTEXT = re.compile(r".*_attn[12]_to_(?P<side>[kv])")


def fold_hypernetwork(sd: StateDict, targets: Mapping[Place, Target]) -> Fit:
    """The weights of keys and values beside the chains that they take in. Reads biases only.

    Raises UnsupportedFile that says why where the hypernetwork is not linear, CorruptFile where
    it is none.
    """
    hypernetwork = read_hypernetwork(sd)
    _require_linear(hypernetwork)
    placed: dict[str, Placed] = {}
    for (component, path), target in targets.items():
        match = _TAKES_CONTEXT.fullmatch(path)
        if component != DENOISER or match is None or len(target.shape) != 2:
            continue
        chains = hypernetwork.networks.get(target.shape[1])
        if chains is not None and target.tensor not in placed:
            weights = tuple(layer.linear.weight for layer in chains[match["side"] == "v"])
            placed[target.tensor] = Placed(
                path, target, target.tensor, View(), weights, partial(_fold, weights)
            )
    widths = {place.target.shape[1] for place in placed.values()}
    return Fit(tuple(placed.values()), None, _unused(sd, widths))


def _unused(sd: StateDict, widths: set[int]) -> dict[str, str]:
    return {
        name: "no attention layer takes a context of this width"
        for name in sd
        if int(name.partition(".")[0]) not in widths
    }


def _require_linear(hypernetwork: Hypernetwork) -> None:
    layers = [
        (chain, layer)
        for chains in hypernetwork.networks.values()
        for chain in chains
        for layer in chain
    ]
    if any(layer.norm is not None for _, layer in layers):
        raise _not_foldable("it has layer norms")
    activates = hypernetwork.activate_output or any(len(chain) > 1 for chain, _ in layers)
    if hypernetwork.activation is not None and activates:
        raise _not_foldable(f"its activation {hypernetwork.activation!r} is not linear")
    for _, layer in layers:
        if (bias := layer.linear.bias) is not None and not _is_zero(bias):
            raise _not_foldable(f"{bias.origin} is a bias other than 0")


def _not_foldable(why: str) -> UnsupportedFile:
    return UnsupportedFile(
        f"a hypernetwork that no weight can stand for: {why}",
        hint="use the file itself at run time; only linear hypernetworks can be merged",
    )


def _is_zero(bias: LazyTensor) -> bool:
    from converters.compute import value

    return not bool(value(bias).count_nonzero())


def _fold(weights: tuple[LazyTensor, ...], weight: Tensor, strength: float) -> None:
    """W + m · W · A, A the product of the layers, the last one leftmost."""
    from converters.compute import floats

    mixed = weight
    for layer in reversed(weights):
        matrix = floats(layer)
        if not all_finite(matrix):
            raise MergeProblem(f"{layer.origin} holds NaN or infinite values")
        mixed = mixed @ matrix
    weight.add_(mixed, alpha=strength)

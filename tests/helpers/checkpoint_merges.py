"""Small checkpoints with numbers of their own, and plans of their merges."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from helpers.sd1 import (
    CLIP,
    SMALL,
    UNET,
    VAE,
    Widths,
    checkpoint_shapes,
    random_fill,
    state_dict,
)

from converters.compute import value
from converters.dtypes import DType
from converters.merge.checkpoints.choice import MergeChoice, Weights
from converters.merge.checkpoints.fitting import Model
from converters.merge.checkpoints.plan import CheckpointMerge, plan_checkpoint_merge
from converters.statedict import StateDict

QUERY = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
FIRST = f"{UNET}input_blocks.0.0.weight"
TEXT = f"{CLIP}encoder.layers.0.mlp.fc1.weight"
DECODER = f"{VAE}decoder.conv_in.weight"
POSITIONS = f"{CLIP}embeddings.position_ids"


@functools.cache
def checkpoint(seed: int, dtype: DType = DType.F16, w: Widths = SMALL) -> StateDict:
    """A checkpoint with values of its own."""
    shapes = {f"{seed}:{name}": shape for name, shape in checkpoint_shapes(w).items()}
    return state_dict(shapes, dtype, fill=random_fill(dtype)).rename(
        lambda name: name.partition(":")[2]
    )


def models(*states: StateDict) -> list[Model]:
    return [
        Model.of(f"{label}.safetensors", state)
        for label, state in zip("abcde", states, strict=False)
    ]


def plan(
    *states: StateDict, method: str = "weighted-sum", alpha: float | None = None, **options: Any
) -> CheckpointMerge:
    weights = options.pop("weights", Weights(alpha))
    return plan_checkpoint_merge(models(*states), MergeChoice(method, weights, **options))


def floats(state: StateDict, name: str) -> np.ndarray:
    return value(state[name]).float().numpy()

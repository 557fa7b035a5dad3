"""A small checkpoint and LoRAs for it, with the plain formula of what they add."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from helpers.sd1 import (
    SMALL,
    UNET,
    Shapes,
    Widths,
    checkpoint_shapes,
    kohya_modules,
    kohya_text_modules,
    lora_shapes,
    random_fill,
    state_dict,
)

from converters.compute import value
from converters.dtypes import DType
from converters.merge import AdapterChoice
from converters.statedict import StateDict

MODULES = kohya_modules(SMALL, convolutions=True) | kohya_text_modules(SMALL)
QUERY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
QUERY_TARGET = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
CONV_TARGET = f"{UNET}input_blocks.1.0.in_layers.2.weight"
TEXT_TARGET = "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"


@functools.cache
def checkpoint(w: Widths = SMALL, dtype: DType = DType.F32) -> StateDict:
    """A small SD1 checkpoint of random numbers."""
    return state_dict(checkpoint_shapes(w), dtype, fill=random_fill(dtype))


def lora(
    modules: Mapping[str, tuple[int, ...]] = MODULES,
    *,
    seed: int = 0,
    rank: int = 4,
    scale: float = 0.1,
    extra: Shapes | None = None,
) -> StateDict:
    """A LoRA of random numbers for these modules, as kohya names them."""
    shapes = {f"{seed}:{name}": s for name, s in lora_shapes(modules, rank).items()}
    sd = state_dict(shapes, DType.F32, fill=random_fill(DType.F32, scale))
    renamed = sd.rename(lambda name: name.partition(":")[2])
    return renamed.overlay(state_dict(extra or {}, DType.F32, fill=random_fill(DType.F32)))


def choose(sd: StateDict, weight: float = 1.0, text: float | None = None) -> AdapterChoice:
    """The adapter of a file with its weights."""
    return AdapterChoice("style.safetensors", sd, weight, text)


def expected_delta(sd: StateDict, module: str) -> torch.Tensor:
    """The plain formula, on the flattened weight."""
    up = value(sd[f"{module}.lora_up.weight"]).flatten(1)
    down = value(sd[f"{module}.lora_down.weight"]).flatten(1)
    return value(sd[f"{module}.alpha"]) / down.shape[0] * up @ down

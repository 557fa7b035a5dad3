"""UNets of irregular depths and without a middle: built from their tensors as they were made."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from helpers.adapters import lazy

from assetmgr.sampler.networks import build_unet
from converters.bases import Base
from converters.layouts import unet_to_diffusers, unet_to_ldm
from converters.layouts.components import UNET
from converters.layouts.pipeline_configs import component_config
from converters.statedict import StateDict

XL: dict[str, Any] = {
    "cross_attention_dim": 2048,
    "attention_head_dim": [1, 1, 1],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
}
SMALL_SD1: dict[str, Any] = {
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "layers_per_block": 1,
    "mid_block_type": None,
}
ALL = {"down": ["CrossAttnDownBlock2D"] * 3, "up": ["CrossAttnUpBlock2D"] * 3}

CONFIGS: dict[str, tuple[Base, dict[str, Any]]] = {
    "SSD-1B": (
        Base.SDXL,
        {
            **XL,
            "mid_block_type": "UNetMidBlock2D",
            "transformer_layers_per_block": [[1, 1], [2, 2], [4, 4]],
            "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], [1, 1, 1]],
        },
    ),
    "Vega": (
        Base.SDXL,
        {
            **XL,
            "mid_block_type": "UNetMidBlock2D",
            "transformer_layers_per_block": [[1, 1], [1, 1], [2, 2]],
            "reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], [1, 1, 1]],
        },
    ),
    "Koala 700M": (
        Base.SDXL,
        {
            **XL,
            "layers_per_block": 1,
            "mid_block_type": None,
            "transformer_layers_per_block": [1, 2, 5],
        },
    ),
    "Koala 1B": (
        Base.SDXL,
        {**XL, "layers_per_block": 1, "transformer_layers_per_block": [1, 2, 6]},
    ),
    "tiny SD1": (
        Base.SD1,
        {**SMALL_SD1, "down_block_types": ALL["down"], "up_block_types": ALL["up"]},
    ),
    "SDXS": (
        Base.SD1,
        {
            **SMALL_SD1,
            "down_block_types": ALL["down"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        },
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_distilled_unet_computes_what_its_maker_built(name: str) -> None:
    from diffusers import UNet2DConditionModel

    base, config = CONFIGS[name]
    torch.manual_seed(1)
    made = UNet2DConditionModel(block_out_channels=(32, 64, 64), **config).eval()
    state = StateDict({key: lazy(value, key) for key, value in made.state_dict().items()}, {})
    read = unet_to_diffusers(unet_to_ldm(state))
    assert set(read) == set(state), "both spellings lead back to the same names"
    built_config = json.loads(json.dumps(component_config(base, UNET, read)))  # as in a folder
    built = build_unet(built_config).eval()
    built.load_state_dict(made.state_dict(), strict=True)
    told: dict[str, Any] = {
        "encoder_hidden_states": torch.randn(1, 7, config["cross_attention_dim"])
    }
    if base is Base.SDXL:
        sizes = {"text_embeds": torch.randn(1, 1280), "time_ids": torch.zeros(1, 6)}
        told["added_cond_kwargs"] = sizes
    with torch.inference_mode():
        arguments = (torch.randn(1, 4, 8, 8), 500)
        ours, theirs = (network(*arguments, **told).sample for network in (built, made))
    assert torch.equal(ours, theirs)

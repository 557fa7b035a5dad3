"""UNets of irregular depths and without a middle: built from their tensors as they were made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.adapters import lazy
from helpers.pipelines import FAMILIES
from helpers.sd1 import SMALL, VAE, prefixed, vae_shapes
from safetensors.numpy import save_file

from assetmgr.sampler.models.networks import build_unet
from assetmgr.sampler.models.schedules import TRAINING
from assetmgr.sampler.process.jobs import ModelFile, RenderJob
from assetmgr.sampler.process.session import Session
from assetmgr.sampler.prompts.prompt import encode_pair, tokenize
from assetmgr.sampler.prompts.tokenizer import VOCABULARY
from converters.bases import Base
from converters.layouts import unet_to_diffusers, unet_to_ldm
from converters.layouts.components import UNET
from converters.layouts.pipeline_configs import component_config
from converters.progress import SILENT
from converters.statedict import LazyTensor, StateDict

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RandomArrays = Callable[[Any], Any]
UNET_PREFIX = "model.diffusion_model."

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


@pytest.fixture(scope="module")
def others(random_arrays: RandomArrays) -> dict[str, np.ndarray[Any, Any]]:
    """Encoders of SDXL, and a VAE that divides sizes by eight."""
    vae = vae_shapes(replace(SMALL, vae_channels=(32, 32, 32, 32)))
    shapes = prefixed(VAE, vae) | {
        key: (VOCABULARY, *shape[1:]) if key.endswith("token_embedding.weight") else shape
        for key, shape in FAMILIES[Base.SDXL]().items()
        if not key.startswith((UNET_PREFIX, VAE))
    }
    arrays: dict[str, np.ndarray[Any, Any]] = random_arrays(shapes)
    return arrays


@pytest.mark.parametrize("name", ["SSD-1B", "Vega"])
def test_a_distilled_checkpoint_renders_as_the_pipeline_of_its_parts(
    name: str, job: RenderJob, tmp_path: Path, others: dict[str, np.ndarray[Any, Any]]
) -> None:
    """The whole way: a single file with the other networks of SDXL, as people have them."""
    import diffusers

    torch.manual_seed(1)
    made = diffusers.UNet2DConditionModel(block_out_channels=(32, 64, 64), **CONFIGS[name][1])
    named = StateDict({key: lazy(value, key) for key, value in made.state_dict().items()}, {})
    unet = {key: array(tensor) for key, tensor in unet_to_ldm(named).items()}
    path = tmp_path / "distilled.safetensors"
    save_file(others | unet, path)
    session = Session()
    subject = ModelFile(str(path), path.stem, "checkpoint")
    settings: dict[str, Any] = {"sampler": "Euler", "steps": 3, "cfg": 5.0, "with_effect": False}
    outcome = session.render(
        replace(job, subject=subject, negative="blurry", width=64, height=64, **settings), SILENT
    )
    assert outcome.checks[0].ok, outcome.checks[0].detail
    assert session.kept.warm is not None
    bundle = session.kept.warm.bundle
    assert bundle.identity.base is Base.SDXL
    chunks = (tokenize(text, session.kept.tokens_of) for text in (job.prompt, "blurry"))
    positive, negative = encode_pair(bundle.encoders, *chunks)
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=bundle.vae.network,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=made.eval(),
        scheduler=diffusers.EulerDiscreteScheduler(**TRAINING, timestep_spacing="linspace"),
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(job.seed))
    theirs = pipeline(
        prompt_embeds=positive.hidden,
        negative_prompt_embeds=negative.hidden,
        pooled_prompt_embeds=positive.pooled,
        negative_pooled_prompt_embeds=negative.pooled,
        latents=noise,
        height=64,
        width=64,
        num_inference_steps=3,
        guidance_scale=5.0,
        output_type="latent",
    ).images
    (picture,) = session.kept.warm.references.values()
    largest = (picture.latents - theirs).abs().max()
    assert largest <= 1e-4 * max(1.0, theirs.std().item())


def array(tensor: LazyTensor) -> np.ndarray[Any, Any]:
    return np.frombuffer(tensor.read(), np.float32).reshape(tensor.shape).copy()

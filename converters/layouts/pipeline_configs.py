"""The JSON files of a pipeline folder, from the shapes of its components.

Fields and class names: huggingface/diffusers (`configuration_utils.py`, the configurations of
stable-diffusion-v1-5, stable-diffusion-2-1, stable-diffusion-xl-base-1.0 and -refiner-1.0 as
described in its single-file loader) and transformers `models/clip/configuration_clip.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from converters.bases import Base, Prediction
from converters.errors import UnsupportedFile
from converters.layouts.components import UNET, VAE
from converters.layouts.edm import Edm, edm_scheduler, latent_statistics
from converters.layouts.pipeline import FIRST_ENCODER, SECOND_ENCODER
from converters.layouts.sd_unet import UNetConfig, unet_config
from converters.layouts.sd_vae import vae_config
from converters.layouts.text_encoders import clip_config
from converters.statedict import Plain, StateDict

Json = dict[str, Plain]

_VERSION = "0.32.0"
"""The version of diffusers whose fields these are; newer ones read them."""

_SMALL = (Base.SD1, Base.SD2)
_DISTILLED = ("ssd-1b", "vega", "koala-700m", "koala-1b")

_PIPELINES: Mapping[tuple[Base, str | None], str] = {
    (Base.SD1, None): "StableDiffusionPipeline",
    (Base.SD1, "inpaint"): "StableDiffusionInpaintPipeline",
    (Base.SD1, "pix2pix"): "StableDiffusionInstructPix2PixPipeline",
    (Base.SD2, None): "StableDiffusionPipeline",
    (Base.SD2, "inpaint"): "StableDiffusionInpaintPipeline",
    (Base.SDXL, None): "StableDiffusionXLPipeline",
    (Base.SDXL, "playground-v2.5"): "StableDiffusionXLPipeline",
    (Base.SDXL, "inpaint"): "StableDiffusionXLInpaintPipeline",
    (Base.SDXL, "pix2pix"): "StableDiffusionXLInstructPix2PixPipeline",
    (Base.SDXL_REFINER, None): "StableDiffusionXLImg2ImgPipeline",
    **{(base, name): "StableDiffusionPipeline" for base in _SMALL for name in ("tiny", "sdxs")},
    **{(Base.SDXL, name): "StableDiffusionXLPipeline" for name in _DISTILLED},
}
_EDIT_PIPELINE = _PIPELINES[Base.SDXL, "pix2pix"]
"""Has a setting for CosXL, which takes scaled latents of the picture to edit."""

_SAMPLE_SIZE = {Base.SD1: 64, Base.SD2: 96, Base.SDXL: 128, Base.SDXL_REFINER: 128}
"""Latents along an edge that the family was trained on."""

_LARGE = (Base.SDXL, Base.SDXL_REFINER)
_TIME_IDS_WIDTH = 256
_HEAD_WIDTH = 64
_PROJECTION = {(Base.SD1, FIRST_ENCODER): 768, (Base.SD2, FIRST_ENCODER): 512}
TOKENIZERS = {FIRST_ENCODER: "tokenizer", SECOND_ENCODER: "tokenizer_2"}


def model_index(
    base: Base, variant: str | None, parts: Mapping[str, StateDict], edm: Edm | None = None
) -> Json:
    """`model_index.json`; `edm` is that of a model that predicts in the terms of EDM.

    Raises UnsupportedFile for a variant that no pipeline class has.
    """
    name = _PIPELINES.get((base, variant))
    if name is None:
        raise UnsupportedFile(f"diffusers has no pipeline for {base.label} {variant or ''}".strip())
    encoders = (FIRST_ENCODER, SECOND_ENCODER) if base in _LARGE else (FIRST_ENCODER,)
    index: Json = {"_class_name": name, "_diffusers_version": _VERSION}
    for encoder in encoders:
        projected = encoder == SECOND_ENCODER
        text = "CLIPTextModelWithProjection" if projected else "CLIPTextModel"
        there = encoder in parts
        index[encoder] = ["transformers", text] if there else [None, None]
        index[TOKENIZERS[encoder]] = ["transformers", "CLIPTokenizer"] if there else [None, None]
    index |= {
        UNET: ["diffusers", "UNet2DConditionModel"],
        VAE: ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", _scheduler_class(base, edm)],
        "feature_extractor": [None, None],
    }
    if base in _LARGE:
        index["image_encoder"] = [None, None]
        index["force_zeros_for_empty_prompt"] = True
    else:
        index["safety_checker"] = [None, None]
        index["requires_safety_checker"] = False
    if base is Base.SDXL_REFINER:
        index["requires_aesthetics_score"] = True
        index["force_zeros_for_empty_prompt"] = False
    if edm is not None and name == _EDIT_PIPELINE:
        index["is_cosxl_edit"] = True
    return index


def component_config(base: Base, name: str, part: StateDict, edm: Edm | None = None) -> Json:
    """`config.json` of a component."""
    if name == UNET:
        return _unet(base, part)
    if name != VAE:
        return _text_encoder(base, name, part)
    return _vae(base, part) | ({} if edm is None else latent_statistics(edm))


def scheduler_config(
    base: Base, prediction: Prediction, edm: Edm | None = None, *, zero_terminal_snr: bool
) -> Json:
    """`scheduler_config.json`: the schedule all these families were trained on, or that of EDM."""
    config: Json = {
        "_class_name": _scheduler_class(base, edm),
        "_diffusers_version": _VERSION,
        "num_train_timesteps": 1000,
    }
    if edm is not None:
        return config | edm_scheduler(edm)
    config |= {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction" if prediction is Prediction.V else "epsilon",
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "trained_betas": None,
    }
    if zero_terminal_snr:
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    if base not in _LARGE:
        config |= {"clip_sample": False, "set_alpha_to_one": False}
    return config


def _scheduler_class(base: Base, edm: Edm | None) -> str:
    if edm is not None:
        return edm.scheduler
    return "EulerDiscreteScheduler" if base in _LARGE else "DDIMScheduler"


def _unet(base: Base, part: StateDict) -> Json:
    config = unet_config(part)
    down: list[Plain] = [
        "CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in config.attention
    ]
    up: list[Plain] = [
        "CrossAttnUpBlock2D" if attends else "UpBlock2D"
        for attends in reversed(config.up_attention)
    ]
    made: Json = {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": _VERSION,
        "act_fn": "silu",
        "attention_head_dim": _heads(base, config),
        "block_out_channels": list(config.block_out_channels),
        "cross_attention_dim": config.cross_attention_dim,
        "down_block_types": down,
        "up_block_types": up,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_groups,
        "sample_size": _SAMPLE_SIZE[base],
        "use_linear_projection": config.linear_projection,
        **_depths(config),
    }
    if not config.middle_depth:
        made["mid_block_type"] = "UNetMidBlock2D" if config.middle_blocks else None
    if config.guidance_width is not None:
        made["time_cond_proj_dim"] = config.guidance_width
    if config.vector_conditioning is not None:
        made |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _TIME_IDS_WIDTH,
            "projection_class_embeddings_input_dim": config.vector_conditioning,
        }
    return made


def _heads(base: Base, config: UNetConfig) -> Plain:
    """Despite the field's name the number of heads; only SD1 has as many at every level."""
    if base is Base.SD1:
        return config.heads
    return [max(1, channels // _HEAD_WIDTH) for channels in config.block_out_channels]


def _depths(config: UNetConfig) -> Json:
    """Transformer blocks per level; the last is also that of the middle block.

    Distilled networks have their own number at every layer, and others on the way up.
    """
    depths: list[Plain] = [max(1, depth) for depth in config.depths]
    if _is_regular(config):
        depths[-1] = config.middle_depth or depths[-1]
        return {"transformer_layers_per_block": depths}
    down: list[Plain] = [[max(1, depth) for depth in level] for level in config.down_depths]
    up: list[Plain] = [[max(1, n) for n in level] for level in reversed(config.up_depths)]
    return {"transformer_layers_per_block": down, "reverse_transformer_layers_per_block": up}


def _is_regular(config: UNetConfig) -> bool:
    """Whether every layer of a level has as many transformer blocks, down and up."""
    levels = zip(config.down_depths, config.up_depths, strict=True)
    return all(len({n for n in (*down, *up) if n}) <= 1 for down, up in levels)


def _vae(base: Base, part: StateDict) -> Json:
    config = vae_config(part)
    levels = len(config.block_out_channels)
    down: list[Plain] = ["DownEncoderBlock2D"] * levels
    up: list[Plain] = ["UpDecoderBlock2D"] * levels
    made: Json = {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": _VERSION,
        "act_fn": "silu",
        "block_out_channels": list(config.block_out_channels),
        "down_block_types": down,
        "up_block_types": up,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "latent_channels": config.latent_channels,
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_groups,
        "sample_size": 8 * _SAMPLE_SIZE[base],
        "scaling_factor": 0.13025 if base in _LARGE else config.scaling_factor,
        "use_quant_conv": config.quant_conv,
        "use_post_quant_conv": config.post_quant_conv,
    }
    if base in _LARGE:
        made["force_upcast"] = True
    if not config.middle_attention:
        made["mid_block_add_attention"] = False
    return made


def _text_encoder(base: Base, name: str, part: StateDict) -> Json:
    config = clip_config(part)
    projected = part.get("text_projection.weight")
    projection = projected.shape[0] if projected is not None else config.hidden_size
    is_clip_l = name == FIRST_ENCODER and base is not Base.SD2
    return {
        "architectures": ["CLIPTextModelWithProjection" if projected else "CLIPTextModel"],
        "model_type": "clip_text_model",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "hidden_act": "quick_gelu" if is_clip_l else "gelu",
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.positions,
        "layer_norm_eps": 1e-05,
        "projection_dim": _PROJECTION.get((base, name), projection),
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 1,
    }

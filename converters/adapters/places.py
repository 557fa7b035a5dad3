"""Where a module of an adapter belongs, whatever its trainer's spelling of the name.

Sources of the spellings: kohya-ss/sd-scripts `networks/`, KohakuBlueleaf/LyCORIS `wrapper.py`,
huggingface/diffusers and peft (`loaders/lora_conversion_utils.py` for XLabs), ComfyUI
`comfy/lora.py`.
"""

from __future__ import annotations

import re

from converters.identify.adapter_family import path_of

DENOISER = "unet"

Place = tuple[str, str]
"""A component (`unet`, `te1`, `te2`, `te3`) and a module path in it, dots as underscores."""

_ENCODERS = (
    (re.compile(r"^(?:lora_te1?_|text_encoder\.|text_encoders\.clip_l\.transformer\.)"), "te1"),
    (re.compile(r"^(?:base_model\.model\.|lycoris_)?(?=text_model[._])"), "te1"),
    (re.compile(r"^(?:lora_te2_|text_encoder_2\.|text_encoders\.clip_g\.transformer\.)"), "te2"),
    (re.compile(r"^(?:lora_te3_|text_encoder_3\.|text_encoders\.t5xxl\.transformer\.)"), "te3"),
)
"""Prefixes of modules of text encoders."""

_OLD_ATTENTION = {
    "self_attn_to_q": "self_attn_q_proj",
    "self_attn_to_k": "self_attn_k_proj",
    "self_attn_to_v": "self_attn_v_proj",
    "self_attn_to_out": "self_attn_out_proj",
}
"""What diffusers called the projections of a text encoder before it called them as they are."""


_XLABS = re.compile(r"(double_blocks_\d+_)(qkv|proj)([12])")
_STREAMS = {"1": "img_attn_", "2": "txt_attn_"}
"""The numbers of XLabs's pairs in a block of Flux, and the layers they are for."""


def place_of(module: str) -> Place:
    """The component and the path, dots as underscores, that a module's name means."""
    for prefix, encoder in _ENCODERS:
        if match := prefix.match(module):
            return encoder, _text_path(module[match.end() :])
    path = path_of(module)
    if xlabs := _XLABS.fullmatch(path):
        return DENOISER, xlabs[1] + _STREAMS[xlabs[3]] + xlabs[2]
    # Attention processors of diffusers name the layer, whose weight is the first of two parts.
    return DENOISER, f"{path}_0" if path.endswith(("attn1_to_out", "attn2_to_out")) else path


def _text_path(path: str) -> str:
    flat = path.replace(".", "_").removeprefix("text_model_")
    for old, new in _OLD_ATTENTION.items():
        if flat.endswith(old):
            return flat.removesuffix(old) + new
    return flat

"""The model family an adapter was made for, from the widths its modules take.

Sources: kohya-ss/sd-scripts `networks/lora.py`, ComfyUI `comfy/lora.py`,
invoke-ai/InvokeAI `configs/lora.py`.
"""

from __future__ import annotations

import re

from converters.identify.adapter_keys import Key, component_of_key, is_down
from converters.identify.conditions import Tensors
from converters.identify.identity import BASE_OF_WIDTH, CERTAIN, SHARED, Base
from converters.layouts.components import TEXT_ENCODER
from converters.statedict import LazyTensor

_CONTEXT_MODULE = re.compile(r"attn2(?:_|\.|\.processor\.)to_[kv](?:_lora)?$")
_HIDDEN_STATE = re.compile(r"(?:[qkv]_proj|fc1)$")
_STRUCTURE_OF_SD1_AND_SD2 = re.compile(r"(?:down_blocks_0_attentions_|down_blocks_3_|up_blocks_3_)")


def base_family(sd: Tensors, keys: list[Key]) -> tuple[Base, float, tuple[str, ...]]:
    """The family, how sure, and the sentences that say why.

    In order: the width of the text context; names that only one family has; a text encoder alone;
    the structure that only SD1 and SD2 have.
    """
    rules = (_by_context, _by_name, _by_text_encoder, _by_structure)
    answers = (answer for rule in rules for answer in [rule(sd, keys)] if answer is not None)
    return next(answers, (Base.UNKNOWN, CERTAIN, ("no module of a known image model",)))


_Answer = tuple[Base, float, tuple[str, ...]] | None


def _by_context(sd: Tensors, keys: list[Key]) -> _Answer:
    widths = {
        width: key.module
        for key in keys
        if _CONTEXT_MODULE.search(key.module)
        for width in [_input_width(key, sd)]
        if width is not None
    }
    if not widths:
        return None
    said = tuple(f"{module} takes a context of width {w}" for w, module in sorted(widths.items()))
    bases = {BASE_OF_WIDTH.get(width, Base.UNKNOWN) for width in widths}
    if len(bases) != 1 or Base.UNKNOWN in bases:
        return Base.UNKNOWN, CERTAIN, (*said, "these widths fit no single known family")
    return bases.pop(), CERTAIN, said


def _input_width(key: Key, sd: Tensors) -> int | None:
    shape = key.tensor.shape
    if len(shape) < 2:
        return None
    if is_down(key) or key.role in ("hada_w1_b", "diff", "a2.weight"):
        return shape[1]
    if key.role in ("lokr_w1", "lokr_w1_b"):
        second = _first(sd, f"{key.module}.lokr_w2", f"{key.module}.lokr_w2_b")
        return None if second is None else shape[1] * second.shape[1]
    return None


def _first(sd: Tensors, *names: str) -> LazyTensor | None:
    return next((sd[n] for n in names if n in sd and len(sd[n].shape) >= 2), None)


_NAMES = (
    (
        re.compile(r"^lora_unet_(?:input_blocks|output_blocks)_\d+_\d+_transformer_blocks_[2-9]"),
        Base.SDXL,
    ),
    (re.compile(r"^lora_te2_text_model_"), Base.SDXL),
    (re.compile(r"^lora_unet_joint_blocks_"), Base.SD3),
)
_FLUX = re.compile(r"(?:lora_unet_|diffusion_model\.)double_blocks[._]\d+[._]img_attn[._]proj$")


def _by_name(sd: Tensors, keys: list[Key]) -> _Answer:
    for pattern, base in _NAMES:
        if found := next((key.module for key in keys if pattern.search(key.module)), None):
            return base, CERTAIN, (f"{found} occurs only in {base.label}",)
    for key in keys:
        if _FLUX.search(key.module) and _input_width(key, sd) == 3072:
            return Base.FLUX, CERTAIN, (f"{key.module} has the width 3072 of Flux",)
    return None


def _by_text_encoder(sd: Tensors, keys: list[Key]) -> _Answer:
    """Only text-encoder modules: their width, where the naming does not point elsewhere."""
    text = [key for key in keys if re.search(r"text_model[._]encoder[._]layers", key.module)]
    if not text or any(component_of_key(key.module) != TEXT_ENCODER for key in keys):
        return None
    width = _text_width(sd, text)
    if width not in (768, 1024):
        return None
    base = BASE_OF_WIDTH[width]
    said = f"only text-encoder modules, of width {width}"
    if all(key.module.startswith("lora_te_") for key in text):
        return base, CERTAIN, (f"{said}, named lora_te_ as for {base.label}",)
    if width == 768 and not any(re.match(r"lora_te\d", key.module) for key in text):
        return base, SHARED, (f"{said}, as in SD1; SDXL and Flux have the same encoder",)
    return None


def _text_width(sd: Tensors, keys: list[Key]) -> int | None:
    """The width of a text encoder, from a module that takes its hidden state."""
    widths = (_input_width(key, sd) for key in keys if _HIDDEN_STATE.search(key.module))
    return next((width for width in widths if width is not None), None)


def _by_structure(sd: Tensors, keys: list[Key]) -> _Answer:
    """UNet modules without cross-attention: the text encoder of the same file decides."""
    found = next((k.module for k in keys if _STRUCTURE_OF_SD1_AND_SD2.search(k.module)), None)
    width = _text_width(sd, [key for key in keys if key.module.startswith("lora_te_")])
    if found is None:
        return None
    if width in (768, 1024):
        said = f"its text-encoder modules have width {width}"
        return BASE_OF_WIDTH[width], CERTAIN, (f"{found} occurs only in SD1 and SD2", said)
    return Base.UNKNOWN, CERTAIN, (f"{found} occurs in SD1 and SD2; no width tells them apart",)

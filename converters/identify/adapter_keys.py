"""Names of adapter tensors taken apart: which module, which role, and so which algorithm.

Sources: kohya-ss/sd-scripts `networks/lora.py`, KohakuBlueleaf/LyCORIS, huggingface/peft and
diffusers; ComfyUI `comfy/lora.py` and `comfy/weight_adapter`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from converters.layouts.components import OTHER, TEXT_ENCODER, UNET
from converters.statedict import LazyTensor

_ENDINGS = (
    *("alpha", "dora_scale", "diff", "diff_b", "set_weight", "on_input", "ia3_l", "rescale"),
    *("w_norm", "b_norm", "oft_blocks", "oft_diag", "boft_R", "boft_s"),
    *(".down.weight", ".up.weight", "lora_down.weight", "lora_up.weight", "lora_mid.weight"),
    *(f"hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    *(f"lokr_{part}" for part in ("w1", "w2", "w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    *(f".{part}.weight" for part in ("a1", "a2", "b1", "b2", "bm")),
)
"""What the names of adapter tensors end with: a quick look before the exact one."""

_SUFFIX = re.compile(
    r"\.(?P<role>lora_down\.weight|lora_up\.weight|lora_mid\.weight|alpha|dora_scale"
    r"|lora_[AB](?:\.\w+)?\.weight|lora_B(?:\.\w+)?\.bias|lora_magnitude_vector(?:\.\w+)*"
    r"|lora\.(?:down|up)\.weight|lora_linear_layer\.(?:down|up)\.weight"
    r"|(?:processor\.)?\w+_lora\d?\.(?:down|up)\.weight"
    r"|hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t[12]"
    r"|on_input|ia3_l|[ab][12]\.weight|bm\.weight|oft_blocks|oft_diag|rescale"
    r"|oft_R(?:\.\w+)?\.weight|boft_[Rs]|diff|diff_b|set_weight|w_norm|b_norm)$"
)
_ALGORITHMS = (
    ("hada_", "loha"),
    ("lokr_", "lokr"),
    ("on_input", "ia3"),
    ("ia3_l", "ia3"),
    ("oft_R", "oft"),
    ("oft_diag", "oft"),
    ("boft_", "boft"),
    ("w_norm", "norm"),
    ("b_norm", "norm"),
    ("diff", "full"),
    ("set_weight", "full"),
    ("dora_scale", "dora"),
    ("lora_magnitude_vector", "dora"),
    ("lora_mid", "locon"),
)
_GLORA = re.compile(r"[ab][12]\.weight")
_DOWN = re.compile(
    r"(?:lora_down|lora_A(?:\.\w+)?|lora\.down|lora_linear_layer\.down"
    r"|(?:processor\.)?\w+_lora\d?\.down)\.weight$"
)
_OLD = re.compile(r"(?:processor\.)?(\w+)_lora(\d?)\.")


Tensors = Mapping[str, LazyTensor]


@dataclass(frozen=True, slots=True)
class Key:
    """An adapter tensor's name in two parts: the module it changes, and its role there."""

    name: str
    module: str
    role: str
    tensor: LazyTensor


def is_adapter_key(name: str) -> bool:
    """Whether a name ends like that of an adapter tensor."""
    return _looks_so(name) and _SUFFIX.search(name) is not None


def _looks_so(name: str) -> bool:
    return name.endswith(_ENDINGS) or ".lora_" in name or ".oft_R." in name


def adapter_keys(sd: Tensors) -> Iterator[Key]:
    """The tensors whose names end like those of an adapter."""
    for name, tensor in sd.items():
        if _looks_so(name) and (match := _SUFFIX.search(name)):
            yield Key(name, _module(name, match), match["role"], tensor)


def _module(name: str, match: re.Match[str]) -> str:
    old = _OLD.match(match["role"])
    return f"{name[: match.start()]}.{old[1]}{old[2]}" if old else name[: match.start()]


def is_down(key: Key) -> bool:
    """Whether this is the matrix (rank, in) of a low-rank pair."""
    return _DOWN.match(key.role) is not None


def rank_of(key: Key) -> int | None:
    """The rank that this tensor shows, if it does."""
    shape = key.tensor.shape
    if key.role == "b1.weight":  # (out, rank), or (rank, in) in the older layout
        return min(shape, default=None)
    low = is_down(key) or key.role in ("hada_w1_b", "lokr_w1_b", "lokr_w2_b")
    return shape[0] if low and shape else None


def algorithms(keys: list[Key]) -> tuple[str, ...]:
    """The contract's words for what the modules are; a file may hold several."""
    found = {algorithm for key in keys for algorithm in _algorithm(key)}
    if "locon" in found:
        found.discard("lora")
    return tuple(sorted(found))


def _algorithm(key: Key) -> Iterator[str]:
    if key.role == "oft_blocks":
        yield "boft" if len(key.tensor.shape) == 4 else "oft"
    elif _GLORA.fullmatch(key.role):
        yield "glora"
    elif is_down(key):
        yield "locon" if any(size > 1 for size in key.tensor.shape[2:]) else "lora"
    yield from (word for start, word in _ALGORITHMS if key.role.startswith(start))


_TEXT_NAME = re.compile(
    r"^(?:lora_te\d?_|text_encoder|lycoris_text_|oft_te)|(?:^|\.)text_model\.|^te\d?\."
)
_DENOISER_NAME = re.compile(
    r"(?:lora_(?:prior_)?unet_|lora_transformer_|oft_unet_|unet[.:]|lycoris_|transformer\.\w"
    r"|(?:model\.)?diffusion_model\.|(?:base_model\.model\.)?(?:down|mid|up)_blocks?\."
    r"|(?:double|single)_blocks\.)"
)


def component_of_key(name: str) -> str:
    """The component that an adapter tensor or module is for."""
    if _TEXT_NAME.search(name):
        return TEXT_ENCODER
    return UNET if _DENOISER_NAME.match(name) else OTHER

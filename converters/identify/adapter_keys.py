"""Names of adapter tensors taken apart: which module, which role, and so which algorithm.

Sources: kohya-ss/sd-scripts `networks/lora.py`, KohakuBlueleaf/LyCORIS, huggingface/peft and
diffusers; ComfyUI `comfy/lora.py` and `comfy/weight_adapter`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from converters.identify.conditions import Tensors
from converters.layouts.components import OTHER, TEXT_ENCODER, UNET
from converters.statedict import LazyTensor

SUFFIX = re.compile(
    r"\.(?P<role>lora_down\.weight|lora_up\.weight|lora_mid\.weight|alpha|dora_scale"
    r"|lora_[AB](?:\.default)?\.weight|lora_magnitude_vector(?:\.weight)?"
    r"|lora\.(?:down|up)\.weight|lora_linear_layer\.(?:down|up)\.weight"
    r"|processor\.to_\w+_lora\.(?:down|up)\.weight"
    r"|hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t[12]"
    r"|on_input|ia3_l|[ab][12]\.weight|oft_blocks|oft_diag|oft_R\.weight|boft_[Rs]"
    r"|diff|diff_b|w_norm|b_norm)$"
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
    ("dora_scale", "dora"),
    ("lora_magnitude_vector", "dora"),
    ("lora_mid", "locon"),
)
_GLORA = re.compile(r"[ab][12]\.weight")
_DOWN = re.compile(
    r"(?:lora_down|lora_A(?:\.default)?|lora\.down|lora_linear_layer\.down)\.weight$"
)
_OLD_DOWN = re.compile(r"processor\.to_\w+_lora\.down\.weight$")


@dataclass(frozen=True, slots=True)
class Key:
    """An adapter tensor's name in two parts: the module it changes, and its role there."""

    module: str
    role: str
    tensor: LazyTensor


def adapter_keys(sd: Tensors) -> Iterator[Key]:
    """The tensors whose names end like those of an adapter."""
    for name, tensor in sd.items():
        if match := SUFFIX.search(name):
            yield Key(_module(name, match), match["role"], tensor)


def _module(name: str, match: re.Match[str]) -> str:
    old = re.match(r"processor\.(to_\w+)_lora\.", match["role"])
    return f"{name[: match.start()]}.{old[1]}" if old else name[: match.start()]


def is_down(key: Key) -> bool:
    """Whether this is the matrix (rank, in) of a low-rank pair."""
    return bool(_DOWN.match(key.role) or _OLD_DOWN.match(key.role))


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


_TEXT_NAME = re.compile(r"^(?:lora_te\d?_|text_encoder|lycoris_text_)|(?:^|\.)text_model\.")


def component_of_key(name: str) -> str:
    """The component that an adapter tensor or module is for."""
    if _TEXT_NAME.search(name):
        return TEXT_ENCODER
    if re.match(r"lora_unet_|unet[.:]|lycoris_|(?:down|mid|up)_blocks?\.|transformer\.\w", name):
        return UNET
    return OTHER

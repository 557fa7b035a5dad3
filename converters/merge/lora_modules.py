"""The weights of a checkpoint by the names of the kohya LoRA modules that change them.

kohya names the UNet's modules by their diffusers path in SD1 and SD2 and by their LDM path in SDXL
and its refiner; text encoders by the path in transformers, `lora_te_` where there is one and
`lora_te1_`, `lora_te2_` in SDXL. Source: kohya-ss/sd-scripts `networks/lora.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from converters.bases import Base
from converters.errors import UnsupportedFile
from converters.layouts.components import UNET, VAE, component, own_or_component
from converters.layouts.pipeline import ENCODERS, FIRST_ENCODER, SECOND_ENCODER, text_encoder_of
from converters.layouts.sd_unet import is_diffusers_unet, unet_to_diffusers, unet_to_ldm
from converters.statedict import LazyTensor, StateDict

_UNET_PREFIX = "lora_unet_"
_TEXT_PREFIXES: Mapping[Base, Mapping[str, str]] = {
    Base.SD1: {FIRST_ENCODER: "lora_te_"},
    Base.SD2: {FIRST_ENCODER: "lora_te_"},
    Base.SDXL: {FIRST_ENCODER: "lora_te1_", SECOND_ENCODER: "lora_te2_"},
    Base.SDXL_REFINER: {SECOND_ENCODER: "lora_te2_"},
}
_DIFFUSERS_PATHS = (Base.SD1, Base.SD2)
_ATTENTION = (".proj_in", ".proj_out")
_UNUSED_BLOCK = "encoder.layers.23."
"""The last of SD2's text encoder, whose output no model sees."""


@dataclass(frozen=True, slots=True)
class LoraModules:
    """A checkpoint's weights that a LoRA holds, by module name, and all others, by their path."""

    weights: Mapping[str, LazyTensor]
    others: Mapping[str, LazyTensor]


def lora_modules(state: StateDict, base: Base, *, convolutions: bool) -> LoraModules:
    """The weights of a checkpoint, or of a bare UNet, of the families above.

    Without `convolutions` only the linear layers and 1x1 convolutions of attention and of text
    encoders; with them every weight of the UNet with two or four axes. Raises UnsupportedFile for
    other families, CorruptFile for a structure that cannot be told. Reads no tensor data.
    """
    if base not in _TEXT_PREFIXES:
        raise UnsupportedFile(
            f"is {base.label}; LoRAs are extracted from SD1, SD2, SDXL and its refiner"
        )
    weights: dict[str, LazyTensor] = {}
    others: dict[str, LazyTensor] = {}
    for module, path, tensor in _tensors(state, base, convolutions=convolutions):
        if module is None:
            others[path] = tensor
        else:
            weights[module] = tensor
    return LoraModules(weights, others)


def full_keys(state: StateDict, base: Base) -> dict[str, LazyTensor]:
    """Every tensor of a checkpoint's UNet and text encoders by the key of its full difference.

    `diff` for weights, `diff_b` for biases, `w_norm` and `b_norm` for those of norms, as LyCORIS
    has them. Raises as `lora_modules`.
    """
    if base not in _TEXT_PREFIXES:
        raise UnsupportedFile(
            f"is {base.label}; differences are extracted from SD1, SD2, SDXL and its refiner"
        )
    found: dict[str, LazyTensor] = {}
    for prefix, part in _prefixed_parts(state, base):
        for name, tensor in part.items():
            path, _, role = name.rpartition(".")
            weight = part.get(f"{path}.weight")
            if role in _FULL and weight is not None and tensor.dtype.is_float:
                norm = len(weight.shape) == 1
                found[f"{prefix}{path.replace('.', '_')}.{_FULL[role][norm]}"] = tensor
    return found


_FULL = {"weight": ("diff", "w_norm"), "bias": ("diff_b", "b_norm")}
"""What a tensor is called in a full difference: of a layer, of a norm."""


def _prefixed_parts(state: StateDict, base: Base) -> Iterator[tuple[str, StateDict]]:
    yield _UNET_PREFIX, _unet(state, base)
    for encoder in ENCODERS[base]:
        if encoder.held(state) is not None:
            part = text_encoder_of(state, base, encoder.component)
            yield _TEXT_PREFIXES[base][encoder.component], part


def _tensors(
    state: StateDict, base: Base, *, convolutions: bool
) -> Iterator[tuple[str | None, str, LazyTensor]]:
    """(module or None, path, tensor) of all that is compared."""
    for name, tensor in _unet(state, base).items():
        held = _is_weight(name, tensor) and (convolutions or _is_attention(name))
        yield _module(_UNET_PREFIX, name) if held else None, f"{UNET}.{name}", tensor
    for encoder in ENCODERS[base]:
        if encoder.held(state) is None:
            continue
        prefix = _TEXT_PREFIXES[base][encoder.component]
        for name, tensor in text_encoder_of(state, base, encoder.component).items():
            held = ".encoder.layers." in name and _is_weight(name, tensor)
            held = held and not (encoder.penultimate and _UNUSED_BLOCK in name)
            path = f"{encoder.component}.{name}"
            yield _module(prefix, name) if held else None, path, tensor
    for name, tensor in component(state, VAE).items():
        yield None, f"{VAE}.{name}", tensor


def _unet(state: StateDict, base: Base) -> StateDict:
    """The UNet under the names that kohya builds on."""
    if base in _DIFFUSERS_PATHS:
        return unet_to_diffusers(state)
    unet = own_or_component(state, UNET)
    if not is_diffusers_unet(unet):
        return unet
    return component(unet_to_ldm(unet), UNET)


def _is_weight(name: str, tensor: LazyTensor) -> bool:
    return name.endswith(".weight") and len(tensor.shape) in (2, 4)


def _is_attention(name: str) -> bool:
    path = name.removesuffix(".weight")
    return ".transformer_blocks." in path or path.endswith(_ATTENTION)


def _module(prefix: str, name: str) -> str:
    return prefix + name.removesuffix(".weight").replace(".", "_")

"""The components of a model as they are compared: one spelling each, and the blocks in them."""

from __future__ import annotations

from collections.abc import Mapping

from converters.adapters.slots import slot_of
from converters.canonical import canonical_parts
from converters.errors import CorruptFile
from converters.layouts.components import OTHER, PREFIXES, UNET, UNET_EMA
from converters.merge.checkpoints.block_weights import slots_of_unet
from converters.statedict import StateDict

Parts = Mapping[str, StateDict]
"""Components by name, under the spelling of `converters.canonical`."""

_ALL_IN_ONE = ("clip_l", "clip_g", "t5xxl")
_UNET_LAYER = "conv_in.weight"


def parts_of(state: StateDict, kind: str) -> Parts:
    """The components of a file of a kind; those of unknown making are left out."""
    found = canonical_parts(state, kind)
    return {name: part for name, part in found.items() if name != OTHER}


def explained_parts(parts: Parts) -> tuple[str, ...]:
    """The components that are looked into: averages follow the weights that they are of."""
    return tuple(name for name in parts if name != UNET_EMA)


def slots_of(name: str, part: StateDict) -> Mapping[str, str]:
    """The block of each tensor of a denoiser; nothing for other components."""
    if name != UNET:
        return {}
    try:
        return slots_of_unet(part)
    except CorruptFile:
        return {tensor: slot for tensor in part if (slot := slot_of(tensor)) is not None}


def joined(parts: Parts) -> StateDict:
    """The components as one model whose layers adapters find, by `full_name`."""
    return StateDict(
        {
            full_name(component, parts, name): tensor
            for component, part in parts.items()
            if component != UNET_EMA
            for name, tensor in part.items()
        }
    )


def full_name(component: str, parts: Parts, name: str) -> str:
    """What a tensor of a component is called in all of the model."""
    if component == UNET and _UNET_LAYER not in parts[UNET]:
        return PREFIXES[UNET][0] + name
    if component in _ALL_IN_ONE:
        return f"text_encoders.{component}.transformer.{name}"
    return f"{component}.{name}"

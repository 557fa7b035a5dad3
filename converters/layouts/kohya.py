"""Which checkpoint tensor a LoRA module of the kohya naming changes.

The names replace dots by underscores and cannot be read back, so the table is built from the
checkpoint's own tensors, under both spellings that occur: the diffusers path (kohya's for SD1) and
the LDM path. Source: kohya-ss/sd-scripts `networks/lora.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from converters.layouts.components import PREFIXES, TEXT_ENCODER, UNET, component_of
from converters.layouts.sd_unet import ldm_skeleton
from converters.layouts.text_encoders import SINGLE_FILE_PREFIX
from converters.statedict import LazyTensor, StateDict

UNET_PREFIX, TEXT_PREFIX = "lora_unet_", "lora_te_"
_UNET_HEAD = PREFIXES[UNET][0]
_TEXT_HEADS = (SINGLE_FILE_PREFIX, "cond_stage_model.transformer.")


@dataclass(frozen=True, slots=True)
class Target:
    """A weight of the checkpoint that an adapter module can change."""

    tensor: str
    component: str


def module_targets(checkpoint: StateDict) -> Mapping[str, Target]:
    """Module name (`lora_unet_...`, `lora_te_...`) -> the checkpoint's tensor.

    `checkpoint` has LDM names, with the prefixes of a single file or a bare UNet without.
    """
    table: dict[str, Target] = {}
    for name, target in (*_unet_targets(checkpoint), *_text_targets(checkpoint)):
        table.setdefault(name, target)
    return table


def _unet_targets(checkpoint: StateDict) -> Iterator[tuple[str, Target]]:
    head = _UNET_HEAD if any(component_of(name) == UNET for name in checkpoint) else ""
    modules = dict(_weights(checkpoint, head))
    if "input_blocks.0.0" not in modules:
        return
    unet = checkpoint.select(lambda n: n.startswith(head)).rename(lambda n: n.removeprefix(head))
    to_diffusers = ldm_skeleton(unet).name_map()
    for path, tensor in modules.items():
        for spelling in (to_diffusers(path), path):
            yield UNET_PREFIX + _underscored(spelling), Target(tensor, UNET)


def _text_targets(checkpoint: StateDict) -> Iterator[tuple[str, Target]]:
    for head in _TEXT_HEADS:
        for path, tensor in _weights(checkpoint, head):
            if path.startswith("encoder.layers."):
                name = f"{TEXT_PREFIX}text_model_{_underscored(path)}"
                yield name, Target(tensor, TEXT_ENCODER)


def _weights(checkpoint: Mapping[str, LazyTensor], head: str) -> Iterator[tuple[str, str]]:
    for name, tensor in checkpoint.items():
        if name.startswith(head) and name.endswith(".weight") and len(tensor.shape) >= 2:
            yield name[len(head) :].removesuffix(".weight"), name


def _underscored(path: str) -> str:
    return path.replace(".", "_")

"""A weight for each block of a UNet, as lists of merge block weight (MBW).

The slots are BASE (all that is not the UNet), IN00..IN11, M00, OUT00..OUT11; the UNets of SDXL and
its refiner have fewer. Sources: hako-mikan/sd-webui-supermerger `scripts/mergers/mergers.py`
(time_embed counts as the first input block, out as the last output block) and, for label_emb,
kohya-ss/sd-scripts `networks/lora.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from converters.bases import Base
from converters.errors import BadValue, CorruptFile
from converters.layouts.sd_unet import diffusers_skeleton, is_diffusers_unet, ldm_skeleton
from converters.statedict import StateDict

BASE = "BASE"
_BLOCK = re.compile(r"(input_blocks|middle_block|output_blocks)\.(\d+)\.")
_WORDS = {"input_blocks": "IN", "output_blocks": "OUT"}
_FIRST = ("time_embed.", "label_emb.")
_LAST = "out."


def _slots(inputs: int, outputs: int) -> tuple[str, ...]:
    return (
        BASE,
        *(f"IN{n:02}" for n in range(inputs)),
        "M00",
        *(f"OUT{n:02}" for n in range(outputs)),
    )


FULL = _slots(12, 12)
_SDXL = _slots(9, 9)
_LISTS: Mapping[Base, tuple[tuple[str, ...], ...]] = {
    Base.SD1: (FULL,),
    Base.SD2: (FULL,),
    Base.SDXL: (_SDXL, FULL),
    Base.SDXL_REFINER: (FULL,),
}
"""Family -> the slots of the lists it takes; each may leave out BASE, its first."""


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """A weight per slot; BASE may be missing."""

    weights: Mapping[str, float]

    @property
    def base(self) -> float | None:
        """The weight of all that is not the UNet."""
        return self.weights.get(BASE)


def block_weights(numbers: tuple[float, ...], base: Base) -> BlockWeights:
    """The list as weights of the slots of a family.

    Raises BadValue for a list of another length, numbers that are not finite, and families without
    such blocks.
    """
    lists = _LISTS.get(base)
    if lists is None:
        raise BadValue(f"block weights are for the UNets of SD1, SD2 and SDXL, not {base.label}")
    if not all(map(math.isfinite, numbers)):
        raise BadValue("block weights must be finite numbers")
    for slots in (some for whole in lists for some in (whole, whole[1:])):
        if len(slots) == len(numbers):
            return BlockWeights(dict(zip(slots, numbers, strict=True)))
    lengths = " or ".join(f"{len(slots)} ({len(slots) - 1} without BASE)" for slots in lists)
    raise BadValue(f"{base.label} takes a list of {lengths} block weights, not {len(numbers)}")


def slots_of_unet(unet: StateDict) -> dict[str, str]:
    """The slot of each tensor of a UNet (names without prefix, LDM or diffusers).

    Raises CorruptFile where the structure cannot be told.
    """
    if is_diffusers_unet(unet):
        rename = diffusers_skeleton(unet).name_map().inverse
    else:
        rename = ldm_skeleton(unet).name_map().inverse  # leaves LDM names as they are
    found = {name: _slot(rename(name)) for name in unet}
    last = max((slot for slot in found.values() if slot and slot.startswith("OUT")), default="")
    if None in found.values() or not last:
        odd = next((name for name, slot in found.items() if slot is None), "output_blocks")
        raise CorruptFile(f"{odd} belongs to no block of a UNet")
    return {name: last if slot == _LAST else str(slot) for name, slot in found.items()}


def _slot(name: str) -> str | None:
    if name.startswith(_FIRST):
        return "IN00"
    if name.startswith(_LAST):
        return _LAST
    match = _BLOCK.match(name)
    if match is None:
        return None
    word = _WORDS.get(match[1])
    return "M00" if word is None else f"{word}{int(match[2]):02}"

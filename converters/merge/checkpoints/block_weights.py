"""A weight for each block of a UNet, as lists of merge block weight (MBW).

The slots are those of adapters (`converters.merge.blocks`), but BASE is all that is not the UNet,
and may be left out. Source: hako-mikan/sd-webui-supermerger `scripts/mergers/mergers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from converters.adapters.slots import LAST, slot_of
from converters.bases import Base
from converters.errors import BadValue, CorruptFile
from converters.layouts.sd_unet import diffusers_skeleton, is_diffusers_unet, ldm_skeleton
from converters.merge.blocks import LISTS
from converters.statedict import StateDict

BASE = "BASE"
_FULL = LISTS[Base.SD1][0]
_LISTS: Mapping[Base, tuple[tuple[str, ...], ...]] = {
    base: (lists[0],) if lists[0] == _FULL else (lists[0], _FULL)
    for base, lists in LISTS.items()
    if lists[0][0] == BASE
}
"""Family -> the slots of the lists it takes: its own, and that of SD1, which has all."""


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

    Raises BadValue for a list of another length, and families without such blocks.
    """
    lists = _LISTS.get(base)
    if lists is None:
        raise BadValue(f"block weights are for the UNets of SD1, SD2 and SDXL, not {base.label}")
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
    found = {name: slot_of(rename(name)) for name in unet}
    last = max((s for s in found.values() if s and s != LAST and s.startswith(LAST)), default="")
    if None in found.values() or not last:
        odd = next((name for name, slot in found.items() if slot is None), "output_blocks")
        raise CorruptFile(f"{odd} belongs to no block of a UNet")
    return {name: last if slot == LAST else str(slot) for name, slot in found.items()}

"""Block weights: a list of strengths for the parts of a model, as the A1111 extension takes them.

The length of a list tells which slots it names; slots that it does not name count 0, as that
extension has it (kohya's scripts leave them at 1). `BASE` is all text encoders. Presets stand for
lists of 17. Source: hako-mikan/sd-webui-lora-block-weight `scripts/lora_block_weight.py` and its
README.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from converters.adapters.slots import LAST
from converters.adapters.targets import Target
from converters.bases import Base
from converters.errors import BadValue
from converters.layouts.components import TEXT_ENCODER, UNET

_TEXT = "BASE"


def _slots(word: str, *numbers: int) -> tuple[str, ...]:
    return tuple(f"{word}{number:02}" for number in numbers)


_ATTENTION = _slots("IN", 1, 2, 4, 5, 7, 8)
_SD = (
    (_TEXT, *_slots("IN", *range(12)), "M00", *_slots("OUT", *range(12))),
    (_TEXT, *_ATTENTION, "M00", *_slots("OUT", *range(3, 12))),
)
_SDXL = (
    (_TEXT, *_slots("IN", *range(9)), "M00", *_slots("OUT", *range(9))),
    (_TEXT, *_slots("IN", 4, 5, 7, 8), "M00", *_slots("OUT", *range(6))),
)
_FLUX = (("CLIP", "T5", "IN", *_slots("D", *range(19)), *_slots("S", *range(38)), LAST),)
LISTS: Mapping[Base, tuple[tuple[str, ...], ...]] = {
    Base.SD1: _SD,
    Base.SD2: _SD,
    Base.SDXL_REFINER: _SD[:1],
    Base.SDXL: _SDXL,
    Base.FLUX: _FLUX,
}
"""Family -> the lists of slots that it has, told apart by their lengths."""


def _preset(*runs: tuple[int, int]) -> tuple[float, ...]:
    return tuple(float(value) for value, times in runs for _ in range(times))


PRESETS: Mapping[str, tuple[float, ...]] = {
    "ALL": _preset((1, 17)),
    "NONE": _preset((0, 17)),
    "INS": _preset((1, 4), (0, 13)),
    "IND": _preset((1, 1), (0, 3), (1, 3), (0, 10)),
    "INALL": _preset((1, 7), (0, 10)),
    "MIDD": _preset((1, 1), (0, 3), (1, 8), (0, 5)),
    "OUTD": _preset((1, 1), (0, 7), (1, 4), (0, 5)),
    "OUTS": _preset((1, 1), (0, 11), (1, 5)),
    "OUTALL": _preset((1, 1), (0, 7), (1, 9)),
    "ALL0.5": (0.5,) * 17,
    "FLUXALL": _preset((1, 61)),
}
"""The extension's presets: lists of 17 for SD1 and SD2, of 61 for Flux.

Those with one number throughout serve every family, by its longest list.
"""


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """Strengths by slot; a slot that is not there has strength 0."""

    by_slot: Mapping[str, float]

    def of(self, target: Target) -> float:
        """The strength for a layer of a checkpoint."""
        return self.by_slot.get(self._slot(target), 0.0)

    def _slot(self, target: Target) -> str:
        if target.component == UNET:
            last = LAST if LAST in self.by_slot else max(self.by_slot)
            return last if target.slot == LAST else target.slot or ""
        if _TEXT in self.by_slot:
            return _TEXT
        return "CLIP" if target.component == TEXT_ENCODER else "T5"


def block_weights(text: str, base: Base) -> BlockWeights:
    """The strengths that a preset's name or numbers with commas mean for a family.

    Raises BadValue for an unknown word, a number that is none, or a list of another length.
    """
    lists = LISTS.get(base, ())
    if not lists:
        raise BadValue(f"block weights are not defined for {base.label}")
    values = PRESETS.get(text.strip().upper()) or _numbers(text)
    by_length = {len(slots): slots for slots in lists}
    if text.strip().upper() in PRESETS and len(set(values)) == 1 and len(values) not in by_length:
        values = values[:1] * max(by_length)
    if len(values) in by_length:
        return BlockWeights(dict(zip(by_length[len(values)], values, strict=True)))
    lengths = " or ".join(map(str, by_length))
    raise BadValue(
        f"{len(values)} block weights in {text!r}; a list for {base.label} has {lengths}"
    )


def _numbers(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(map(math.isfinite, values)):
        raise BadValue(
            f"{text!r} is neither numbers with commas between nor one of {', '.join(PRESETS)}"
        )
    return values

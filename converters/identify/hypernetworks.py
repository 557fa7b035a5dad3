"""Hypernetworks: per width two small networks, for keys and for values of cross-attention.

Source: lllyasviel/stable-diffusion-webui-forge `modules/hypernetworks/hypernetwork.py`; the
NovelAI form is that program's older one, with `linear1`/`linear2` and no attributes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from converters.bases import BASE_OF_WIDTH, Base
from converters.identify.identity import Identity
from converters.identify.names import Names
from converters.identify.row import Row
from converters.kinds import Kind
from converters.statedict import StateDict

TENSOR = re.compile(
    r"^(?P<width>\d+)\.(?P<side>[01])\.linear\.?(?P<index>\d+)\.(?P<part>weight|bias)$"
)
"""`<width>.<0 keys | 1 values>.linear.<i>.<part>`, or `linear1`, `linear2` in the NovelAI form."""

_OLD = re.compile(r"\.linear\d")


@dataclass(frozen=True, slots=True)
class _TwoNetworksPerWidth:
    """Every tensor is of such a network, both sides are there, and the inputs have the width."""

    def holds(self, tensors: Names) -> bool:
        found = [(TENSOR.match(name), tensor.shape) for name, tensor in tensors.items()]
        sides = {(m["width"], m["side"]) for m, _ in found if m}
        widths = {width for width, _ in sides}
        fitting = {m["width"] for m, shape in found if m and shape[1:] == (int(m["width"]),)}
        return (
            bool(found)
            and all(m is not None for m, _ in found)
            and len(sides) == 2 * len(widths)
            and fitting == widths
        )


def _describe(sd: StateDict) -> Identity:
    widths = sorted({int(match["width"]) for name in sd if (match := TENSOR.match(name))})
    # 320, 640 and 1280 are self-attention widths, which every family has.
    bases = [BASE_OF_WIDTH[width] for width in widths if width in (768, 1024, 2048)]
    base = bases[0] if len(bases) == 1 else Base.UNKNOWN
    return Identity(
        Kind.HYPERNETWORK,
        base=base,
        layout="novelai" if any(_OLD.search(name) for name in sd) else "a1111",
        evidence=(
            f"networks for keys and values at the widths {', '.join(map(str, widths))}",
            _reason(base),
        ),
    )


def _reason(base: Base) -> str:
    if base is Base.UNKNOWN:
        return "no single text-context width among them tells the family"
    return f"one of them is the text context of {base.label}"


ROWS = (Row("hypernetwork", _TwoNetworksPerWidth(), _describe),)

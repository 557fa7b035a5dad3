"""How the numbers of a model are stored: element types, scales of quantised weights, averages.

Sources: ComfyUI `comfy/ops.py` and `comfy/quant_ops.py` (scaled fp8, `comfy_quant`),
bitsandbytes-foundation/bitsandbytes (nf4: `absmax`, `quant_map`), nunchaku-tech/nunchaku
(`wscales`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from converters.dtypes import DType
from converters.identify.identity import Identity
from converters.identify.names import Names
from converters.kinds import Kind
from converters.layouts.components import PREFIXES, UNET_EMA

_MODELS = (Kind.CHECKPOINT, Kind.DIFFUSION_MODEL, Kind.TEXT_ENCODER)
SCALES = ("scaled_fp8", "scale_weight", "weight_scale", "comfy_quant", "wscales")
"""Last words of names that quantised weights have beside them."""

PACKED = ("absmax", "quant_map")
METADATA = "_quantization_metadata"
_POSITIONS = "position_ids"


@dataclass(frozen=True, slots=True)
class Notes:
    """Sentences about how a model is stored; `problems` are those that hinder its use."""

    evidence: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def precision_of(names: Names, metadata: Mapping[str, str], identity: Identity) -> Notes:
    """What to say about the precision of a model; nothing for other kinds."""
    if identity.kind not in _MODELS:
        return Notes()
    return Notes(
        (*_dominant(names), *_scales(names), *_described(metadata), *_averages(names)),
        (*_packed(names), *_rounded_positions(names)),
    )


def _dominant(names: Names) -> tuple[str, ...]:
    """The element type of most numbers of the denoiser, or of the file when it has none."""
    counts: Counter[DType] = Counter()
    for tensor in names.denoiser.values():
        counts[tensor.dtype] += tensor.numel
    if not counts.total():
        return ()
    dtype, count = counts.most_common(1)[0]
    return (f"{count / counts.total():.0%} of its numbers are {dtype.label}",)


def _scales(names: Names) -> tuple[str, ...]:
    found = (name for word in SCALES if (name := names.ending(word)) is not None)
    return tuple(f"{name}: quantised weights, which need the scales beside them" for name in found)


def _described(metadata: Mapping[str, str]) -> tuple[str, ...]:
    return (f"{METADATA} describes quantised weights",) if METADATA in metadata else ()


def _packed(names: Names) -> tuple[str, ...]:
    found = (name for word in PACKED if (name := names.ending(word)) is not None)
    return tuple(
        f"{name}: 4-bit weights of bitsandbytes, whose shapes are not the model's" for name in found
    )


def _averages(names: Names) -> tuple[str, ...]:
    held = f"\n{PREFIXES[UNET_EMA][0]}" in names.text
    return ("it holds EMA weights too (model_ema.*)",) if held else ()


def _rounded_positions(names: Names) -> tuple[str, ...]:
    found = (n for n, t in names.items() if t.dtype.is_float and n.endswith(_POSITIONS))
    name = next(found, None)
    return () if name is None else (f"{name} holds whole numbers as {names[name].dtype.label}",)

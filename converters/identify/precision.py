"""How the numbers of a model are stored: element types, scales of quantised weights, averages.

Sources: ComfyUI `comfy/ops.py` and `comfy/quant_ops.py` (scaled fp8, `comfy_quant`),
bitsandbytes-foundation/bitsandbytes (nf4: `absmax`, `quant_map`).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from converters.identify.identity import Identity, Kind
from converters.identify.names import Names
from converters.layouts.components import UNET, UNET_EMA, component_of
from converters.statedict import StateDict

_MODELS = (Kind.CHECKPOINT, Kind.DIFFUSION_MODEL, Kind.TEXT_ENCODER)
_SCALED = "its weights are quantised and need the scales beside them"
_MARKS = (
    (re.compile(r"(?:^|\.)scaled_fp8$", re.MULTILINE), f"scaled_fp8: {_SCALED}", False),
    (
        re.compile(r"\.(?:scale_weight|weight_scale)$", re.MULTILINE),
        f"scale_weight: {_SCALED}",
        False,
    ),
    (re.compile(r"\.comfy_quant$", re.MULTILINE), f"comfy_quant: {_SCALED}", False),
    (
        re.compile(r"\.(?:absmax|quant_map)$|\.quant_state\.", re.MULTILINE),
        "4-bit weights of bitsandbytes (absmax, quant_map): their shapes are not the model's",
        True,
    ),
)
"""What a tensor's name looks like, what it means, and whether that is a problem for our work."""

_METADATA = "_quantization_metadata"
_POSITIONS = "position_ids"


@dataclass(frozen=True, slots=True)
class Notes:
    """Sentences about how a model is stored; `problems` are those that hinder its use."""

    evidence: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def precision_of(sd: StateDict, identity: Identity) -> Notes:
    """What to say about the precision of a model; nothing for other kinds."""
    if identity.kind not in _MODELS:
        return Notes()
    text = Names(sd).text
    marks = [(sentence, bad) for pattern, sentence, bad in _MARKS if pattern.search(text)]
    evidence = [sentence for sentence, bad in marks if not bad]
    if _METADATA in sd.metadata:
        evidence.append(f"{_METADATA} describes how its weights are quantised")
    return Notes(
        (*_dominant(sd), *evidence, *_averages(sd)),
        (*(sentence for sentence, bad in marks if bad), *_rounded_positions(sd)),
    )


def _dominant(sd: StateDict) -> tuple[str, ...]:
    """The element type of most numbers of the denoiser, or of the file when it has none."""
    own = [t for name, t in sd.items() if component_of(name) == UNET] or list(sd.values())
    counts: Counter[str] = Counter()
    for tensor in own:
        counts[tensor.dtype.label] += tensor.numel
    if not counts.total():
        return ()
    label, count = counts.most_common(1)[0]
    return (f"{count / counts.total():.0%} of its numbers are {label}",)


def _averages(sd: StateDict) -> tuple[str, ...]:
    held = any(component_of(name) == UNET_EMA for name in sd)
    return ("it holds EMA weights too (model_ema.*)",) if held else ()


def _rounded_positions(sd: StateDict) -> tuple[str, ...]:
    found = (n for n, t in sd.items() if n.endswith(_POSITIONS) and t.dtype.is_float)
    name = next(found, None)
    return () if name is None else (f"{name} holds whole numbers as {sd[name].dtype.label}",)

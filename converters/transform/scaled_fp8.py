"""ComfyUI's scaled fp8: a layer's true weight is its fp8 values times `<layer>.scale_weight`.

Source: ComfyUI `comfy/model_detection.py` (model_config_from_unet). The marker tensor `scaled_fp8`
and the scales of inputs (`scale_input`), which only fast matrix products need, are left out.
"""

from __future__ import annotations

from functools import partial

from converters import compute
from converters.dtypes import DType
from converters.statedict import LazyTensor, StateDict

_SCALE = ".scale_weight"
_BESIDE = (_SCALE, ".scale_input")
_MARKER = "scaled_fp8"


def unscaled(sd: StateDict) -> StateDict:
    """The true weights, in float32 where there was a scale; a file without scales stays as it is.

    Reads nothing; weights are computed when they are read.
    """
    scales = {name.removesuffix(_SCALE): name for name in sd if name.endswith(_SCALE)}
    if not scales:
        return sd
    kept = sd.select(lambda name: not (name.endswith(_BESIDE) or name.split(".")[-1] == _MARKER))
    made = {
        f"{layer}.weight": _scaled(sd[f"{layer}.weight"], sd[scale])
        for layer, scale in scales.items()
        if f"{layer}.weight" in sd
    }
    return kept.overlay(made)


def _scaled(weight: LazyTensor, scale: LazyTensor) -> LazyTensor:
    return compute.lazy(
        DType.F32,
        weight.shape,
        partial(_product, weight, scale),
        weight.origin,
        inputs=(weight, scale),
    )


def _product(weight: LazyTensor, scale: LazyTensor) -> compute.Tensor:
    return compute.value(weight).float() * compute.value(scale).float()

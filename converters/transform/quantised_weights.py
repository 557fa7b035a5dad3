"""Weights that are stored as codes with scales beside them, and the numbers that they stand for.

ComfyUI's fp8: a layer's true weight is its fp8 values times `<layer>.scale_weight`, in newer files
`<layer>.weight_scale`, which is one number, or one for each row. What only fast matrix products
need (`scale_input`, `input_scale`) and what marks the layers (`scaled_fp8`, `comfy_quant`,
`_quantization_metadata`) is left out with the scales. Other codes (blocks with scales of their own,
integers, 4 bits of bitsandbytes) are not undone.

Sources: ComfyUI `comfy/model_detection.py` (model_config_from_unet), `comfy/quant_ops.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from converters import compute
from converters.dtypes import CODES, DType
from converters.errors import UnsupportedFile
from converters.identify.precision import METADATA, PACKED, SCALES
from converters.statedict import LazyTensor, StateDict

_MARKER = "scaled_fp8"
_SCALES = ("scale_weight", "weight_scale")
_BESIDE = frozenset((*_SCALES, "scale_input", "input_scale", "comfy_quant"))
_FP8 = frozenset({DType.F8_E4M3, DType.F8_E5M2})


def unscaled(sd: StateDict) -> StateDict:
    """The true weights, in float32 where there was a scale; a file without scales stays as it is.

    Reads nothing; weights are computed when they are read. Raises UnsupportedFile naming a tensor
    of weights that are quantised in another way, or a scale that fits no weight.
    """
    scales = dict(_scales(sd))
    _require_known(sd, scales)
    if not scales:
        return sd
    gone = {f"{layer}.{word}" for layer in scales for word in _BESIDE}
    kept = sd.select(lambda name: name not in gone and name.rpartition(".")[2] != _MARKER)
    told = {key: text for key, text in sd.metadata.items() if key != METADATA}
    made = {
        f"{layer}.weight": _scaled(sd[f"{layer}.weight"], scale)
        for layer, scale in scales.items()
        if f"{layer}.weight" in sd
    }
    return kept.overlay(made).with_metadata(told)


def _scales(sd: StateDict) -> Iterator[tuple[str, LazyTensor]]:
    """The layers of fp8 with a scale, and this."""
    for name, scale in sd.items():
        layer, _, word = name.rpartition(".")
        if word == _SCALES[0] or (word == _SCALES[1] and _is_fp8(sd.get(f"{layer}.weight"), scale)):
            yield layer, scale


def _is_fp8(weight: LazyTensor | None, scale: LazyTensor) -> bool:
    """Whether a weight has one scale, or one for each row: others have them for blocks."""
    return weight is not None and weight.dtype in _FP8 and _fits(scale, weight)


def _fits(scale: LazyTensor, weight: LazyTensor) -> bool:
    is_of_rows = scale.shape[:1] == weight.shape[:1] == (scale.numel,)
    return scale.dtype.is_float and scale.dtype not in CODES and (scale.numel == 1 or is_of_rows)


def _require_known(sd: StateDict, undone: dict[str, LazyTensor]) -> None:
    """Raises UnsupportedFile."""
    for name, tensor in sd.items():
        layer, _, word = name.rpartition(".")
        is_other = word in (*SCALES, *PACKED) and word != _MARKER and layer not in undone
        if is_other or tensor.dtype in CODES:
            raise UnsupportedFile(
                f"{name}: its weights are quantised in a way that is not undone here",
                path=tensor.origin.partition(": ")[0],
            )
    for layer, scale in undone.items():
        weight = sd.get(f"{layer}.weight")
        if weight is not None and not _fits(scale, weight):
            raise UnsupportedFile(
                f"{layer}: a scale of shape {list(scale.shape)} does not fit its weight",
                path=scale.origin.partition(": ")[0],
            )


def _scaled(weight: LazyTensor, scale: LazyTensor) -> LazyTensor:
    return compute.lazy(
        DType.F32,
        weight.shape,
        partial(_product, weight, scale),
        weight.origin,
        inputs=(weight, scale),
    )


def _product(weight: LazyTensor, scale: LazyTensor) -> compute.Tensor:
    factors = compute.value(scale).float()
    shape = (-1, *[1] * (len(weight.shape) - 1)) if scale.numel > 1 else ()
    return compute.value(weight).float() * factors.reshape(shape)

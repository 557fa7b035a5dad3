"""Block quantisation for GGUF: which tensors, and how; `containers.gguf_blocks` is the way back.

A block is 32 neighbours in a row with scales of their own. Computed in float32 in the order of
ggml's reference code, so that the bytes are the same. Sources: ggml-org/llama.cpp
`ggml/src/ggml-quants.c` (`quantize_row_*_ref`) for the formulas; leejet/stable-diffusion.cpp
`model.cpp` and city96/ComfyUI-GGUF `tools/convert.py` for what is left alone: embeddings, the
first and last layers, what is small, and rows that are not whole blocks (convolutions).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from converters import compute
from converters.containers.gguf_blocks import FORMULAS, NUMBERS, TYPES
from converters.dtypes import DType
from converters.errors import Overflow
from converters.layouts.components import VAE, component_of
from converters.statedict import Buffer, LazyTensor

if TYPE_CHECKING:
    from converters.containers.gguf_blocks import Bytes, Floats

SMALLEST = 1024
"""Elements; smaller tensors are not worth the loss."""
PIECE_ELEMENTS = 1 << 18
"""Elements that are quantised at a time: what is made of them on the way stays in the cache."""

_BLOCK = 32
_PRECISE = (
    *("embed", "label_emb.", "final_layer.", "time_in.", "vector_in.", "guidance_in."),
    *("txt_in.", "img_in."),
)
_LAST = ("proj_out.", "norm_out.")
_DENOISER = "model.diffusion_model."


def can_be_quantised(name: str, tensor: LazyTensor) -> bool:
    """Whether a tensor is a large matrix in which little is lost."""
    return (
        tensor.dtype.is_float
        and len(tensor.shape) > 1
        and tensor.shape[-1] % _BLOCK == 0
        and tensor.numel >= SMALLEST
        and component_of(name) != VAE
        and not any(word in name for word in _PRECISE)
        and not name.removeprefix(_DENOISER).startswith(_LAST)
    )


def quantised(tensor: LazyTensor, kind: str) -> LazyTensor:
    """The blocks of a tensor as bytes, (n,) U8; `kind` is a key of QUANTISERS.

    Reading it raises Overflow where the scale of a block is too large for float16, or no number.
    """
    nbytes = TYPES[NUMBERS[kind]].nbytes
    pieces = tuple(
        LazyTensor(
            DType.U8,
            (part.numel // _BLOCK * nbytes,),
            functools.partial(_blocks, part, kind),
            tensor.origin,
            tensor.sources,
        )
        for part in tensor.parts(PIECE_ELEMENTS)
    )
    return LazyTensor(
        DType.U8,
        (tensor.numel // _BLOCK * nbytes,),
        lambda: b"".join(piece.read() for piece in pieces),
        tensor.origin,
        tensor.sources,
        pieces,
    )


def dequantised(tensor: LazyTensor, kind: str) -> LazyTensor:
    """What is left of a tensor's values after its quantisation, F32 in its shape."""
    blocks = quantised(tensor, kind)

    def read() -> Buffer:
        import numpy as np

        stored = np.frombuffer(blocks.read(), np.uint8).reshape(tensor.numel // _BLOCK, -1)
        return FORMULAS[kind](stored).reshape(-1).view(np.uint8).data

    return LazyTensor(DType.F32, tensor.shape, read, tensor.origin, tensor.sources)


def _blocks(part: LazyTensor, kind: str) -> Buffer:
    import numpy as np

    numbers: Floats = compute.floats(part).numpy().reshape(-1, _BLOCK)
    with np.errstate(all="ignore"):  # what is no number is looked for in the scales
        scales, packed = QUANTISERS[kind](numbers)
        stored = scales.astype("<f2")
    if not np.isfinite(stored).all():
        raise Overflow(
            f"values that are no numbers, or too large for {kind}",
            path=part.origin,
            hint="bf16 and fp32 hold every value of these files",
        )
    return np.hstack([stored.view(np.uint8), packed]).reshape(-1).data


def _inverse(scale: Floats) -> Floats:
    """1 / scale, and 0 for 0."""
    import numpy as np

    return np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)


def _extreme(numbers: Floats) -> Floats:
    """The number of each block that is farthest from zero, the first of those, (n, 1)."""
    import numpy as np

    place = np.abs(numbers).argmax(axis=1, keepdims=True)
    return np.take_along_axis(numbers, place, axis=1)


def _levels(numbers: Floats, most: int) -> Bytes:
    """Numbers cut to whole ones, and to what the bits hold."""
    import numpy as np

    return np.minimum(numbers.astype(np.int8), np.int8(most)).astype(np.uint8)


def _nibbles(levels: Bytes) -> Bytes:
    """The low four bits; the second half of a block in the high bits of the first."""
    import numpy as np

    low = levels & np.uint8(15)
    return low[:, :16] | low[:, 16:] << np.uint8(4)


def _fifth_bits(levels: Bytes) -> Bytes:
    import numpy as np

    return np.packbits(levels >> 4, axis=1, bitorder="little")


def _around_zero(numbers: Floats, half: int) -> tuple[Floats, Bytes]:
    import numpy as np

    scale = _extreme(numbers) / np.float32(-half)
    return scale, _levels(numbers * _inverse(scale) + np.float32(half + 0.5), 2 * half - 1)


def _from_least(numbers: Floats, most: int) -> tuple[Floats, Bytes]:
    import numpy as np

    least = numbers.min(axis=1, keepdims=True)
    scale = (numbers.max(axis=1, keepdims=True) - least) / np.float32(most)
    levels = _levels((numbers - least) * _inverse(scale) + np.float32(0.5), most)
    return np.hstack([scale, least]), levels


def _q4_0(numbers: Floats) -> tuple[Floats, Bytes]:
    scale, levels = _around_zero(numbers, 8)
    return scale, _nibbles(levels)


def _q4_1(numbers: Floats) -> tuple[Floats, Bytes]:
    scales, levels = _from_least(numbers, 15)
    return scales, _nibbles(levels)


def _q5_0(numbers: Floats) -> tuple[Floats, Bytes]:
    import numpy as np

    scale, levels = _around_zero(numbers, 16)
    return scale, np.hstack([_fifth_bits(levels), _nibbles(levels)])


def _q5_1(numbers: Floats) -> tuple[Floats, Bytes]:
    import numpy as np

    scales, levels = _from_least(numbers, 31)
    return scales, np.hstack([_fifth_bits(levels), _nibbles(levels)])


def _q8_0(numbers: Floats) -> tuple[Floats, Bytes]:
    import numpy as np

    scale = np.abs(numbers).max(axis=1, keepdims=True) / np.float32(127)
    scaled = numbers * _inverse(scale)
    away = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))  # C's roundf, halves outwards
    return scale, away.astype(np.int8).view(np.uint8)


QUANTISERS: dict[str, Callable[[Floats], tuple[Floats, Bytes]]] = {
    "Q8_0": _q8_0,
    "Q5_1": _q5_1,
    "Q5_0": _q5_0,
    "Q4_1": _q4_1,
    "Q4_0": _q4_0,
}
"""Type -> scales (n, 1 or 2) and packed levels (n, bytes) of blocks (n, 32)."""

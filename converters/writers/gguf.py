"""GGUF files, streamed: plain tensors as they lie, or large matrices quantised on the way.

Sources: ggml-org/ggml `docs/gguf.md` (version 3); city96/ComfyUI-GGUF `loader.py` (the names of
architectures); ggml-org/llama.cpp `include/llama.h` (`llama_ftype`); leejet/stable-diffusion.cpp
`ggml_extend.hpp` (the longest name). Tensors keep their names, so that whole checkpoints are read
by stable-diffusion.cpp and by Forge, and their denoisers by ComfyUI-GGUF.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from converters.bases import Base
from converters.bytesource import MemoryBytes
from converters.containers.gguf import ALIGNMENT, TYPES_KEY
from converters.containers.gguf_blocks import NUMBERS, TYPES
from converters.containers.gguf_header import MAGIC, MAX_NAME
from converters.dtypes import DType
from converters.errors import BadValue, UnsupportedFile
from converters.identify import Identity, Kind
from converters.progress import SILENT, Progress
from converters.statedict import Extent, LazyTensor, StateDict
from converters.transform.cast import cast
from converters.transform.quantise import can_be_quantised, dequantised, quantised
from converters.transform.quantised_weights import unscaled
from converters.writers.safetensors import Written
from converters.writers.streaming import write_stream

MAX_TENSOR_NAME = 127
"""Bytes; programs made with ggml cut longer ones."""
MAX_DIMENSIONS = 4

_VERSION, _ALIGNMENT = 3, 32
_STRING, _U32 = 8, 4
_NUMBER_OF = {kind.dtype: number for number, kind in TYPES.items() if kind.dtype is not None}
_FP8 = frozenset({DType.F8_E4M3, DType.F8_E5M2, DType.F8_E4M3FNUZ, DType.F8_E5M2FNUZ})
_FILE_TYPE = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "BF16": 32,
}  # fmt: skip
_ARCHITECTURES = {
    Base.SD1: "sd1",
    Base.SD2: "sd1",  # one row there: the tensors tell them apart
    Base.SDXL: "sdxl",
    Base.SDXL_REFINER: "sdxl",
    Base.SD3: "sd3",
    Base.FLUX: "flux",
    Base.CHROMA: "flux",
    Base.AURAFLOW: "aura",
    Base.HIDREAM: "hidream",
    Base.COSMOS1: "cosmos",
    Base.COSMOS2: "cosmos",
    Base.LTX: "ltxv",
    Base.HUNYUAN_VIDEO: "hyvid",
    Base.WAN: "wan",
    Base.LUMINA2: "lumina2",
    Base.QWEN_IMAGE: "qwen_image",
}
_DENOISERS = frozenset({Kind.CHECKPOINT, Kind.DIFFUSION_MODEL})
_WITHOUT_READERS = frozenset({Kind.LORA, Kind.EMBEDDING, Kind.HYPERNETWORK})
_ZEROS = MemoryBytes(bytes(_ALIGNMENT), "padding")


@dataclass(frozen=True, slots=True)
class GgufLayout:
    """A file that is not yet written: its header, and what follows it, padding included."""

    header: bytes
    parts: tuple[LazyTensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return len(self.header) + sum(part.nbytes for part in self.parts)


def gguf_layout(state: StateDict, identity: Identity, quantise: str | None) -> GgufLayout:
    """Plan the file without reading or writing; `quantise` is a key of QUANTISERS, or None.

    Raises UnsupportedFile for adapters, and for names, shapes and types that GGUF has not.
    """
    if identity.kind in _WITHOUT_READERS:
        raise UnsupportedFile(f"is of kind {identity.kind}, which no program reads from GGUF")
    state = _without_fp8(state)
    infos, parts, position = [], [], 0
    for name, tensor in state.items():
        kind = _kind(name, tensor, quantise)
        stored = quantised(tensor, kind) if _is_quantised(kind) else tensor
        infos.append(_info(name, tensor, NUMBERS[kind], position))
        parts.append(stored)
        position += stored.nbytes
        if padding := _padding(position):
            parts.append(_zeros(padding))
            position += padding
    values = _values(state, identity, quantise)
    counts = struct.pack("<IQQ", _VERSION, len(infos), len(values))
    header = b"".join((MAGIC, counts, *values, *infos))
    return GgufLayout(header + bytes(_padding(len(header))), tuple(parts))


def write_gguf(
    state: StateDict,
    identity: Identity,
    target: Path,
    *,
    quantise: str | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Written:
    """Write the tensors and metadata of `state`, with all hashes of the file in the same pass.

    Raises as `gguf_layout` and `write_safetensors`; Overflow where blocks cannot hold the values.
    """
    layout = gguf_layout(state, identity, quantise)
    hashes = write_stream(
        layout.header,
        layout.parts,
        target,
        begins=None,
        overwrite=overwrite,
        with_hashes=True,
        progress=progress,
    )
    return Written(target, layout.nbytes, len(state), hashes)


def seen_in_gguf(state: StateDict, quantise: str | None) -> StateDict:
    """The tensors as reading the file gives them: quantised ones in F32."""

    def seen(name: str, tensor: LazyTensor) -> LazyTensor:
        kind = _kind(name, tensor, quantise)
        return dequantised(tensor, kind) if _is_quantised(kind) else tensor

    return _without_fp8(state).map(seen)


def _without_fp8(state: StateDict) -> StateDict:
    """Numbers of eight bits as F16, which holds all of them: GGUF has no such type.

    Those with scales beside them as what they stand for, in F32.
    """
    state = unscaled(state)
    eight = state.select(lambda name: state[name].dtype in _FP8)
    return state.overlay(cast(eight, DType.F16)) if eight else state


def _kind(name: str, tensor: LazyTensor, quantise: str | None) -> str:
    """The name of the type that a tensor is stored in. Raises UnsupportedFile where none is."""
    if quantise is not None and can_be_quantised(name, tensor):
        return quantise
    number = _NUMBER_OF.get(tensor.dtype)
    if number is None:
        raise UnsupportedFile(f"GGUF has no type for {tensor.dtype.label}", path=tensor.origin)
    return TYPES[number].name


def _is_quantised(kind: str) -> bool:
    return TYPES[NUMBERS[kind]].dtype is None


def _padding(position: int) -> int:
    return -position % _ALIGNMENT


def _zeros(nbytes: int) -> LazyTensor:
    return LazyTensor(DType.U8, (nbytes,), (Extent(_ZEROS, 0, nbytes),), "padding")


def _info(name: str, tensor: LazyTensor, number: int, position: int) -> bytes:
    shape = tensor.shape[::-1]
    if len(_utf8(name)) > MAX_TENSOR_NAME:
        raise UnsupportedFile(
            f"GGUF holds no names of more than {MAX_TENSOR_NAME} bytes", path=tensor.origin
        )
    if len(shape) > MAX_DIMENSIONS:
        raise UnsupportedFile(
            f"GGUF holds no tensors of {len(shape)} dimensions", path=tensor.origin
        )
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return _text(name) + dimensions + struct.pack("<IQ", number, position)


def _values(state: StateDict, identity: Identity, quantise: str | None) -> list[bytes]:
    """The metadata: what programs look for, and the texts of the source."""
    numbers = {"general.quantization_version": 2} if quantise else {}
    file_type = quantise or _commonest(state)
    if file_type in _FILE_TYPE:
        numbers["general.file_type"] = _FILE_TYPE[file_type]
    texts = dict(_kept(state.metadata))
    if identity.kind in _DENOISERS and identity.base in _ARCHITECTURES:
        texts["general.architecture"] = _ARCHITECTURES[identity.base]
    return [
        *(_entry(key, _STRING, _text(value)) for key, value in sorted(texts.items())),
        *(_entry(key, _U32, struct.pack("<I", value)) for key, value in numbers.items()),
    ]


def _kept(metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Texts that are still true, under keys that readers take."""
    own = {ALIGNMENT, TYPES_KEY, "general.file_type", "general.quantization_version"}
    return (pair for pair in metadata.items() if pair[0] not in own and len(pair[0]) <= MAX_NAME)


def _commonest(state: StateDict) -> str:
    sizes: Counter[str] = Counter()
    for tensor in state.values():
        sizes[tensor.dtype.label] += tensor.nbytes
    return max(sizes, key=sizes.__getitem__, default="")


def _entry(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _text(text: str) -> bytes:
    raw = _utf8(text)
    return struct.pack("<Q", len(raw)) + raw


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BadValue(f"a name or text is not valid Unicode: {error.object[:60]!r}") from error

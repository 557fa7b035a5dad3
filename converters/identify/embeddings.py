"""Textual inversions.

Sources: lllyasviel/stable-diffusion-webui-forge `modules/textual_inversion/textual_inversion.py`,
huggingface/diffusers `loaders/textual_inversion.py`, invoke-ai/InvokeAI.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from converters.bases import BASE_OF_WIDTH, Base
from converters.extras import file_extras
from converters.identify.conditions import both, has_all, most
from converters.identify.identity import CERTAIN, SHARED, Identity
from converters.identify.names import Names
from converters.identify.row import Row
from converters.kinds import Kind
from converters.statedict import LazyTensor, StateDict

WIDTHS = (768, 1024, 1280, 4096)
"""Widths of text encoders that have textual inversions: CLIP-L, OpenCLIP-H, bigG, T5 and Llama."""

MOST_VECTORS = 128
A1111 = re.compile(r"^string_to_param\.")
_NOT_A_TOKEN = re.compile(
    r"^(?:tensor|weight|bias|emb_params|(?:clip_[lgh]|t5(?:xxl)?|llama)(?:_out)?|\d+)$|\."
)
"""Names of a lone tensor that are no token: of layers, list entries, a file's only tensor."""
_TOKEN = re.compile(r"<.+>", re.DOTALL)


def is_vectors(tensor: LazyTensor) -> bool:
    """Whether a tensor can be token vectors: (n, d) or (d,), d a text encoder's width."""
    *count, width = tensor.shape or (0,)
    return (
        tensor.dtype.is_float
        and width in WIDTHS
        and len(count) <= 1
        and all(0 < n <= MOST_VECTORS for n in count)
    )


def is_token(name: str) -> bool:
    """Whether the name of a lone tensor can be a token that it stands for."""
    return _TOKEN.fullmatch(name) is not None or not _NOT_A_TOKEN.search(name)


@dataclass(frozen=True, slots=True)
class _Tokens:
    """A single tensor named by its token, or several by tokens in brackets."""

    def holds(self, tensors: Names) -> bool:
        named = is_token if len(tensors) == 1 else _TOKEN.fullmatch
        widths = {tensor.shape[-1:] for tensor in tensors.values()}
        return len(widths) == 1 and all(
            is_vectors(tensor) and named(name) for name, tensor in tensors.items()
        )


@dataclass(frozen=True, slots=True)
class _AllVectors:
    """Every tensor can be token vectors."""

    def holds(self, tensors: Names) -> bool:
        return 0 < len(tensors) < 10 and all(map(is_vectors, tensors.values()))


def _is_a1111(name: str) -> bool:
    return A1111.match(name) is not None


def _a1111(sd: StateDict) -> Identity:
    name = file_extras(sd).get("name")
    words = (name,) if isinstance(name, str) and name else ()
    return _embedding(sd, "a1111", words)


def _token(sd: StateDict) -> Identity:
    certain = all(map(_TOKEN.fullmatch, sd))
    return _embedding(sd, "diffusers", tuple(sd), CERTAIN if certain else SHARED)


def _bare(sd: StateDict) -> Identity:
    return _embedding(sd, "emb_params", ())


_ENCODERS = {"clip_l": 768, "clip_g": 1280, "t5xxl": 4096, "llama": 4096}
"""Encoders by the name of their vectors, and their width."""

_OTHER_NAMES = {"t5": "t5xxl"}
"""What OneTrainer and diffusers' trainers call what ComfyUI looks for."""

OUTPUTS = "_out"
"""Ends the names of vectors that take the place of an encoder's output (OneTrainer)."""

_FAMILIES = (
    (frozenset({"llama"}), Base.HIDREAM),
    (frozenset({"clip_g", "t5xxl"}), Base.SD3),
    (frozenset({"clip_l", "t5xxl"}), Base.FLUX),
    (frozenset({"clip_g"}), Base.SDXL),
)
"""Encoders that only one family has together; the first that are all there count."""


@dataclass(frozen=True, slots=True)
class _PerEncoder:
    """Every tensor is named after a text encoder and has its width; the counts are equal."""

    def holds(self, tensors: Names) -> bool:
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        return 0 < len(shapes) < 10 and all(
            0 < len(shape) <= 2
            and shape[-1] == _ENCODERS.get(encoder_of(name) or "")
            and all(0 < count <= MOST_VECTORS for count in shape[:-1])
            for name, shape in shapes.items()
        )


def encoder_of(name: str) -> str | None:
    """The text encoder that vectors of this name are for, in ComfyUI's words; None for others."""
    encoder = name.removesuffix(OUTPUTS)
    encoder = _OTHER_NAMES.get(encoder, encoder)
    return encoder if encoder in _ENCODERS else None


def _by_encoder(sd: StateDict) -> Identity:
    found = {encoder for name in sd if (encoder := encoder_of(name)) is not None}
    layout = "+".join(sorted(found, key=list(_ENCODERS).index))
    base = next((base for needed, base in _FAMILIES if needed <= found), None)
    if base is None and found == {"clip_l"}:
        return _embedding(sd, "clip_l", (), SHARED)
    said = f"vectors for the text encoders {layout}"
    return Identity(
        Kind.EMBEDDING,
        base or Base.UNKNOWN,
        layout=layout,
        evidence=(said if base is None else f"{said}, which only {base.label} has together",),
    )


def _embedding(
    sd: StateDict, layout: str, words: tuple[str, ...], confidence: float = CERTAIN
) -> Identity:
    name, tensor = next(iter(sd.items()))
    width = tensor.shape[-1]
    count = tensor.shape[0] if len(tensor.shape) == 2 else 1
    base = BASE_OF_WIDTH[width] if width in (768, 1024) else Base.UNKNOWN
    return Identity(
        Kind.EMBEDDING,
        base=base,
        layout=layout,
        confidence=CERTAIN if base is Base.UNKNOWN else confidence,
        evidence=(f"{name} holds {count} token vectors of width {width}",),
        trigger_words=words,
    )


ROWS = (
    Row("embedding-a1111", both(most(_is_a1111), _AllVectors()), _a1111),
    Row("embedding-token", _Tokens(), _token),
    Row("embedding-bare", both(has_all("emb_params"), _AllVectors()), _bare),
    Row("embedding-by-encoder", _PerEncoder(), _by_encoder),
)

"""Textual inversions.

Sources: lllyasviel/stable-diffusion-webui-forge `modules/textual_inversion/textual_inversion.py`,
huggingface/diffusers `loaders/textual_inversion.py`, invoke-ai/InvokeAI.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from converters.extras import file_extras
from converters.identify.conditions import Tensors, both, has_all, matching, no
from converters.identify.identity import BASE_OF_WIDTH, CERTAIN, SHARED, Base, Identity, Kind
from converters.identify.row import Row
from converters.identify.trigger_words import trigger_words
from converters.statedict import LazyTensor, StateDict

WIDTHS = (768, 1024, 1280)
"""Widths of the text encoders that have textual inversions: CLIP-L, OpenCLIP-H, bigG."""

MOST_VECTORS = 128
A1111 = re.compile(r"^string_to_param\.")
_NOT_A_TOKEN = re.compile(r"^(?:tensor|weight|bias|emb_params|clip_[lgh]|\d+)$|\.")
"""Names of a lone tensor that are no token: of layers, list entries, a file's only tensor."""


def is_vectors(tensor: LazyTensor) -> bool:
    """Whether a tensor can be token vectors: (n, d) or (d,), d a text encoder's width."""
    *count, width = tensor.shape or (0,)
    return (
        tensor.dtype.is_float
        and width in WIDTHS
        and len(count) <= 1
        and all(0 < n <= MOST_VECTORS for n in count)
    )


@dataclass(frozen=True, slots=True)
class _OneToken:
    """A single tensor named by its token."""

    def holds(self, tensors: Tensors) -> bool:
        return len(tensors) == 1 and all(
            is_vectors(tensor) and not _NOT_A_TOKEN.search(name) for name, tensor in tensors.items()
        )


@dataclass(frozen=True, slots=True)
class _AllVectors:
    """Every tensor can be token vectors."""

    def holds(self, tensors: Tensors) -> bool:
        return 0 < len(tensors) < 10 and all(map(is_vectors, tensors.values()))


def _a1111(sd: StateDict) -> Identity:
    name = file_extras(sd).get("name")
    words = (name,) if isinstance(name, str) and name else ()
    return _embedding(sd, "a1111", words)


def _token(sd: StateDict) -> Identity:
    (token,) = sd
    certain = token.startswith("<") and token.endswith(">")
    return _embedding(sd, "diffusers", (token,), CERTAIN if certain else SHARED)


def _bare(sd: StateDict) -> Identity:
    return _embedding(sd, "emb_params", ())


def _by_encoder(sd: StateDict) -> Identity:
    if "clip_g" in sd:
        evidence = "clip_l and clip_g hold vectors for the two text encoders of SDXL"
        return Identity(Kind.EMBEDDING, Base.SDXL, layout="clip_l+clip_g", evidence=(evidence,))
    return _embedding(sd, "clip_l", (), SHARED)


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
        trigger_words=words or trigger_words(sd.metadata),
    )


ROWS = (
    Row("embedding-a1111", both(matching(A1111.pattern, share=0.5), _AllVectors()), _a1111),
    Row("embedding-token", _OneToken(), _token),
    Row("embedding-bare", both(has_all("emb_params"), _AllVectors()), _bare),
    Row(
        "embedding-by-encoder",
        both(has_all("clip_l"), _AllVectors(), no(has_all("emb_params"))),
        _by_encoder,
    ),
)

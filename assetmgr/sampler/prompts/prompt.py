"""Prompts become token chunks, chunks become the conditioning of a UNet.

A chunk is start + 75 tokens + end, padded as the encoder wants it; a longer prompt takes several
chunks, whose encodings are joined on the token axis; those of several encoders on the channels. An
embedding's vectors take the place of the token embeddings where the prompt names it, and are never
split between two chunks. Emphasis multiplies the encoded tokens and then restores the mean of each
chunk, encoder by encoder, as the AUTOMATIC1111 web UI does (`modules/sd_hijack_clip.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from assetmgr.sampler.adapters.embeddings import NamedVectors, Row, pieces
from assetmgr.sampler.models.families import END, Encoding
from assetmgr.sampler.prompts.emphasis import parse_emphasis
from assetmgr.sampler.verdicts.finiteness import NotFinite, checked, first_non_finite
from converters.errors import BadValue

START = 49406
CHUNK = 75
PLACEHOLDER = 0
"""Token id under an embedding's vector; the vector replaces what it would look up."""


class Tokenize(Protocol):
    """What turns text into token ids."""

    def __call__(self, text: str, /) -> list[int]:
        """The ids, without the start and end tokens."""


@dataclass(frozen=True, slots=True)
class Token:
    """One position of a prompt: a vocabulary id, its weight, and what stands in its place."""

    id: int
    weight: float
    row: Row | None = field(default=None, compare=False)

    def is_for(self, width: int) -> bool:
        """Whether an encoder of a width is told of this position."""
        return self.row is None or width in self.row.inputs or width in self.row.outputs


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What a UNet is told: `hidden` `(1, 77·n, d)`, and `pooled` `(1, p)` in families with it."""

    hidden: torch.Tensor
    pooled: torch.Tensor | None


Chunk = tuple[Token, ...]
"""At most 75 tokens."""


def tokenize(
    prompt: str, tokens_of: Tokenize, embeddings: Sequence[NamedVectors] = ()
) -> tuple[Chunk, ...]:
    """The prompt as chunks; an empty prompt is one empty chunk."""
    chunks: list[list[Token]] = [[]]
    for unit in _units(prompt, tokens_of, embeddings):
        if len(chunks[-1]) + len(unit) > CHUNK and len(unit) <= CHUNK:
            chunks.append([])
        for token in unit:
            if len(chunks[-1]) == CHUNK:
                chunks.append([])
            chunks[-1].append(token)
    return tuple(tuple(chunk) for chunk in chunks)


def _units(
    prompt: str, tokens_of: Tokenize, embeddings: Sequence[NamedVectors]
) -> Iterator[tuple[Token, ...]]:
    """What must stay together: a single token, or all vectors of an embedding."""
    for span in parse_emphasis(prompt):
        for piece in pieces(span.text, embeddings):
            if isinstance(piece, NamedVectors):
                yield tuple(Token(PLACEHOLDER, span.weight, row) for row in piece.rows())
            else:
                for token in tokens_of(piece):
                    yield (Token(token, span.weight),)


Encoders = Sequence[tuple[Any, Encoding]]
"""Networks of text encoders with how their outputs are used."""


def encode_pair(
    encoders: Encoders,
    positive: tuple[Chunk, ...],
    negative: tuple[Chunk, ...],
    clip_skip: int = 1,
) -> tuple[Conditioning, Conditioning]:
    """Both conditionings; the shorter one is filled up with empty chunks.

    `clip_skip` counts layers from the end as the AUTOMATIC1111 web UI does: 1 leaves nothing out.
    Families that take an earlier layer anyway are not brought back to a later one: for SDXL 1 and 2
    are the same. Raises NotFinite, and BadValue for more layers than there are.
    """
    longest = max(len(positive), len(negative))
    return (
        encode(encoders, _filled(positive, longest), "prompt", clip_skip),
        encode(encoders, _filled(negative, longest), "negative prompt", clip_skip),
    )


def _filled(chunks: tuple[Chunk, ...], count: int) -> tuple[Chunk, ...]:
    return chunks + ((),) * (count - len(chunks))


def encode(
    encoders: Encoders, chunks: tuple[Chunk, ...], text: str = "prompt", clip_skip: int = 1
) -> Conditioning:
    """The conditioning of a prompt by all encoders of a family; `text` names it in errors.

    Raises NotFinite.
    """
    stage = f"the text encoding of the {text}"
    outputs = [_encode(network, use, chunks, stage, clip_skip) for network, use in encoders]
    hidden = torch.cat([each.hidden for each in outputs], dim=-1)
    pooled = [each.pooled for each in outputs if each.pooled is not None]
    return Conditioning(hidden, torch.cat(pooled, dim=-1) if pooled else None)


@torch.inference_mode()
def _encode(
    text_encoder: Any, use: Encoding, chunks: tuple[Chunk, ...], stage: str, clip_skip: int
) -> Conditioning:
    """One encoder's part; what is pooled comes from the first chunk."""
    rows = [_framed(chunk, use.padding, _width(text_encoder)) for chunk in chunks]
    device = text_encoder.device
    ids = torch.tensor([[token.id for token in row] for row in rows], device=device)
    weights = torch.tensor([[token.weight for token in row] for row in rows], device=device)
    all_layers = not use.norm or _layer(use, clip_skip) > 1
    pooled: list[torch.Tensor] = []

    def call() -> torch.Tensor:
        output = text_encoder(ids, output_hidden_states=all_layers)
        pooled[:] = [output.text_embeds[:1]] if use.pooled else []
        return _hidden(text_encoder, use, output, clip_skip)

    with _vectors_in_place(text_encoder, rows):
        hidden = with_outputs(checked(text_encoder, call, stage), rows)
        if not all(torch.isfinite(each).all() for each in pooled):  # comes by layers of its own
            raise NotFinite(stage, first_non_finite(text_encoder, call))
    weighted = _emphasized(hidden.float(), weights) if (weights != 1).any() else hidden.float()
    joined = weighted.reshape(1, -1, weighted.shape[-1]).to(hidden.dtype)
    return Conditioning(joined, pooled[0] if pooled else None)


def _hidden(text_encoder: Any, use: Encoding, output: Any, clip_skip: int) -> torch.Tensor:
    """What the family takes of an encoder's layers. Raises BadValue for one before the first."""
    layer = _layer(use, clip_skip)
    if use.norm and layer == 1:
        last: torch.Tensor = output.last_hidden_state
        return last
    layers = len(output.hidden_states) - 1
    if layer > max(layers, use.least_skip):
        raise BadValue(f"clip skip {clip_skip} leaves nothing of {layers + use.cut} layers")
    hidden: torch.Tensor = output.hidden_states[-layer]
    return _inner(text_encoder).final_layer_norm(hidden) if use.norm else hidden


def _layer(use: Encoding, clip_skip: int) -> int:
    """The layer to take of those that are stored, counted from the end; 1 is the last one."""
    return max(clip_skip, use.least_skip) - use.cut


def _inner(text_encoder: Any) -> Any:
    """CLIPTextModel is the network itself, its sibling with projection holds it."""
    return getattr(text_encoder, "text_model", text_encoder)


def summary(text_encoder: Any, chunk: Chunk) -> torch.Tensor:
    """What CLIP-L makes of one chunk as a whole `(1, d)`, without projection. Raises NotFinite."""
    rows = [_framed(chunk, END, _width(text_encoder))]
    ids = torch.tensor([[token.id for token in row] for row in rows], device=text_encoder.device)

    def call() -> torch.Tensor:
        pooled: torch.Tensor = text_encoder(ids).pooler_output
        return pooled

    with _vectors_in_place(text_encoder, rows):
        return checked(text_encoder, call, "the text encoding of the prompt by CLIP")


def _width(text_encoder: Any) -> int:
    return int(_inner(text_encoder).embeddings.token_embedding.embedding_dim)


def _framed(chunk: Chunk, padding: int, width: int) -> Chunk:
    """What an encoder of a width is given: what it has no vectors for it is not told of."""
    told = tuple(token for token in chunk if token.is_for(width))
    rest = CHUNK - len(told)
    return (Token(START, 1.0), *told, Token(END, 1.0), *(Token(padding, 1.0),) * rest)


def _emphasized(hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    weighted = hidden * weights[..., None]
    over = (1, 2)  # the mean of each chunk
    return weighted * (hidden.mean(over, keepdim=True) / weighted.mean(over, keepdim=True))


@contextmanager
def _vectors_in_place(text_encoder: Any, rows: Sequence[Chunk]) -> Iterator[None]:
    """Let the token embedding give the vectors of `rows` where they have one."""

    def put(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        return with_inputs(output, rows)

    hook = _inner(text_encoder).embeddings.token_embedding.register_forward_hook(put)
    try:
        yield
    finally:
        hook.remove()


def with_inputs(embedded: torch.Tensor, rows: Sequence[Chunk]) -> torch.Tensor:
    """Token embeddings `(n, t, d)` with the vectors of `rows`, and 0 where only outputs are."""
    made, width = embedded.clone(), embedded.shape[-1]
    for place, row in _rows_of(rows):
        made[place] = row.inputs[width].to(made) if width in row.inputs else 0.0
    return made


def with_outputs(encoded: torch.Tensor, rows: Sequence[Chunk]) -> torch.Tensor:
    """What an encoder made `(n, t, d)`, with the vectors of `rows` that take its place."""
    made, width = encoded.clone(), encoded.shape[-1]
    for place, row in _rows_of(rows):
        if width in row.outputs:
            made[place] = row.outputs[width].to(made)
    return made


def _rows_of(rows: Sequence[Chunk]) -> Iterator[tuple[tuple[int, int], Row]]:
    """Where embeddings are, and their vectors there."""
    for line, tokens in enumerate(rows):
        for column, token in enumerate(tokens):
            if token.row is not None:
                yield (line, column), token.row

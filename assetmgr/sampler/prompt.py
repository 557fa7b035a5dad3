"""Prompts become token chunks, chunks become the conditioning of a Stable Diffusion 1 UNet.

A chunk is start + 75 tokens + end, padded with the end token; a longer prompt takes several chunks,
whose encodings are joined on the token axis. An embedding's vectors take the place of the token
embeddings where the prompt names it, and are never split between two chunks. Emphasis multiplies
the encoded tokens and then restores the mean of each chunk, as the AUTOMATIC1111 web UI does
(`modules/sd_hijack_clip.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from assetmgr.sampler.embeddings import NamedVectors
from assetmgr.sampler.emphasis import parse_emphasis

START = 49406
END = 49407
CHUNK = 75
PLACEHOLDER = 0
"""Token id under an embedding's vector; the vector replaces what it would look up."""


class Tokenize(Protocol):
    """What turns text into token ids."""

    def __call__(self, text: str, /) -> list[int]:
        """The ids, without the start and end tokens."""


@dataclass(frozen=True, slots=True)
class Token:
    """One position of a prompt: a vocabulary id or a vector `(d,)` in its place, and its weight."""

    id: int
    weight: float
    vector: torch.Tensor | None = None


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
    by_name = {embedding.name.casefold(): embedding for embedding in embeddings}
    for span in parse_emphasis(prompt):
        for text in _split_names(span.text, by_name):
            named = by_name.get(text.casefold())
            if named is not None:
                yield tuple(Token(PLACEHOLDER, span.weight, row) for row in named.vectors)
            else:
                for token in tokens_of(text):
                    yield (Token(token, span.weight),)


def _split_names(text: str, names: Iterable[str]) -> list[str]:
    """`text` cut before and after every whole word that is one of `names`, longest names first."""
    words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    if not words:
        return [text]
    parts = re.split(rf"(?<!\w)({words})(?!\w)", text, flags=re.IGNORECASE)
    return [part for part in parts if part.strip()]


def encode_pair(
    text_encoder: Any, positive: tuple[Chunk, ...], negative: tuple[Chunk, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both conditionings, `(1, 77·n, d)` each; the shorter one is filled up with empty chunks."""
    longest = max(len(positive), len(negative))
    return (
        encode(text_encoder, _filled(positive, longest)),
        encode(text_encoder, _filled(negative, longest)),
    )


def _filled(chunks: tuple[Chunk, ...], count: int) -> tuple[Chunk, ...]:
    return chunks + ((),) * (count - len(chunks))


@torch.inference_mode()
def encode(text_encoder: Any, chunks: tuple[Chunk, ...]) -> torch.Tensor:
    """The conditioning of a prompt `(1, 77·n, d)`: last hidden states after the final norm."""
    rows = [_framed(chunk) for chunk in chunks]
    device = text_encoder.device
    ids = torch.tensor([[token.id for token in row] for row in rows], device=device)
    weights = torch.tensor([[token.weight for token in row] for row in rows], device=device)
    with _vectors_in_place(text_encoder, rows):
        hidden: torch.Tensor = text_encoder(ids).last_hidden_state
    weighted = _emphasized(hidden.float(), weights) if (weights != 1).any() else hidden.float()
    return weighted.reshape(1, -1, weighted.shape[-1]).to(hidden.dtype)


def _framed(chunk: Chunk) -> Chunk:
    padding = CHUNK - len(chunk) + 1
    return (Token(START, 1.0), *chunk, *(Token(END, 1.0),) * padding)


def _emphasized(hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    weighted = hidden * weights[..., None]
    over = (1, 2)  # the mean of each chunk
    return weighted * (hidden.mean(over, keepdim=True) / weighted.mean(over, keepdim=True))


@contextmanager
def _vectors_in_place(text_encoder: Any, rows: Sequence[Chunk]) -> Iterator[None]:
    """Let the token embedding give the vectors of `rows` where they have one."""
    places = [
        (row, column, token.vector)
        for row, tokens in enumerate(rows)
        for column, token in enumerate(tokens)
        if token.vector is not None
    ]

    def put(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        for row, column, vector in places:
            output[row, column] = vector.to(output)
        return output

    hook = text_encoder.embeddings.token_embedding.register_forward_hook(put)
    try:
        yield
    finally:
        hook.remove()

"""An embedding (textual inversion) ready to be put into a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import torch

from assetmgr.sampler.prompts.emphasis import split_words

Vectors = Mapping[int, torch.Tensor]
"""Vectors by their width, which tells the text encoder that they are for."""


@dataclass(frozen=True, slots=True)
class Row:
    """One position of an embedding: `(d,)` for each encoder, in or out of it.

    An encoder that has neither is not told of the position.
    """

    inputs: Vectors
    outputs: Vectors


@dataclass(frozen=True, slots=True)
class NamedVectors:
    """Vectors that take n token positions wherever a prompt has the word `name`.

    `vectors` `(n, d)` take the place of token embeddings, `outputs` `(n, d)` that of what the
    encoder makes of them.
    """

    name: str
    vectors: Vectors
    outputs: Vectors = field(default_factory=dict)

    def rows(self) -> Iterator[Row]:
        """Position by position; one encoder may have more of them than another."""
        none: Vectors = {}
        inputs, outputs = _positions(self.vectors), _positions(self.outputs)
        for into, out in zip_longest(inputs, outputs, fillvalue=none):
            yield Row(into, out)


def _positions(vectors: Vectors) -> Iterator[Vectors]:
    for rows in zip_longest(*vectors.values()):
        yield {width: row for width, row in zip(vectors, rows, strict=True) if row is not None}


def pieces(text: str, embeddings: Sequence[NamedVectors]) -> Iterator[str | NamedVectors]:
    """A text with the embeddings in the place of the words that they answer to."""
    by_name = {embedding.name.casefold(): embedding for embedding in embeddings}
    for piece in filter(str.strip, split_words(text, by_name)):
        yield by_name.get(piece.casefold(), piece)

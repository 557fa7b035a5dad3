"""An embedding (textual inversion) ready to be put into a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class NamedVectors:
    """Vectors that take n token positions wherever a prompt has the word `name`.

    `vectors` `(n, d)` by their width d, one for each text encoder that they are for.
    """

    name: str
    vectors: Mapping[int, torch.Tensor]

    def rows(self) -> Iterator[Mapping[int, torch.Tensor]]:
        """Position by position, the vector of each width."""
        for position in zip(*self.vectors.values(), strict=True):
            yield dict(zip(self.vectors, position, strict=True))

"""An embedding (textual inversion) ready to be put into a prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class NamedVectors:
    """`vectors` `(n, d)` that take n token positions wherever a prompt has the word `name`."""

    name: str
    vectors: torch.Tensor

"""Blocks of a UNet that were mixed up, found by another checkpoint of the family.

Checkpoints of a family descend from one: the weights of a layer still resemble those of the same
layer in a relative, and those of no other. Where two layers of equal shape each resemble the
other's, one of the two files has them exchanged; which one, a render has to tell. Pictures do not
show it: with a pair of similar blocks exchanged they are good enough.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from converters import compute
from converters.layouts import component_of
from converters.layouts.components import UNET
from converters.statedict import LazyTensor, StateDict

SAMPLED = 4096
"""Numbers of a weight that are compared, from its middle; what has fewer is not compared.

The correlation of as many independent ones is 0.016 by chance.
"""
ALIKE = 0.4
"""Correlation above which two layers resemble each other, and less than half of which is little."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How many layers of a UNet were compared with a relative's, and how many resemble theirs.

    `exchanged` has the name of each weight that resembles another layer's with that one's name.
    """

    compared: int
    alike: int
    exchanged: Mapping[str, str]

    @property
    def are_relatives(self) -> bool:
        """Whether most layers have a counterpart, be it at another place."""
        return 2 * (self.alike + len(self.exchanged)) > self.compared

    def put_back(self, state: StateDict) -> StateDict:
        """The checkpoint with every exchanged weight, and the bias beside it, in its own place."""
        biases = {_bias(here): _bias(there) for here, there in self.exchanged.items()}
        moves = {**self.exchanged, **{a: b for a, b in biases.items() if {a, b} <= state.keys()}}
        return state.overlay({there: state[here] for here, there in moves.items()})


def _bias(weight: str) -> str:
    return f"{weight.removesuffix('weight')}bias"


def likeness(state: StateDict, relative: StateDict) -> Likeness:
    """Compare the UNets of two checkpoints, of which a few kilobytes a layer are read."""
    ours, theirs = (each.select(_is_of_unet) for each in (state, relative))
    alike = compared = 0
    found: dict[str, str] = {}
    for names in _groups(ours, theirs).values():
        across = _sampled(ours, names) @ _sampled(theirs, names).T
        straight, (best, place) = across.diagonal(), across.max(dim=1)
        compared += len(names)
        alike += int((straight > ALIKE).sum())
        moved = (best > ALIKE) & (straight < ALIKE / 2)
        found |= {names[n]: names[int(place[n])] for n in moved.nonzero().flatten().tolist()}
    return Likeness(compared, alike, _permuted(found))


def _groups(ours: StateDict, theirs: StateDict) -> dict[tuple[int, ...], list[str]]:
    """Weights that both have, by their shape."""
    groups: defaultdict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, tensor in ours.items():
        other = theirs.get(name)
        if other is not None and other.shape == tensor.shape and _is_compared(name, tensor, other):
            groups[tensor.shape].append(name)
    return groups


def _is_of_unet(name: str) -> bool:
    return component_of(name) == UNET


def _is_compared(name: str, *tensors: LazyTensor) -> bool:
    stored = all(tensor.extents is not None for tensor in tensors)
    return stored and name.endswith(".weight") and tensors[0].numel >= SAMPLED


def _sampled(state: StateDict, names: list[str]) -> torch.Tensor:
    """A row of numbers for each weight, without its mean and of length 1."""
    rows = torch.stack([compute.value(_middle(state[name])).float() for name in names])
    rows = rows - rows.mean(dim=1, keepdim=True)
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    unit: torch.Tensor = rows / lengths.clamp_min(1e-12)
    return unit


def _middle(tensor: LazyTensor) -> LazyTensor:
    start = (tensor.numel - SAMPLED) // 2
    return tensor.reshape((tensor.numel,)).slice0(start, start + SAMPLED)


def _permuted(found: Mapping[str, str]) -> dict[str, str]:
    """Those that only change places with each other; what was copied over another is left out."""
    left = dict(found)
    while True:
        places = list(left.values())
        kept = {a: b for a, b in left.items() if b in left and places.count(b) == 1}
        if len(kept) == len(left):
            return kept
        left = kept

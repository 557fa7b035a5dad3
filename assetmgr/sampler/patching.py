"""Loaded networks changed in place for a while, and taken back bit for bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from assetmgr.sampler.networks import Part, loaded
from converters.statedict import LazyTensor, StateDict


@dataclass(frozen=True, slots=True)
class Patch:
    """Changed parameters, each with its original value."""

    originals: list[tuple[torch.nn.Parameter, torch.Tensor]]

    @contextmanager
    def scaled(self, part: float) -> Iterator[None]:
        """Render with a part of the change: 0 is without it, 1 is all of it."""
        whole = [(parameter, parameter.data) for parameter, _ in self.originals]
        try:
            for parameter, original in self.originals:
                parameter.data = _between(original, parameter.data, part)
            yield
        finally:
            for parameter, changed in whole:
                parameter.data = changed


def _between(original: torch.Tensor, changed: torch.Tensor, part: float) -> torch.Tensor:
    """The ends themselves are given as they are."""
    if part in (0.0, 1.0):
        return changed if part else original.to(changed.dtype)
    return torch.lerp(original.float(), changed.float(), part).to(changed.dtype)


@contextmanager
def patched(parts: Sequence[Part], state: StateDict, changed: StateDict) -> Iterator[Patch]:
    """Networks as if their file held `changed`, a state dict derived from `state`, which it holds.

    Only tensors whose source differs are computed and loaded; the originals are set aside and put
    back as they were, so nothing of the change remains.
    """
    patch = Patch([])
    try:
        with _threads_kept():
            for parameter, tensor in _differing(parts, state, changed):
                patch.originals.append((parameter, parameter.data))
                values = loaded(tensor, parameter.device, parameter.dtype)
                parameter.data = values.reshape(parameter.shape)
        yield patch
    finally:
        for parameter, original in patch.originals:
            parameter.data = original.to(parameter.dtype)  # of a VAE that had to be widened


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Computing lazy tensors leaves torch with one thread; a render wants all it had."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


_Changes = Iterator[tuple[torch.nn.Parameter, LazyTensor]]


def _differing(parts: Sequence[Part], state: StateDict, changed: StateDict) -> _Changes:
    """The parameters that differ, each with its new values.

    A tensor that networks take as it stands in the file is known by its source, which saves mapping
    all names anew for every adapter.
    """
    differing = {name: t for name, t in changed.items() if t.source != state[name].source}
    places = _places(parts)
    once = Counter(tensor.source for tensor in state.values())
    direct = {
        name: places[state[name].source]
        for name in differing
        if state[name].source in places and once[state[name].source] == 1
    }
    if len(direct) < len(differing):  # some are taken apart or put together for the networks
        yield from _mapped(parts, changed)
    else:
        yield from ((direct[name], tensor) for name, tensor in differing.items())


def _places(parts: Sequence[Part]) -> dict[object, torch.nn.Parameter]:
    """Source of a tensor -> the parameter that has its values."""
    return {
        part.mapped[name].source: parameter
        for part in parts
        for name, parameter in part.network.named_parameters()
    }


def _mapped(parts: Sequence[Part], changed: StateDict) -> _Changes:
    for part in parts:
        parameters = dict(part.network.named_parameters())
        for name, tensor in part.to_network_names(changed).items():
            if tensor.source != part.mapped[name].source:
                yield parameters[name], tensor

"""Loaded networks changed in place for a while, and taken back bit for bit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from assetmgr.sampler.models.networks import Part
from assetmgr.sampler.rendering.threads import side_by_side
from converters import compute
from converters.statedict import LazyTensor, StateDict

Spares = dict[torch.nn.Parameter, torch.Tensor]
"""Memory that changed parameters had, for the next ones that are changed."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Changed parameters, each with its original value; `names` are theirs."""

    originals: list[tuple[torch.nn.Parameter, torch.Tensor]]
    names: tuple[str, ...]

    @torch.inference_mode()
    def largest(self) -> tuple[float, str]:
        """The largest change in the size of what was there, and which; to be asked inside.

        What is nearly nothing counts as `NEARLY_NOTHING`.
        """
        if not self.originals:
            return 0.0, ""
        shares = torch.stack(_side_by_side(_share, self.originals)).tolist()
        return max(zip(shares, self.names, strict=True))

    @contextmanager
    def scaled(self, part: float) -> Iterator[None]:
        """Render with a part of the change: 0 is without it, 1 is all of it."""
        whole = [(parameter, parameter.data) for parameter, _ in self.originals]

        def between(change: tuple[torch.nn.Parameter, torch.Tensor]) -> torch.Tensor:
            parameter, original = change
            return _between(original, parameter.data, part)

        between_them = _side_by_side(between, self.originals)
        try:
            for (parameter, _), values in zip(self.originals, between_them, strict=True):
                parameter.data = values
            yield
        finally:
            for parameter, changed in whole:
                parameter.data = changed


NEARLY_NOTHING = 1e-3
"""Size of weights that are as good as not there."""


def _share(change: tuple[torch.nn.Parameter, torch.Tensor]) -> torch.Tensor:
    """The change of a parameter as a share of its size, by roots of mean squares."""
    parameter, original = change
    moved, size = (
        torch.linalg.vector_norm(each, dtype=torch.float32) / math.sqrt(each.numel())
        for each in (parameter.data - original, original)
    )
    share: torch.Tensor = moved / size.clamp_min(NEARLY_NOTHING)
    return share


def _between(original: torch.Tensor, changed: torch.Tensor, part: float) -> torch.Tensor:
    """The ends themselves are given as they are."""
    if part in (0.0, 1.0):
        return changed if part else original.to(changed.dtype)
    return torch.lerp(original.float(), changed.float(), part).to(changed.dtype)


@contextmanager
def patched(
    parts: Sequence[Part], state: StateDict, changed: StateDict, spares: Spares
) -> Iterator[Patch]:
    """Networks as if their file held `changed`, a state dict derived from `state`, which it holds.

    Only tensors whose source differs are computed and loaded; the originals are set aside and put
    back as they were, so nothing of the change remains. Raises what computing them raises.
    """

    def load(change: tuple[torch.nn.Parameter, LazyTensor]) -> torch.Tensor:
        parameter, tensor = change
        values = _memory(parameter, spares)
        compute.fill(values, tensor)
        return values

    differing = dict(_differing(parts, state, changed))
    changes = list(differing.values())
    made = _side_by_side(load, changes)
    originals = [(parameter, parameter.data) for parameter, _ in changes]
    patch = Patch(originals, tuple(differing))
    try:
        for (parameter, _), values in zip(changes, made, strict=True):
            parameter.data = values
        yield patch
    finally:
        for parameter, original in patch.originals:
            parameter.data = original.to(parameter.dtype)  # of a VAE that had to be widened


def at_hand(parts: Sequence[Part], state: StateDict, device: torch.device) -> StateDict:
    """The state dict, of which what parameters on the device have as it is stored is not read.

    So changing the weights of a base there takes no more of the base's file.
    """
    places = _places(parts)
    held = {
        name: _held(places[tensor.source], tensor)
        for name, tensor in state.items()
        if tensor.source in places and _is_as_stored(places[tensor.source], tensor, device)
    }
    return state.overlay(held)


def _is_as_stored(parameter: torch.nn.Parameter, tensor: LazyTensor, device: torch.device) -> bool:
    own = parameter.device.type, parameter.dtype, parameter.numel()
    return own == (device.type, compute.torch_dtype(tensor.dtype), tensor.numel)


def _held(parameter: torch.nn.Parameter, tensor: LazyTensor) -> LazyTensor:
    """A stored tensor whose values a parameter has, under another shape perhaps."""
    values = partial(parameter.data.reshape, tensor.shape)
    on = parameter.device.type
    return compute.lazy(tensor.dtype, tensor.shape, values, tensor.origin, inputs=(tensor,), on=on)


_Change = TypeVar("_Change", bound=tuple[torch.nn.Parameter, object])


def _side_by_side(
    work: Callable[[_Change], torch.Tensor], changes: Sequence[_Change]
) -> list[torch.Tensor]:
    """New values of parameters, which are all on one device."""
    if not changes:
        return []
    nbytes = sum(parameter.nbytes for parameter, _ in changes)
    return list(side_by_side(work, changes, nbytes, changes[0][0].device))


def _memory(parameter: torch.nn.Parameter, spares: Spares) -> torch.Tensor:
    """Memory for new values of a parameter: what its last change had, on a CPU.

    To touch new memory there takes several times as long as to compute what is written to it;
    accelerators keep theirs themselves.
    """
    spare = spares.get(parameter)
    if spare is None or spare.dtype is not parameter.dtype or spare.device != parameter.device:
        spare = torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
        if spare.device.type == "cpu":
            spares[parameter] = spare
    return spare


_Changes = Iterator[tuple[str, tuple[torch.nn.Parameter, LazyTensor]]]


def _differing(parts: Sequence[Part], state: StateDict, changed: StateDict) -> _Changes:
    """The parameters that differ, each by its name with its new values.

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
        yield from ((name, (direct[name], tensor)) for name, tensor in differing.items())


def _places(parts: Sequence[Part]) -> dict[object, torch.nn.Parameter]:
    """Source of a tensor -> the parameter that has its values."""
    return {
        part.mapped[name].source: parameter
        for part in parts
        for name, parameter in part.network.named_parameters()
    }


def _mapped(parts: Sequence[Part], changed: StateDict) -> _Changes:
    for number, part in enumerate(parts):
        parameters = dict(part.network.named_parameters())
        for name, tensor in part.to_network_names(changed).items():
            if tensor.source != part.mapped[name].source:
                network = type(part.network).__name__
                yield f"{network} {number}: {name}", (parameters[name], tensor)

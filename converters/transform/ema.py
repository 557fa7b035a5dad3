"""The averaged copy of the UNet that training checkpoints carry.

The key of the average of `model.X` is `model_ema.` + X without its dots; `model_ema.decay` and
`model_ema.num_updates` are counters. Source: CompVis/latent-diffusion `ldm/modules/ema.py`. The
dots cannot be put back, so names are found by mapping the plain ones forward.
"""

from __future__ import annotations

from enum import StrEnum

from converters.errors import UnsupportedFile
from converters.statedict import LazyTensor, StateDict

_AVERAGED, _PLAIN = "model_ema.", "model."
_COUNTERS = frozenset({"model_ema.decay", "model_ema.num_updates"})


class EmaChoice(StrEnum):
    """What becomes of the average: kept beside, dropped, or used as the weights."""

    KEEP = "keep"
    DROP = "drop"
    USE = "use"


def apply_ema(state: StateDict, choice: EmaChoice) -> tuple[StateDict, tuple[str, ...]]:
    """The state dict after the choice, and the names of the tensors that were dropped.

    DROP and KEEP do nothing to a file without averages. Raises UnsupportedFile for USE when there
    are none, when one has no weight it belongs to, or another shape.
    """
    if choice is EmaChoice.KEEP:
        return state, ()
    averaged = {name for name in state if name.startswith(_AVERAGED)}
    used = _used(state, averaged) if choice is EmaChoice.USE else {}
    return state.overlay(used).drop(averaged), tuple(sorted(averaged))


def _used(state: StateDict, averaged: set[str]) -> dict[str, LazyTensor]:
    plain = {
        _AVERAGED + name.removeprefix(_PLAIN).replace(".", ""): name
        for name in state
        if name.startswith(_PLAIN)
    }
    used: dict[str, LazyTensor] = {}
    for name in averaged - _COUNTERS:
        target = plain.get(name)
        if target is None or state[target].shape != state[name].shape:
            raise UnsupportedFile(f"{name} is the average of no weight in this file")
        used[target] = state[name]
    if not used:
        raise UnsupportedFile("the file has no EMA weights to use")
    return used

"""The averaged copy of the UNet that training checkpoints carry.

The key of the average of `model.X` is `model_ema.` + X without its dots; `model_ema.decay` and
`model_ema.num_updates` are counters. Source: CompVis/latent-diffusion `ldm/modules/ema.py`. The
dots cannot be put back, so names are found by mapping the plain ones forward.
"""

from __future__ import annotations

from enum import StrEnum

from converters.errors import UnsupportedFile
from converters.layouts.components import PREFIXES, UNET
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


def averages(state: StateDict) -> StateDict:
    """The averages under the names of the UNet's weights, without prefix.

    They keep their own names where one belongs to no weight of the file; empty without averages.
    """
    averaged = {name for name in state if name.startswith(_AVERAGED)} - _COUNTERS
    plain = _plain_names(state)
    whole = averaged <= plain.keys()
    return StateDict(
        {
            plain[name].removeprefix(PREFIXES[UNET][0]) if whole else name: state[name]
            for name in state
            if name in averaged
        }
    )


def _plain_names(state: StateDict) -> dict[str, str]:
    """What the average of each weight is called -> the weight."""
    return {
        _AVERAGED + name.removeprefix(_PLAIN).replace(".", ""): name
        for name in state
        if name.startswith(_PLAIN)
    }


def _used(state: StateDict, averaged: set[str]) -> dict[str, LazyTensor]:
    plain = _plain_names(state)
    used: dict[str, LazyTensor] = {}
    for name in averaged - _COUNTERS:
        target = plain.get(name)
        if target is None or state[target].shape != state[name].shape:
            raise UnsupportedFile(f"{name} is the average of no weight in this file")
        used[target] = state[name]
    if not used:
        raise UnsupportedFile("the file has no EMA weights to use")
    return used

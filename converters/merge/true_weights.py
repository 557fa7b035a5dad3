"""The numbers that quantised weights stand for: sums of codes without their scales mean nothing."""

from __future__ import annotations

from converters.errors import UnsupportedFile
from converters.statedict import StateDict
from converters.transform.quantised_weights import unscaled


def true_weights(model: StateDict, *, keeps_types: bool) -> StateDict:
    """A model without scales beside its weights, which are float32 then. Reads nothing.

    Raises UnsupportedFile for weights that are quantised otherwise, and for scaled ones where the
    result `keeps_types`: they have none that it could keep.
    """
    plain = unscaled(model)
    if plain is not model and keeps_types:
        scale = next(name for name in model if name not in plain and "scale" in name)
        raise UnsupportedFile(
            f"{scale}: its weights are fp8 with scales beside them, which a merge takes apart",
            path=model[scale].origin.partition(": ")[0],
            hint="say with --dtype what the result is to be, for example bf16",
        )
    return plain

"""The numbers that quantised weights stand for: sums of codes without their scales mean nothing."""

from __future__ import annotations

from converters.dtypes import CODES
from converters.errors import UnsupportedFile
from converters.identify.precision import PACKED, SCALES
from converters.statedict import StateDict
from converters.transform.scaled_fp8 import unscaled

_OTHER_SCALES = frozenset((*SCALES, *PACKED)) - {"scaled_fp8", "scale_weight"}
"""Last words of names beside weights that are quantised in ways that are not undone here."""


def true_weights(model: StateDict, *, keeps_types: bool) -> StateDict:
    """A model without scales beside its weights, which are float32 then. Reads nothing.

    Raises UnsupportedFile for weights that are quantised otherwise, and for scaled ones where the
    result `keeps_types`: they have none that it could keep.
    """
    for name, tensor in model.items():
        if name.rpartition(".")[2] in _OTHER_SCALES or tensor.dtype in CODES:
            raise UnsupportedFile(
                f"{name}: its weights are quantised; a sum needs the weights themselves",
                path=tensor.origin.partition(": ")[0],
            )
    plain = unscaled(model)
    if plain is not model and keeps_types:
        scale = next(name for name in model if name.endswith(".scale_weight"))
        raise UnsupportedFile(
            f"{scale}: its weights are fp8 with scales beside them, which a merge takes apart",
            path=model[scale].origin.partition(": ")[0],
            hint="say with --dtype what the result is to be, for example bf16",
        )
    return plain

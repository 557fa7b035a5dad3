"""Infinities and NaN: the stage of a render that gave them first, and the layer inside of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch


class NotFinite(Exception):
    """A stage of the render gave infinities or NaN; `first` is the layer that did so first."""

    def __init__(self, stage: str, first: str | None = None) -> None:
        super().__init__(f"{stage} is not finite" + (f", first in {first}" if first else ""))
        self.stage = stage
        self.first = first


def require_finite(values: torch.Tensor, stage: str) -> None:
    """Raises NotFinite naming `stage` unless all values are finite."""
    if not torch.isfinite(values).all():
        raise NotFinite(stage)


def checked(network: Any, call: Callable[[], torch.Tensor], stage: str) -> torch.Tensor:
    """What `call` gives by running `network`.

    Raises NotFinite naming `stage` and the layer, which a second run finds, unless it is finite.
    """
    output = call()
    if not torch.isfinite(output).all():
        raise NotFinite(stage, first_non_finite(network, call))
    return output


def first_non_finite(network: Any, call: Callable[[], object]) -> str | None:
    """The name of the first layer that gives infinities or NaN while `call` runs the network.

    None where no layer does. What goes wrong between layers (in an attention's softmax, say) is
    seen in the next one.
    """
    found: list[str] = []
    if not isinstance(network, torch.nn.Module):
        return None
    hooks = [
        layer.register_forward_hook(_watch(name, found))
        for name, layer in network.named_modules()
        if not any(layer.children())
    ]
    try:
        call()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _watch(name: str, found: list[str]) -> Callable[[object, object, object], None]:
    def look(_layer: object, _inputs: object, output: object) -> None:
        if not found and not all(torch.isfinite(each).all() for each in _floats(output)):
            found.append(name)

    return look


def _floats(output: object) -> Iterator[torch.Tensor]:
    values: Iterable[object] = output if isinstance(output, tuple | list) else (output,)
    return (v for v in values if isinstance(v, torch.Tensor) and v.is_floating_point())

"""Adapters with the weights that somebody gave them, as whatever merges or joins takes them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from converters.adapters.opening import networks_in
from converters.errors import BadValue
from converters.statedict import Plain


@dataclass(frozen=True, slots=True)
class WeightedAdapter:
    """An adapter's reference and its weights; `text_encoder` None means the same as `weight`.

    `block_weights` is a preset or a list of numbers, None means 1 for every block.
    """

    reference: str
    weight: float = 1.0
    text_encoder: float | None = None
    block_weights: str | None = None


def parse_adapter(text: str) -> WeightedAdapter:
    """`ADAPTER[=WEIGHT[,TE_WEIGHT]]`. Raises BadValue for weights that are no numbers.

    A file whose very name holds the `=` wins.
    """
    reference, separator, weights = text.rpartition("=")
    if not separator or os.path.exists(text):  # noqa: PTH110  # Path.exists raises for long names
        return WeightedAdapter(text)
    numbers = _numbers(weights)
    if not reference or not numbers:
        raise BadValue(f"{text!r} is not ADAPTER[=WEIGHT[,TE_WEIGHT]]")
    return WeightedAdapter(reference, *numbers)


def parse_weight(text: str) -> tuple[float, float | None]:
    """`0.8`, or with another weight for the text encoder `0.8,0.5`. Raises BadValue."""
    numbers = _numbers(text)
    if not numbers:
        raise BadValue(f"{text!r} is no weight; as 0.8, or with that of the text encoder 0.8,0.5")
    return numbers


def _numbers(text: str) -> tuple[float, float | None] | None:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    if len(numbers) > 2 or not all(map(math.isfinite, numbers)):
        return None
    return numbers[0], numbers[1] if len(numbers) > 1 else None


def weigh_blocks(
    adapters: Sequence[WeightedAdapter], lists: Sequence[str]
) -> tuple[WeightedAdapter, ...]:
    """The adapters with their block weights: one list for all of them, or one for each in order.

    Raises BadValue for another number of lists.
    """
    if len(lists) not in (0, 1, len(adapters)):
        raise BadValue(
            f"{len(lists)} lists of block weights for {len(adapters)} adapters;"
            " give one for all of them, or one for each"
        )
    each = lists if len(lists) == len(adapters) else [*lists, None][:1] * len(adapters)
    return tuple(
        replace(adapter, block_weights=blocks)
        for adapter, blocks in zip(adapters, each, strict=True)
    )


def by_network(adapters: Sequence[WeightedAdapter]) -> tuple[WeightedAdapter, ...]:
    """The adapters, and for a folder of PEFT with several networks the adapter of each of these."""
    return tuple(
        replace(adapter, reference=reference)
        for adapter in adapters
        for reference in map(str, networks_in(adapter.reference) or (adapter.reference,))
    )


def recorded(path: Path, choice: WeightedAdapter) -> dict[str, Plain]:
    """An adapter and its weights as the lineage keeps them."""
    told: dict[str, Plain] = {
        "adapter": path.name,
        "weight": choice.weight,
        "text_encoder": choice.text_encoder,
    }
    return told if choice.block_weights is None else told | {"block_weights": choice.block_weights}

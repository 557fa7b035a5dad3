"""What a merge says of each adapter: how much of it was applied, and what that changed."""

from __future__ import annotations

from assetmgr.operations.merge.weighted_adapters import WeightedAdapter
from converters.merge.into_checkpoint import Measured, MergePlan


def adapter_json(
    merged: MergePlan, number: int, chosen: WeightedAdapter, *, done: bool
) -> dict[str, object]:
    """The part of the document about one adapter; norms are there once the merge is `done`."""
    report = merged.reports[number]
    measured = merged.measured(number) if done else None
    parts = merged.measured_by_component(number) if done else {}
    return {
        "path": report.name,
        "kind": report.kind.value,
        "algorithm": list(report.algorithm),
        "weight": chosen.weight,
        "text_encoder_weight": chosen.text_encoder,
        "block_weights": chosen.block_weights,
        "applied": report.applied,
        "components": dict(report.components),
        "unused": list(report.unused),
        "unused_reasons": dict(report.unused),
        "by_component": [
            {"component": component, "applied": count, **_measures(parts.get(component))}
            for component, count in report.components.items()
        ],
        **_measures(measured),
    }


def _measures(measured: Measured | None) -> dict[str, object]:
    return {
        "change_norm": measured.norm if measured else None,
        "largest_change": _largest(measured) if measured else None,
        "overflow": measured.overflow if measured else None,
    }


def _largest(measured: Measured) -> dict[str, object] | None:
    if measured.largest_tensor is None:
        return None
    return {"tensor": measured.largest_tensor, "norm": measured.largest}

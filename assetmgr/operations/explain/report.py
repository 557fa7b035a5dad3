"""What was found out about a checkpoint: as a document, and as edges of the library's lineage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assetmgr import __version__
from assetmgr.operations.explain.candidates import Candidate
from assetmgr.operations.explain.explanation import Ingredient, Part, Recovery
from converters.errors import BadValue
from converters.statedict import Plain
from registry.records import ParentFile

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

OPERATION = "inferred merge"
"""What lineage calls an edge that was found out and not recorded when the file was made."""


@dataclass(frozen=True, slots=True)
class Making:
    """How to make the checkpoint again: a recipe, or why there is none, and commands."""

    recipe: str | None
    recipe_problem: str | None
    commands: tuple[str, ...]


def recovery_json(recovery: Recovery, making: Making, *, recorded: bool) -> dict[str, object]:
    """The document of the contract."""
    subject = recovery.subject
    return {
        "checkpoint": str(subject.path),
        "asset": subject.asset.id if subject.asset else None,
        "base": subject.identity.base.value,
        "certainty": recovery.certainty.value,
        "components": [_part_json(part) for part in recovery.parts],
        "copies": [copy.to_json() for copy in recovery.copies],
        "compared": {"models": recovery.models, "adapters": recovery.adapters},
        "left_out": [
            {**each.candidate.to_json(), "reason": each.reason} for each in recovery.left_out
        ],
        "recipe": making.recipe,
        "recipe_problem": making.recipe_problem,
        "commands": list(making.commands),
        "recorded": recorded,
        "bytes_read": recovery.nbytes,
        "seconds": recovery.seconds,
    }


def _part_json(part: Part) -> dict[str, object]:
    found = part.explanation
    return {
        "name": part.name,
        "certainty": found.certainty.value,
        "identical": part.identical,
        "ingredients": [_ingredient_json(each) for each in part.ingredients],
        "explained": found.explained,
        "unknown_weight": found.unknown,
        "equal": found.equal,
        "residual": found.residual,
        "rounding": found.rounding,
        "change": found.change,
        "values": found.values,
        "precision": found.precision or None,
        "rivals": [
            [{**candidate.to_json(), "weight": weight} for candidate, weight in rival]
            for rival in part.rivals
        ],
    }


def _ingredient_json(each: Ingredient) -> dict[str, object]:
    return {
        **each.candidate.to_json(),
        "component": each.component,
        "weight": round(each.weight, 6),
        "deviation": each.deviation,
        "block_weights": {slot: round(weight, 6) for slot, weight in each.blocks.items()} or None,
        "same": [same.to_json() for same in each.same],
    }


def record_recovery(workspace: Workspace, recovery: Recovery) -> None:
    """Put the ingredients into the checkpoint's lineage, marked as inferred.

    Raises BadValue for a checkpoint that the library does not have, or of which nothing is known.
    """
    subject = recovery.subject
    if subject.asset is None:
        raise BadValue(
            "is not in the library, where lineage is kept", path=subject.path, hint="scan it first"
        )
    weights = _weights(recovery)
    if not weights:
        raise BadValue("nothing is known that could be recorded", path=subject.path)
    told: dict[str, Plain] = {"inferred": True, "certainty": recovery.certainty.value}
    for candidate, by_part in weights.items():
        parent = ParentFile(candidate.path.name, candidate.sha256)
        parameters: dict[str, Plain] = {**told, "weights": dict(by_part)}
        workspace.library.record_derived(
            subject.asset.id, [parent], OPERATION, parameters, __version__
        )


def _weights(recovery: Recovery) -> Mapping[Candidate, Mapping[str, Plain]]:
    """The weight of each ingredient in each component that is explained, at least in part."""
    found: dict[Candidate, dict[str, Plain]] = {}
    for part in recovery.parts:
        for each in part.ingredients if part.is_told else ():
            found.setdefault(each.candidate, {})[part.name] = round(each.weight, 6)
    return found

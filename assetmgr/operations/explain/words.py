"""What was found out about a checkpoint, in words: the lines that every face of it shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from assetmgr.operations.explain.candidates import Candidate
from assetmgr.operations.explain.explanation import Ingredient, Part, Recovery
from assetmgr.text import count
from converters.recovery.explanation import Certainty

_SAME = 3
"""Candidates that hold the same and are named."""
_VAGUE = 0.45
"""An unknown share from which on the weight of what is nearest says little."""

TOLD = {
    Certainty.EXACT: "is explained exactly",
    Certainty.ROUNDING: "is explained within rounding",
    Certainty.PARTIAL: "is explained in part",
    Certainty.NONE: "is not explained",
}


def part_line(part: Part) -> str:
    """What a component is made of, and how sure that is."""
    is_vague = not part.is_told and part.explanation.unknown >= _VAGUE
    terms = ((1 if is_vague else each.weight, _ingredient(each)) for each in part.ingredients)
    told = _sum(terms, part)
    return f"{told or 'no model is related to it'}   {_certainty(part)}"


def _sum(terms: Iterable[tuple[float, str]], part: Part | None = None) -> str:
    """Weighted terms; the weights of blocks are about what is shown."""
    about = "~" if part and any(each.blocks for each in part.ingredients) else ""
    text = ""
    for weight, name in terms:
        sign = (" - " if weight < 0 else " + ") if text else "-" * (weight < 0)
        factor = "" if abs(weight) == 1 and not about else f"{about}{abs(weight):.4g} × "
        text += f"{sign}{factor}{name}"
    return text


def _ingredient(each: Ingredient) -> str:
    averages = " (EMA)" if each.component.endswith("_ema") else ""
    named = ", ".join(called(same) for same in each.same[:_SAME])
    more = f" and {len(each.same) - _SAME} more" if len(each.same) > _SAME else ""
    same = f" (the same in {named}{more})" if each.same else ""
    return f"{called(each.candidate)}{averages}{same}"


def called(candidate: Candidate) -> str:
    """A candidate by its number and name."""
    number = "" if candidate.asset is None else f"#{candidate.asset} "
    return f"{number}{candidate.name}"


def _certainty(part: Part) -> str:
    found = part.explanation
    if part.identical:
        return "identical"
    match found.certainty:
        case Certainty.EXACT:
            return f"{_percent(found.equal)} of {found.values:,} values as stored"
        case Certainty.ROUNDING:
            times = found.residual / found.rounding if found.rounding else 0.0
            within = f"within {found.precision} rounding ({times:.2g} × what is expected)"
            return f"{within}, {_percent(found.equal)} of {found.values:,} values as stored"
        case Certainty.PARTIAL:
            share = _percent(found.explained or 0.0)
            return f"{share} of the change explained, {_rest(found.unknown)}"
        case _:
            return f"is nearest, {_rest(found.unknown)}" if part.ingredients else "unexplained"


def _rest(unknown: float) -> str:
    return f"an unknown share of {unknown:.2g} remains" if unknown else "the rest is unknown"


def _percent(share: float) -> str:
    """Never 100 % for what is less."""
    return "all" if share == 1 else f"{min(share, 0.9999):.2%}"


def block_lines(part: Part) -> Iterator[str]:
    """The weights of each block, an ingredient a line."""
    for each in part.ingredients:
        if each.blocks:
            told = " ".join(f"{slot} {weight:g}" for slot, weight in each.blocks.items())
            yield f"{called(each.candidate)}: {told}"


def rival_lines(part: Part) -> Iterator[str]:
    """Other mixtures that explain a component as well."""
    for rival in part.rivals:
        told = _sum((weight, called(each)) for each, weight in rival)
        yield f"as good for the {part.name}: {told}"


def compared(found: Recovery) -> str:
    """What it was compared with."""
    return f"{count(found.models, 'model')} and {count(found.adapters, 'adapter')}"

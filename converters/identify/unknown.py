"""Why a file is of no known kind, said as helpfully as its tensors allow.

These are hints for people, not identifications: a file described here stays `unknown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converters.identify.conditions import Condition, both, has_all, has_any, matching, shape
from converters.identify.counts import components
from converters.identify.identity import NONE, Identity, Kind
from converters.statedict import StateDict

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Hint:
    """What a file may look like, and the sentence that says so."""

    when: Condition
    sentence: str


HINTS = (
    Hint(
        has_all("tensor"),
        "a lone tensor without a name, as aesthetic gradients and stored prompts are;"
        " a textual inversion names its token",
    ),
    Hint(
        both(shape("weight", None, None), has_any("bias")),
        "a single linear layer, as aesthetic predictors are",
    ),
    Hint(
        both(
            matching(r"^\d+\.conv\.0\.weight$"),
            has_any("0.weight", "1.weight"),
        ),
        "numbered convolution blocks, as the tiny preview autoencoders (TAESD) have",
    ),
    Hint(
        both(has_all("logit_scale"), matching(r"^(?:vision_model|visual)\.")),
        "both halves of a CLIP-like model, text and image",
    ),
)

_FALLBACK = "the names and shapes fit no known kind"


def unknown(sd: StateDict, claimed_by: Sequence[str]) -> Identity:
    """The answer for a file that no row, or (by their names) several rows claim."""
    first = list(sd.items())[:_SHOWN]
    return Identity(
        Kind.UNKNOWN,
        confidence=NONE,
        evidence=(
            _reason(sd, claimed_by),
            *(f"it has {name} of shape {list(t.shape)}" for name, t in first),
        ),
        components=components(sd),
    )


def _reason(sd: StateDict, claimed_by: Sequence[str]) -> str:
    if claimed_by:
        return f"the names fit several kinds at once: {', '.join(claimed_by)}"
    if not len(sd):
        return "the file holds no tensors"
    return next((hint.sentence for hint in HINTS if hint.when.holds(sd)), _FALLBACK)

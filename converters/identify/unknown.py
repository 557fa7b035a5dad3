"""Why a file is of no known kind, said as helpfully as its tensors allow.

These are hints for people, not identifications: a file described here stays `unknown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converters.identify.conditions import Condition, either, has_all, has_prefix
from converters.identify.counts import components
from converters.identify.identity import NONE, Identity
from converters.identify.names import Names
from converters.kinds import Kind
from converters.statedict import StateDict

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Hint:
    """What a file may look like, and the sentence that says so."""

    when: Condition
    sentence: str


HINTS = (
    Hint(has_all("tensor"), "a lone tensor without a name; a textual inversion names its token"),
    Hint(
        either(has_prefix("conditioner."), has_prefix("cond_stage_model.")),
        "names of a checkpoint, but neither a denoiser nor a whole text encoder",
    ),
)

_TRAINING = {"last_epoch", "_step_count", "base_lrs", "optimizer_states", "param_groups"}
"""Values that schedulers and optimizers store."""

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
        return _nothing(sd)
    names = Names(sd)
    return next((hint.sentence for hint in HINTS if hint.when.holds(names)), _FALLBACK)


def _nothing(sd: StateDict) -> str:
    trained = _TRAINING & {part for name in sd.extras for part in name.split(".")}
    if trained:
        return f"the file holds no tensors, only training state ({', '.join(sorted(trained))})"
    return "the file holds no tensors"

"""What becomes of values of a merge that the type of its result cannot hold, and what to say."""

from __future__ import annotations

from collections.abc import Mapping

from converters.transform.cast import OnOverflow

ON_OVERFLOW = (OnOverflow.FAIL, OnOverflow.CLAMP)
"""The words for it: a merge cannot keep a tensor in a type that its result does not have."""
_NAMED = 3


def clamped_warnings(overflow: Mapping[str, int]) -> tuple[str, ...]:
    """What to say of clamped values, by tensor, with some of the names; nothing where are none."""
    if not overflow:
        return ()
    names = ", ".join(sorted(overflow)[:_NAMED]) + ", …" * (len(overflow) > _NAMED)
    values = sum(overflow.values())
    return (f"{values} values in {len(overflow)} tensors were too large and are clamped: {names}",)

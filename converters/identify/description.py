"""The answers that several kinds of neighbours share."""

from __future__ import annotations

from collections.abc import Callable

from converters.bases import BASE_OF_WIDTH, Base
from converters.identify.conditions import Condition
from converters.identify.counts import components
from converters.identify.identity import Identity
from converters.identify.names import Names
from converters.kinds import Kind
from converters.layouts.components import OTHER
from converters.statedict import StateDict

Describe = Callable[[StateDict], Identity]
Words = tuple[tuple[str, Condition], ...]
"""Variant words, or `Base` words, and when they apply; the first that holds counts."""


def word(words: Words, names: Names) -> str | None:
    """The first word that applies."""
    return next((word for word, when in words if when.holds(names)), None)


def named(
    kind: Kind,
    why: str,
    *,
    base: Base = Base.UNKNOWN,
    bases: Words = (),
    variants: Words = (),
    layout: str | None = None,
) -> Describe:
    """A kind told by its names: the base is fixed, or the first of `bases` that applies."""

    def describe(sd: StateDict) -> Identity:
        names = Names(sd)
        return Identity(
            kind,
            Base(word(bases, names) or base),
            variant=word(variants, names),
            layout=layout,
            evidence=(why,),
            components=components(sd, lambda _: OTHER),
        )

    return describe


def by_context(
    kind: Kind, why: str, endings: tuple[str, ...], *, bases: Words = (), variants: Words = ()
) -> Describe:
    """The base by the text context of the first matrix with such an ending, else by `bases`."""

    def describe(sd: StateDict) -> Identity:
        names = Names(sd)
        found = ((n, t) for n, t in sd.items() if n.endswith(endings) and len(t.shape) == 2)
        name, tensor = next(found, ("", None))
        width = None if tensor is None else tensor.shape[1]
        said = () if width is None else (f"{name} takes a context of width {width}",)
        base = BASE_OF_WIDTH.get(width or 0, Base.UNKNOWN)
        return Identity(
            kind,
            Base(word(bases, names) or base),
            variant=word(variants, names),
            evidence=(why, *said),
            components=components(sd, lambda _: OTHER),
        )

    return describe

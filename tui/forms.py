"""A question with several answers, and what each set of answers would do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tui.bridge import Lane, Work
from tui.sections import Section

Answers = Mapping[str, str]
"""Name of a field -> its value."""


@dataclass(frozen=True, slots=True)
class Field:
    """One answer: free text, or with `options` (value, what is shown) one of them.

    `empty` is what an empty line says. A line that nobody has changed says what `proposal` makes
    of the other answers, where that is given.
    """

    name: str
    label: str
    value: str
    options: tuple[tuple[str, str], ...] = ()
    empty: str = ""
    proposal: Callable[[Answers], str] | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What is to be read when something is done.

    With the path of a picture where there is one, and the prompt where that is a render.
    """

    title: str
    sections: tuple[Section, ...]
    picture: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """What would be done, in words; `work` does it, None where it cannot be done.

    `told` is asked after `work` for what there is to read; most jobs say all in their outcome.
    """

    title: str
    sections: tuple[Section, ...]
    work: Work | None
    lane: Lane = Lane.DISK
    told: Callable[[], Told] | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """Fields and the plan they lead to; `plan` reads headers only and is called in a thread.

    `plan` raises AssetmgrError for answers that lead to nothing. `go` is the word of the button.
    """

    title: str
    fields: tuple[Field, ...]
    plan: Callable[[Answers], Planned]
    go: str


def same(*words: str) -> tuple[tuple[str, str], ...]:
    """Options that are shown as they are."""
    return tuple((word, word) for word in words)

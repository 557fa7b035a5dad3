"""The lines between the program and its sampler process: one JSON object each.

The program writes a job per line, a `RenderJob` or a `SheetJob`; the process answers with any
number of progress lines (`stage`, `advance`, `message`) and one `outcome`, `sheet` or `error` line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from assetmgr.sampler.process.jobs import RenderOutcome
from assetmgr.sampler.process.sheet_jobs import SheetOutcome
from converters.errors import AssetmgrError, Cancelled
from converters.progress import Progress

Outcome = RenderOutcome | SheetOutcome
"""What a job comes to."""


def stage_line(label: str, total: int | None, unit: str) -> str:
    """A countable piece of work begins."""
    return json.dumps({"event": "stage", "label": label, "total": total, "unit": unit})


def advance_line(amount: int) -> str:
    """`amount` more units are done."""
    return json.dumps({"event": "advance", "amount": amount})


def message_line(text: str) -> str:
    """Something worth a line."""
    return json.dumps({"event": "message", "text": text})


def outcome_line(outcome: Outcome) -> str:
    """The job is done."""
    event = "sheet" if isinstance(outcome, SheetOutcome) else "outcome"
    return json.dumps({"event": event, "outcome": outcome.to_json()})


def error_line(error: AssetmgrError) -> str:
    """The job failed for a reason a user can act on."""
    return json.dumps(
        {
            "event": "error",
            "code": error.code,
            "cause": error.cause,
            "path": error.path,
            "hint": error.hint,
        }
    )


@dataclass(frozen=True, slots=True)
class Unreadable(Exception):
    """A line that is none of the above."""

    line: str


def deliver(line: str, progress: Progress) -> Outcome | AssetmgrError | None:
    """Pass a progress line on to `progress`; return what an outcome or error line carries.

    Raises Cancelled when `progress` asks to stop, and Unreadable for any other line.
    """
    match _object(line):
        case {"event": "stage", "label": str(label), "total": int() | None as total, "unit": unit}:
            progress.stage(label, total, str(unit))
        case {"event": "advance", "amount": int(amount)}:
            progress.advance(amount)
        case {"event": "message", "text": str(text)}:
            progress.message(text)
        case {"event": "outcome", "outcome": str(outcome)}:
            return RenderOutcome.from_json(outcome)
        case {"event": "sheet", "outcome": str(outcome)}:
            return SheetOutcome.from_json(outcome)
        case {"event": "error", "code": code, "cause": str(cause), "path": path, "hint": hint}:
            return _error_class(str(code))(cause, path=path, hint=hint)
        case _:
            raise Unreadable(line)
    return None


def _object(line: str) -> object:
    try:
        document: object = json.loads(line)
    except ValueError:
        return None
    return document


def _error_class(code: str) -> type[AssetmgrError]:
    """The class of the error tree with this code; the root for an unknown one."""
    return next((kind for kind in _tree(AssetmgrError) if kind.code == code), AssetmgrError)


def _tree(root: type[AssetmgrError]) -> Iterator[type[AssetmgrError]]:
    for kind in root.__subclasses__():
        if kind is not Cancelled:
            yield kind
            yield from _tree(kind)

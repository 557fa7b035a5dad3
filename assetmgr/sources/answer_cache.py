"""Answers of a service on the disk: used while they are young, then asked whether they still hold.

Validators (ETag, If-None-Match, 304): RFC 9110. An answer is one file, named by a digest of all
that was asked, also by whom, so that no account is given the answer for another. The folder may be
thrown away at any time; whatever is wrong with a file of it, the service is asked.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.sources.web import Web
from converters.errors import WriteProblem
from converters.progress import Progress
from converters.writers.atomic import write_whole

if TYPE_CHECKING:
    import httpx

MOST_BYTES = 64 << 20
MOST_FILES = 4096
_KEPT = frozenset({HTTPStatus.OK, HTTPStatus.NOT_FOUND})
_LONGEST_TAG = 1000


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body; `age` in seconds since the service said so, `tag` is its ETag."""

    status: int
    body: bytes
    tag: str | None = None
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a service; `json` makes it a POST. `subject` is what errors name."""

    path: str
    subject: str
    params: tuple[tuple[str, str], ...] = ()
    json: tuple[str, ...] | None = None


def ask(
    web: Web, question: Question, longest: float, shortest: float, progress: Progress
) -> Answer:
    """The answer, from the disk if it is young: of `longest` seconds, or `shortest` for a 404.

    Only successes and 404s that are JSON are kept. Raises NotAvailable, Cancelled.
    """
    place = _place(web, question)
    known = None if place is None else _read(place)
    if known is not None and known.age < (longest if known.status == HTTPStatus.OK else shortest):
        return known
    answer = _asked(web, question, known, progress)
    if place is not None and _may_be_kept(web, answer):
        _keep(place, answer)
    return answer


def _place(web: Web, question: Question) -> Path | None:
    if web.cache is None:
        return None
    asked = [web.endpoint, question.path, question.params, question.json, web.token]
    name = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    return web.cache / f"{name[:40]}.answer"


def _asked(web: Web, question: Question, known: Answer | None, progress: Progress) -> Answer:
    """What the service says now, or that what is known still holds."""
    told = {"If-None-Match": known.tag} if known is not None and known.tag else {}
    with web.open(
        question.path,
        question.subject,
        method="GET" if question.json is None else "POST",
        params=_joined(question.params),
        json=None if question.json is None else list(question.json),
        headers=told,
        progress=progress,
    ) as response:
        if known is not None and response.status_code == HTTPStatus.NOT_MODIFIED:
            return known
        body = web.read(response, question.subject)
        return Answer(response.status_code, body, _tag(response))


def _may_be_kept(web: Web, answer: Answer) -> bool:
    """No page in the stead of an answer, and none that echoes the token."""
    if answer.status not in _KEPT or not answer.body.lstrip().startswith((b"{", b"[")):
        return False
    return web.token is None or web.token.encode() not in answer.body


def _keep(place: Path, answer: Answer) -> None:
    head = {"status": answer.status, "tag": answer.tag, "time": time.time()}
    with contextlib.suppress(WriteProblem):  # it is asked for again next time
        write_whole(place, json.dumps(head).encode() + b"\n" + answer.body, overwrite=True)
    _prune(place.parent)


def _joined(params: tuple[tuple[str, str], ...]) -> dict[str, str | list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in params:
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _tag(response: httpx.Response) -> str | None:
    tag = response.headers.get("ETag", "")
    return tag if tag and tag.isascii() and tag.isprintable() and len(tag) <= _LONGEST_TAG else None


def _read(place: Path) -> Answer | None:
    """An answer of the past; one from the future is none, because a clock was wrong."""
    try:
        head, _, body = place.read_bytes().partition(b"\n")
        told = json.loads(head)
        age = time.time() - float(told["time"])
        tag = told["tag"] if isinstance(told["tag"], str) else None
        answer = Answer(int(told["status"]), body, tag, age)
    except (OSError, ValueError, LookupError, TypeError, OverflowError):
        return None
    return answer if age >= 0 and answer.status in _KEPT else None


@functools.cache
def _prune(folder: Path) -> None:
    """Remove the oldest answers beyond the limits, once in a run."""
    with contextlib.suppress(OSError):
        found = [(entry, entry.stat()) for entry in folder.glob("*.answer")]
        found.sort(key=lambda one: one[1].st_mtime, reverse=True)
        total = 0
        for number, (entry, status) in enumerate(found):
            total += status.st_size
            if total > MOST_BYTES or number >= MOST_FILES:
                entry.unlink(missing_ok=True)

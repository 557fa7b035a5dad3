"""Sidecars that are written for other programs: one row per program, the writer beside its reader.

A file of ours carries a mark: the keys that came from us and a digest of all the others' values.
While the digest is right nobody has edited the file since, and it may be written again; keys that
are not ours stay whatever happens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from registry.document import MAX_BYTES, BadDocument, Fields
from registry.sidecars import a1111, civitai_info, lora_manager, stability_matrix, swarm
from registry.sidecars.known import Known, Written

MARK = "assetmgr"
_DIGEST_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Writer:
    """A program's sidecar: whose it is, how its name ends, and what is written."""

    owner: str
    ending: str
    write: Callable[[Known], Written]


WRITERS: Mapping[str, Writer] = {
    "a1111": Writer(a1111.OWNER, ".json", a1111.write),
    "civitai": Writer(civitai_info.OWNER, ".civitai.info", civitai_info.write),
    "cm": Writer(stability_matrix.OWNER, ".cm-info.json", stability_matrix.write),
    "lora-manager": Writer(lora_manager.OWNER, ".metadata.json", lora_manager.write),
    "swarm": Writer(swarm.OWNER, ".swarm.json", swarm.write),
}
"""What users call a program -> its sidecar."""


def parsed(content: bytes) -> dict[str, object]:
    """The object in a sidecar. Raises BadDocument."""
    if len(content) > MAX_BYTES:
        raise BadDocument(f"has {len(content):,} bytes, more than {MAX_BYTES:,} are not read")
    return Fields.of("", content).values


def is_ours(document: Mapping[str, object]) -> bool:
    """Whether we wrote it and nobody changed it since."""
    mark = document.get(MARK)
    return isinstance(mark, dict) and mark.get("digest") == _digest(document)


def rewritten(old: Mapping[str, object], written: Written) -> dict[str, object]:
    """The document with what is known now; what others put into it stays.

    Keys of ours from an earlier time go when they are not known any more.
    """
    stale = _ours_in(old) if is_ours(old) else frozenset()
    kept = {name: value for name, value in old.items() if name not in stale and name != MARK}
    said = {name: value for name, value in written.values.items() if value is not None}
    defaults = {name: value for name, value in written.defaults.items() if name not in kept}
    joined = {name: _joined(kept.get(name), said[name]) for name in said}
    document = _as_read_again(defaults | kept | joined)
    mark = {"wrote": sorted(document.keys() - kept.keys()), "digest": _digest(document)}
    return {**document, MARK: mark}


def encoded(document: Mapping[str, object]) -> bytes:
    """The bytes of the file. Raises BadDocument for numbers that JSON has no word for."""
    try:
        text = json.dumps(document, ensure_ascii=False, indent=4, allow_nan=False)
    except ValueError as error:
        raise BadDocument(f"cannot be written: {error}") from None
    return text.encode() + b"\n"


def _ours_in(document: Mapping[str, object]) -> frozenset[str]:
    mark = document.get(MARK)
    wrote = mark.get("wrote") if isinstance(mark, dict) else None
    return frozenset(name for name in wrote or () if isinstance(name, str))


def _joined(old: object, new: object) -> object:
    """Objects are joined, ours first; everything else is replaced."""
    return {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new


def _as_read_again(document: dict[str, object]) -> dict[str, object]:
    """What is in the file when it is written: no tuples, no lone surrogates."""
    text = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    stored: dict[str, object] = json.loads(text)
    return stored


def _digest(document: Mapping[str, object]) -> str:
    """Of all but the mark, in whatever order the keys are."""
    rest = {name: value for name, value in document.items() if name != MARK}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:_DIGEST_DIGITS]

"""From what was read of a file to the columns of its asset."""

from __future__ import annotations

from registry.scanning.places import name_of
from registry.scanning.scan_records import Content, ScannedFile
from registry.tables.states import PRESENT
from registry.tables.writing import Values, now
from registry.text import fold

_SHA256_OF_NOTHING = "e3b0c44298fc"


def first_values(scanned: ScannedFile) -> Values:
    """What an asset gets from the first file that is recorded of it."""
    name, moment = name_of(scanned.path), now()
    return {
        "name": name,
        "name_folded": fold(name),
        "bytes": scanned.bytes,
        "added": moment,
        "updated": moment,
        # As the database will count them when the file is there: it need not change the row then.
        "state": PRESENT,
        "copies": 1,
    }


def content_values(content: Content) -> Values:
    """What its headers tell."""
    return {
        "kind": str(content.kind),
        "base": str(content.base),
        "variant": content.variant,
        "prediction": str(content.prediction),
        "layout": content.layout,
        "container": None if content.container is None else str(content.container),
        "rank": content.rank,
        "tensors": content.tensors,
        "parameters": content.parameters,
        "confidence": content.confidence,
        "safety": str(content.safety.verdict),
        # Tuples: `registry.storage.engines` keeps what those read that many files have in common.
        "algorithm": tuple(content.algorithm),
        "dtypes": dict(content.dtypes),
        "components": tuple((e.name, e.tensors, e.parameters) for e in content.components),
        "evidence": tuple(content.evidence),
        "problems": tuple(content.problems),
        "safety_imports": tuple(content.safety.imports),
        "safety_findings": tuple(content.safety.findings),
        "trigger_words": tuple(content.trigger_words),
    }


def hash_values(scanned: ScannedFile) -> Values:
    """AutoV1 and AutoV3 of files too short for them are hashes of nothing, and name nothing."""
    hashes = scanned.hashes
    if hashes is None:
        return {}
    values: Values = {"blake3": hashes.blake3, "sha256": hashes.sha256, "crc32": hashes.crc32}
    values["autov1"] = None if _of_nothing(hashes.autov1) else hashes.autov1
    if hashes.autov3 is not None:
        values["autov3"] = None if _of_nothing(hashes.autov3) else hashes.autov3
    if scanned.weights is not None:
        values["weights"] = scanned.weights.whole
    return values


def _of_nothing(digest: str) -> bool:
    return digest.startswith(_SHA256_OF_NOTHING[: len(digest)])

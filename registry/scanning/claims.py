"""Hashes that others name for a file before it was read: candidates, never the truth.

A Hugging Face cache names a blob by the SHA-256 of its content (huggingface_hub, "Understand
caching"); a Git LFS pointer stands for a file with the `oid` that it tells (git-lfs
`docs/spec.md`).
"""

from __future__ import annotations

import os
import re

from converters.bytesource import FileBytes
from converters.errors import FileProblem
from registry.records import CACHE, POINTER, Claim

_LONGEST_POINTER = 1024  # bytes, by the specification
_BLOBS = f"{os.sep}blobs"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OID = re.compile(rb"^oid sha256:([0-9a-f]{64})$", re.MULTILINE)


def claims_of(path: str, nbytes: int) -> tuple[Claim, ...]:
    """What is claimed of a file by its place in a cache, or by itself in a file's stead.

    `nbytes` is its size: a pointer is a short text, and nothing longer is opened.
    """
    return _of_cache(path) or (_of_pointer(path) if nbytes <= _LONGEST_POINTER else ())


def _of_cache(path: str) -> tuple[Claim, ...]:
    # The folder is real already: only what is a link itself leads elsewhere.
    blob = os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114 - of every file
    folder, _, name = blob.rpartition(os.sep)
    if not folder.endswith(_BLOBS) or not _SHA256.fullmatch(name):
        return ()
    return (Claim("sha256", name, CACHE),)


def _of_pointer(path: str) -> tuple[Claim, ...]:
    try:
        file = FileBytes(path)
        text = file.pread(0, min(file.size, _LONGEST_POINTER))
    except FileProblem:
        return ()
    found = _OID.search(text) if text.startswith(b"version https://git-lfs") else None
    return (Claim("sha256", found[1].decode("ascii"), POINTER),) if found else ()

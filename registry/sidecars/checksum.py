"""`<file name>.sha256` or `<stem>.sha256`: a checksum as `sha256sum` writes it.

Form: 64 hex digits, and the name of the file where it is told (coreutils, "sha2 utilities").
"""

from __future__ import annotations

from registry.document import decode, is_hash
from registry.sidecars.record import Sidecar

OWNER = "checksum"


def read(path: str, content: bytes) -> Sidecar | None:
    """The digest that is claimed; None for an empty file."""
    words = decode(content)[0].split()
    if not words:
        return None
    digest = words[0].removeprefix("\\").lower()  # which sha256sum puts before escaped names
    if not is_hash("sha256", digest):
        return Sidecar(path=path, owner=OWNER, problems=("does not begin with a SHA-256",))
    return Sidecar(path=path, owner=OWNER, claimed_hashes={"sha256": digest})

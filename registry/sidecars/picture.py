"""`<stem>.png` and its kin: the picture that shows what a model does."""

from __future__ import annotations

from registry.sidecars.record import Sidecar

OWNER = "picture"
FORMATS = ("png", "jpg", "jpeg", "webp", "gif")
"""In the order in which A1111 looks for them."""

HEAD_BYTES = 12
"""So many bytes tell what picture a file is."""


def read(path: str, head: bytes) -> Sidecar:
    """The picture as a preview, unless its first bytes are those of something else."""
    if _is_picture(head):
        return Sidecar(path=path, owner=OWNER, preview=path)
    return Sidecar(path=path, owner=OWNER, problems=("is not a picture",))


def _is_picture(head: bytes) -> bool:
    beginnings = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
    return head.startswith(beginnings) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")

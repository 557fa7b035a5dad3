"""Whether a file is where it was last seen, and so the asset that lies in it."""

from __future__ import annotations

PRESENT = "present"
MISSING = "missing"
OFFLINE = "offline"
"""On a disk that is not there now."""

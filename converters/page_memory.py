"""Memory to read files into: it begins where a page does.

The kernel copies to such an address half as fast again as to the sixteen bytes behind one, which is
what `bytearray` has: of 1.2 MB 125 instead of 180 microseconds.
"""

from __future__ import annotations

import mmap
import sys


def page_memory(nbytes: int) -> mmap.mmap:
    """At least so many bytes, of this process alone: also when it forks."""
    nbytes = max(1, nbytes)  # no system maps nothing
    if sys.platform == "win32":  # nothing forks there
        return mmap.mmap(-1, nbytes)
    return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

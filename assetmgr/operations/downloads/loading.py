"""What the end of a download needs, imported by one thread at a time.

Two threads that import a package and a module inside of it at once each wait for the lock of the
other's, which Python ends by an error in one of them (`_DeadlockError` of `importlib._bootstrap`).
"""

from __future__ import annotations

import threading

_loading = threading.Lock()


def load() -> None:
    """Import it, packages before what is in them."""
    with _loading:
        import converters.containers
        import converters.identify
        import converters.identify.beside
        import registry.library
        import registry.scanning.recording
        import registry.scanning.scanner

        _ = converters.containers, converters.identify.beside
        _ = registry.library, registry.scanning.recording, registry.scanning.scanner

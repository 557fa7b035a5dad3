"""The import of torch without two parts of it, a third of its time, that merging never comes to.

The exporter of programs, and the shapes of operations that are computed without data, as far as
they are written in Python. Both are there as soon as something is imported that may use them. Only
operations on the device `meta` by whoever imports nothing more stay without: so this is for
processes in which nobody else uses torch.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_KNOWN = re.compile(r"2\.13\.\d+(\+.*)?")
"""The releases whose parts these are; all else is imported as a whole.

torch cannot be imported again where that failed, so nothing is tried with others.
"""
_EXPORTER, _SHAPES = "export", "_meta_registrations"
_USERS = ("torch.export", "torch._dynamo", "torch._inductor", "diffusers", "transformers")
"""What is built on the parts that were left out."""


def import_torch_leanly() -> None:
    """Import torch, unless it is imported already."""
    if "torch" in sys.modules or not _KNOWN.fullmatch(_release()):
        importlib.import_module("torch")
        return
    with _stand_ins(f"torch.{_EXPORTER}", f"torch.{_SHAPES}"):
        torch: dict[str, Any] = vars(importlib.import_module("torch"))
    torch.pop(_EXPORTER, None)
    torch.pop(_SHAPES, None)
    sys.meta_path.insert(0, _Completion())
    if isinstance(lazily := torch.get("_lazy_modules"), set):
        lazily.add(_EXPORTER)
    else:
        importlib.import_module(f"torch.{_EXPORTER}")


def _release() -> str:
    from importlib.metadata import version  # brings the standard library's e-mail with it

    return version("torch")


@contextmanager
def _stand_ins(*names: str) -> Iterator[None]:
    """Empty modules where torch imports these parts."""
    sys.modules.update((name, ModuleType(name)) for name in names)
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)


class _Completion:
    """Finds nothing, and completes torch before something is imported that is built on it."""

    def find_spec(self, name: str, *_: object) -> None:
        if name in _USERS and self in sys.meta_path:
            sys.meta_path.remove(self)
            importlib.import_module(f"torch.{_SHAPES}")

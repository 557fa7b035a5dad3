"""What this thread computes on, and the import of torch, which takes longer than most work.

Computations run on the calling thread alone: torch's own thread pool collapses when the machine's
other cores are busy, and the writer already computes several tensors at once.
"""

from __future__ import annotations

import functools
import gc
import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from converters.errors import OutOfMemory
from converters.lean_torch import import_torch_leanly

CPU = "cpu"

_importing = threading.Lock()
_thread = threading.local()
_process = {"is_ours": False}


def own_process() -> None:
    """Have torch imported without what only others would use, as this process is the program's."""
    _process["is_ours"] = True


def begin_import() -> None:
    """Import torch in the background, which takes longer than most of what is done before."""
    threading.Thread(target=_import_torch, daemon=True).start()


def _import_torch() -> None:
    """Import torch without ever searching what it makes for garbage.

    It makes most of a million objects, which stay: a tenth of the import goes to searches, and
    another third of it to that at the end of the program.
    """
    with _importing:
        if "torch" in sys.modules:
            return
        gc.disable()
        try:
            if _process["is_ours"]:
                import_torch_leanly()
            else:
                importlib.import_module("torch")
        finally:
            gc.freeze()
            gc.enable()


def device() -> str:
    """The name of the device that this thread computes on."""
    name: str = getattr(_thread, "device", CPU)
    return name


@contextmanager
def computing_on(name: str) -> Iterator[None]:
    """Compute on one thread and a device. Raises OutOfMemory for one that is too small."""
    _use_one_thread()
    before, _thread.device = device(), name
    try:
        yield
    except RuntimeError as error:
        raise _translated(error, name) from error
    finally:
        _thread.device = before


def _translated(error: RuntimeError, name: str) -> Exception:
    """An accelerator without room, by its name."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return OutOfMemory(f"the memory of {name} is too small", hint="merge with --device cpu")
    return error


@functools.cache
def _use_one_thread() -> None:
    _import_torch()
    import torch

    torch.set_num_threads(1)

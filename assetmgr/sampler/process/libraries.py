"""The libraries of the sampler's process, imported without what no render of ours comes to.

torch's compiler and its tensors of several machines are a third of the imports of diffusers and
transformers, which mark some of their functions for them, and use neither here. While they are
imported, the compiler is a stand-in that gives the functions back unmarked, and torch says that it
was built for one machine. transformers looks through all its files for the names they offer, and
does so twice; both libraries ask every installed package which modules are its own, for none that
matters here. All is as before afterwards: who wants the compiler then imports it.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

UNUSED = ("peft", "scipy", "accelerate")
"""Packages that diffusers and transformers import where they are installed."""

_COMPILER = "torch._dynamo"
_MARKS = ("allow_in_graph", "assume_constant_result", "disable")
"""What the libraries mark their functions with, for the compiler."""


def leave_out(packages: Iterable[str] = UNUSED) -> None:
    """Have the libraries take packages for not installed. To be called before they are imported."""
    for name in packages:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def import_libraries(unused: Iterable[str] = UNUSED) -> None:
    """Import what nearly every render needs, in little more than half of the time.

    What is imported stays: it is not searched for garbage, now or later.
    """
    leave_out(unused)
    gc.disable()
    try:
        with (
            _for_one_machine(),
            _without_compiler(),
            _instead(importlib.metadata, "packages_distributions", dict),
        ):
            transformers = importlib.import_module("transformers")
            diffusers = importlib.import_module("diffusers")
            _use_one_scan()
            _ = (diffusers.UNet2DConditionModel, diffusers.AutoencoderKL)
            _ = (transformers.CLIPTextModel, transformers.CLIPTokenizer)
            importlib.import_module("assetmgr.sampler.process.session")
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _instead(module: ModuleType, name: str, function: Callable[[], object]) -> Iterator[None]:
    """A function in place of a module's own."""
    own = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, own)


@contextmanager
def _for_one_machine() -> Iterator[None]:
    distributed = importlib.import_module("torch.distributed")
    with _instead(distributed, "is_available", lambda: False):
        yield


def _use_one_scan() -> None:
    """Have transformers take what it found in the folder of its models for the package in it.

    It remembers what it found, but by the words it was asked with: once the folder, and then the
    file in it.
    """
    looking: Any = importlib.import_module("transformers.utils.import_utils")
    scan = looking.create_import_structure_from_path
    looking.create_import_structure_from_path = lambda place: scan(_folder_of(Path(place)))


def _folder_of(place: Path) -> Path:
    return place.parent if place.name == "__init__.py" else place


@contextmanager
def _without_compiler() -> Iterator[None]:
    if _COMPILER in sys.modules:
        yield
        return
    sys.modules[_COMPILER] = stand_in = _StandIn(_COMPILER)
    try:
        yield
    finally:
        if sys.modules[_COMPILER] is stand_in:
            del sys.modules[_COMPILER]


class _StandIn(ModuleType):
    """The compiler's package until somebody wants more of it than marks."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        package = importlib.import_module(name.rpartition(".")[0])
        self.__path__ = [str(Path(folder, "_dynamo")) for folder in package.__path__]

    def __getattr__(self, name: str) -> Any:
        if name in _MARKS:
            return _unmarked
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(_COMPILER) is self:
            del sys.modules[_COMPILER]
        return getattr(importlib.import_module(_COMPILER), name)


def _unmarked(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """A function as it is, or what leaves one so."""
    return _unmarked if function is None else function

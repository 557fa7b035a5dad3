"""Opening model files: the bytes decide which container it is, never the name.

`open_model` reads headers and pickle opcodes only. To add a container, write its reader and add a
row to `READERS`. A reader is loaded when a file needs it: collections are mostly safetensors, and
loading all of them takes as long as hashing sixty megabytes.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path, PurePath

from converters.bytesource import ByteSource, FileBytes
from converters.containers import sniffing
from converters.containers.diffusers_folder import (
    component_weights,
    is_pipeline,
    read_pipeline,
)
from converters.containers.model import NOT_INSPECTED, Container, Inspected, Model, inspected
from converters.containers.safetensors import read_safetensors
from converters.containers.sniffing import sniff
from converters.errors import EmptyFile, FileProblem, UnsupportedFile
from converters.suffixes import MODEL_SUFFIXES

__all__ = [
    "MODEL_SUFFIXES",
    "READERS",
    "Container",
    "Inspected",
    "Model",
    "is_pipeline",
    "open_model",
    "sniff",
]


Reader = Callable[[ByteSource], Model]

READERS = {
    sniffing.SAFETENSORS: "safetensors:read_safetensors",
    sniffing.ZIP: "torch_zip:read_torch_zip",
    sniffing.TORCH_LEGACY: "torch_legacy:read_torch_legacy",
    sniffing.TAR: "torch_tar:read_torch_tar",
    sniffing.GGUF: "gguf:read_gguf",
    sniffing.PNG: "embedding_image:read_embedding_image",
}
"""What `sniff` calls the file -> its reader, in a module of this package."""

_SAFETENSORS_SUFFIXES = {".safetensors", ".sft"}


def open_model(source: str | os.PathLike[str] | ByteSource) -> Model:
    """Open a model file from its header or pickle alone; no tensor data is read.

    A folder means the diffusers pipeline or component it is, or the only index of a model in
    several files that it holds.

    Raises subclasses of FileProblem: FileMissing, FileUnreadable, EmptyFile, TruncatedFile,
    CorruptFile, UnsupportedFile naming the format, UnsafeFile for a dangerous bare pickle. Errors
    that are `Inspected` carry the `safety` of what was seen.
    """
    if not isinstance(source, str | os.PathLike):
        return _open(source)
    if os.path.isdir(source):  # noqa: PTH112  # never raises
        if is_pipeline(source):
            return read_pipeline(Path(source), open_model)
        from converters.containers.sharded import index_in

        return _open_file(index_in(source) or component_weights(Path(source)) or source)
    return _open_file(source)


def _open_file(path: str | os.PathLike[str]) -> Model:
    file = FileBytes(path)
    try:
        return _open(file)
    except FileProblem:
        file.close()
        raise


def _open(source: ByteSource) -> Model:
    if source.size == 0:
        raise EmptyFile("has no bytes at all", path=source.name)
    what = sniff(source)
    if what in READERS:
        return _reader(what)(source)
    if what == sniffing.JSON:
        return _read_index(source)
    if what == sniffing.PICKLE:
        from converters.containers.bare_pickle import refusal_of_pickle

        raise refusal_of_pickle(source, what)
    if what == sniffing.UNKNOWN and _suffix(source) in _SAFETENSORS_SUFFIXES:
        return read_safetensors(source)  # to name the rule of the format that the bytes break
    error = UnsupportedFile(f"is {what}, which is not read", path=source.name)
    raise inspected(error, NOT_INSPECTED) if what.endswith("archive") else error


def _reader(what: str) -> Reader:
    module, _, function = READERS[what].partition(":")
    reader: Reader = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return reader


def _read_index(source: ByteSource) -> Model:
    from converters.containers.sharded import read_sharded

    return read_sharded(source, _open_shard)


def _open_shard(source: ByteSource) -> Model:
    """A shard is a file of tensors, never another index."""
    what = sniff(source)
    if what not in {sniffing.SAFETENSORS, sniffing.ZIP, sniffing.TORCH_LEGACY}:
        raise UnsupportedFile(f"is {what}, not a part of a model", path=source.name)
    return _reader(what)(source)


def _suffix(source: ByteSource) -> str:
    return PurePath(source.name).suffix.lower()

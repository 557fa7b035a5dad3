"""Safetensors files: the header, and the order of what follows it.

Format and order of tensors: huggingface/safetensors `safetensors/src/tensor.rs` (type rank
descending, then name), so that the file equals what that library would write for the same tensors
and metadata in sorted order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from converters.errors import BadValue
from converters.hashing import FileHashes
from converters.progress import SILENT, Progress
from converters.statedict import StateDict
from converters.writers.streaming import write_stream


@dataclass(frozen=True, slots=True)
class SafetensorsLayout:
    """The header of a file not yet written, the order of its tensors, and its size in bytes."""

    header: bytes
    order: tuple[str, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written; `hashes` is None when they were not asked for."""

    path: Path
    nbytes: int
    tensors: int
    hashes: FileHashes | None


def layout_of(state: StateDict) -> SafetensorsLayout:
    """Plan the file without reading or writing anything. Raises BadValue for impossible names."""
    order = sorted(state, key=lambda name: (-state[name].dtype.rank, name))
    entries: dict[str, object] = {}
    if state.metadata:
        entries["__metadata__"] = dict(sorted(state.metadata.items()))
    position = 0
    for name in order:
        tensor = state[name]
        end = position + tensor.nbytes
        entries[name] = {
            "dtype": tensor.dtype.label,
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    if "__metadata__" in state:
        raise BadValue("a tensor cannot be named __metadata__ in a safetensors file")
    header = _encode(entries)
    return SafetensorsLayout(header, tuple(order), len(header) + position)


def _encode(entries: dict[str, object]) -> bytes:
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":"))
    try:
        body = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadValue(f"a name or text is not valid Unicode: {error.object[:60]!r}") from error
    body += b" " * (-len(body) % 8)
    return len(body).to_bytes(8, "little") + body


def write_safetensors(
    state: StateDict,
    target: Path,
    *,
    overwrite: bool = False,
    with_hashes: bool = True,
    progress: Progress = SILENT,
) -> Written:
    """Write the tensors and metadata of `state`; reads each source once.

    With `with_hashes` all hashes of the written file are made in the same pass. Raises WriteProblem
    for the target, FileProblem for a source (SourceChanged when one was modified meanwhile), and
    whatever computing a tensor raises; the target then is what it was before.
    """
    layout = layout_of(state)
    tensors = [state[name] for name in layout.order]
    hashes = write_stream(
        layout.header,
        tensors,
        target,
        begins=len(layout.header),
        overwrite=overwrite,
        with_hashes=with_hashes,
        progress=progress,
    )
    return Written(target, layout.nbytes, len(tensors), hashes)

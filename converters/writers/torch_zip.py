"""Writer of torch's zip format without torch, for programs that want it.

Only the records that A1111's loader lets pass are written (`data.pkl`, `data/N`, `version`,
`byteorder`), stored and aligned to 64 bytes. Sources: pytorch `torch/serialization.py` (_save),
forge `modules/safe.py`.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from converters.progress import SILENT, Progress
from converters.statedict import LazyTensor
from converters.writers.atomic import AtomicTarget, naming, refuse_full
from converters.writers.torch_pickle import Tree, tensors_in, torch_pickle

_ROOT = "archive"
_ALIGNMENT = 64
_LOCAL_HEADER = 30
_ZIP64_EXTRA = 20
_PADDING_ID = b"FB"
"""The id of the extra field that torch pads with."""
_CHUNK = 1 << 20


def write_torch_zip(
    tree: Tree, target: Path, *, overwrite: bool = False, progress: Progress = SILENT
) -> int:
    """Write dicts and lists of tensors and plain values, and give the file's size in bytes.

    Raises UnsupportedFile for element types that torch's storages do not have (8-bit floats),
    WriteProblem for the target, FileProblem for a source.
    """
    pickle = torch_pickle(tree)
    tensors = list(tensors_in(tree))
    nbytes = sum(tensor.nbytes for tensor in tensors)
    refuse_full(target, nbytes)
    progress.stage(f"writing {target.name}", nbytes)
    with AtomicTarget(target, overwrite=overwrite) as file:
        with (
            naming(target),
            os.fdopen(os.dup(file.descriptor), "wb") as stream,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive,
        ):
            _put(archive, "data.pkl", [pickle])
            _put(archive, "byteorder", [b"little"])
            for number, tensor in enumerate(tensors):
                _put(archive, f"data/{number}", _chunks(tensor, progress))
            _put(archive, "version", [b"3\n"])
        for source in dict.fromkeys(s for tensor in tensors for s in tensor.sources):
            source.check_unchanged()
        file.commit()
    return target.stat().st_size


def _put(archive: zipfile.ZipFile, name: str, chunks: Iterator[bytes] | list[bytes]) -> None:
    info = zipfile.ZipInfo(f"{_ROOT}/{name}")
    assert archive.fp is not None
    # zipfile adds its own field for sizes beyond 4 GB, which is always asked for.
    before = archive.fp.tell() + _LOCAL_HEADER + len(info.filename) + _ZIP64_EXTRA
    padding = -(before + 4) % _ALIGNMENT
    info.extra = _PADDING_ID + struct.pack("<H", padding) + b"\0" * padding
    with archive.open(info, "w", force_zip64=True) as entry:
        for chunk in chunks:
            entry.write(chunk)


def _chunks(tensor: LazyTensor, progress: Progress) -> Iterator[bytes]:
    if tensor.extents is None:
        data = memoryview(tensor.read()).cast("B")
        yield bytes(data)
        progress.advance(len(data))
        return
    for extent in tensor.extents:
        for start in range(0, extent.nbytes, _CHUNK):
            count = min(_CHUNK, extent.nbytes - start)
            yield extent.source.pread(extent.offset + start, count)
            progress.advance(count)

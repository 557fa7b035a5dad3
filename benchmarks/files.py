"""Files of the size and structure of Stable Diffusion 1, made of random bytes."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

BLOCKS = 16 << 20


def shapes(scale: float) -> Iterator[tuple[str, tuple[int, int]]]:
    """1,131 tensors of 2.13 GB in float16 at scale 1: a token table, and large and small ones."""
    yield "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", (49408, 768)
    for number in range(565):
        width = int(1334 * scale**0.5)
        yield f"model.diffusion_model.block.{number}.weight", (width, width)
        yield f"model.diffusion_model.block.{number}.bias", (width, 1)


def write_ckpt(path: Path, scale: float = 1.0) -> None:
    """A torch zip pickle of these tensors, written without torch's memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = list(shapes(scale))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.writestr("archive/data.pkl", _pickled(tensors))
        archive.writestr("archive/version", "3\n")
        for key, (_, shape) in enumerate(tensors):
            with archive.open(f"archive/data/{key}", "w", force_zip64=True) as entry:
                _write_random(entry, shape[0] * shape[1] * 2)


def _write_random(entry: object, count: int) -> None:
    pattern = os.urandom(min(count, BLOCKS))
    while count:
        piece = pattern[: min(count, len(pattern))]
        entry.write(piece)  # type: ignore[attr-defined]
        count -= len(piece)


def _pickled(tensors: list[tuple[str, tuple[int, int]]]) -> bytes:
    """The pickle torch would write, in protocol 2, assembled opcode by opcode."""
    out = [b"\x80\x02}(X\x0a\x00\x00\x00state_dict}("]
    for key, (name, (rows, columns)) in enumerate(tensors):
        out += [_text(name), b"ctorch._utils\n_rebuild_tensor_v2\n((", _text("storage")]
        out += [b"ctorch\nHalfStorage\n", _text(str(key)), _text("cpu"), _int(rows * columns)]
        out += [b"tQ", _int(0), _int(rows), _int(columns), b"\x86", _int(columns), _int(1)]
        out += [b"\x86\x89ccollections\nOrderedDict\n)RtR"]
    return b"".join([*out, b"uu."])


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def _int(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]

"""Model files of a few bytes that are what their names say."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

from converters.hashing import FileHashes
from converters.pickles.verdict import SAFE_NO_CODE
from registry.scanning.scan_records import Content, ScannedFile


def safetensors(shapes: dict[str, tuple[int, ...]], metadata: dict[str, str], fill: int) -> bytes:
    """The bytes of a safetensors file of F16 tensors that all hold the byte `fill`."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for name, shape in shapes.items():
        nbytes = 2
        for size in shape:
            nbytes *= size
        header[name] = {
            "dtype": "F16",
            "shape": list(shape),
            "data_offsets": [position, position + nbytes],
        }
        position += nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes([fill]) * position


def lora_bytes(fill: int = 0, **metadata: str) -> bytes:
    """A LoRA for the cross-attention of SD1, rank 4."""
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.lora_down.weight": (4, 768),
        f"{name}.lora_up.weight": (320, 4),
        f"{name}.alpha": (),
    }
    return safetensors(shapes, metadata, fill)


def write_lora(path: Path, content: int | str = 0, **metadata: str) -> Path:
    """A LoRA whose content depends on `content` alone."""
    fill = content if isinstance(content, int) else zlib.crc32(content.encode()) % 256
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lora_bytes(fill, **metadata))
    return path


def scanned(number: int, path: str = "", **content: object) -> ScannedFile:
    """A recorded file that never existed: content `number`, by default at `/m/<number>.pt`."""
    digest = f"{number:064x}"
    plain = Content(
        kind="lora",
        base="sd-1",
        variant=None,
        prediction="unknown",
        algorithm=("lora",),
        layout="kohya",
        container="safetensors",
        rank=4,
        dtypes={"F16": 3},
        tensors=3,
        parameters=4353,
        components=(),
        confidence=1.0,
        evidence=(),
        problems=(),
        trigger_words=(),
        metadata={},
        safety=SAFE_NO_CODE,
    )
    return ScannedFile(
        path=path or f"/m/{number}.pt",
        bytes=1000 + number,
        mtime_ns=1,
        inode=number,
        hashes=FileHashes(
            blake3="b" + digest[1:],
            sha256="a" + digest[1:],
            crc32=f"{number:08x}",
            autov1=f"d{number:07x}",
            autov3="c" + digest[1:],
        ),
        weights=None,
        content=replace(plain, **content),
    )

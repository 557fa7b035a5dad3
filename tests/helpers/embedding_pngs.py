"""Builders of A1111's embeddings in pictures, written from its `image_embedding.py`."""

from __future__ import annotations

import base64
import io
import json
import zlib

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

KEYWORD = "sd-ti-embedding"


VECTORS = np.random.default_rng(0).standard_normal((2, 768)).astype(np.float32)


def embedding(vectors: object = None) -> dict[str, object]:
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": {"TORCHTENSOR": VECTORS.tolist() if vectors is None else vectors}},
        "name": "kitty",
        "step": 500,
        "sd_checkpoint": None,
    }


def photo(width: int = 40, height: int = 32) -> Image.Image:
    pixels = np.random.default_rng(1).integers(1, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels | 1)


def png(image: Image.Image, info: PngInfo | None = None) -> bytes:
    target = io.BytesIO()
    image.save(target, "PNG", pnginfo=info)
    return target.getvalue()


def as_text(value: object, form: str = "tEXt") -> bytes:
    return as_raw_text(base64.b64encode(json.dumps(value).encode()).decode(), form)


def as_raw_text(content: str, form: str = "tEXt") -> bytes:
    info = PngInfo()
    if form == "iTXt":
        info.add_itxt(KEYWORD, content, lang="en", tkey="key", zip=True)
    else:
        info.add_text(KEYWORD, content, zip=form == "zTXt")
    return png(photo(), info)


def numbers() -> list[int]:
    """The sequence that A1111 mixes the nibbles with, before it is cut to nibbles."""
    state, found = 0, []
    for _ in range(60_000):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        found.append(state % 255)
    return found


def as_pixels(document: bytes, *, frame: int = 0) -> bytes:
    """The layout of A1111's cards: low nibbles, a black column, the picture, another, the high."""
    image = photo()
    height = image.height
    packed = np.frombuffer(zlib.compress(document, 9), np.uint8)
    size = -(-(len(packed) + 1) // (3 * height)) * 3 * height
    mixed = np.array(numbers()[:size], np.uint8) & 15
    sides = []
    for nibbles in (packed & 15, packed >> 4):
        block = np.resize(nibbles, size) ^ mixed | 0xA0
        sides.append(Image.fromarray(block.reshape(height, -1, 3)))
    left, right = sides
    width = image.width + left.width + right.width + 2
    card = Image.new("RGB", (width + 2 * frame, height + 2 * frame))
    card.paste(left, (frame, frame))
    card.paste(image, (frame + left.width + 1, frame))
    card.paste(right, (frame + left.width + image.width + 2, frame))
    return png(card)


def repair(data: bytearray) -> None:
    """Correct the CRC of every chunk that can be found, so that mutations get further."""
    position = 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        data[end : end + 4] = zlib.crc32(data[position + 4 : end]).to_bytes(4, "big")
        position = end + 4

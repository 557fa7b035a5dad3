"""A1111's embeddings as pictures: a card with the embedding as a text of the PNG file.

The text is base64 of the JSON that `converters.containers.embedding_image` reads. Numbers are
written as float32, which holds those of half precision too. Source:
AUTOMATIC1111/stable-diffusion-webui `modules/textual_inversion/image_embedding.py`.
"""

from __future__ import annotations

import base64
import io
import json
import struct
from pathlib import Path

from converters.containers.embedding_image import KEYWORD, TENSOR_KEY
from converters.dtypes import DType
from converters.embeddings import read_embedding
from converters.errors import UnsupportedFile
from converters.extras import file_extras
from converters.statedict import LazyTensor, StateDict
from converters.writers.atomic import write_whole

_SIDE, _MARGIN = 512, 24
_STAR_TOKEN = 265
"""The vocabulary's number of `*`, the token that A1111 trains an embedding on."""
_KEPT = ("step", "sd_checkpoint", "sd_checkpoint_name")


def embedding_image(state: StateDict) -> bytes:
    """The PNG file of an embedding for one text encoder; reads its vectors.

    Raises WrongFamily or CorruptFile for anything else, UnsupportedFile for vectors that are no
    plain numbers.
    """
    from PIL import Image, ImageDraw
    from PIL.PngImagePlugin import PngInfo

    embedding = read_embedding(state)
    extras = file_extras(state)
    document = {
        "string_to_token": {"*": _STAR_TOKEN},
        "string_to_param": {"*": {TENSOR_KEY: _rows(embedding.vectors)}},
        "name": embedding.name,
        **{key: extras.get(key) for key in _KEPT},
    }
    card = Image.linear_gradient("L").resize((_SIDE, _SIDE)).convert("RGB")
    title = f"{embedding.name or 'embedding'}\n{embedding.count} vectors of {embedding.width}"
    place = (_MARGIN, _SIDE - 4 * _MARGIN)
    ImageDraw.Draw(card).multiline_text(place, title, fill=(0, 0, 0), font_size=_MARGIN)
    texts = PngInfo()
    texts.add_text(KEYWORD.decode(), base64.b64encode(json.dumps(document).encode()).decode())
    target = io.BytesIO()
    card.save(target, "PNG", pnginfo=texts)
    return target.getvalue()


def write_embedding_image(state: StateDict, target: Path, *, overwrite: bool = False) -> int:
    """Write the PNG file of an embedding, and give its size in bytes. Raises as `embedding_image`.

    Raises WriteProblem for the target.
    """
    data = embedding_image(state)
    write_whole(target, data, overwrite=overwrite)
    return len(data)


def _rows(vectors: LazyTensor) -> list[list[float]]:
    count, width = vectors.shape
    numbers = struct.unpack(f"<{count * width}f", _as_float32(vectors))
    return [list(numbers[row * width : (row + 1) * width]) for row in range(count)]


def _as_float32(vectors: LazyTensor) -> bytes:
    if vectors.dtype is DType.F32:
        return bytes(vectors.read())
    if vectors.dtype is DType.BF16:
        upper = struct.unpack(f"<{vectors.numel}H", vectors.read())
        return struct.pack(f"<{vectors.numel}I", *(bits << 16 for bits in upper))
    if vectors.dtype is DType.F16:
        numbers = struct.unpack(f"<{vectors.numel}e", vectors.read())
        return struct.pack(f"<{vectors.numel}f", *numbers)
    raise UnsupportedFile(f"its vectors are {vectors.dtype.label}, which pictures do not hold")


def seen_in_image(state: StateDict) -> StateDict:
    """The tensors under the names, and in the type, that reading the picture gives."""
    vectors = read_embedding(state).vectors
    data = LazyTensor(DType.F32, vectors.shape, lambda: _as_float32(vectors), vectors.origin)
    return StateDict({"string_to_param.*": data})

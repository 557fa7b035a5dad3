"""A1111's embeddings as pictures: in a text of the PNG file, or in the low bits of its pixels.

The embedding is the JSON of what `.pt` files hold, with tensors as `{"TORCHTENSOR": [lists]}`. As
a text it is base64 under `sd-ti-embedding`. In pixels it is packed by zlib; between black frames
stand the low nibbles (left), the picture, and the high nibbles (right), each between two black
columns, and every nibble, in rows of RGB, is mixed with a fixed sequence of numbers.

Source: AUTOMATIC1111/stable-diffusion-webui `modules/textual_inversion/image_embedding.py`.
"""

from __future__ import annotations

import binascii
import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from converters.bytesource import ByteSource
from converters.containers.model import Container, Model
from converters.containers.png import Chunk, chunks, picture, text
from converters.containers.strict_json import BadJson, parse_object
from converters.containers.torch_model import torch_model
from converters.containers.torch_tensors import Stored
from converters.errors import CorruptFile, FileProblem, UnsupportedFile
from converters.pickles.values import Array, ArrayType, BadPickle
from converters.pickles.verdict import SAFE_NO_CODE

if TYPE_CHECKING:
    from PIL.Image import Image

KEYWORD = b"sd-ti-embedding"
TENSOR_KEY = "TORCHTENSOR"
MAX_JSON = 8 << 20
MAX_NUMBERS = 400_000
"""Bytes and numbers of an embedding as JSON: 75 vectors of 4096 numbers have 6 MB."""

_MAX_DIMENSIONS = 4
_MAX_NESTING = 32
_PIECE = 1 << 14


def read_embedding_image(source: ByteSource) -> Model:
    """Open the embedding in a PNG picture; its numbers are read at once, as float32.

    Raises UnsupportedFile for pictures without one, CorruptFile or TruncatedFile for broken ones.
    """
    document = _document(source)
    if document.count(b",") > MAX_NUMBERS:
        raise CorruptFile(f"its embedding has more than {MAX_NUMBERS} numbers", path=source.name)
    try:
        value = _with_tensors(parse_object(document))
    except BadJson as error:
        raise CorruptFile(f"its embedding {error}", path=source.name) from None
    except BadPickle as error:
        raise CorruptFile(f"its embedding has {error.reason}", path=source.name) from None
    return torch_model(source, Container.EMBEDDING_IMAGE, value, _no_storage, safety=SAFE_NO_CODE)


def _document(source: ByteSource) -> bytes:
    """The JSON of the embedding; what is in the text goes before what is in the pixels."""
    try:
        found = list(chunks(source))
    except FileProblem as error:
        raise UnsupportedFile(f"is a PNG picture that {error.cause}", path=source.name) from None
    encoded = text(source, found, KEYWORD)
    if encoded is None:
        return _from_pixels(source, found)
    try:
        return binascii.a2b_base64(encoded)
    except binascii.Error as error:
        raise CorruptFile(f"its embedding is not base64: {error}", path=source.name) from None


# -- pixels ----------------------------------------------------------------------------------------


def _from_pixels(source: ByteSource, found: list[Chunk]) -> bytes:
    try:
        blocks = _blocks(picture(source, found))
    except CorruptFile as error:
        raise UnsupportedFile(error.cause, path=source.name) from None
    document = None if blocks is None else _inflated(_joined(*blocks))
    if document is None:
        raise UnsupportedFile("is a PNG picture, but no embedding hides in it", path=source.name)
    return document


def _blocks(image: Image) -> tuple[bytes, bytes] | None:
    """Low nibbles left of the first and right of the last black column inside the black frame.

    The frame ends where a pixel has all three colours above zero; a column is black when all its
    low nibbles are zero. None when there are not two such blocks of equal size.
    """
    from PIL import ImageChops

    red, green, blue = image.split()
    frame = ImageChops.darker(ImageChops.darker(red, green), blue).getbbox()
    if frame is None:
        return None
    nibbles = image.crop(frame).point([value & 15 for value in range(256)] * 3)
    red, green, blue = nibbles.split()
    brightest = ImageChops.lighter(ImageChops.lighter(red, green), blue).tobytes()
    width, height = nibbles.size
    black = [column for column in range(width) if not any(brightest[column::width])]
    if len(black) < 2 or black[0] == 0 or black[0] != width - black[-1] - 1:
        return None
    low = nibbles.crop((0, 0, black[0], height))
    high = nibbles.crop((black[-1] + 1, 0, width, height))
    return low.tobytes(), high.tobytes()


def _joined(low: bytes, high: bytes) -> Iterator[bytes]:
    """The hidden bytes, from a low and a high nibble each, in pieces."""
    numbers = _sequence()
    for begin in range(0, len(low), _PIECE):
        lows, highs = low[begin : begin + _PIECE], high[begin : begin + _PIECE]
        mixed = islice(numbers, len(lows))
        yield bytes(
            a ^ number | (b ^ number) << 4 for a, b, number in zip(lows, highs, mixed, strict=True)
        )


def _inflated(pieces: Iterable[bytes]) -> bytes | None:
    """The document that the bytes begin with, None when they do not. Stops at the first error."""
    engine = zlib.decompressobj()
    document = b""
    for piece in pieces:
        try:
            document += engine.decompress(piece, MAX_JSON - len(document))
        except zlib.error:
            return None
        if engine.eof:
            return document
        if len(document) >= MAX_JSON:
            return None
    return None


def _sequence() -> Iterator[int]:
    """The nibbles that the data are mixed with: a linear congruential generator from 0."""
    state = 0
    while True:
        state = (1664525 * state + 1013904223) % (1 << 32)
        yield state % 255 & 15


# -- tensors ---------------------------------------------------------------------------------------


def _with_tensors(value: object, depth: int = 0) -> object:
    """The same value with arrays in place of the tensors' objects. Raises BadPickle."""
    if depth > _MAX_NESTING:
        raise BadPickle(f"values nested more than {_MAX_NESTING} deep")
    if isinstance(value, list):
        return [_with_tensors(member, depth + 1) for member in value]
    if not isinstance(value, dict):
        return value
    if TENSOR_KEY in value:
        return _array(value[TENSOR_KEY])
    return {key: _with_tensors(member, depth + 1) for key, member in value.items()}


def _array(value: object) -> Array:
    shape: list[int] = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    if len(shape) > _MAX_DIMENSIONS:
        raise BadPickle(f"a tensor of more than {_MAX_DIMENSIONS} dimensions")
    numbers = list(_numbers(value, tuple(shape)))
    array = Array()
    array.shape, array.type = tuple(shape), ArrayType("f4")
    array.data = _packed(numbers)
    return array


def _numbers(value: object, shape: tuple[int, ...]) -> Iterator[float]:
    """The numbers of nested lists of exactly this shape. Raises BadPickle."""
    if not shape:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadPickle("a tensor of something that is not numbers")
        yield value
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise BadPickle("a tensor whose rows are not of one length")
    for member in value:
        yield from _numbers(member, shape[1:])


def _packed(numbers: list[float]) -> bytes:
    try:
        return struct.pack(f"<{len(numbers)}f", *numbers)
    except (OverflowError, struct.error):
        raise BadPickle("a tensor with a number beyond float32") from None


def _no_storage(key: str) -> Stored:
    raise BadPickle(f"a tensor over storage {key}, which a picture does not have")

"""Embeddings in pictures: in a text of the PNG file, and in the low bits of its pixels."""

from __future__ import annotations

import base64
import io
import json
import zlib
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from helpers.embedding_pngs import (
    KEYWORD,
    VECTORS,
    as_pixels,
    as_raw_text,
    as_text,
    embedding,
    numbers,
    photo,
    png,
    repair,
)
from helpers.examples import examples
from helpers.inspecting import inspected_in_a_process
from helpers.verdicts import safety_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from converters.bytesource import MemoryBytes
from converters.containers import Container, Model, open_model
from converters.embeddings import read_embedding
from converters.errors import CorruptFile, FileProblem, UnsupportedFile
from converters.identify import identify
from converters.kinds import Kind
from converters.pickles.verdict import Verdict


def opened(data: bytes) -> Model:
    return open_model(MemoryBytes(data, "kitty.png"))


JSON = json.dumps(embedding()).encode()
VESSELS = {
    "tEXt": as_text(embedding()),
    "zTXt": as_text(embedding(), "zTXt"),
    "iTXt": as_text(embedding(), "iTXt"),
    "pixels": as_pixels(JSON),
    "pixels in a black frame": as_pixels(JSON, frame=9),
}


def test_the_sequence_is_that_of_a1111() -> None:
    assert list(islice(numbers(), 8)) == [253, 242, 127, 44, 157, 27, 239, 133]


@pytest.mark.parametrize("vessel", VESSELS)
def test_an_embedding_is_found_with_its_words(vessel: str) -> None:
    model = opened(VESSELS[vessel])
    assert model.container is Container.EMBEDDING_IMAGE
    assert model.safety.verdict is Verdict.SAFE
    assert set(model.state_dict) == {"string_to_param.*"}
    lazy = model.state_dict["string_to_param.*"]
    assert (lazy.dtype.label, lazy.shape) == ("F32", (2, 768))
    assert bytes(lazy.read()) == VECTORS.tobytes()
    assert model.state_dict.extras == {
        "string_to_token.*": 265, "name": "kitty", "step": 500, "sd_checkpoint": None,
    }  # fmt: skip


def test_it_is_an_embedding_like_any_other() -> None:
    model = opened(VESSELS["tEXt"])
    assert identify(model.state_dict).kind is Kind.EMBEDDING
    found = read_embedding(model.state_dict)
    assert (found.name, found.count, found.width, found.step) == ("kitty", 2, 768, 500)


def test_the_text_goes_before_the_pixels() -> None:
    card = Image.open(io.BytesIO(as_pixels(b"{}")))
    info = PngInfo()
    info.add_text(KEYWORD, base64.b64encode(JSON).decode())
    assert len(opened(png(card, info)).state_dict) == 1


@pytest.mark.parametrize(
    "data",
    [
        png(photo()),
        png(photo().convert("L")),
        png(Image.new("RGB", (9, 9))),
        png(Image.new("RGB", (9, 9), (16, 16, 16))),
        png(Image.fromarray(np.pad(np.asarray(photo()), ((0, 0), (4, 4), (0, 0))))),
        as_pixels(JSON)[:-20],
        as_pixels(JSON)[:60],
    ],
    ids=["photo", "grey", "black", "black in the low bits", "black bars", "cut", "cut early"],
)
def test_a_picture_without_an_embedding_is_a_picture(data: bytes) -> None:
    source = MemoryBytes(data, "photo.png")
    with pytest.raises(UnsupportedFile, match="is a PNG picture"):
        open_model(source)
    assert safety_of(source).verdict is Verdict.SAFE


def test_black_bars_inside_a_picture_do_not_make_it_an_embedding() -> None:
    pixels = np.asarray(photo()).copy()
    pixels[:, 9] = pixels[:, -10] = 0
    with pytest.raises(UnsupportedFile, match="no embedding hides in it"):
        opened(png(Image.fromarray(pixels)))


def test_a_picture_of_too_many_pixels_is_not_decoded() -> None:
    data = bytearray(png(Image.new("RGB", (8, 8))))
    data[16:24] = (50_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(UnsupportedFile, match="50000x50000 pixels"):
        opened(bytes(data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (as_raw_text("abc"), "is not base64"),
        (as_raw_text(base64.b64encode(b"[1]").decode()), "its embedding is JSON, but not an obj"),
        (as_raw_text(base64.b64encode(b'{"a":1,"a":2}').decode()), 'has the key "a" twice'),
        (as_raw_text(base64.b64encode(b'{"a":' + b"[" * 200_000).decode()), "nested too deeply"),
        (as_raw_text(base64.b64encode(b'{"a":' + b"[" * 99 + b"]" * 99 + b"}").decode()), "32 de"),
        (as_text(embedding([[1.0], [1.0, 2.0]])), "rows are not of one length"),
        (as_text(embedding([[1.0], 2.0])), "rows are not of one length"),
        (as_text(embedding([1.0, [2.0]])), "not numbers"),
        (as_text(embedding([True])), "not numbers"),
        (as_text(embedding(["x"])), "not numbers"),
        (as_text(embedding([[[[[1.0]]]]])), "more than 4 dimensions"),
        (as_text(embedding([0] * 500_000), "zTXt"), "more than 400000 numbers"),
        (as_text(embedding([1e300])), "beyond float32"),
        (as_text(embedding([10**400])), "beyond float32"),
        (as_text(embedding()).replace(b"embedding\0ey", b"embedding\0ez"), "wrong CRC"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_embedding_is_named(data: bytes, words: str) -> None:
    with pytest.raises(CorruptFile) as caught:
        opened(data)
    assert words in caught.value.cause


def test_a_text_that_unpacks_to_very_much_is_refused() -> None:
    with pytest.raises(CorruptFile, match="cut or too long"):
        opened(as_raw_text("A" * (20 << 20), "zTXt"))


SMALL = embedding([[0.5, -1.0], [2.0, 0.25]])
SMALL_VESSELS = [as_text(SMALL), as_text(SMALL, "zTXt"), as_pixels(json.dumps(SMALL).encode())]


@given(st.data())
@examples(300)
def test_a_mutated_picture_gives_an_error_of_ours_or_tensors_of_the_right_size(
    drawn: st.DataObject,
) -> None:
    data = bytearray(drawn.draw(st.sampled_from(SMALL_VESSELS)))
    for _ in range(drawn.draw(st.integers(1, 4))):
        data[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    if drawn.draw(st.booleans()):
        repair(data)
    try:
        for lazy in opened(bytes(data)).state_dict.values():
            assert len(memoryview(lazy.read())) == lazy.nbytes
    except FileProblem:
        pass


@pytest.mark.parametrize("vessel", ["tEXt", "pixels"])
def test_a_picture_is_inspected_without_torch_or_numpy(vessel: str, tmp_path: Path) -> None:
    path = tmp_path / "kitty.png"
    path.write_bytes(VESSELS[vessel])
    found = inspected_in_a_process(path)
    assert (found["kind"], found["container"]) == ("embedding", "embedding-image")

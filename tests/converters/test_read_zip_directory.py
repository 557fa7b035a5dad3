"""The zip directory: what lies, overlaps or hides is refused by name."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
import torch
from helpers.pickles import dict_of, pickled, tensor, torch_zip
from helpers.verdicts import safety_of

from converters.bytesource import MemoryBytes
from converters.containers import Inspected, open_model
from converters.containers.zip_directory import read_directory
from converters.errors import CorruptFile, TruncatedFile, UnsupportedFile
from converters.pickles.verdict import Verdict

BODY = pickled(dict_of({"w": tensor("0", (4,), (1,), numel=4)}))
GOOD = torch_zip(BODY, {"0": bytes(16)})
CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


def patched(marker: bytes, which: int, offset: int, value: bytes, data: bytes = GOOD) -> bytes:
    """`data` with bytes replaced at an offset inside the n-th record of a kind."""
    position = -1
    for _ in range(which + 1):
        position = data.index(marker, position + 1)
    at = position + offset
    return data[:at] + value + data[at + len(value) :]


def opened(data: bytes) -> None:
    open_model(MemoryBytes(data, "x.ckpt"))


def test_the_good_file_is_read() -> None:
    opened(GOOD)


def test_entries_are_those_of_the_standard_library() -> None:
    target = io.BytesIO()
    torch.save({"a": torch.ones(3), "b": torch.ones(70)}, target)
    with zipfile.ZipFile(target) as archive:
        expected = [(i.filename, i.file_size, i.header_offset, i.CRC) for i in archive.infolist()]
    found = read_directory(MemoryBytes(target.getvalue())).entries
    assert [(e.name, e.size, e.header, e.crc) for e in found] == expected


def test_many_large_files_use_zip64_records() -> None:
    target = io.BytesIO()
    with (
        zipfile.ZipFile(target, "w") as archive,
        archive.open("a/data.pkl", "w", force_zip64=True) as f,
    ):
        f.write(pickled(b"}"))
    opened(target.getvalue())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (patched(CENTRAL, 1, 20, struct.pack("<II", 99, 99)), "reaches into what follows"),
        (
            patched(CENTRAL, 1, 20, struct.pack("<II", 1 << 30, 1 << 30)),
            "reaches into what follows",
        ),
        (
            patched(CENTRAL, 1, 20, struct.pack("<II", 12, 12)),
            "differs between directory and local",
        ),
        (patched(CENTRAL, 1, 20, struct.pack("<II", 16, 99)), "zip directory is broken"),
        (patched(CENTRAL, 1, 42, struct.pack("<I", 0)), "reaches into what follows"),
        (patched(CENTRAL, 1, 42, struct.pack("<I", 40)), "reaches into what follows"),
        (patched(CENTRAL, 1, 46, b"archive/data/1"), "does not hold"),
        (patched(LOCAL, 1, 30, b"archive/data/1"), "differs between directory and local"),
        (patched(LOCAL, 1, 28, b"\x09"), "differs between directory and local"),
        (patched(LOCAL, 1, 0, b"PK\x03\x05"), "differs between directory and local"),
        (patched(LOCAL, 1, 8, b"\x08"), "differs between directory and local"),
        (patched(CENTRAL, 0, 0, b"XX"), "zip directory is broken"),
        (patched(CENTRAL, 1, 28, b"\xff\xff"), "zip directory is broken"),
        (patched(END, 0, 10, b"\x09\x00"), "end record contradicts itself"),
        (patched(END, 0, 8, b"\x02\x00\x02\x00"), "holds more than its entries"),
        (patched(END, 0, 16, b"\x01"), "not where its end record says"),
        (patched(END, 0, 12, b"\xff\xff\xff\xff"), "is too large"),
        (patched(END, 0, 20, b"\xff"), "comment reaches beyond the end"),
        (GOOD[:4] + b"prefix" + GOOD[4:], "not where its end record says"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_directory_that_lies_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(CorruptFile) as caught:
        opened(data)
    assert words in caught.value.cause


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (patched(CENTRAL, 1, 8, b"\x01"), "is encrypted"),
        (patched(CENTRAL, 1, 10, b"\x0c"), "packed by method 12"),
        (patched(END, 0, 4, b"\x01"), "several parts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_read_is_named(data: bytes, words: str) -> None:
    with pytest.raises(UnsupportedFile) as caught:
        opened(data)
    assert words in caught.value.cause


def test_a_pickle_that_cannot_be_unlocked_is_suspicious() -> None:
    source = MemoryBytes(patched(CENTRAL, 0, 8, b"\x01"), "x.ckpt")
    assert safety_of(source).verdict is Verdict.SUSPICIOUS


def test_many_pickles_in_one_archive_are_inspected_within_one_limit() -> None:
    more = {f"{i}.pkl": pickled(b"\xff" * (12 << 20)) for i in range(4)}
    data = torch_zip(BODY, {"0": bytes(16)}, packing=zipfile.ZIP_DEFLATED, more=more)
    model = open_model(MemoryBytes(data, "x.ckpt"))
    assert any("3.pkl was not inspected" in finding for finding in model.safety.findings)


def test_an_entry_there_twice_is_refused() -> None:
    target = io.BytesIO(GOOD)
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(target, "a") as archive,
    ):
        archive.writestr("archive/data.pkl", BODY)
    with pytest.raises(CorruptFile, match="there twice") as caught:
        opened(target.getvalue())
    assert isinstance(caught.value, Inspected)
    assert caught.value.safety.verdict is Verdict.SUSPICIOUS


def test_without_its_directory_a_zip_is_truncated() -> None:
    with pytest.raises(TruncatedFile, match=r"ends at byte \d+ without the directory"):
        opened(GOOD[:-30])


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "C:evil"])
def test_names_that_leave_the_archive_are_remarked(name: str) -> None:
    target = io.BytesIO(GOOD)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(name, b"x")
    model = open_model(MemoryBytes(target.getvalue(), "x.ckpt"))
    assert model.problems == (f"zip entry {name!r} is a path outside",)
    assert model.safety.verdict == "suspicious"


def test_bytes_after_the_archive_are_remarked() -> None:
    model = open_model(MemoryBytes(GOOD + b"hello", "x.ckpt"))
    assert model.problems == ("5 bytes follow the zip archive",)


def test_a_pickle_that_does_not_match_its_checksum_is_suspicious() -> None:
    wrong = patched(CENTRAL, 0, 16, b"\x01\x02\x03\x04", GOOD)
    model = open_model(MemoryBytes(wrong, "x.ckpt"))
    assert model.safety.verdict == "suspicious"
    assert any("does not match its checksum" in finding for finding in model.safety.findings)


def test_packed_data_that_does_not_match_its_checksum_is_refused_when_read() -> None:
    data = torch_zip(BODY, {"0": bytes(16)}, packing=zipfile.ZIP_DEFLATED)
    wrong = patched(
        CENTRAL, 1, 16, b"\x01\x02\x03\x04", patched(LOCAL, 1, 14, b"\x01\x02\x03\x04", data)
    )
    model = open_model(MemoryBytes(wrong, "x.ckpt"))
    with pytest.raises(CorruptFile, match="other bytes than announced"):
        model.state_dict["w"].read()

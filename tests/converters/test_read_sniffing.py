"""Files that are not models are named for what they are."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import torch
from helpers.pickles import call_name, pickled, text
from helpers.verdicts import safety_of

from converters.bytesource import MemoryBytes
from converters.containers import open_model, sniff
from converters.errors import (
    CorruptFile,
    EmptyFile,
    FileMissing,
    FileUnreadable,
    TruncatedFile,
    UnsafeFile,
    UnsupportedFile,
)
from converters.pickles.verdict import Verdict


def legacy(value: object) -> bytes:
    target = io.BytesIO()
    torch.save(value, target, _use_new_zipfile_serialization=False)
    return target.getvalue()


def tar() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return target.getvalue()


NAMED = {
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
    "HTML page": b"<!DOCTYPE html>\n<html><body>404</body></html>",
    "JSON text": b'{"error": "not found"}',
    "a text file": b"a red circle on a white background\n",
    "7z archive": b"7z\xbc\xaf\x27\x1c\0\0",
    "RAR archive": b"Rar!\x1a\x07\x01\0",
    "gzip archive": b"\x1f\x8b\x08\0",
    "tar archive": tar(),
    "PNG picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "GGUF file": b"GGUF\x01\0\0\0",
    "numpy array": b"\x93NUMPY\x01\0v\0{'descr'",
    "ONNX model": b"\x08\x07\x12\x07pytorch\x1a\x032.0\xff",
    "bare Python pickle": pickled(b"}"),
    "of an unknown format": b"\xfe\xdc\xba\x98\x76\x54\x32\x10" * 4,
}


@pytest.mark.parametrize("words", NAMED)
def test_the_error_names_the_format(words: str) -> None:
    source = MemoryBytes(NAMED[words], "model.ckpt")
    assert words in sniff(source)
    with pytest.raises(UnsupportedFile) as caught:
        open_model(source)
    assert words in caught.value.cause


def test_what_no_one_looked_into_is_not_called_safe() -> None:
    for words in ("7z archive", "tar archive", "gzip archive"):
        report = safety_of(MemoryBytes(NAMED[words], "model.ckpt"))
        assert report.verdict is Verdict.SUSPICIOUS
    assert safety_of(MemoryBytes(NAMED["PNG picture"], "model.ckpt")).verdict is Verdict.SAFE


def test_the_bytes_decide_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    torch.save({"w": torch.ones(1)}, path)
    assert set(open_model(path).state_dict) == {"w"}


def test_an_empty_file_is_empty() -> None:
    with pytest.raises(EmptyFile):
        open_model(MemoryBytes(b"", "model.ckpt"))


def test_unknown_bytes_named_safetensors_break_a_rule_of_that_format() -> None:
    with pytest.raises(CorruptFile, match="header length"):
        open_model(MemoryBytes(b"\xff" * 64, "model.safetensors"))
    with pytest.raises(TruncatedFile):
        open_model(MemoryBytes(b"\xff", "model.safetensors"))


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        open_model(tmp_path / "none.ckpt")
    with pytest.raises(FileUnreadable):
        open_model(tmp_path)


def test_a_hostile_object_in_a_legacy_file_is_dangerous() -> None:
    evil = pickled(call_name("os.system", text("true")))
    data = legacy({"w": torch.ones(2)})
    third = data.index(b"protocol_version")
    end_of_system_info = data.index(b".", third) + 1
    report = safety_of(MemoryBytes(data[:end_of_system_info] + evil + data, "model.pt"))
    assert report.verdict is Verdict.DANGEROUS


def test_every_short_file_is_named_without_a_traceback() -> None:
    for first in range(256):
        for content in (bytes([first]), bytes([first, 0x02]), bytes([first]) * 9):
            with pytest.raises((UnsupportedFile, TruncatedFile, CorruptFile, UnsafeFile)):
                open_model(MemoryBytes(content, "model.bin"))

"""Byte sources: positional reads of what is really there, and a clear word when it is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from converters import bytesource
from converters.bytesource import ByteSource, FileBytes, MemoryBytes
from converters.errors import FileMissing, FileUnreadable, SourceChanged, TruncatedFile


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(range(100)))
    return path


def test_a_file_and_memory_answer_alike(file: Path) -> None:
    sources: list[ByteSource] = [FileBytes(file), MemoryBytes(bytes(range(100)))]
    for source in sources:
        assert source.size == 100
        assert source.pread(10, 5) == bytes(range(10, 15))
        assert source.pread(100, 0) == b""
        with pytest.raises(TruncatedFile):
            source.pread(98, 5)
        source.check_unchanged()


def test_reading_works_without_the_posix_positional_call(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pread", raising=False)
    source = FileBytes(file)
    assert source.pread(90, 10) == bytes(range(90, 100))
    assert source.pread(0, 3) == bytes(range(3))


def test_short_reads_of_the_system_are_completed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "pread"):
        pytest.skip("no positional read here")
    whole = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, offset: whole(fd, min(count, 7), offset))
    assert FileBytes(file).pread(1, 50) == bytes(range(1, 51))


def test_a_file_that_grows_shrinks_or_vanishes_is_noticed(file: Path) -> None:
    source = FileBytes(file)
    file.write_bytes(b"other content, other length")
    with pytest.raises(SourceChanged, match="modified"):
        source.check_unchanged()
    if os.name == "posix":
        file.unlink()
        with pytest.raises(SourceChanged, match="vanished"):
            source.check_unchanged()


def test_a_file_that_shrinks_while_open_gives_an_error_not_a_crash(file: Path) -> None:
    source = FileBytes(file)
    os.truncate(file, 20)
    with pytest.raises(TruncatedFile, match="ends at byte 20"):
        source.pread(10, 50)


def test_what_is_not_a_regular_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="no such file"):
        FileBytes(tmp_path / "absent")
    with pytest.raises(FileUnreadable, match="folder"):
        FileBytes(tmp_path)
    with pytest.raises(FileUnreadable):
        FileBytes("a\0b")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(FileUnreadable, match="FIFO"):
            FileBytes(tmp_path / "fifo")


def test_a_source_is_closed_also_where_modules_were_emptied_at_the_end(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FileBytes(file)
    descriptor = source.fileno()
    with monkeypatch.context() as ending:
        ending.setattr(os, "close", None)
        del source
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)


def test_a_closed_source_does_not_read_some_other_file(file: Path) -> None:
    source = FileBytes(file)
    source.close()
    source.close()
    with pytest.raises(FileUnreadable):
        source.pread(0, 1)


def test_an_input_output_error_names_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FileBytes(file)

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(bytesource, "_read_fully", broken)
    with pytest.raises(FileUnreadable, match=r"model\.bin.*Input/output error"):
        source.pread(0, 1)

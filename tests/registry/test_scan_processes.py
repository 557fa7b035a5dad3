"""Where there are thousands of small files, processes hash them: the result is that of threads."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from small_models import lora_bytes, write_lora

import registry.scanning.side_by_side as side_by_side
from converters.bytesource import Fingerprint
from converters.errors import FileMissing
from converters.progress import SILENT
from registry.scanning import processes
from registry.scanning.hashing_messages import answer_to, ask, questions
from registry.scanning.hashing_process import answer_all
from registry.scanning.looking import Waiting, look_into, read
from registry.scanning.on_disk import fingerprint_of
from registry.scanning.processes import Processes
from registry.scanning.side_by_side import Hashed, SideBySide


def waiting(folder: Path, count: int) -> list[Waiting]:
    """Files whose headers were read."""
    paths = [str(write_lora(folder / f"{number}.safetensors", number)) for number in range(count)]
    return [look_into(path).recorded for path in paths]


def unread(path: str) -> Waiting:
    return Waiting(path, fingerprint_of(path))


def hashed_by(files: Sequence[Waiting]) -> list[Hashed]:
    with SideBySide(len(files)) as small:
        for file in files:
            small.start(file)
        assert small.nbytes == sum(file.fingerprint.size for file in files)
        return list(small.rest())


def test_processes_find_what_threads_find(models, monkeypatch):
    files = waiting(models, 5)
    by_threads = hashed_by(files)
    monkeypatch.setattr(side_by_side, "WORKERS", 2)
    monkeypatch.setattr(side_by_side, "MANY", 5)
    monkeypatch.setattr(side_by_side, "BATCH", 2)
    monkeypatch.setattr(side_by_side, "attempt", None)  # nothing is left to the threads
    assert hashed_by(files) == by_threads
    assert all(scanned.weights and scanned.hashes for _, (scanned, _) in by_threads)


def test_files_that_are_not_looked_into_yet_are_left_to_threads(models, monkeypatch):
    files = [*waiting(models, 2), unread(str(write_lora(models / "new.safetensors", 7)))]
    by_threads = hashed_by(files)
    monkeypatch.setattr(side_by_side, "WORKERS", 2)
    monkeypatch.setattr(side_by_side, "MANY", 0)
    assert hashed_by(files) == by_threads
    assert by_threads[-1].result[0].content.kind == "lora"


def test_what_is_wrong_with_a_file_is_found_out_by_the_scan_itself(models):
    sound, gone = waiting(models, 2)
    (models / "1.safetensors").unlink()
    broken = models / "broken.safetensors"
    broken.write_bytes(lora_bytes()[:-5])
    changed = replace(sound, fingerprint=sound.fingerprint._replace(mtime_ns=1))
    first, second = [sound, gone], [changed, replace(sound, path=str(broken))]
    asked, answers = io.BytesIO(), io.BytesIO()
    ask(asked, first)
    ask(asked, second)
    asked.seek(0)
    answer_all(asked, answers)
    answers.seek(0)
    assert answer_to(first, answers) == [read(sound, SILENT)[0], None]
    assert answer_to(second, answers) == [None, None]
    with pytest.raises(EOFError):
        answer_to(first, answers)


@pytest.mark.parametrize("name", ["new\nline", 'quote"', "\udcff", "ö"])
def test_a_file_of_any_name_is_asked_for(models, name):
    question = io.BytesIO()
    ask(question, [Waiting(str(models / name), Fingerprint(1, 2, 3), 8, "lora", is_recorded=True)])
    question.seek(0)
    assert [file.path for (file,) in questions(question)] == [str(models / name)]


def test_one_processor_is_shared_with_no_processes(monkeypatch):
    monkeypatch.setattr(side_by_side, "WORKERS", 1)
    monkeypatch.setattr(side_by_side, "Processes", None)
    with SideBySide(side_by_side.MANY) as small:
        assert list(small.rest()) == []


@pytest.mark.parametrize(
    "command",
    [
        (sys.executable, "-c", ""),
        (sys.executable, "-c", "print('[[[1, 2', end='')"),  # killed in the middle of an answer
        (sys.executable, "-c", "print('Loading plug-ins')"),  # as `sitecustomize` may
        (sys.executable, "-c", "print(1)"),
        ("/no/such/program",),
        ("",),
    ],
)
def test_without_processes_the_threads_hash_all(models, monkeypatch, command):
    files = waiting(models, 3)
    Path(files[1].path).unlink()
    by_threads = hashed_by(files)
    monkeypatch.setattr(side_by_side, "WORKERS", 2)
    monkeypatch.setattr(side_by_side, "MANY", 0)
    monkeypatch.setattr(side_by_side, "BATCH", 1)
    monkeypatch.setattr(side_by_side, "Processes", lambda count: Processes(count, command))
    by_none = hashed_by(files)
    assert [each.file for each in by_none] == files
    assert [by_none[0], by_none[2]] == [by_threads[0], by_threads[2]]
    assert isinstance(by_none[1].result, FileMissing)


def test_a_process_ends_with_the_scan_that_asked_it():
    with subprocess.Popen(processes.COMMAND, stdin=subprocess.PIPE) as process:
        process.stdin.close()
        assert process.wait(60) == 0

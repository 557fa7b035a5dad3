"""Where there are thousands of small files, processes hash them: the result is that of threads."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from small_models import lora_bytes, write_lora

import registry.scanning.side_by_side as side_by_side
from converters.errors import FileMissing
from converters.progress import SILENT
from registry.scanning import processes
from registry.scanning.hashing_process import BEGIN, answer_all
from registry.scanning.looking import Waiting, look_into, read
from registry.scanning.on_disk import fingerprint_of
from registry.scanning.processes import Processes
from registry.scanning.side_by_side import Hashed, SideBySide


def waiting(folder: Path, count: int) -> list[Waiting]:
    """Files whose headers were read, and a last one that was not looked into yet."""
    paths = [str(write_lora(folder / f"{number}.safetensors", number)) for number in range(count)]
    return [*(look_into(path).recorded for path in paths[:-1]), unread(paths[-1])]


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


def test_what_is_wrong_with_a_file_is_found_out_by_the_scan_itself(models):
    sound, gone = waiting(models, 2)
    (models / "1.safetensors").unlink()
    broken = models / "broken.safetensors"
    broken.write_bytes(lora_bytes()[:-5])
    questions = [unread(sound.path), gone], [unread(str(broken))]
    answers = io.BytesIO()
    answer_all(io.BytesIO(b"".join(map(pickle.dumps, questions))), answers)
    answers.seek(len(BEGIN))
    (scanned, nothing), (neither,) = pickle.load(answers), pickle.load(answers)
    assert scanned == read(unread(sound.path), SILENT)[0]
    assert (nothing, neither) == (None, None)


def test_what_an_interpreter_prints_when_it_starts_is_no_answer(models):
    """As its `sitecustomize` may."""
    prints = (
        "import runpy; print('Loading plug-ins'); print('1 found', end='', flush=True)\n"
        "runpy.run_module('registry.scanning.hashing_process', run_name='__main__')"
    )
    files = waiting(models, 2)
    asked = Processes(1, (sys.executable, "-P", "-c", prints))
    try:
        answers = [asked.read(files), asked.read(files[:1])]
    finally:
        asked.close()
    expected = [read(file, SILENT)[0] for file in files]
    assert answers == [expected, expected[:1]]


def test_one_processor_is_shared_with_no_processes(monkeypatch):
    monkeypatch.setattr(side_by_side, "WORKERS", 1)
    monkeypatch.setattr(side_by_side, "Processes", None)
    with SideBySide(side_by_side.MANY) as small:
        assert list(small.rest()) == []


HALF_AN_ANSWER = BEGIN + pickle.dumps(["killed meanwhile"])[:-9]


@pytest.mark.parametrize(
    "command",
    [
        (sys.executable, "-c", ""),
        (sys.executable, "-c", f"import sys; sys.stdout.buffer.write({HALF_AN_ANSWER})"),
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

"""Bad input: one clear error line each, the right exit code, nothing half written or lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import pytest
from helpers import pickles

if TYPE_CHECKING:
    from conftest import Models, Program

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files and permissions")


def _truncated(path: Path) -> None:
    cli_models.tensors(path, {"w": (64, 64)})
    path.write_bytes(path.read_bytes()[:-100])


def _truncated_zip(path: Path) -> None:
    cli_models.pickled(path, {"w": (64, 64)})
    path.write_bytes(path.read_bytes()[:-100])


def _nested_bomb(path: Path) -> None:
    deep = pickles.pickled(b"(" * 3000 + b"t" * 3000)
    path.write_bytes(pickles.torch_zip(deep))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.touch(), "empty_file"),
    "truncated": (_truncated, "truncated"),
    "truncated zip": (_truncated_zip, "truncated"),
    "text": (lambda path: path.write_text("hello, I am a poem\n" * 9), "unsupported"),
    "a web page": (lambda path: path.write_text("<!DOCTYPE html><html>404"), "unsupported"),
    "a pointer": (
        lambda path: path.write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n"
        ),
        "unsupported",
    ),
    "a header larger than the file": (
        lambda path: path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}"),
        "",
    ),
    "a header that is no JSON": (
        lambda path: path.write_bytes((8).to_bytes(8, "little") + b"{{{{{{{{"),
        "corrupt",
    ),
    "a pickle that nests without end": (_nested_bomb, ""),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_error_and_the_batch_goes_on(
    name: str, program: Program, tmp_path: Path
) -> None:
    make, code = BAD[name]
    bad, good = tmp_path / "a.safetensors", tmp_path / "b.ckpt"
    make(bad)
    cli_models.pickled(good, {"w": (2,)})
    before = bad.read_bytes()
    inspected = program("inspect", "--json", bad, good)
    assert inspected.code == 1
    assert len(inspected.errors) == 1
    assert inspected.errors[0].startswith(f"error: {bad}: ")
    first, second = inspected.json
    assert first["error"]
    assert first["code"] == code or not code
    assert "error" not in second
    done = program("convert", "--output-dir", tmp_path / "out", bad, good)
    assert done.code == 1
    assert len(done.errors) == 1
    assert "Traceback" not in done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.safetensors"]
    assert bad.read_bytes() == before
    assert program("scan", tmp_path).code == 1


def test_a_dangerous_pickle_is_inspected_and_nothing_of_it_runs(
    program: Program, tmp_path: Path
) -> None:
    marker = tmp_path / "it-was-run"
    bad = cli_models.hostile(tmp_path / "bad.ckpt", marker)
    done = program("inspect", "--json", bad)
    assert done.code == 1
    (found,) = done.json
    assert found["safety"]["verdict"] == "dangerous"
    assert "os.system" in " ".join(found["safety"]["imports"])
    assert found["code"] == "dangerous"
    assert found["tensors"] == 1
    assert program("hash", bad).code == 0
    scanned = program("scan", "--json", tmp_path)
    assert scanned.code == 1
    assert [error["code"] for error in scanned.json["errors"]] == ["dangerous"]
    assert "bad" in program("list", "is:unsafe").out
    assert program("scan", tmp_path).code == 0, "told once: the unchanged file is not opened again"
    assert not marker.exists()


def test_a_file_that_is_not_there_is_named(program: Program, tmp_path: Path) -> None:
    absent = tmp_path / "absent.ckpt"
    for command in ("inspect", "hash", "convert", "scan"):
        done = program(command, absent)
        assert done.code == 1
        assert len(done.errors) == 1
        assert done.errors[0].startswith(f"error: {absent}: ")


def test_a_full_disk_leaves_nothing_behind(
    program: Program, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = os.write, 0

    def write(descriptor: int, data: memoryview) -> int:
        nonlocal written
        written += len(data)
        if written > 1 << 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    target = tmp_path / "out" / "x.safetensors"
    monkeypatch.setattr(os, "write", write)
    done = program("convert", "--json", models.pickled, "-o", target, "--dtype", "bf16")
    assert done.code == 1
    (item,) = done.json
    assert (item["code"], item["path"]) == ("disk_full", str(target))
    assert item["source"] == str(models.pickled)
    assert list(target.parent.iterdir()) == []
    merged = program("merge", "adapters", models.checkpoint, models.unet_lora, "-o", target)
    assert merged.errors == [f"error: {target}: no space left on the disk"]
    assert list(target.parent.iterdir()) == []


@contextlib.contextmanager
def _powerless() -> Iterator[None]:
    """The tests may run as root, whom no permission stops."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that anybody may look into, also as `ASSETMGR_HOME`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        monkeypatch.setenv("ASSETMGR_HOME", str(folder / "home"))
        yield folder


@posix
def test_what_may_not_be_read_is_named_and_the_rest_goes_on(
    program: Program, open_folder: Path
) -> None:
    closed = cli_models.pickled(open_folder / "a.ckpt", {"w": (2,)})
    closed.chmod(0)
    good = cli_models.pickled(open_folder / "b.ckpt", {"w": (2,)})
    inner = open_folder / "closed"
    inner.mkdir()
    cli_models.tiny(inner / "c.safetensors")
    inner.chmod(0)
    with _powerless():
        done = program("inspect", "--json", closed, good, inner, inner / "c.safetensors")
        walked = program("inspect", "--json", open_folder)
        converted = program("convert", closed, inner / "c.safetensors", good)
    inner.chmod(0o700)
    assert done.code == walked.code == converted.code == 1
    assert [item.get("code") for item in done.json] == ["unreadable", None] + ["unreadable"] * 2
    assert {Path(item["path"]).name for item in walked.json if "code" in item} == {
        "a.ckpt",
        "closed",
    }
    assert "Permission denied" in converted.errors[0]
    assert len(converted.errors) == 2
    assert good.with_suffix(".safetensors").is_file()


@posix
def test_a_target_that_may_not_be_written_is_named(program: Program, open_folder: Path) -> None:
    source = cli_models.pickled(open_folder / "a.ckpt", {"w": (2,)})
    closed = open_folder / "closed"
    closed.mkdir(mode=0o555)
    with _powerless():
        done = program("convert", "--json", source, "-o", closed / "x.safetensors")
    assert done.code == 1
    assert done.json[0]["code"] == "write_failed"
    assert list(closed.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_named(
    program: Program, models: Models, tmp_path: Path
) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a folder")
    inside = file / "deep" / "out.safetensors"
    for call in (
        ("convert", models.lora, "-o", inside),
        ("resize", models.lora, "--rank", "2", "-o", file / "out.safetensors"),
        ("export", "-o", file / "mine.json"),
        ("demo", file),
    ):
        done = program(*call)
        assert (done.code, done.errors) == (1, [f"error: {file}: is not a folder"]), call
    assert file.read_text() == "not a folder"


@pytest.mark.parametrize(
    ("call", "wrong", "cause"),
    [
        (("convert", "{checkpoint}", "--vae", "{lora}"), "lora", "is of kind lora, not a VAE"),
        (("resize", "{checkpoint}", "--rank", "2"), "checkpoint", "is of kind checkpoint, not an"),
        (
            ("merge", "adapters-into-one", "{lora}", "{checkpoint}", "--rank", "2"),
            "checkpoint",
            "is of kind checkpoint, not an adapter",
        ),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_a_file_of_the_wrong_kind_is_the_one_that_is_named(
    call: tuple[str, ...], wrong: str, cause: str, program: Program, models: Models, tmp_path: Path
) -> None:
    files = {"lora": models.lora, "checkpoint": models.checkpoint}
    target = tmp_path / "out.safetensors"
    done = program(*(word.format(**files) for word in call), "-o", target)
    assert done.code == 1
    assert done.errors[0].startswith(f"error: {files[wrong]}: {cause}")
    assert not target.exists()


def test_choices_that_are_missing_are_one_line(program: Program, models: Models) -> None:
    done = program("merge", "checkpoints", models.checkpoint, models.checkpoint, "-o", "x")
    assert done.code == 2
    assert "Missing option '--method'. Choose from: weighted-sum, add-difference," in done.errors[0]


@posix
def test_pipes_and_devices_are_refused_at_once(program: Program, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    for command in ("inspect", "hash", "convert"):
        done = program(command, "--json", pipe)
        assert done.code == 1
        assert done.json[0]["code"] == "unreadable"
    assert program("inspect", "/dev/zero").code == 1
    program("scan", tmp_path)


ODD_NAMES = {
    "line break": b"two\nlines.ckpt",
    "terminal escape": b"\x1b[31mred\x07.ckpt",
    "markup": b"[bold]not bold[blink].ckpt",
    "not UTF-8": b"caf\xe9.ckpt",
    "beyond ASCII": "麦橘 é 🦊.ckpt".encode(),
    "reads from right to left": "a\u202eb.ckpt".encode(),
    "a leading space and quotes": b" 'x' \"y\".ckpt",
}


@posix
@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_shown_escaped_and_written_as_they_are(
    name: str, program: Program, tmp_path: Path
) -> None:
    raw = ODD_NAMES[name]
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + raw))
    cli_models.pickled(source, {"w": (2,)})
    (found,) = program("inspect", "--json", source).json
    assert found["path"] == str(source)
    (hashed,) = program("hash", "--json", tmp_path).json
    assert os.fsencode(hashed["path"]) == os.fsencode(source)
    shown = [program(command, source) for command in ("inspect", "hash")]
    source.with_suffix(".bad.ckpt").touch()
    shown += [program("inspect", tmp_path), program("scan", tmp_path), program("list")]
    for done in shown:
        told = done.out + done.err
        assert not set(told) & {"\x1b", "\x07", "\u202e"}
        assert not any("\ud800" <= character <= "\udfff" for character in told)
        assert all(len(line.split("error: ")) <= 2 for line in done.err.splitlines())
    assert "Traceback" not in "".join(done.err for done in shown)


def test_metadata_cannot_reach_the_terminal(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    words = {"modelspec.trigger_phrase": "\x1b]0;owned\x07 [red]x[/red]\nerror: fake"}
    cli_models.lora(path, text=False, metadata=words)
    program("scan", tmp_path)
    for command in ("inspect", "show"):
        done = program(command, path)
        assert "\x1b" not in done.out
        assert "[red]x[/red]" in done.out
        assert not any(line.startswith("error: fake") for line in done.out.splitlines())
    assert "\\n" in program("inspect", path).out


def test_a_name_longer_than_the_system_allows_is_an_error(program: Program, models: Models) -> None:
    name = "x" * 5000
    for call in (
        ["inspect", name],
        ["hash", name],
        ["convert", name],
        ["convert", models.pickled, "-o", name],
        ["scan", name],
        ["show", name],
        ["merge", "adapters", models.checkpoint, name, "-o", "y"],
    ):
        done = program(*call)
        assert done.code == 1, call[0]
        assert len(done.errors) == 1
        assert "internal" not in done.err, call[0]


def test_a_library_that_is_no_database_is_named(program: Program, tmp_path: Path) -> None:
    database = Path(os.environ["ASSETMGR_HOME"]) / "library.db"
    database.write_text("not a database, but a letter to a friend\n" * 99)
    done = program("list", "--json")
    assert done.code == 3
    assert done.json["errors"][0]["path"] == str(database)
    assert len(done.errors) == 1
    assert json.loads(done.out)


def test_of_a_file_that_is_not_there_nothing_is_shown_but_the_error(program: Program) -> None:
    done = program("inspect", "absent.safetensors")
    assert (done.code, done.out, len(done.errors)) == (1, "", 1)


@pytest.mark.parametrize("command", ["inspect", "hash", "convert"])
def test_an_address_is_no_file_and_the_hint_says_what_looks_into_it(
    command: str, program: Program
) -> None:
    address = "https://huggingface.co/org/gems/resolve/main/gem.safetensors"
    done = program(command, address)
    assert done.code == 2
    first, second = done.err.splitlines()
    assert first == f"error: {address}: is an address, not a file"
    assert "assetmgr hub peek" in second

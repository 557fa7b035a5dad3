"""The program as a process: what it loads, how it ends when it is stopped, what it prints where."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import pytest
from helpers.from_a_terminal import STANDS_STILL_WHILE_WRITING, from_a_terminal
from helpers.waiting import PATIENCE, wait_until

from assetmgr.paths import find_paths

if TYPE_CHECKING:
    from conftest import Done, Models

    Process = Callable[..., Done]

NEVER = (
    "torch",
    "diffusers",
    "transformers",
    "textual",
    "huggingface_hub",
    "httpx",
    "rich.progress",
)
LOADED = """
import sys
from assetmgr.cli.main import run
calls, names = {calls!r}, {names!r}
for call in calls:
    assert run(call) == 0, call
    found = sorted(name for name in names if name in sys.modules)
    assert not found, (call, found)
"""


def test_looking_loads_neither_the_library_nor_any_network(
    process: Process, models: Models
) -> None:
    calls = [["--help"], ["convert", "--help"], ["inspect", "--json", str(models.pickled)]]
    calls.append(["inspect", str(models.lora)])
    names = (*NEVER, "sqlalchemy", "alembic", "numpy", "rich", "platformdirs")
    done = process(code=LOADED.format(calls=calls, names=names))
    assert done.code == 0, done.err
    done = process(code=LOADED.format(calls=[["hash", str(models.lora)]], names=names[:-3]))
    assert done.code == 0, done.err


def test_the_library_is_read_without_torch_or_migrations(process: Process, models: Models) -> None:
    calls = [["scan", str(models.folder)], ["list"], ["list", "--json"], ["show", "#1"]]
    done = process(code=LOADED.format(calls=calls, names=(*NEVER, "alembic")))
    assert done.code == 0, done.err
    calls = [["list"], ["list", "kind:lora", "style", "--limit", "2", "--sort", "-added"]]
    done = process(code=LOADED.format(calls=calls, names=(*NEVER, "sqlalchemy")))
    assert done.code == 0, done.err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interrupted_conversion_leaves_neither_target_nor_remains(
    number: str, tmp_path: Path
) -> None:
    source = cli_models.sparse(tmp_path / "large.safetensors", 1 << 24)
    folder = tmp_path / "out"
    call = ["convert", source, "--output-dir", folder, "--json"]
    with subprocess.Popen(
        [*from_a_terminal(STANDS_STILL_WHILE_WRITING), *call],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            wait_until(
                lambda: folder.is_dir() and any(path.stat().st_size for path in folder.iterdir()),
                going_on=lambda: program.poll() is None,
            )
            program.send_signal(getattr(signal, number))
            out, err = program.communicate(timeout=PATIENCE)
        finally:
            program.kill()
    assert program.returncode == 130
    assert err == "error: interrupted\n"
    assert '"code": "cancelled"' in out
    assert list(folder.iterdir()) == []
    assert source.stat().st_size > 1 << 24


def test_stderr_has_no_bars_and_stdout_only_results_when_nobody_watches(
    process: Process, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "x.safetensors"
    done = process("convert", models.lora, "-o", target, env={"FORCE_COLOR": "1"})
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{models.lora} -> {target}  ")
    assert done.out.count("\n") == 1
    assert "\x1b" not in done.out


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
@pytest.mark.parametrize(("arguments", "shown"), [([], True), (["--quiet"], False)])
def test_bars_are_for_people_and_have_no_colour_when_asked(
    arguments: list[str], shown: bool, models: Models
) -> None:
    import pty

    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "assetmgr", "hash", models.pickled, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"},
        text=True,
        check=True,
    )
    os.close(theirs)
    told = _drained(ours)
    assert "sha256" in done.stdout
    assert ("hashing" in told) is shown
    assert "\x1b[3" not in told, "NO_COLOR is honoured"


def _drained(descriptor: int) -> str:
    parts = []
    try:
        while part := os.read(descriptor, 1 << 16):
            parts.append(part)
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(descriptor)
    return b"".join(parts).decode()


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_a_reader_that_goes_away_is_not_an_error(models: Models) -> None:
    command = f'"{sys.executable}" -m assetmgr inspect --tensors "{models.folder}" | true'
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("switches", [[], ["--json"]])
def test_results_that_cannot_be_written_are_an_error(switches: list[str], models: Models) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "assetmgr", "inspect", models.lora, *switches],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: stdout: cannot be written: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
@pytest.mark.parametrize(
    ("closed", "code", "out", "err"),
    [
        ("<&-", 0, True, ""),
        ("2>&-", 0, True, ""),
        (">&-", 1, False, "error: stdout: cannot be written: Bad file descriptor\n"),
    ],
)
def test_streams_that_were_closed_are_no_file_of_ours(
    closed: str, code: int, out: bool, err: str
) -> None:
    command = f'"{sys.executable}" -m assetmgr config path {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, bool(done.stdout), done.stderr) == (code, out, err)


def test_the_shell_completes_commands(process: Process) -> None:
    words = {"_ASSETMGR_COMPLETE": "bash_complete", "COMP_WORDS": "assetmgr in", "COMP_CWORD": "1"}
    assert "inspect" in process(env=words).out


def test_an_error_that_is_no_ones_fault_is_one_line_and_debug_shows_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import assetmgr.cli.inspect as command
    from assetmgr.cli.main import run

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(command, "inspect_paths", broken)
    assert run(["inspect", "x"]) == 1
    kept = find_paths().faults
    said = f"error: internal error: RuntimeError: a bug\nhint: report what {kept} tells\n"
    assert capsys.readouterr().err == said
    assert "in broken" in kept.read_text()
    with pytest.raises(RuntimeError):
        run(["inspect", "x", "--debug"])


def test_the_terminal_ui_is_not_drawn_into_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from assetmgr.cli.main import run

    for stream, is_terminal in ((sys.stdin, True), (sys.stdout, True), (sys.stderr, False)):
        monkeypatch.setattr(stream, "isatty", lambda answer=is_terminal: answer, raising=False)
    assert run(["tui"]) == 3
    assert "needs a terminal" in capsys.readouterr().err
    assert run([]) == 0
    assert capsys.readouterr().out.startswith("Usage: ")


def test_debug_shows_where_an_error_is_from_and_changes_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from assetmgr.cli.main import run

    call = ["config", "set", "no\x1b[2Jsuch", "x", "--json"]
    assert run(call) == 2
    usual = capsys.readouterr()
    assert run([*call, "--debug"]) == 2
    found = capsys.readouterr()
    assert found.out == usual.out
    assert found.err.startswith("Traceback ")
    assert found.err.endswith(usual.err)
    assert "\x1b" not in found.err

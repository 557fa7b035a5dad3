"""What was written last and is lost with a damaged write-ahead log is told before it is opened."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.storage import write_ahead_log
from registry.storage.health import examine
from registry.storage.write_ahead_log import losses

PAGE = 512
FRAME = 24 + PAGE


@pytest.fixture(autouse=True)
def _nobody_else_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_ahead_log, "AGAIN_SECONDS", 0)


@pytest.fixture
def open_one(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A database of eight transactions in its log, as a program has it that works with it."""
    with closing(sqlite3.connect(tmp_path / "open.db", isolation_level=None)) as database:
        database.execute(f"PRAGMA page_size = {PAGE}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE typed (text)")
        for number in range(7):
            database.execute("INSERT INTO typed VALUES (?)", (f"{number}" * 100,))
        yield database


@pytest.fixture
def killed(tmp_path: Path, open_one: sqlite3.Connection) -> Path:
    """The same, as a program leaves it that is killed."""
    for ending in ("", "-wal", "-shm"):
        shutil.copy(tmp_path / f"open.db{ending}", tmp_path / f"killed.db{ending}")
    return tmp_path / "killed.db"


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT count(*) FROM typed").fetchone()[0])


def test_a_log_that_a_killed_program_left_is_whole(killed: Path) -> None:
    assert losses(killed) is None
    assert rows(killed) == 7


@pytest.mark.parametrize("offset", [0, 9, 16, 30, 31])
def test_a_damaged_beginning_loses_all(killed: Path, offset: int) -> None:
    overwrite(killed, offset)
    assert losses(killed) == "the beginning of its write-ahead log is damaged"


def test_a_beginning_whose_checksum_holds_may_still_be_none(killed: Path) -> None:
    """A database has no pages of 1001 bytes."""
    log = Path(f"{killed}-wal")
    content = bytearray(log.read_bytes())
    content[8:12] = struct.pack(">I", 1001)
    order = "<" if content[3] == 0x82 else ">"
    content[24:32] = struct.pack(">2I", *write_ahead_log._sums(bytes(content[:24]), order, (0, 0)))
    log.write_bytes(content)
    assert losses(killed) == "the beginning of its write-ahead log is damaged"


def test_the_largest_pages_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "large.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA page_size = 65536")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE typed (text)")
        assert losses(path) is None
        overwrite(path, 32 + 24 + 60_000)
        assert str(losses(path)).startswith("its write-ahead log is damaged behind frame 0")


@pytest.mark.parametrize("offset", [0, 8, 16, 24, 24 + 200])
def test_damage_in_the_middle_loses_what_comes_behind_it(killed: Path, offset: int) -> None:
    overwrite(killed, 32 + 5 * FRAME + offset)
    told = losses(killed)
    assert told is not None
    assert told.startswith("its write-ahead log is damaged behind frame ")
    assert rows(killed) < 7


def test_a_log_that_was_cut_off_is_shorter_than_its_index_says(killed: Path) -> None:
    log = Path(f"{killed}-wal")
    os.truncate(log, log.stat().st_size - 2 * FRAME)
    assert "its write-ahead log ends with frame" in str(losses(killed))


@pytest.mark.parametrize("how", [lambda log: log.unlink(), lambda log: os.truncate(log, 0)])
def test_a_log_that_is_gone_is_missed_by_its_index(killed: Path, how) -> None:  # type: ignore[no-untyped-def]
    how(Path(f"{killed}-wal"))
    assert losses(killed) == "its write-ahead log is gone"


def test_what_was_copied_into_the_database_is_not_lost_with_its_log(
    tmp_path: Path, open_one: sqlite3.Connection
) -> None:
    open_one.execute("PRAGMA wal_checkpoint(FULL)")
    assert losses(tmp_path / "open.db") is None
    shutil.copy(tmp_path / "open.db", tmp_path / "copied.db")
    shutil.copy(tmp_path / "open.db-shm", tmp_path / "copied.db-shm")
    assert losses(tmp_path / "copied.db") is None


def test_frames_of_an_older_log_and_of_a_transaction_that_was_given_up_are_no_damage(
    tmp_path: Path, open_one: sqlite3.Connection
) -> None:
    open_one.execute("PRAGMA wal_checkpoint(FULL)")
    open_one.execute("INSERT INTO typed VALUES ('the log begins anew')")
    open_one.execute("PRAGMA cache_size = 2")
    open_one.execute("BEGIN IMMEDIATE")
    for _ in range(40):
        open_one.execute("INSERT INTO typed VALUES (?)", ("x" * 400,))
    assert losses(tmp_path / "open.db") is None
    open_one.execute("ROLLBACK")
    open_one.execute("INSERT INTO typed VALUES ('over its frames')")
    assert losses(tmp_path / "open.db") is None


def test_what_is_being_written_meanwhile_is_no_damage(
    killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path(f"{killed}-wal").read_bytes()
    overwrite(killed, 32 + 5 * FRAME)
    monkeypatch.setattr(
        write_ahead_log.time, "sleep", lambda _: Path(f"{killed}-wal").write_bytes(whole)
    )
    assert losses(killed) is None


def test_the_look_takes_no_lock_from_a_program_that_works_with_the_library(
    tmp_path: Path, open_one: sqlite3.Connection
) -> None:
    """POSIX drops all locks of a process on a file of which it closes any descriptor."""
    open_one.execute("BEGIN IMMEDIATE")
    losses(tmp_path / "open.db")
    child = (
        "import sqlite3, sys\n"
        f"d = sqlite3.connect({str(tmp_path / 'open.db')!r}, timeout=0)\n"
        "try: d.execute('BEGIN IMMEDIATE')\n"
        "except sqlite3.OperationalError as error: print(error)\n"
    )
    assert "locked" in in_another_process(child)


def test_where_closing_takes_no_locks_nothing_stays_open(
    killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows, where SQLite could not delete an index that is open."""
    monkeypatch.setattr(write_ahead_log, "_CLOSING_UNLOCKS", False)
    monkeypatch.setattr(write_ahead_log, "_OPEN", {})
    Path(f"{killed}-wal").unlink()
    assert losses(killed) == "its write-ahead log is gone"
    assert write_ahead_log._OPEN == {}
    Path(f"{killed}-shm").unlink()
    assert losses(killed) is None


def test_the_doctor_is_told_before_the_database_is_opened(killed: Path) -> None:
    overwrite(killed, 32 + 5 * FRAME)
    for _ in range(2):
        health = examine(f"sqlite:///{killed}")
        assert "what was written last is lost" in health.problems[0]
        assert "scan again" in str(health.hint)


@given(
    words=st.lists(st.integers(0, 2**32 - 1), max_size=40).filter(lambda each: len(each) % 2 == 0),
    before=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
)
def test_sums_are_those_of_the_file_format(words: list[int], before: tuple[int, int]) -> None:
    first, second = before
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) % 2**32
        second = (second + other + first) % 2**32
    data = struct.pack(f">{len(words)}I", *words)
    assert write_ahead_log._sums(data, ">", before) == (first, second)


def overwrite(database: Path, offset: int) -> None:
    """Another byte at a place of the log."""
    with Path(f"{database}-wal").open("r+b") as log:
        log.seek(offset)
        (byte,) = log.read(1)
        log.seek(offset)
        log.write(bytes([byte ^ 0xFF]))


def in_another_process(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

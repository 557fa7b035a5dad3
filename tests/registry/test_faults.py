"""What a library survives: migrations that fail, full disks, damage, and being killed."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_models import write_lora
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

import registry.scanning.scanner
import registry.storage.backup
import registry.storage.engines
from registry import migrations
from registry.errors import LibraryUnusable
from registry.library import Library
from registry.scanning.scanner import scan
from registry.storage.backup import KEPT, backups
from registry.storage.health import examine
from registry.storage.revision import REVISION
from registry.tables.states import MISSING
from registry.text import BETWEEN

OLD = "0003_places"


@pytest.fixture
def url(tmp_path: Path, new_library: Path) -> str:
    (tmp_path / "state").mkdir()
    shutil.copy(new_library, tmp_path / "state" / "library.db")
    return f"sqlite:///{tmp_path / 'state' / 'library.db'}"


@pytest.fixture
def path(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


@pytest.fixture
def old(path: Path, url: str) -> Path:
    """A library of an older program, with a folder in it."""
    path.unlink()
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        migrations.upgrade(connection, OLD)
        connection.exec_driver_sql("INSERT INTO root (path) VALUES ('/m')")
    return path


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps files that are open")
class TestFilesThatGo:
    """The file of a library that is open."""

    CALLS = (
        lambda library: library.tag([1], ["lost"]),
        lambda library: library.search("").total,
        lambda library: library.looked_through().__enter__() or scan(library),
    )

    @pytest.mark.parametrize("call", CALLS, ids=["write", "read", "scan"])
    def test_one_that_was_removed_is_not_written_to_and_not_made_again(self, path, url, call):
        with Library.open(url) as library:
            path.unlink()
            with pytest.raises(LibraryUnusable, match="was removed while it was in use") as caught:
                call(library)
        assert (caught.value.path, caught.value.exit_code) == (str(path), 3)
        assert not path.exists()

    def test_one_that_was_replaced_keeps_what_is_in_the_new_one(self, path, url, new_library):
        with Library.open(url) as library:
            shutil.copy(new_library, path.with_name("new"))
            before = path.with_name("new").rename(path).read_bytes()
            with pytest.raises(LibraryUnusable, match="was replaced by another file"):
                scan(library)
            assert path.read_bytes() == before

    def test_one_that_was_put_back_is_used_again(self, path, url):
        with Library.open(url) as library:
            away = path.rename(path.with_name("away"))
            with pytest.raises(LibraryUnusable, match="was removed"):
                library.roots()
            away.rename(path)
            assert library.roots() == ()


class TestBackups:
    def test_an_older_library_is_copied_before_it_is_migrated(self, old, url):
        with Library.open(url) as library:
            assert library.roots() == ("/m",)
        (kept,) = backups(old)
        assert kept.name == f"library.db.backup-{OLD}"
        assert rows(kept, "SELECT version_num FROM alembic_version") == [(OLD,)]
        assert rows(kept, "SELECT path FROM root") == [("/m",)]
        assert rows(old, "SELECT version_num FROM alembic_version") == [(REVISION,)]

    def test_new_and_current_libraries_are_not_copied(self, path, url, tmp_path):
        Library.open(url).close()
        Library.open(f"sqlite:///{tmp_path / 'other.db'}").close()
        assert backups(path) == backups(tmp_path / "other.db") == ()

    def test_what_is_still_in_the_log_is_in_the_copy(self, old, url):
        with closing(sqlite3.connect(old)) as writer:
            writer.execute("PRAGMA journal_mode = WAL")
            writer.execute("INSERT INTO root (path) VALUES ('/n')")
            writer.commit()
            Library.open(url).close()
        (kept,) = backups(old)
        assert rows(kept, "SELECT path FROM root ORDER BY path") == [("/m",), ("/n",)]

    def test_only_the_newest_are_kept(self, old, url):
        for age in range(5):
            copy = old.with_name(f"library.db.backup-{age:04}")
            copy.touch()
            os.utime(copy, (age, age))
        Library.open(url).close()
        names = [kept.name.removeprefix("library.db.backup-") for kept in backups(old)]
        assert names == [OLD, "0004", "0003"]
        assert len(names) == KEPT

    def test_a_disk_that_is_too_full_leaves_the_library_as_it_was(self, old, url, monkeypatch):
        usage = SimpleNamespace(free=0)
        monkeypatch.setattr(registry.storage.backup.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(LibraryUnusable, match=r"backed up .* too full") as refused:
            Library.open(url)
        assert refused.value.path == str(old)
        assert rows(old, "SELECT version_num FROM alembic_version") == [(OLD,)]
        assert sorted(entry.name for entry in old.parent.iterdir()) == ["library.db"]

    def test_a_copy_that_fails_leaves_the_library_as_it_was(self, old, url, monkeypatch):
        def fail(_, target):
            target.write_bytes(b"half")
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(registry.storage.backup, "_copy", fail)
        with pytest.raises(LibraryUnusable, match="backed up"):
            Library.open(url)
        assert rows(old, "SELECT version_num FROM alembic_version") == [(OLD,)]
        assert backups(old) == ()
        assert not list(old.parent.glob("*.part"))

    def test_a_migration_that_fails_leaves_the_library_as_it_was(self, old, url, monkeypatch):
        def fail(connection):
            connection.exec_driver_sql("DROP TABLE tag")
            raise LibraryUnusable("does not work")

        monkeypatch.setattr(migrations, "upgrade", fail)
        with pytest.raises(LibraryUnusable, match="does not work"):
            Library.open(url)
        assert rows(old, "SELECT count(*) FROM tag") == [(0,)]
        assert rows(old, "SELECT version_num FROM alembic_version") == [(OLD,)]

    def test_doctor_and_errors_name_the_newest(self, old, url):
        Library.open(url).close()
        assert examine(url).backups == (f"library.db.backup-{OLD}",)
        damaged = b"these were assets" * 1000
        old.write_bytes(damaged)
        with pytest.raises(LibraryUnusable, match="corrupt") as refused:
            Library.open(url)
        assert f"library.db.backup-{OLD}" in str(refused.value.hint)
        assert f"library.db.backup-{OLD}" in str(examine(url).hint)
        assert old.read_bytes() == damaged

    def test_a_backup_is_a_library(self, old, url):
        Library.open(url).close()
        shutil.copy(backups(old)[0], old)
        with Library.open(url) as library:
            assert library.roots() == ("/m",)


class TestFullDisk:
    def test_a_scan_says_so_and_the_next_one_does_the_rest(self, url, path, models, monkeypatch):
        for number in range(40):
            text = random.Random(number).randbytes(4_000).hex()
            write_lora(models / f"{number}.safetensors", number, text=text)
        (pages,) = rows(path, "PRAGMA page_count")[0]
        _limit_pages(monkeypatch, pages + 200)
        with pytest.raises(LibraryUnusable, match="disk is full"), Library.open(url) as library:
            scan(library, [models])
        monkeypatch.undo()
        require_sound(path)
        with Library.open(url) as library:
            scan(library)
            assert library.search().total == 40
            assert scan(library).unchanged == 40
        require_sound(path)


def _limit_pages(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """As if the disk had room for so many pages of the database and no more."""
    set_up = registry.storage.engines._set_up

    def set_up_with_limit(connection, record):
        set_up(connection, record)
        connection.execute(f"PRAGMA max_page_count = {most}")

    monkeypatch.setattr(registry.storage.engines, "_set_up", set_up_with_limit)


OF_BRIEF = "ON alike.id = brief.alike_id"


def require_sound(path: Path) -> None:
    """Nothing in the database contradicts anything else in it."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute
        assert found("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert found("PRAGMA foreign_key_check").fetchall() == []
        for index in ("asset_words", "file_words"):
            found(f"INSERT INTO {index} ({index}, rank) VALUES ('integrity-check', 1)")
        for table in ("asset_metadata", "asset_search"):
            lost = f"SELECT id FROM asset WHERE id NOT IN (SELECT asset_id FROM {table})"
            assert found(lost).fetchall() == []
        half = "SELECT id FROM asset WHERE (blake3 IS NULL) <> (sha256 IS NULL)"
        assert found(half).fetchall() == []
        kept = dict(found("SELECT value, number FROM facet WHERE name = 'tag' AND number > 0"))
        assert kept == dict(found("SELECT name, count(*) FROM tag GROUP BY name"))
        words = "kind, container, coalesce(rating, -1), state, min(copies, 2)"
        counted = f"SELECT {words}, count(*) FROM asset GROUP BY {words}"
        kept = f"SELECT {words}, sum(number) FROM alike WHERE number > 0 GROUP BY {words}"
        assert set(found(kept)) == set(found(counted))
        told = "SELECT id, kind, container, state, bytes FROM asset"
        kept = f"SELECT asset_id, kind, container, state, bytes FROM brief JOIN alike {OF_BRIEF}"
        assert set(found(kept)) == set(found(told))
        tagged = "SELECT asset_id, name FROM tag ORDER BY asset_id, name"
        kept = found("SELECT asset_id, tags FROM brief WHERE tags <> '' ORDER BY asset_id")
        assert found(tagged).fetchall() == [
            (owner, name) for owner, tags in kept for name in sorted(tags.split(BETWEEN))
        ]
        counted = "SELECT count(*) FROM file WHERE asset_id = asset.id AND state = 'present'"
        assert found(f"SELECT id FROM asset WHERE copies <> ({counted})").fetchall() == []


class Victims:
    """Scans that are killed; `kept` are the tags that were said to be kept, by content."""

    def __init__(self) -> None:
        program = Path(__file__).with_name("killed_scans.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.kept: list[tuple[str, str]] = []

    def run(self, url: str, folder: Path, calls: int) -> int:
        """Scan, and have the scan killed after so many calls, or not at all for 0.

        Gives how many calls there were, 0 if it was killed.
        """
        self._write(f"{url}\t{folder}\t{calls}")
        done = 0
        while (line := self._read()) != "end":
            word, told = line.split("\t")
            if word == "done":
                done = int(told)
            else:
                self.kept.append((word, told))
        return done

    def close(self) -> None:
        self._process.communicate()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")


@pytest.fixture
def victims():
    started = Victims()
    yield started
    started.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_scan_that_is_killed_at_any_moment_loses_nothing(url, path, models, victims):
    chance = random.Random(7)
    for number in range(10):
        write_lora(models / f"{number}.safetensors", number)
    whole = victims.run(url, models, 0)
    killed = 0
    for number in range(15):
        change_some(models, number, chance)
        # One is let go on to its end, so that there are tags which all others must keep.
        killed += not victims.run(url, models, chance.randrange(1, whole) if number else 0)
        require_sound(path)
        with Library.open(url) as library:
            scan(library)
            assets = library.assets()
            here = {asset.path for asset in assets if asset.state != MISSING}
            assert here == {str(path) for path in models.iterdir()}
            tags = {asset.hashes["blake3"]: asset.tags for asset in assets}
            assert all(tags), "no half-read file"
            assert not [(of, tag) for of, tag in victims.kept if tag not in tags[of]]
            assert scan(library).unchanged == len(here)
        require_sound(path)
    assert killed >= 5, "most scans were killed in the middle"
    assert len(victims.kept) >= 10


def change_some(models: Path, number: int, chance: random.Random) -> None:
    """New files, one that is moved, one whose content is another now, one that is gone."""
    for extra in range(3):
        write_lora(models / f"new {number} {extra}.safetensors", 100 + 3 * number + extra)
    files = sorted(models.iterdir())
    moved, changed, gone = chance.sample(files, 3)
    moved.rename(models / f"moved {number}.safetensors")
    write_lora(changed, 200 + number)
    gone.unlink()

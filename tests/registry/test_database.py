"""The database under the library: migrations, other versions, damage, and company."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from small_models import scanned, write_lora
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

import registry.storage.engines
from converters.errors import AssetmgrError, BadValue
from docs.scripts import tables
from registry import migrations
from registry.errors import LibraryUnusable
from registry.library import Library
from registry.scanning.scanner import scan
from registry.storage import new_tables
from registry.storage.revision import REVISION
from registry.tables import schema


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "library.db"


@pytest.fixture
def url(path: Path) -> str:
    """Of a library that is not there yet."""
    return f"sqlite:///{path}"


@pytest.fixture
def library(path: Path, url: str, new_library: Path) -> Iterator[Library]:
    path.parent.mkdir()
    shutil.copy(new_library, path)
    with Library.open(url) as opened:
        yield opened


def execute(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


def told_by_the_schema(dialect):
    """Not what FTS5 keeps its index in, and not the indexes of the other database."""

    def is_told(thing, name, kind, reflected, _counterpart):
        if kind == "table":
            return not (reflected and name in FTS5_TABLES)
        if kind == "index" and reflected:
            return not name.endswith("_trigrams")
        return kind != "index" or thing._ddl_if is None or thing._ddl_if.dialect == dialect

    return is_told


FTS5_TABLES = frozenset(
    ["asset_trigrams", "asset_words", "file_words"]
    + [f"{name}_words_{part}" for name in ("asset", "file") for part in ("config", "data", "idx")]
)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_the_migrations_build_the_tables_of_the_schema(dialect, request, new_library):
    on_disk = dialect == "sqlite"
    url = f"sqlite:///{new_library}" if on_disk else request.getfixturevalue("server").new()
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        opts = {"compare_type": True, "include_object": told_by_the_schema(dialect)}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, schema.metadata) == []
        found = inspect(connection)
        for table in schema.metadata.sorted_tables:
            rules = {
                (key["constrained_columns"][0], key["options"].get("ondelete"))
                for key in found.get_foreign_keys(table.name)
            }
            assert rules == {(key.parent.name, key.ondelete) for key in table.foreign_keys}
            assert {unique["name"] for unique in found.get_unique_constraints(table.name)} == {
                name for name in map(str, (c.name for c in table.constraints)) if name[:3] == "uq_"
            }


def test_the_program_knows_its_newest_migration():
    assert migrations.newest() == REVISION


def test_a_new_library_is_made_with_its_folder(url, path):
    with Library.open(url) as library:
        assert library.name == str(path)
        assert library.search().total == 0
    assert execute(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_current_library_opens_without_alembic_and_without_the_orm(new_library):
    code = f"""if True:
        import sys
        from registry.library import Library
        with Library.open("sqlite:///{new_library}") as library:
            library.search("fox")
        heavy = ("alembic", "sqlalchemy.orm", "numpy", "torch")
        print([name for name in heavy if name in sys.modules])
    """
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_foreign_keys_are_enforced(library, path):
    library.record_file(scanned(1))
    library.tag([1], ["a"])
    with library._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM asset")
    assert execute(path, "SELECT count(*) FROM tag") == [(0,)]
    assert execute(path, "SELECT count(*) FROM file") == [(0,)]


def test_what_searches_look_through_follows_every_change(library, path):
    library.record_files([scanned(1), scanned(2)])
    library.tag([1], ["a", "b"])
    library.rate(1, 5)
    execute(path, "UPDATE tag SET asset_id = 2 WHERE name = 'b'")
    execute(path, "UPDATE asset SET bytes = 77 WHERE id = 2")
    assert library.facets("rating:5")["tag"] == {"a": 1}
    assert library.facets("-rating:5 size:<=77")["tag"] == {"b": 1}
    library.tag([2], remove=["b"])
    library.forget([1])
    assert library.facets("size:<=77 -rating:5")["tag"] == {}
    assert execute(path, "SELECT asset_id, tags FROM brief") == [(2, "")]


def test_a_library_of_a_newer_program_is_refused_and_left_alone(library, url, path):
    library.close()
    execute(path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LibraryUnusable, match="newer version") as refused:
        Library.open(url)
    assert refused.value.path == str(path)
    assert execute(path, "SELECT version_num FROM alembic_version") == [("9999",)]


def test_the_database_of_another_program_is_refused_and_left_alone(url, path):
    path.parent.mkdir()
    execute(path, "CREATE TABLE models (id)")
    with pytest.raises(LibraryUnusable, match="another program"):
        Library.open(url)
    assert execute(path, "SELECT name FROM sqlite_master") == [("models",)]


def test_a_file_that_is_no_database_is_refused_and_left_alone(url, path):
    path.parent.mkdir()
    path.write_bytes(b"these are my notes, not a database" * 100)
    with pytest.raises(LibraryUnusable, match="not a library database"):
        Library.open(url)
    assert path.read_bytes().startswith(b"these are my notes")


def test_a_damaged_library_is_named(library, url, path):
    library.record_files([scanned(number) for number in range(60)])
    library.close()
    content = bytearray(path.read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    path.write_bytes(content)
    with pytest.raises(LibraryUnusable, match="corrupt"), Library.open(url) as damaged:
        damaged.assets()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LibraryUnusable, match="folder cannot be made"):
        Library.open(f"sqlite:///{tmp_path / 'file' / 'library.db'}")


def test_a_library_in_the_place_of_a_folder_is_named(tmp_path):
    with pytest.raises(LibraryUnusable, match="cannot be opened"):
        Library.open(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize("url", ["", "not a url", "sqlite", "nosuchdb:///x"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(AssetmgrError) as refused:
        Library.open(url)
    assert isinstance(refused.value, BadValue | LibraryUnusable)


def test_a_read_only_library_can_be_read_and_says_so_when_written(library, path):
    library.record_file(scanned(1))
    library.close()
    with Library.open(f"sqlite:///file:{path}?mode=ro&uri=true") as reader:
        assert reader.search().total == 1
        with pytest.raises(LibraryUnusable, match="read-only"):
            reader.tag([1], ["a"])


def test_a_locked_library_can_be_read_and_says_so_when_written(library, url, path, monkeypatch):
    library.record_file(scanned(1))
    monkeypatch.setattr(registry.storage.engines, "BUSY_SECONDS", 0)
    with Library.open(url) as other, closing(sqlite3.connect(path)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        assert other.search().total == 1
        with pytest.raises(LibraryUnusable, match="locked") as refused:
            other.tag([1], ["a"])
        assert refused.value.exit_code == 3


def test_a_failure_leaves_nothing_of_its_transaction(library):
    good, bad = scanned(1), scanned(2, evidence=(object(),))
    with pytest.raises(LibraryUnusable):
        library.record_files([good, bad])
    assert library.search().total == 0


def test_a_text_without_utf8_form_is_refused(library):
    library.record_file(scanned(1))
    with pytest.raises(BadValue, match="UTF-8"):
        library.note(1, "caf\udce9")
    with pytest.raises(BadValue, match="UTF-8"):
        library.search("kind:caf\udce9")


def test_threads_share_a_library(library):
    def work(first: int) -> None:
        for number in range(first, first + 8):
            asset = library.record_file(scanned(number))
            library.tag([asset.id], [f"t{number}"])
            assert library.search(f"tag:t{number}").total == 1

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, (0, 4, 8)))
    assert library.search().total == 16
    assert all(len(asset.tags) == 1 for asset in library.assets())


def test_processes_share_a_library_from_its_making_on(url, models):
    for number in range(12):
        write_lora(models / f"{number}.safetensors", number)
    code = f"""if True:
        from registry.library import Library
        from registry.scanning.scanner import scan
        with Library.open({url!r}) as library:
            report = scan(library, [{str(models)!r}])
            assert not report.errors, report
    """
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate()[1] for process in processes] == [""] * 3
    with Library.open(url) as library:
        assert library.search().total == 12
        assert scan(library).unchanged == 12


def test_a_new_library_is_what_all_migrations_make(url, path):
    Library.open(url).close()
    migrated = path.with_name("migrated.db")
    tables.migrate(migrated)
    assert everything_in(path) == everything_in(migrated)
    kept = new_tables.SCRIPT.read_text(encoding="utf-8")
    assert kept == tables.script(migrated), "run: python -m docs.scripts.tables"


def everything_in(path: Path) -> dict[str, object]:
    """Statements, however they are laid out, and rows: but for those of FTS5's own tables."""
    of = execute(path, "SELECT type, name, tbl_name, sql FROM sqlite_master")
    made = sorted((*names, " ".join(str(sql).split())) for *names, sql in of)
    tables = [name for kind, name, *_ in of if kind == "table" and name not in FTS5_TABLES]
    return {name: execute(path, f'SELECT * FROM "{name}"') for name in tables} | {"": made}


def test_an_older_library_is_brought_up_to_date_and_loses_nothing(url, path):
    path.parent.mkdir()
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        migrations.upgrade(connection, "0002_sidecars")
        connection.exec_driver_sql("INSERT INTO root VALUES ('/m')")
        connection.exec_driver_sql(OLD_ASSET)
        connection.exec_driver_sql("INSERT INTO tag VALUES (7, 'kept')")
        connection.exec_driver_sql(
            "INSERT INTO file VALUES (3, '/m/fox.pt', '/m/fox.pt', 7, 10, 1, '5', 'present'),"
            " (4, '/m/Vixen.pt', '/m/vixen.pt', 7, 10, 1, '6', 'present')"
        )
        connection.exec_driver_sql("INSERT INTO asset_search VALUES (7, 'fox' || char(10, 10))")
    with Library.open(url) as library:
        (asset,) = library.assets("tag:kept")
        assert (asset.id, asset.path, asset.hashes["blake3"]) == (7, "/m/fox.pt", "b" * 64)
        assert library.roots() == ("/m",)
        assert [library.search(word).total for word in ("fox", "vixen")] == [1, 1]
        assert library.facets("kind:lora")["tag"] == {"kept": 1}
        library.forget([7])
    assert execute(path, "SELECT count(*) FROM file") == [(0,)]


def test_what_sidecars_said_until_now_becomes_claims(url, path):
    path.parent.mkdir()
    engine = create_engine(url, poolclass=NullPool)
    told = {"owner": "civitai-info", "claimed_hashes": {"sha256": "a" * 64, "crc32": "deadbeef"}}
    with engine.begin() as connection:
        migrations.upgrade(connection, "0002_sidecars")
        connection.exec_driver_sql(OLD_ASSET)
        connection.exec_driver_sql(
            "INSERT INTO sidecar VALUES (7, '/m/fox.civitai.info', 1, 1, ?)", (json.dumps(told),)
        )
        connection.exec_driver_sql("INSERT INTO sidecar VALUES (7, '/m/fox.txt', 1, 1, NULL)")
        migrations.upgrade(connection, "0004_fulltext")
        connection.exec_driver_sql(
            "INSERT INTO candidate VALUES (7, 'sha256', ?, 'huggingface-cache')", ("c" * 64,)
        )
    Library.open(url).close()
    found = execute(path, "SELECT hash, origin, agrees FROM candidate ORDER BY hash, origin")
    assert found == [
        ("crc32", "civitai-info", 0),
        ("sha256", "civitai-info", 1),
        ("sha256", "huggingface-cache", 0),
    ]


def test_models_of_small_tensors_are_read_again_for_the_rule_they_are_digested_by_now(url, path):
    path.parent.mkdir()
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        migrations.upgrade(connection, "0002_sidecars")
        connection.exec_driver_sql(OLD_ASSET)
        migrations.upgrade(connection, "0013_file_names")
        connection.exec_driver_sql("DELETE FROM undigested")
        connection.exec_driver_sql("UPDATE asset SET container = 'safetensors'")
        made = "INSERT INTO asset SELECT {} FROM asset WHERE id = 7"
        of = {"id": "8", "blake3": "'c'", "bytes": "9000000000", "tensors": "1000"}
        names = connection.exec_driver_sql("SELECT name FROM pragma_table_info('asset')").scalars()
        connection.exec_driver_sql(made.format(", ".join(of.get(name, name) for name in names)))
    Library.open(url).close()
    assert execute(path, "SELECT asset_id FROM undigested") == [(7,)]


OLD_ASSET = """
INSERT INTO asset (id, blake3, sha256, crc32, name, name_folded, kind, base, prediction, bytes,
    tensors, parameters, confidence, safety, added, updated, algorithm, dtypes, components,
    evidence, problems, safety_imports, safety_findings, trigger_words)
VALUES (7, '{b}', '{a}', '0badcafe', 'fox', 'fox', 'lora', 'sd-1', 'unknown', 10, 1, 1, 1.0, 'safe',
    '2026-01-01 00:00:00', '2026-01-01 00:00:00', '[]', '{{}}', '[]', '[]', '[]', '[]', '[]', '[]')
""".format(a="a" * 64, b="b" * 64)

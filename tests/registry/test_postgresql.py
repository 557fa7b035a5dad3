"""A library on a server that several machines and processes share."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from small_models import scanned, write_lora
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

import registry.storage.engines
from converters.errors import BadValue
from registry import migrations
from registry.errors import LibraryUnusable
from registry.library import Library
from registry.scanning.scanner import scan
from registry.storage.health import examine
from registry.tables.states import MISSING, PRESENT


@pytest.fixture
def url(server):
    return server.new()


@pytest.fixture
def here(url):
    with Library.open(url, "desk-1") as opened:
        yield opened


@pytest.fixture
def there(url):
    with Library.open(url, "rack-2") as opened:
        yield opened


class TestMachines:
    def test_each_machine_has_its_own_folders(self, here, there, models):
        write_lora(models / "fox.safetensors")
        scan(here, [models])
        assert here.roots() == (str(models),)
        assert there.roots() == ()
        assert scan(there).roots == ()

    def test_files_of_another_machine_are_shown_and_not_taken_for_ours(self, here, there, models):
        path = write_lora(models / "fox.safetensors")
        scan(there, [models])
        (asset,) = here.assets()
        (file,) = asset.files
        assert (file.path, file.machine, file.state) == (str(path), "rack-2", PRESENT)
        assert (file.here, asset.path, asset.state) == (False, None, PRESENT)
        assert there.assets()[0].path == str(path)

    def test_a_scan_settles_only_the_places_of_its_machine(self, here, there, models):
        path = write_lora(models / "fox.safetensors")
        scan(there, [models])
        scan(here, [models])
        path.unlink()
        assert scan(here).missing == 1
        (asset,) = here.assets()
        assert {file.machine: file.state for file in asset.files} == {
            "desk-1": MISSING,
            "rack-2": PRESENT,
        }
        assert asset.state == PRESENT
        assert scan(there).missing == 1
        assert here.search("is:missing").total == 1

    def test_the_same_file_on_two_machines_is_no_duplicate(self, here, there, models):
        write_lora(models / "fox.safetensors")
        scan(there, [models])
        scan(here, [models])
        assert here.search("is:duplicate").total == 0
        write_lora(models / "copy.safetensors")
        scan(here)
        assert here.search("is:duplicate").total == 1

    def test_what_one_machine_writes_the_other_reads(self, here, there, models):
        write_lora(models / "fox.safetensors")
        scan(here, [models])
        there.tag([1], ["mine"])
        assert here.search("tag:mine").total == 1
        scan(there, [models])
        assert there.find("fox").tags == ("mine",)

    def test_what_lies_beside_a_model_belongs_to_a_machine(self, here, there, models):
        write_lora(models / "fox.safetensors")
        (models / "fox.txt").write_text("vulpix")
        scan(here, [models])
        scan(there, [models])
        (models / "fox.txt").unlink()
        scan(here)
        assert [sidecar.description for sidecar in here.find("fox").sidecars] == ["vulpix"]
        scan(there)
        assert here.find("fox").sidecars == ()


class TestCompany:
    def test_processes_share_a_library_from_its_making_on(self, server, models):
        url = server.empty()
        for number in range(12):
            write_lora(models / f"{number}.safetensors", number)
        code = f"""if True:
            import sys
            from registry.library import Library
            from registry.scanning.scanner import scan
            with Library.open({url!r}, sys.argv[1]) as library:
                report = scan(library, [{str(models)!r}])
                assert not report.errors, report
                for asset in library.assets():
                    if asset.hashes["blake3"]:  # others are still reading theirs
                        library.tag([asset.id], [sys.argv[2]])
        """
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, machine, f"by-{number}"],
                stderr=subprocess.PIPE,
                text=True,
            )
            for number, machine in enumerate(["a", "a", "b"])
        ]
        assert [process.communicate()[1] for process in processes] == [""] * 3
        with Library.open(url, "a") as library:
            assert library.search().total == 12
            assert scan(library).unchanged == 12
            assert all(len(asset.tags) == 3 for asset in library.assets())
            assert all(len(asset.files) == 2 for asset in library.assets())

    def test_threads_record_the_same_files_at_once(self, here, there):
        def work(library: Library) -> None:
            for number in range(10):
                library.record_files([scanned(number), scanned(number + 1)])
                library.tag([library.find(str(number)).id], ["seen"])

        with ThreadPoolExecutor() as pool:
            list(pool.map(work, [here, there, here, there]))
        assert here.search().total == 11
        assert here.facets()["tag"] == {"seen": 10}

    def test_a_writer_waits_for_another_and_says_when_that_takes_too_long(
        self, here, url, monkeypatch
    ):
        here.record_file(scanned(1))
        monkeypatch.setattr(registry.storage.engines, "BUSY_SECONDS", 0.2)
        with Library.open(url) as other, here._database.writing():
            assert other.search().total == 1, "reading does not wait"
            with pytest.raises(LibraryUnusable, match="locked by another program"):
                other.tag([1], ["a"])

    def test_a_reader_sees_one_state(self, here, there):
        here.record_file(scanned(1))
        with here._database.reading() as connection:
            before = connection.exec_driver_sql("SELECT count(*) FROM asset").scalar()
            there.record_file(scanned(2))
            assert connection.exec_driver_sql("SELECT count(*) FROM asset").scalar() == before


class TestFailures:
    def test_an_older_library_is_brought_up_to_date(self, server):
        url = server.empty()
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            migrations.upgrade(connection, "0003_places")
        assert examine(url).revision == "0003_places"
        with Library.open(url) as library:
            assert library.search().total == 0
        assert examine(url).is_current

    def test_a_library_of_a_newer_program_is_refused(self, url, server):
        database = url.partition("@/")[2].partition("?")[0]
        server.execute("UPDATE alembic_version SET version_num = '9999'", database)
        with pytest.raises(LibraryUnusable, match="newer version"):
            Library.open(url)

    def test_a_server_without_trigrams_serves_all_the_same(self, server):
        url = server.empty()
        database = url.partition("@/")[2].partition("?")[0]
        server.execute("CREATE ROLE plain LOGIN", database)
        server.execute("GRANT USAGE, CREATE ON SCHEMA public TO plain", database)
        with Library.open(url.replace("//library@", "//plain@")) as library:
            library.record_file(scanned(1, "/m/fox.pt"))
            assert library.search("fo").total == 1
            assert library.search("path:/m/fox").total == 1
        indexes = server.execute("SELECT indexname FROM pg_indexes", database)
        assert not [name for (name,) in indexes if str(name).endswith("_trigrams")]

    def test_an_unreachable_server_is_named_without_the_password(self):
        url = "postgresql+psycopg://me:secret@127.0.0.1:1/library"
        with pytest.raises(LibraryUnusable, match="cannot be reached") as refused:
            Library.open(url)
        assert "secret" not in f"{refused.value} {refused.value.hint}"
        assert "127.0.0.1:1/library" in str(refused.value)
        assert "secret" not in str(examine(url))
        assert examine(url).problems == ("cannot be reached",)

    def test_a_wrong_password_is_told_without_it(self, server, url):
        server.execute("DROP ROLE IF EXISTS guarded")
        server.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        wrong = url.replace("//library@", "//guarded:wr0ng@")
        with pytest.raises(LibraryUnusable, match="refuses the password") as refused:
            Library.open(wrong)
        assert "wr0ng" not in f"{refused.value} {refused.value.hint}"
        assert examine(wrong).problems == ("refuses the password",)

    def test_a_database_that_is_not_there_is_told(self, server):
        with pytest.raises(LibraryUnusable, match="does not exist on the server"):
            Library.open(server.url("nowhere"))

    def test_a_missing_driver_is_told(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(LibraryUnusable, match="driver is not installed") as refused:
            Library.open("postgresql+psycopg://me@/library")
        assert refused.value.hint == 'install "assetmgr[postgresql]"'

    def test_a_user_without_rights_is_told(self, here, url, server):
        here.record_file(scanned(1))
        database = url.partition("@/")[2].partition("?")[0]
        server.execute("CREATE ROLE guest LOGIN", database)
        server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", database)
        with Library.open(url.replace("//library@", "//guest@")) as reader:
            assert reader.search().total == 1
            with pytest.raises(LibraryUnusable, match="not open to this user"):
                reader.tag([1], ["a"])

    def test_a_text_that_no_database_keeps_is_refused(self, here):
        here.record_file(scanned(1))
        for text in ("a\0b", "caf\udce9"):
            with pytest.raises(BadValue, match="not valid text"):
                here.note(1, text)

"""`doctor` names what is wrong, and shows, makes and changes nothing."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cli_models
import pytest

from assetmgr.operations.doctor import machine as doctor_machine
from assetmgr.operations.doctor.machine import pictures
from registry.library import Library
from registry.records import Preview

if TYPE_CHECKING:
    from conftest import Done, Program

ALWAYS = {
    "python",
    "packages",
    "preview packages",
    "settings",
    "state folder",
    "disk",
    "faults",
    "database",
    "hub cache",
    "hub token",
    "civitai token",
    "hub address",
    "civitai address",
    "gpu",
    "terminal pictures",
}
OF_A_CURRENT_LIBRARY = {
    *("folders", "programs", "links", "previews", "preview files", "downloads"),
}


@pytest.fixture(autouse=True)
def _nothing_set(quick_probe: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CIVITAI_TOKEN", "CIVITAI_API_KEY", "CIVITAI_API_TOKEN", "CIVITAI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home() -> Path:
    return Path(os.environ["ASSETMGR_HOME"])


def checks(done: Done) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in done.json["checks"]}


def failed(done: Done) -> set[str]:
    return {name for name, check in checks(done).items() if not check["ok"]}


def test_all_is_well_with_a_new_library(program: Program) -> None:
    done = program("doctor", "--json")
    assert done.code == 0
    found = checks(done)
    assert set(found) == ALWAYS | OF_A_CURRENT_LIBRARY
    assert all(set(check) == {"name", "ok", "detail", "hint"} for check in found.values())
    assert done.json["errors"] == []
    assert ".".join(map(str, sys.version_info[:3])) in found["python"]["detail"]
    assert "sqlalchemy 2." in found["packages"]["detail"]
    assert found["gpu"]["detail"] == "H200 with 150.0 GB (torch 2.9)"


def test_people_see_a_line_for_each_check(program: Program) -> None:
    done = program("doctor")
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 1 + len(ALWAYS | OF_A_CURRENT_LIBRARY)


def test_a_failed_check_is_an_error_with_a_hint_and_exit_code_1(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "not an address")
    done = program("doctor", "--json")
    assert (done.code, failed(done)) == (1, {"hub address"})
    (error,) = done.json["errors"]
    assert error["code"] == "check_failed"
    assert error["error"] == "hub address: HF_ENDPOINT is not a web address"
    assert error["hint"]
    assert "FAILED  hub address" in program("doctor").out


def test_nothing_is_made_where_there_is_nothing(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASSETMGR_HOME", str(tmp_path / "not" / "yet"))
    done = program("doctor", "--json")
    assert done.code == 0
    assert set(checks(done)) == ALWAYS
    assert not (tmp_path / "not").exists()


def test_a_state_folder_that_is_a_file_fails(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ASSETMGR_HOME", str(tmp_path / "file"))
    assert "state folder" in failed(program("doctor", "--json"))


def test_wrong_settings_are_a_failed_check_and_the_others_are_made(
    program: Program, home: Path
) -> None:
    (home / "config.toml").write_text("colour = 'red'")
    done = program("doctor", "--json")
    assert failed(done) == {"settings"}
    assert "unknown setting 'colour'" in checks(done)["settings"]["detail"]
    assert set(checks(done)) == ALWAYS | OF_A_CURRENT_LIBRARY


def test_a_damaged_database_fails_and_is_left_alone(program: Program, home: Path) -> None:
    database = home / "library.db"
    content = bytearray(database.read_bytes())
    content[4096 * 3 :] = b"\xff" * (len(content) - 4096 * 3)
    for damaged in (bytes(content), b"my notes " * 1000):
        database.write_bytes(damaged)
        done = program("doctor", "--json")
        assert failed(done) == {"database"}
        assert checks(done)["database"]["hint"]
        assert database.read_bytes() == damaged


def test_a_row_that_refers_to_a_lost_one_is_found(program: Program, home: Path) -> None:
    with closing(sqlite3.connect(home / "library.db")) as database, database:
        database.execute("INSERT INTO tag (asset_id, name) VALUES (7, 'loose')")
    done = program("doctor", "--json")
    assert failed(done) == {"database"}
    assert "tag refers to a lost row of asset" in checks(done)["database"]["detail"]


def test_an_older_library_is_not_migrated_by_looking_at_it(program: Program, home: Path) -> None:
    with closing(sqlite3.connect(home / "library.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0001'")
    done = program("doctor", "--json")
    assert done.code == 0
    assert "revision 0001" in checks(done)["database"]["detail"]
    with closing(sqlite3.connect(home / "library.db")) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)


def test_a_newer_library_and_a_foreign_database_fail(program: Program, home: Path) -> None:
    with closing(sqlite3.connect(home / "library.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    done = program("doctor", "--json")
    assert "newer version" in checks(done)["database"]["detail"]
    assert failed(done) == {"database"}
    with closing(sqlite3.connect(home / "library.db")) as database, database:
        database.execute("DROP TABLE alembic_version")
    done = program("doctor", "--json")
    assert "is not a library" in checks(done)["database"]["detail"]


def test_an_empty_database_is_made_when_needed(program: Program, home: Path) -> None:
    (home / "library.db").write_bytes(b"")
    done = program("doctor", "--json")
    assert done.code == 0
    assert checks(done)["database"]["detail"].endswith("is made when needed")


def test_a_locked_database_is_not_called_damaged(program: Program, home: Path) -> None:
    with closing(sqlite3.connect(home / "library.db")) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        done = program("doctor", "--json")
        assert failed(done) == {"database"}
        assert "locked" in checks(done)["database"]["detail"]
        assert checks(done)["database"]["hint"].startswith("close programs that use it")


@pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() == 0, reason="nothing is closed to root"
)
def test_what_is_closed_to_us_is_not_there(program: Program, home: Path) -> None:
    (home / "huggingface" / "hub").mkdir(parents=True)
    (home / "huggingface").chmod(0)
    assert "is not there" in checks(program("doctor", "--json"))["hub cache"]["detail"]


def test_a_database_address_that_is_none_fails_without_showing_it(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("nonsense", "nonsense://somebody:sesame@x"):
        monkeypatch.setenv("ASSETMGR_DATABASE_URL", url)
        done = program("doctor", "--json")
        assert failed(done) == {"database"}
        assert "sesame" not in done.out + done.err


def test_folders_that_are_not_there_are_named(program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    cli_models.tiny(folder / "a.safetensors")
    program("scan", folder)
    assert program("doctor", "--json").code == 0
    folder.rename(tmp_path / "unplugged")
    done = program("doctor", "--json")
    assert failed(done) == {"folders"}
    assert str(folder) in checks(done)["folders"]["detail"]


def test_previews_without_picture_fail_and_pictures_without_asset_are_told(
    program: Program, home: Path, tmp_path: Path
) -> None:
    cli_models.tiny(tmp_path / "a.safetensors")
    program("scan", tmp_path)
    (home / "previews").mkdir()
    picture, left = home / "previews" / "a.png", home / "previews" / "left.png"
    webp, png = home / "previews" / "a.webp", home / "previews" / "a.thumbnail.png"
    for file in (picture, webp, png):
        file.touch()
    left.write_bytes(b"12345")
    with Library.open(f"sqlite:///{home / 'library.db'}") as library:
        library.record_preview(1, Preview(str(picture), str(webp), 1, "", "ok"))
    done = program("doctor", "--json")
    assert done.code == 0
    assert "4 in" in checks(done)["preview files"]["detail"]
    assert "1 (5 B) show no asset" in checks(done)["preview files"]["detail"]
    png.unlink()  # as it is of previews that were made before there were thumbnails in PNG
    for gone in (picture, webp):
        gone.unlink()
        done = program("doctor", "--json")
        assert failed(done) == {"previews"}
        assert str(gone) in checks(done)["previews"]["detail"]
        gone.touch()


def test_bytes_that_no_download_goes_on_with_are_named(program: Program, home: Path) -> None:
    program("list")
    left = home / "models" / ".downloads" / "0123.assetmgr-part"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(2000))
    left.with_name("0123.tag.assetmgr-part").write_text("state")
    check = checks(program("doctor", "--json"))["downloads"]
    assert check["ok"]
    assert f"2.0 kB that nothing in it goes on with: {left}" in check["detail"]
    assert check["hint"] == "those can be deleted"
    assert left.exists()


def test_a_full_disk_fails(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "LEAST_FREE", 10**18)
    assert failed(program("doctor", "--json")) == {"disk"}


def test_tokens_are_named_and_never_shown(
    program: Program, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    found = checks(program("doctor", "--json"))
    assert found["hub token"]["detail"].startswith("none")
    assert found["civitai token"]["detail"].startswith("none")
    (home / "huggingface").mkdir()
    (home / "huggingface" / "token").write_text("hf_sesame")
    file = checks(program("doctor", "--json"))["hub token"]["detail"]
    assert file == f"from {home / 'huggingface' / 'token'}"
    monkeypatch.setenv("HF_TOKEN", "hf_sesame")
    monkeypatch.setenv("CIVITAI_API_KEY", "sesame")
    monkeypatch.setenv("HF_ENDPOINT", "https://me:sesame@mirror.example:8443/hf?token=sesame")
    for arguments in (("doctor", "--json"), ("doctor", "--verbose")):
        done = program(*arguments)
        assert "sesame" not in done.out + done.err
    found = checks(program("doctor", "--json"))
    assert found["hub token"]["detail"] == "from HF_TOKEN"
    assert found["civitai token"]["detail"] == "from CIVITAI_API_KEY"
    assert found["hub address"]["detail"] == "https://mirror.example:8443/hf"


def test_offline_is_told(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in checks(program("doctor", "--json"))["hub address"]["detail"]


def test_the_models_of_the_hub_cache_are_counted(program: Program, home: Path) -> None:
    for name in ("models--a--b", "models--c--d", "datasets--e--f"):
        (home / "huggingface" / "hub" / name).mkdir(parents=True)
    assert checks(program("doctor", "--json"))["hub cache"]["detail"].endswith("hub, 2 models")


@pytest.mark.parametrize(
    ("probe", "detail"),
    [
        ("import time; time.sleep(60)", "did not answer within 0.5 s"),
        ("import os; os.abort()", "torch does not work: exit status -6"),
        ("raise ImportError('libcudart.so is missing')", "ImportError: libcudart.so is missing"),
        ("print('[]')", "torch does not work"),
        ("print('{')", "torch does not work"),
    ],
)
def test_a_torch_that_hangs_crashes_or_talks_nonsense_fails(
    probe: str, detail: str, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in probe:
        monkeypatch.setattr(doctor_machine, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(doctor_machine, "PROBE", probe)
    done = program("doctor", "--json")
    assert failed(done) == {"gpu"}
    assert detail in checks(done)["gpu"]["detail"]


def test_the_program_itself_imports_no_torch(process: Any) -> None:
    code = """if True:
        import sys
        from assetmgr.operations.doctor import machine as doctor_machine
        doctor_machine.PROBE = "print()"
        from assetmgr.operations.doctor.examine import diagnose
        diagnose()
        print([name for name in ("torch", "huggingface_hub", "textual") if name in sys.modules])
    """
    assert process(code=code).out.strip() == "[]"


@pytest.mark.parametrize(
    ("environment", "images", "detail"),
    [
        ({"TERM": "xterm-kitty"}, "auto", "kitty graphics"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "auto", "kitty graphics"),
        ({"TERM_PROGRAM": "WezTerm"}, "auto", "sixel"),
        ({"TERM": "foot"}, "auto", "sixel"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, "auto", "half cells: inside tmux"),
        ({"TERM": "xterm-256color"}, "auto", "not known"),
        ({"TERM": "xterm-kitty"}, "halfblock", "half cells, by the setting"),
        ({"TERM": "xterm-kitty"}, "off", "off, by the setting"),
    ],
)
def test_the_terminals_pictures_are_told_by_its_variables(
    environment: dict[str, str], images: str, detail: str
) -> None:
    assert pictures(environment, images, on_terminal=True).detail.startswith(detail)
    piped = pictures(environment, images, on_terminal=False).detail
    assert (piped == "not a terminal") == (images == "auto")


def test_a_package_that_is_missing_fails(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = ["sqlalchemy>=2", "no-such-package>=1", 'nothing-either; extra == "preview"']
    monkeypatch.setattr(doctor_machine.metadata, "requires", lambda _: stated)
    done = program("doctor", "--json")
    assert failed(done) == {"packages"}
    assert checks(done)["packages"]["detail"] == "not installed: no-such-package"
    assert checks(done)["preview packages"]["detail"] == "not installed: no previews"

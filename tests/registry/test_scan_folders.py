"""Which folders and files a scan looks at: roots, links, hidden and odd things."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scan_counts import counts
from small_models import lora_bytes, write_lora
from sqlalchemy.engine.default import DefaultDialect

from converters.writers.atomic import TEMPORARY_SUFFIX
from registry.scanning import places
from registry.scanning.scanner import scan, scan_file
from registry.tables.place_text import PlaceText


def test_folders_without_inodes_are_told_apart(library, models, monkeypatch):
    """As on some network shares and FAT disks."""
    for number, folder in enumerate(("a", "b", "b/c")):
        write_lora(models / folder / f"{number}.safetensors", number)
    real = os.stat

    def without_inode(path, *rest, **more):
        found = real(path, *rest, **more)
        if not stat.S_ISDIR(found.st_mode):
            return found
        told = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return SimpleNamespace(**told | {"st_ino": 0})

    monkeypatch.setattr(os, "stat", without_inode)
    assert counts(scan(library, [models])) == {"added": 3}


@pytest.mark.skipif(sys.platform != "darwin", reason="names differ by case, or are told in theirs")
def test_a_folder_typed_in_another_case_is_the_same(library, models):
    write_lora(models / "fox.safetensors")
    scan(library, [models])
    typed = models.with_name(models.name.upper())
    if typed.exists():
        assert counts(scan(library, [typed])) == {"unchanged": 1}
        assert library.roots() == (str(models),)


@pytest.mark.parametrize(("stored", "typed"), [("fox", "FOX"), ("f\u00fcchs", "fu\u0308chs")])
def test_a_file_typed_in_another_spelling_is_the_one_that_is_known(
    stored, typed, library, models, monkeypatch
):
    path = write_lora(models / f"{stored}.safetensors")
    scan(library, [models])
    other = path.with_name(f"{typed}.safetensors")
    if not other.exists():  # what a disk does that takes both names for one
        os.link(path, other)
        names = os.listdir
        monkeypatch.setattr(os, "listdir", lambda at: [n for n in names(at) if n != other.name])
        monkeypatch.setattr(places, "_MANY_SPELLINGS", True)
    assert library.find(str(other)).id == 1
    scan_file(library, other)
    assert [file.path for file in library.get(1).files] == [str(path)]


def test_an_absent_root_is_an_error_and_loses_nothing(library, tmp_path):
    write_lora(tmp_path / "disk" / "a.safetensors")
    write_lora(tmp_path / "home" / "b.safetensors", 1)
    scan(library, [tmp_path / "disk", tmp_path / "home"])
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    report = scan(library)
    assert counts(report) == {"unchanged": 1, "failed": 1}
    assert (report.errors[0].path, report.errors[0].code) == (str(tmp_path / "disk"), "not_found")
    assert library.search("is:missing").total == 0
    (gone,) = library.search("is:offline").rows
    assert (gone.name, gone.state) == ("a", "offline")
    (tmp_path / "unmounted").rename(tmp_path / "disk")
    assert counts(scan(library)) == {"unchanged": 2}
    assert library.search("is:offline").total == 0


def test_what_lay_on_a_disk_is_offline_while_its_mount_point_is_empty(
    library, tmp_path, monkeypatch
):
    """The folder that a disk is mounted on stays where it is, in a root or as one."""
    disk = tmp_path / "models" / "disk"
    write_lora(disk / "sub" / "a.safetensors")
    write_lora(tmp_path / "models" / "b.safetensors", 1)
    mounted = {str(disk)}
    monkeypatch.setattr("registry.scanning.scanner.is_mount", mounted.__contains__)
    monkeypatch.setattr("registry.scanning.walk.mount_of", lambda folder: str(disk))
    scan(library, [tmp_path / "models"])
    mounted.clear()
    (disk / "sub").rename(tmp_path / "unmounted")
    report = scan(library)
    assert counts(report) == {"unchanged": 1, "failed": 1}
    assert (report.errors[0].path, report.errors[0].code) == (str(disk), "not_found")
    assert [row.name for row in library.search("is:offline").rows] == ["a"]
    (tmp_path / "unmounted").rename(disk / "sub")
    mounted.add(str(disk))
    assert counts(scan(library)) == {"unchanged": 2}
    (disk / "sub" / "a.safetensors").unlink()
    assert counts(scan(library)) == {"unchanged": 1, "missing": 1}


def test_a_folder_that_never_existed_does_not_become_a_root(library, tmp_path):
    report = scan(library, [tmp_path / "nowhere"])
    assert report.failed == 1
    assert library.roots() == ()


def test_a_scan_of_one_root_leaves_the_others_alone(library, tmp_path):
    one = write_lora(tmp_path / "one" / "a.safetensors", 1)
    two = write_lora(tmp_path / "two" / "b.safetensors", 2)
    scan(library, [tmp_path / "one", tmp_path / "two"])
    one.unlink()
    two.unlink()
    assert counts(scan(library, [tmp_path / "two"])) == {"missing": 1}
    assert library.find("a").state == "present"
    assert library.roots() == (str(tmp_path / "one"), str(tmp_path / "two"))


def test_a_folder_within_a_root_is_scanned_without_becoming_one(library, models):
    write_lora(models / "a.safetensors", 1)
    write_lora(models / "sub" / "b.safetensors", 2)
    scan(library, [models])
    assert counts(scan(library, [models / "sub"])) == {"unchanged": 1}
    assert library.roots() == (str(models),)


def test_a_sibling_whose_name_begins_alike_is_another_folder(library, tmp_path):
    write_lora(tmp_path / "models-old" / "a.safetensors")
    (tmp_path / "models").mkdir()
    scan(library, [tmp_path / "models-old", tmp_path / "models"])
    assert counts(scan(library, [tmp_path / "models"])) == {}
    assert len(library.roots()) == 2


def test_hidden_and_unfinished_files_are_left_alone(library, models):
    for name in (
        ".hidden.safetensors",
        ".git/a.safetensors",
        "a.safetensors.part",
        f".a.safetensors.0123{TEMPORARY_SUFFIX}",
        "readme.txt",
        "loading.safetensors",
    ):
        write_lora(models / name)
    (models / "loading.safetensors.aria2").touch()
    assert counts(scan(library, [models])) == {}


def test_packages_of_the_programs_beside_the_models_are_left_alone(library, models):
    (models / "venv" / "lib" / "python3.11").mkdir(parents=True)
    (models / "venv" / "pyvenv.cfg").touch()
    for folder in ("venv/lib/python3.11", "python/Lib/site-packages", "web/node_modules/x"):
        write_lora(models / folder / "distutils-precedence.pth")
    write_lora(models / "models" / "fox.safetensors", 1)
    assert counts(scan(library, [models])) == {"added": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_are_followed_and_circles_of_them_end(library, tmp_path):
    write_lora(tmp_path / "disk" / "deep" / "a.safetensors")
    models = tmp_path / "models"
    models.mkdir()
    (models / "disk").symlink_to(tmp_path / "disk")
    (models / "again").symlink_to(tmp_path / "disk" / "deep")
    (tmp_path / "disk" / "back").symlink_to(models)
    (models / "self").symlink_to(models / "self")
    (models / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    report = scan(library, [models])
    assert counts(report) == {"added": 1}
    real = tmp_path / "disk" / "deep" / "a.safetensors"
    assert library.find(str(models / "disk" / "deep" / "a.safetensors")).path == str(real)
    real.unlink()
    assert counts(scan(library)) == {"missing": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_to_a_file_is_a_place_under_its_own_name(library, tmp_path):
    blob = tmp_path / "blobs" / "0123abcd"
    write_lora(blob)
    snapshot = tmp_path / "snapshots" / "model.safetensors"
    snapshot.parent.mkdir()
    snapshot.symlink_to(blob)
    assert counts(scan(library, [tmp_path / "snapshots"])) == {"added": 1}
    assert library.find(str(snapshot)).path == str(snapshot)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_unicode_are_names_like_others(library, models):
    folder = models / os.fsdecode(b"mod\xe8les")
    folder.mkdir(parents=True)
    place = folder / os.fsdecode(b"caf\xe9.safetensors")
    place.write_bytes(lora_bytes())
    place.with_suffix(".txt").write_text("vulpix")
    assert counts(scan(library, [folder])) == {"added": 1}
    assert library.roots() == (str(folder),)
    (asset,) = library.assets("path:caf vulpix")
    assert (asset.path, asset.name) == (str(place), "caf\\xe9")
    assert library.find(str(place)).id == library.find("caf\\xe9").id == asset.id
    library.tag([asset.id], ["mine"])
    assert counts(scan(library)) == {"unchanged": 1}
    moved = place.rename(folder / os.fsdecode(b"th\xe9.safetensors"))
    assert counts(scan(library)) == {"moved": 1}
    assert library.find(str(moved)).tags == ("mine",)
    assert library.find(str(moved)).name == "th\\xe9"
    assert scan_file(library, moved).path == str(moved)


@given(st.text(st.characters(categories=["L", "Cs"], include_characters="/ d")))
def test_a_column_of_paths_gives_back_what_it_got(path):
    column, path = PlaceText(), path.replace("//", "/")
    kept = column.process_bind_param(path, DefaultDialect())
    assert kept.encode("utf-8").decode("utf-8") == kept
    assert column.process_result_value(kept, DefaultDialect()) == path


@pytest.mark.skipif(sys.platform == "win32", reason="there are none")
def test_pipes_sockets_and_devices_are_never_opened(library, models):
    os.mkfifo(models / "pipe.safetensors")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(models / "socket.ckpt"))
        (models / "zero.pt").symlink_to("/dev/zero")
        assert counts(scan(library, [models])) == {}


@pytest.mark.parametrize(
    "name",
    ["line\nbreak", "tab\tand\x1b[31mred", "right\u202eleft", "x" * (255 - len(".safetensors"))],
)
@pytest.mark.skipif(sys.platform == "win32", reason="refuses such names")
def test_odd_names_are_kept_as_they_are(library, models, name):
    path = write_lora(models / f"{name}.safetensors")
    assert counts(scan(library, [models])) == {"added": 1}
    assert library.find(str(path)).name == name
    assert counts(scan(library)) == {"unchanged": 1}


def test_a_file_outside_of_all_folders_is_looked_at_by_a_scan_of_everything(
    library, models, tmp_path
):
    """Conversions and downloads go where they are told to, and are registered there."""
    path = write_lora(tmp_path / "elsewhere" / "made.safetensors", 1)
    scan_file(library, path)
    scan(library, [models])
    path.rename(tmp_path / "aside")
    assert counts(scan(library, [models])) == {}
    assert counts(scan(library)) == {"missing": 1}
    (tmp_path / "aside").rename(path)
    assert counts(scan(library)) == {"restored": 1}
    write_lora(path, 22)
    assert counts(scan(library)) == {"updated": 1}
    assert counts(scan(library)) == {"unchanged": 1}
    path.unlink()
    path.parent.rmdir()
    assert counts(scan(library)) == {"missing": 1}


def test_a_file_by_itself_that_nobody_lets_us_see_is_not_called_missing(
    library, tmp_path, monkeypatch
):
    path = write_lora(tmp_path / "closed" / "made.safetensors")
    scan_file(library, path)
    real = os.stat

    def refuse(place, *rest, **more):
        if str(place) == str(path):
            raise PermissionError(errno.EACCES, "Permission denied", place)
        return real(place, *rest, **more)

    monkeypatch.setattr(os, "stat", refuse)
    report = scan(library)
    assert counts(report) == {"failed": 1}
    assert [(error.path, error.code) for error in report.errors] == [(str(path), "unreadable")]


def test_a_folder_that_is_forgotten_is_scanned_no_more_and_what_was_written_stays(
    library, models, tmp_path
):
    inner = models / "inner"
    for content, name in enumerate(("a", "b")):
        write_lora(inner / f"{name}.safetensors", content)
    write_lora(tmp_path / "other" / "c.safetensors", 7)
    scan(library, [inner, tmp_path / "other"])
    library.tag([library.find("b").id], ["mine"])
    library.forget_root(str(inner))
    assert library.roots() == (str(tmp_path / "other"),)
    assert [row.name for row in library.search("", sort="name").rows] == ["b", "c"]
    assert counts(scan(library)) == {"unchanged": 1}
    scan(library, [inner])
    assert library.find("b").tags == ("mine",)


def test_of_a_folder_that_is_forgotten_those_keep_the_files_that_hold_them_too(library, models):
    inner = models / "inner"
    write_lora(inner / "a.safetensors")
    scan(library, [inner])
    scan(library, [models])
    inner.rename(models / "renamed")
    assert counts(scan(library)) == {"moved": 1, "failed": 1}
    library.forget_root(str(inner))
    assert counts(scan(library)) == {"unchanged": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_with_a_folder_go_the_files_to_which_links_in_it_lead(library, models, tmp_path):
    """But not those to which links in other folders lead, too."""
    other = tmp_path / "other"
    for number, name in enumerate(("own", "both")):
        write_lora(tmp_path / name / f"{name}.safetensors", number)
        models.mkdir(exist_ok=True)
        (models / name).symlink_to(tmp_path / name)
    other.mkdir()
    (other / "both").symlink_to(tmp_path / "both")
    assert counts(scan(library, [models, other])) == {"added": 2}
    library.forget_root(str(models))
    assert [row.name for row in library.search("").rows] == ["both"]
    assert counts(scan(library)) == {"unchanged": 1}

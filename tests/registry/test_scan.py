"""What scanning a folder does to the library."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from small_models import lora_bytes, write_lora

import registry.looking as looking
import registry.scanner as scanner
import registry.side_by_side as side_by_side
from converters.containers import open_model
from converters.errors import Cancelled, FileMissing
from converters.hashing import hash_file
from converters.progress import CancellableProgress, Progress
from converters.writers.atomic import TEMPORARY_SUFFIX
from registry.records import ScanReport
from registry.scanner import scan, scan_file


def counts(report: ScanReport) -> dict[str, int]:
    """The counters that are not zero."""
    names = ("added", "updated", "moved", "missing", "restored", "unchanged", "failed")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def test_a_scan_registers_what_each_file_is_and_all_its_hashes(library, models):
    path = write_lora(models / "fox.safetensors", ss_output_name="foxy")
    report = scan(library, [models])
    assert counts(report) == {"added": 1}
    assert report.roots == (str(models),)
    assert report.bytes_hashed == path.stat().st_size
    asset = library.find(str(path))
    assert (asset.name, asset.kind, asset.base, asset.algorithm) == (
        "fox",
        "lora",
        "sd-1",
        ("lora",),
    )
    assert (asset.rank, asset.dtypes, asset.tensors, asset.container) == (
        4,
        {"F16": 3},
        3,
        "safetensors",
    )
    assert asset.metadata == {"ss_output_name": "foxy"}
    assert asset.state == "present"
    assert asset.path == str(path)
    expected = hash_file(path, header_bytes=open_model(path).header_bytes).hashes
    for name in ("blake3", "sha256", "crc32", "autov2", "autov3"):
        assert asset.hashes[name] == getattr(expected, name)


def test_the_hash_of_nothing_is_not_stored_as_a_hash(library, models):
    write_lora(models / "short.safetensors")  # shorter than where AutoV1 begins
    scan(library, [models])
    (asset,) = library.assets()
    assert asset.hashes["autov1"] is None


def test_a_second_scan_opens_no_file(library, models, monkeypatch):
    for number in range(3):
        write_lora(models / f"{number}.safetensors", number)
    scan(library, [models])

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(looking, "open_model", refuse)
    monkeypatch.setattr(looking, "hash_model", refuse)
    report = scan(library)
    assert counts(report) == {"unchanged": 3}
    assert report.bytes_hashed == 0


def test_a_touched_file_is_read_again_and_found_unchanged(library, models):
    path = write_lora(models / "a.safetensors")
    scan(library, [models])
    os.utime(path, ns=(1, 1))
    report = scan(library)
    assert counts(report) == {"unchanged": 1}
    assert report.bytes_hashed > 0
    assert scan(library).bytes_hashed == 0


def test_a_moved_file_keeps_its_tags_and_is_one_file(library, models):
    path = write_lora(models / "a.safetensors")
    scan(library, [models])
    asset = library.find("a")
    library.tag([asset.id], ["keeper"])
    (models / "sub").mkdir()
    moved = path.rename(models / "sub" / "a.safetensors")
    assert counts(scan(library)) == {"moved": 1}
    after = library.get(asset.id)
    assert after.tags == ("keeper",)
    assert [file.path for file in after.files] == [str(moved)]
    assert library.search().total == 1


def test_a_renamed_file_gives_its_asset_the_new_name(library, models):
    path = write_lora(models / "old name.safetensors")
    scan(library, [models])
    path.rename(models / "new name.safetensors")
    scan(library)
    assert library.find("new name").kind == "lora"
    assert library.search("new").total == 1
    assert library.search("old").total == 0


def test_a_file_moved_to_another_root_is_moved_not_added(library, tmp_path):
    path = write_lora(tmp_path / "one" / "a.safetensors")
    (tmp_path / "two").mkdir()
    scan(library, [tmp_path / "one", tmp_path / "two"])
    path.rename(tmp_path / "two" / "a.safetensors")
    assert counts(scan(library)) == {"moved": 1}


def test_a_file_that_went_missing_earlier_is_moved_when_it_turns_up_elsewhere(library, tmp_path):
    path = write_lora(tmp_path / "one" / "a.safetensors")
    scan(library, [tmp_path / "one"])
    elsewhere = path.rename(tmp_path / "a.safetensors")
    assert counts(scan(library)) == {"missing": 1}
    asset = scan_file(library, elsewhere)
    assert [(file.path, file.state) for file in asset.files] == [(str(elsewhere), "present")]


def test_two_files_swap_their_names(library, models):
    a, b = write_lora(models / "a.safetensors", 1), write_lora(models / "b.safetensors", 2)
    scan(library, [models])
    first = library.find(str(a)).id
    a.rename(models / "c")
    b.rename(a)
    (models / "c").rename(b)
    assert counts(scan(library)) == {"updated": 2}
    assert library.find(str(b)).id == first


def test_equal_files_are_one_asset_in_several_places(library, models):
    write_lora(models / "a.safetensors")
    write_lora(models / "copy of a.safetensors")
    assert counts(scan(library, [models])) == {"added": 2}
    (asset,) = library.assets()
    assert len(asset.files) == 2
    assert library.search("is:duplicate").total == 1


def test_a_copy_of_a_present_file_is_added_not_moved(library, models):
    path = write_lora(models / "a.safetensors")
    scan(library, [models])
    shutil.copy(path, models / "b.safetensors")
    assert counts(scan(library)) == {"added": 1, "unchanged": 1}


def test_a_vanished_file_is_missing_and_restored_when_it_is_back(library, models):
    path = write_lora(models / "a.safetensors")
    scan(library, [models])
    library.tag([1], ["mine"])
    hidden = path.rename(models / "a.hidden")
    assert counts(scan(library)) == {"missing": 1}
    assert counts(scan(library)) == {}
    assert library.find("a").state == "missing"
    assert library.search("is:missing").total == 1
    hidden.rename(path)
    report = scan(library)
    assert counts(report) == {"restored": 1}
    assert report.bytes_hashed == 0
    assert library.find("a").state == "present"
    assert library.find("a").tags == ("mine",)


def test_a_missing_file_that_comes_back_written_anew_is_restored(library, models):
    path = write_lora(models / "a.safetensors")
    scan(library, [models])
    path.unlink()
    scan(library)
    write_lora(path)
    os.utime(path, ns=(1, 1))
    assert counts(scan(library)) == {"restored": 1}


def test_changed_content_is_another_asset_and_the_old_one_is_kept(library, models):
    path = write_lora(models / "a.safetensors", 1)
    scan(library, [models])
    old = library.find("a")
    library.tag([old.id], ["first"])
    write_lora(path, 2)
    os.utime(path, ns=(1, 1))
    assert counts(scan(library)) == {"updated": 1}
    assert library.find(str(path)).id != old.id
    assert library.get(old.id).tags == ("first",)
    assert library.get(old.id).state == "missing"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (lora_bytes()[:200], "truncated"),
        (lora_bytes()[:-1], "truncated"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "unsupported"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "unsupported"),
    ],
)
def test_a_file_that_cannot_be_understood_is_registered_with_the_reason(
    library, models, content, code
):
    bad = models / "bad.safetensors"
    bad.write_bytes(content)
    write_lora(models / "good.safetensors")
    report = scan(library, [models])
    assert counts(report) == {"added": 2, "failed": 1}
    (error,) = report.errors
    assert (error.path, error.code) == (str(bad), code)
    asset = library.find(str(bad))
    assert asset.kind == "unknown"
    assert asset.problems == (error.error,)
    assert library.find("good").kind == "lora"
    assert counts(scan(library)) == {"unchanged": 2}


def test_a_hostile_pickle_is_registered_as_dangerous_and_never_run(library, models, tmp_path):
    import pickle

    marker = tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    (models / "evil.pt").write_bytes(pickle.dumps(Hostile()))
    report = scan(library, [models])
    assert report.failed == 1
    assert not marker.exists()
    asset = library.find("evil")
    assert (asset.kind, asset.safety.verdict) == ("unknown", "dangerous")
    assert asset.safety.findings
    assert library.search("is:unsafe").total == 1


def test_a_file_that_may_not_be_read_is_named_and_the_others_are_registered(
    library, models, monkeypatch
):
    """Not by its mode: root may read everything, and Windows locks files instead."""
    closed, opened = write_lora(models / "a.safetensors"), os.open

    def refuse(path, *rest, **more):
        if os.fspath(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    write_lora(models / "b.safetensors")
    report = scan(library, [models])
    assert counts(report) == {"added": 1, "failed": 1}
    (error,) = report.errors
    assert (error.path, error.code) == (str(closed), "unreadable")
    monkeypatch.undo()
    assert counts(scan(library)) == {"added": 1, "unchanged": 1}


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


def test_a_file_that_vanishes_during_the_scan_is_named(library, models, monkeypatch):
    path = write_lora(models / "a.safetensors")

    def vanish(place: str) -> object:
        path.unlink()
        return open_model(place)

    monkeypatch.setattr(looking, "open_model", vanish)
    report = scan(library, [models])
    assert counts(report) == {"failed": 1}
    assert report.errors[0].code == "not_found"


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
def test_a_name_that_is_no_unicode_is_named_in_the_errors(library, models):
    (models / os.fsdecode(b"caf\xe9.safetensors")).write_bytes(lora_bytes())
    write_lora(models / "b.safetensors", 1)
    report = scan(library, [models])
    assert counts(report) == {"added": 1, "failed": 1}
    assert report.errors[0].path.endswith("caf\\xe9.safetensors")


class StopAt(CancellableProgress):
    """Cancels at an advance, counted from the beginning of a stage."""

    def __init__(self, label: str, advance: int) -> None:
        super().__init__()
        self.label, self.left, self.counts = label, advance, False

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        self.counts = label == self.label

    def advance(self, amount: int = 1) -> None:
        self.left -= self.counts
        if self.left == 0:
            self.cancel()
        super().advance(amount)


def test_a_scan_interrupted_among_the_headers_goes_on_from_there(library, models):
    for number in range(5):
        write_lora(models / f"{number}.safetensors", number)
    with pytest.raises(Cancelled):
        scan(library, [models], StopAt("looking into files", 3))
    assert library.search("kind:lora").total == 2
    assert counts(scan(library)) == {"added": 5}
    assert counts(scan(library)) == {"unchanged": 5}


def test_a_scan_interrupted_among_the_hashes_goes_on_from_there(library, models):
    for number in range(5):
        write_lora(models / f"{number}.safetensors", number)
    with pytest.raises(Cancelled):
        scan(library, [models], StopAt("hashing", 3))
    assert library.search("kind:lora").total == 5
    assert len([asset for asset in library.assets() if asset.hashes["sha256"]]) == 3
    assert counts(scan(library)) == {"added": 2, "unchanged": 3}
    assert all(asset.hashes["sha256"] for asset in library.assets())


class Between(Progress):
    """Does something when all headers were read and nothing was hashed yet."""

    def __init__(self, act) -> None:
        self.act = act

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        if label == "hashing":
            self.act()


def test_new_files_are_seen_before_they_are_hashed(library, models):
    write_lora(models / "fox.safetensors", ss_output_name="vulpix")

    def look() -> None:
        asset = library.find("fox")
        assert (asset.kind, asset.base, asset.state) == ("lora", "sd-1", "present")
        assert not any(asset.hashes.values())
        assert library.search("vulpix").total == 1
        library.tag([asset.id], ["early"])

    scan(library, [models], Between(look))
    asset = library.find("fox")
    assert asset.hashes["blake3"]
    assert asset.tags == ("early",)


def test_captions_are_searched_when_their_file_was_hashed(library, models):
    captions = json.dumps({"10_fox": {f"tag number {number}": 1 for number in range(40)}})
    write_lora(models / "fox.safetensors", ss_tag_frequency=captions)
    before: list[int] = []
    act = Between(lambda: before.append(library.search('"number 17"').total))
    scan(library, [models], act)
    assert before == [0]
    assert library.search('"number 17"').total == 1


def test_what_was_written_on_a_file_before_its_content_was_known_goes_over_to_it(library, models):
    path = write_lora(models / "old.safetensors")
    scan(library, [models])
    first = library.find("old").id
    library.tag([first], ["keeper"])
    library.note(first, "mine")
    path.rename(models / "new.safetensors")

    def write() -> None:
        waiting = library.find(str(models / "new.safetensors")).id
        assert waiting != first
        library.tag([waiting], ["early", "keeper"])
        library.note(waiting, "not mine")
        library.rate(waiting, 4)

    assert counts(scan(library, progress=Between(write))) == {"moved": 1}
    (asset,) = library.assets()
    assert (asset.id, asset.name, asset.note, asset.rating) == (first, "new", "mine", 4)
    assert set(asset.tags) == {"early", "keeper"}
    assert library.search("early").total == 1


def test_a_file_that_is_forgotten_before_it_was_hashed_stays_forgotten(library, models):
    write_lora(models / "a.safetensors", 1)
    write_lora(models / "b.safetensors", 2)
    forget = Between(lambda: library.forget([library.find("a").id]))
    assert counts(scan(library, [models], forget)) == {"added": 1}
    assert [asset.name for asset in library.assets()] == ["b"]


def test_a_file_that_changes_after_its_headers_were_read_is_read_again(
    library, models, monkeypatch
):
    monkeypatch.setattr(side_by_side, "SMALL_BYTES", 0)  # small ones may be in the middle of it
    path = write_lora(models / "a.safetensors", 1, ss_output_name="one")
    change = Between(lambda: write_lora(path, 2, ss_output_name="another"))
    assert counts(scan(library, [models], change)) == {"added": 1}
    (asset,) = library.assets()
    assert asset.metadata == {"ss_output_name": "another"}
    assert asset.hashes["sha256"] == hash_file(path).hashes.sha256
    assert counts(scan(library)) == {"unchanged": 1}


def test_a_file_that_never_stands_still_is_left_alone(library, models, monkeypatch):
    path = write_lora(models / "a.safetensors")

    def restless(path, *_):
        hashed = hash_file(path)
        return replace(hashed, fingerprint=replace(hashed.fingerprint, mtime_ns=7))

    monkeypatch.setattr(looking, "hash_model", restless)
    report = scan(library, [models])
    assert [(error.path, error.code) for error in report.errors] == [(str(path), "being_written")]
    assert not library.find("a").hashes["sha256"]
    monkeypatch.undo()
    assert counts(scan(library)) == {"added": 1}


@pytest.mark.parametrize("known", [False, True])
def test_a_file_that_still_arrives_is_left_alone_until_it_is_whole(
    library, models, monkeypatch, known
):
    path = models / "a.safetensors"
    if known:
        write_lora(path, 1)
        scan(library, [models])
    path.write_bytes(lora_bytes(2)[:-5])
    monkeypatch.setattr(scanner.time, "sleep", lambda _: path.write_bytes(lora_bytes(2)[:-1]))
    report = scan(library, [models])
    assert [(error.path, error.code) for error in report.errors] == [(str(path), "being_written")]
    assert library.search().total == known
    path.write_bytes(lora_bytes(2))
    assert counts(scan(library)) == ({"updated": 1} if known else {"added": 1})
    assert library.search("kind:unknown").total == 0


def test_a_broken_file_of_long_ago_is_not_waited_for(library, models, monkeypatch):
    path = models / "a.safetensors"
    path.write_bytes(lora_bytes()[:-5])
    os.utime(path, ns=(1, 1))
    monkeypatch.setattr(scanner.time, "sleep", None)
    assert counts(scan(library, [models])) == {"added": 1, "failed": 1}


def test_progress_tells_the_files_and_then_the_bytes(library, models):
    told: list[tuple[str, int | None, str]] = []
    done: list[int] = []

    class Collect(Progress):
        def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
            told.append((label, total, unit))
            done.append(0)

        def advance(self, amount: int = 1) -> None:
            done[-1] += amount

    write_lora(models / "a.safetensors")
    report = scan(library, [models], Collect())
    assert told == [
        ("looking into files", 1, "files"),
        ("hashing", report.bytes_hashed, "B"),
    ]
    assert done == [1, report.bytes_hashed]


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


def test_one_file_is_recorded_by_itself(library, models):
    path = write_lora(models / "a.safetensors")
    asset = scan_file(library, path)
    assert asset.path == str(path)
    assert library.roots() == ()
    assert counts(scan(library, [models])) == {"unchanged": 1}


def test_known_hashes_save_the_read(library, models, monkeypatch):
    path = write_lora(models / "a.safetensors")
    hashes = hash_file(path).hashes
    monkeypatch.setattr(looking, "hash_model", None)
    assert scan_file(library, path, hashes=hashes).hashes["sha256"] == hashes.sha256


def test_a_file_that_is_not_there_cannot_be_recorded(library, models):
    with pytest.raises(FileMissing):
        scan_file(library, models / "nothing.safetensors")


def test_a_file_recorded_over_another_content_shows_the_new_one(library, models):
    path = write_lora(models / "a.safetensors", 1)
    first = scan_file(library, path)
    write_lora(path, 2)
    second = scan_file(library, path)
    assert second.id != first.id
    assert library.find(str(path)).id == second.id

"""Files that move, vanish, come back or change between scans: what was said of them stays."""

from __future__ import annotations

import os

import pytest
from scan_counts import counts
from small_models import write_lora

from converters.bytesource import Fingerprint
from registry.scanning.on_disk import fingerprint_of
from registry.scanning.scanner import scan, scan_file


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


def test_a_renamed_folder_is_not_read_again(library, models):
    paths = [write_lora(models / "before" / f"{number}.safetensors", number) for number in range(3)]
    scan(library, [models])
    known = {asset.id: asset.hashes for asset in library.assets()}
    (models / "before").rename(models / "after")
    report = scan(library)
    assert counts(report) == {"moved": 3}
    assert report.bytes_hashed == 0
    assert {asset.id: asset.hashes for asset in library.assets()} == known
    names = [library.find(str(models / "after" / path.name)).name for path in paths]
    assert names == ["0", "1", "2"]
    assert library.search("path:before").total == 0
    assert counts(scan(library)) == {"unchanged": 3}


def test_a_disk_that_is_mounted_elsewhere_is_not_read_again(library, tmp_path):
    write_lora(tmp_path / "disk" / "a.safetensors")
    scan(library, [tmp_path / "disk"])
    there = (tmp_path / "disk").rename(tmp_path / "elsewhere") / "a.safetensors"
    report = scan(library, [tmp_path / "elsewhere"])
    assert (counts(report), report.bytes_hashed) == ({"moved": 1}, 0)
    assert [(file.path, file.state) for file in library.get(1).files] == [(str(there), "present")]


@pytest.mark.parametrize("note", [None, "the old one was better"])
def test_a_file_that_takes_the_place_of_a_missing_one_leaves_what_was_written(
    library, models, note
):
    mine, lost = (write_lora(models / f"{name}.safetensors", n) for n, name in enumerate("ab"))
    scan(library, [models])
    replaced = library.find("b").id
    if note:
        library.note(replaced, note)
    lost.unlink()
    scan(library)
    kept = library.find("a")
    mine.rename(lost)
    os.utime(lost, ns=(5, 5))
    library.relocate((kept.files[0].id, str(lost), fingerprint_of(str(lost))))
    assert [place.path for place in library.get(kept.id).files] == [str(lost)]
    assert library.search().total == (2 if note else 1)
    if note:
        assert (library.get(replaced).note, library.get(replaced).files) == (note, ())
    report = scan(library)
    assert (counts(report), report.bytes_hashed) == ({"unchanged": 1}, 0)


def test_a_second_name_of_a_file_is_a_second_place_and_the_first_is_kept(library, models):
    path = write_lora(models / "a.safetensors")
    scan(library, [models])
    os.link(path, models / "b.safetensors")
    assert counts(scan(library)) == {"added": 1, "unchanged": 1}
    assert len(library.get(1).files) == 2


def test_without_inodes_a_moved_file_is_known_by_its_content(library, models, monkeypatch):
    monkeypatch.setattr(Fingerprint, "of", lambda found: Fingerprint(found.st_size, 1, 0))
    path = write_lora(models / "a.safetensors")
    scan(library, [models])
    path.rename(models / "b.safetensors")
    report = scan(library)
    assert counts(report) == {"moved": 1}
    assert report.bytes_hashed == (models / "b.safetensors").stat().st_size


def test_a_renamed_file_gives_its_asset_the_new_name(library, models):
    path = write_lora(models / "old name.safetensors")
    scan(library, [models])
    path.rename(models / "new name.safetensors")
    scan(library)
    assert library.find("new name").kind == "lora"
    assert library.search("new").total == 1
    assert library.search("old").total == 0


def test_words_find_an_asset_by_the_name_of_each_of_its_files(library, models):
    path = write_lora(models / "first.safetensors")
    copy = models / "Zweite Kopie.safetensors"
    copy.write_bytes(path.read_bytes())
    scan(library, [models])
    (asset,) = library.assets("zweite kopie")
    assert [a.id for a in library.assets('"Zweite Kopie.safetensors"')] == [asset.id]
    assert [a.id for a in library.assets("first")] == [asset.id]
    library.tag([asset.id], ["kept"])
    assert library.search("zweite tag:kept").total == 1
    copy.rename(models / "Dritte.safetensors")
    scan(library)
    assert (library.search("zweite").total, library.search("dritte").total) == (0, 1)
    write_lora(models / "Dritte.safetensors", 7)
    scan(library)
    assert [a.id for a in library.assets("dritte")] != [asset.id]
    assert library.search("dritte").total == 1


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


def test_of_several_lost_places_the_one_known_longest_is_the_one_that_moved(library, models):
    old, second = (write_lora(models / name / "x.safetensors", 1) for name in ("old", "second"))
    scan(library, [models])
    for lost in (old, second):
        lost.unlink()
    new = write_lora(models / "new" / "x.safetensors", 1)
    assert counts(scan(library)) == {"moved": 1, "missing": 1}
    asset = library.find(str(new))
    assert {file.path: file.state for file in asset.files} == {
        str(new): "present",
        str(second): "missing",
    }


def test_as_many_files_moved_as_turned_up(library, models):
    """Also where nobody could tell which was which: none is lost, and none is new."""
    for name in "abc":
        write_lora(models / name / "x.safetensors", 1)
    scan(library, [models])
    for name, now in zip("abc", "xyz", strict=True):
        (models / name / "x.safetensors").unlink()
        write_lora(models / now / "x.safetensors", 1)
    assert counts(scan(library)) == {"moved": 3}
    (asset,) = library.assets()
    assert {file.state for file in asset.files} == {"present"}


def test_two_files_swap_their_names(library, models):
    a, b = write_lora(models / "a.safetensors", 1), write_lora(models / "b.safetensors", 2)
    scan(library, [models])
    first = library.find(str(a)).id
    a.rename(models / "c")
    b.rename(a)
    (models / "c").rename(b)
    assert counts(scan(library)) == {"updated": 2}
    assert library.find(str(b)).id == first


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

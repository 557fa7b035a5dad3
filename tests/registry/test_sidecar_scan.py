"""What a scan does with the files beside models."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from small_models import write_lora

import registry.scanning.knowledge as knowledge
import registry.scanning.looking as looking
from converters.errors import Cancelled
from converters.progress import Progress
from registry.library import Library
from registry.scanning.scanner import scan


def write(path, **values):
    path.write_text(json.dumps(values))
    return path


def words(library, name):
    return [word for sidecar in library.find(name).sidecars for word in sidecar.trigger_words]


@pytest.fixture
def fox(models):
    """A model with a sidecar, in a folder that was not scanned yet."""
    write(models / "fox.civitai.info", trainedWords=["vulpix"], name="Kitsune", id=7)
    return write_lora(models / "fox.safetensors")


def test_a_scan_keeps_what_files_beside_a_model_say(library, models, fox):
    (models / "fox.preview.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    scan(library, [models])
    picture, info = sorted(library.find("fox").sidecars, key=lambda s: s.owner, reverse=True)
    assert (info.owner, info.name, info.trigger_words) == ("civitai-info", "Kitsune", ("vulpix",))
    assert picture.preview == str(models / "fox.preview.png")


def test_words_of_sidecars_are_found(library, models, fox):
    write_lora(models / "other.safetensors", 1)
    scan(library, [models])
    for query in ("vulpix", "kitsune", "VULPIX kitsune"):
        page = library.search(query)
        assert [row.name for row in page.rows] == ["fox"], query
    library.tag([library.find("fox").id], ["seen"])
    assert library.search("vulpix seen").total == 1


def test_a_changed_sidecar_is_read_again_and_the_model_is_not(library, models, fox, monkeypatch):
    scan(library, [models])
    write(models / "fox.civitai.info", trainedWords=["renard"])

    def refuse(*_, **__):
        raise AssertionError("opened")

    monkeypatch.setattr(looking, "open_model", refuse)
    monkeypatch.setattr(looking, "hash_model", refuse)
    report = scan(library)
    assert (report.unchanged, report.bytes_hashed) == (1, 0)
    assert words(library, "fox") == ["renard"]
    assert library.search("renard").total == 1
    assert library.search("vulpix").total == 0


def test_an_unchanged_sidecar_is_not_opened_again(library, models, fox, monkeypatch):
    (models / "fox.json").write_text('{"of": "another program"}')
    scan(library, [models])

    def refuse(*_):
        raise AssertionError("opened")

    monkeypatch.setattr(knowledge, "read_sidecar", refuse)
    scan(library)
    assert words(library, "fox") == ["vulpix"]


def test_a_sidecar_that_comes_later_is_read_then(library, models, fox):
    scan(library, [models])
    write(models / "fox.json", notes="from the card")
    scan(library)
    assert library.search('"from the card"').total == 1


def test_what_a_removed_sidecar_said_is_forgotten(library, models, fox):
    scan(library, [models])
    (models / "fox.civitai.info").unlink()
    scan(library)
    assert library.find("fox").sidecars == ()
    assert library.search("vulpix").total == 0


def test_a_model_that_moves_with_its_sidecars_has_them_once(library, models, fox):
    scan(library, [models])
    (models / "new").mkdir()
    for name in ("fox.safetensors", "fox.civitai.info"):
        shutil.move(models / name, models / "new" / name)
    scan(library)
    (sidecar,) = library.find("fox").sidecars
    assert sidecar.path == str(models / "new" / "fox.civitai.info")


def test_a_model_that_moves_without_its_sidecars_keeps_what_they_say(library, models, fox):
    scan(library, [models])
    fox.rename(models / "renamed.safetensors")
    scan(library)
    assert words(library, "renamed") == ["vulpix"]


def test_a_model_that_is_missing_with_its_sidecars_keeps_what_they_said(library, models, fox):
    scan(library, [models])
    fox.unlink()
    (models / "fox.civitai.info").unlink()
    scan(library)
    assert library.find("fox").state == "missing"
    assert words(library, "fox") == ["vulpix"]


def test_an_asset_that_is_forgotten_meanwhile_stays_forgotten(library, models, fox, monkeypatch):
    """By another program, between the listing of the folder and the reading of the file."""
    read = knowledge.read_sidecar

    def forget_first(row, path):
        library.forget([asset.id for asset in library.assets()])
        return read(row, path)

    scan(library, [models])
    write(models / "fox.civitai.info", trainedWords=["renard"], id=8)
    monkeypatch.setattr(knowledge, "read_sidecar", forget_first)
    scan(library)
    assert library.assets() == ()


def test_a_folder_that_is_not_there_loses_nothing(library, models, fox, tmp_path):
    scan(library, [models])
    models.rename(tmp_path / "unplugged")
    scan(library)
    assert words(library, "fox") == ["vulpix"]


def test_new_content_at_the_same_place_has_the_sidecar_too(library, models, fox):
    scan(library, [models])
    write_lora(fox, 5)
    scan(library)
    here = [asset for asset in library.assets() if asset.state == "present"]
    assert [sidecar.trigger_words for asset in here for sidecar in asset.sidecars] == [("vulpix",)]


def test_two_models_of_one_stem_share_a_sidecar(library, models, fox):
    write_lora(models / "fox.ckpt", 3)
    scan(library, [models])
    assert [words(library, str(models / f"fox.{end}")) for end in ("safetensors", "ckpt")] == [
        ["vulpix"],
        ["vulpix"],
    ]


def test_a_bad_sidecar_is_named_where_it_is_and_fails_no_scan(library, models, fox):
    (models / "fox.civitai.info").write_text("<!DOCTYPE html>")
    report = scan(library, [models])
    assert (report.added, report.failed) == (1, 0)
    (sidecar,) = library.find("fox").sidecars
    assert sidecar.problems == ("is a web page, not JSON",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_regular_file_is_no_sidecar(library, models):
    write_lora(models / "a.safetensors")
    os.mkfifo(models / "a.txt")
    (models / "a.json").mkdir()
    (models / "a.yaml").symlink_to("a.yaml")
    scan(library, [models])
    assert library.find("a").sidecars == ()


def test_a_library_that_has_read_no_sidecars_learns_them(library, models, fox, url):
    scan(library, [models])
    library.tag([1], ["mine"])
    with library._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM sidecar")
    library.close()
    with Library.open(url) as reopened:
        assert reopened.find("fox").tags == ("mine",)
        report = scan(reopened)
        assert (report.unchanged, report.bytes_hashed) == (1, 0)
        assert words(reopened, "fox") == ["vulpix"]


def test_cancelling_keeps_the_models_and_the_next_scan_reads_the_rest(library, models, fox):
    class Stop(Progress):
        def stage(self, label, total=None, unit="B"):
            if label == "reading sidecars":
                raise Cancelled

    with pytest.raises(Cancelled):
        scan(library, [models], Stop())
    assert library.search().total == 1
    scan(library)
    assert words(library, "fox") == ["vulpix"]

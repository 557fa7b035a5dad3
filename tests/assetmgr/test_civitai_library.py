"""`civitai enrich`, `updates` and the cache of answers, against a server on loopback."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers.civitai_server import CivitaiServer
from helpers.examples import examples
from helpers.loopback import Instead
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from assetmgr.sources.civitai.site import connect
from assetmgr.sources.patience import Pace
from assetmgr.sources.preview_pictures import LONGEST_SIDE, redrawn
from assetmgr.workspace import Workspace
from converters.errors import CorruptFile
from converters.progress import SILENT
from registry.records import ParentFile

if TYPE_CHECKING:
    from conftest import Done, Models

    Program = Callable[..., Done]

HOSTILE = "\x1b]0;owned\x07\u202egnp.exe"


@pytest.fixture
def lora(models: Models, tmp_path: Path, program: Program) -> Path:
    """A LoRA of one's own, registered."""
    path = tmp_path / "mine" / "style.safetensors"
    path.parent.mkdir()
    shutil.copy(models.lora, path)
    program("scan", path.parent)
    return path


def picture(size: tuple[int, int] = (20, 10), form: str = "JPEG", **options: Any) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", size, (200, 10, 10)).save(target, form, **options)
    return target.getvalue()


def known(site: CivitaiServer, lora: Path, **fields: object) -> None:
    """Let the site have the LoRA as version 7 of model 70, with a picture."""
    site.contents[99] = picture()
    images = [
        {"url": f"{site.cdn}/signed/98", "type": "video", "nsfwLevel": 1},
        {"url": f"{site.cdn}/signed/97", "type": "image", "nsfwLevel": 16},
        {"url": f"{site.cdn}/signed/99", "type": "image", "nsfwLevel": 2},
    ]
    told = {"trainedWords": ["sks style"], "images": images, **fields}
    site.add(7, {"other name.safetensors": lora.read_bytes()}, model=70, **told)


# ---- enrich


def test_what_the_site_knows_lies_beside_the_model_and_in_the_library(
    site: CivitaiServer, program: Program, lora: Path
) -> None:
    known(site, lora)
    done = program("civitai", "enrich", lora, "--json")
    assert done.code == 0
    (item,) = done.json
    info, preview = lora.with_suffix(".civitai.info"), lora.with_suffix(".preview.png")
    assert item["files"] == [
        {"path": str(info), "state": "written"},
        {"path": str(preview), "state": "written"},
    ]
    assert json.loads(info.read_bytes())["trainedWords"] == ["sks style"]
    with Image.open(preview) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (20, 10))
    asset = program("show", lora, "--json").json
    told, shown = sorted(asset["sidecars"], key=lambda one: one["owner"])
    assert (told["trigger_words"], told["base"]) == (["sks style"], "SD 1.5")
    assert told["licence"] == (
        "no credit needed; derivatives allowed; same licence only; commercial use: Image, Rent"
    )
    assert shown["preview"] == str(preview)
    (source,) = asset["sources"]
    assert (source["repo"], source["revision"]) == ("70", "7")
    assert program("list", "sks", "--json").json["total"] == 1
    assert "Model 70 - v7" in program("civitai", "enrich", lora).out


def test_what_is_there_stays_and_what_the_user_typed_too(
    site: CivitaiServer, program: Program, lora: Path
) -> None:
    known(site, lora)
    info, mine = lora.with_suffix(".civitai.info"), lora.with_suffix(".png")
    info.write_text('{"id": 1, "mine": "kept", "trainedWords": ["my word"]}')
    mine.write_bytes(b"a picture of my own")
    program("tag", lora, "+good")
    program("note", lora, "as I like it")
    program("rate", lora, "4")
    (item,) = program("civitai", "enrich", lora, "--json").json
    assert item["files"] == [{"path": str(info), "state": "kept"}]
    assert "my word" in info.read_text()
    assert mine.read_bytes() == b"a picture of my own"
    program("civitai", "enrich", lora, "--overwrite")
    document = json.loads(info.read_bytes())
    assert (document["mine"], document["trainedWords"]) == ("kept", ["sks style"])
    asset = program("show", lora, "--json").json
    assert (asset["tags"], asset["note"], asset["rating"]) == (["good"], "as I like it", 4)
    assert not lora.with_suffix(".preview.png").exists()


def test_a_dry_run_writes_nothing_and_fetches_no_picture(
    site: CivitaiServer, program: Program, lora: Path
) -> None:
    known(site, lora)
    (item,) = program("civitai", "enrich", lora, "--dry-run", "--json").json
    assert [one["state"] for one in item["files"]] == [None, None]
    assert list(lora.parent.iterdir()) == [lora]
    assert site.fetched == []
    assert program("show", lora, "--json").json["sources"] == []


def test_adult_pictures_are_left_unless_asked_for(
    site: CivitaiServer, program: Program, lora: Path
) -> None:
    images = [{"url": f"{site.cdn}/signed/99", "type": "image", "nsfwLevel": 16}]
    known(site, lora, images=images)
    program("civitai", "enrich", lora)
    assert not lora.with_suffix(".preview.png").exists()
    program("civitai", "enrich", lora, "--nsfw")
    assert lora.with_suffix(".preview.png").exists()


@pytest.mark.parametrize(
    ("operations", "is_described"),
    [(["convert"], True), (["merge adapters"], False), (["convert", "convert"], False)],
)
def test_a_conversion_is_described_as_its_origin_and_a_merge_is_not(
    operations: list[str],
    is_described: bool,
    site: CivitaiServer,
    program: Program,
    models: Models,
    lora: Path,
) -> None:
    site.add(7, {"origin.safetensors": models.unet_lora.read_bytes()}, model=70)
    (hashes,) = program("hash", models.unet_lora, "--json").json
    with Workspace.open() as workspace:
        for number, operation in enumerate(operations):
            parent = ParentFile("origin", "f" * 64 if number else hashes["sha256"])
            workspace.library.record_derived(1, [parent], operation, {})
    (item,) = program("civitai", "enrich", lora, "--json").json
    assert (item["match"] is not None) is is_described
    assert lora.with_suffix(".civitai.info").exists() is is_described
    asset = program("show", lora, "--json").json
    assert (asset["sources"], asset["claims"]) == ([], [])


def test_assets_are_also_found_by_a_query_and_the_unknown_are_named(
    site: CivitaiServer, program: Program, lora: Path
) -> None:
    done = program("civitai", "enrich", "--query", "kind:lora")
    assert (done.code, done.out) == (0, "#1 style: unknown there\n")
    done = program("civitai", "enrich", "--query", "kind:vae")
    assert (done.code, done.out) == (0, "nothing matches the query\n")
    assert program("civitai", "enrich").code == 2
    done = program("civitai", "enrich", "absent", "#1", "--json")
    assert done.code == 1
    assert [item["asset"] for item in done.json] == [None, 1]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b""),
        (200, b"<html>"),
        (200, b"\x89PNG\r\n\x1a\n" + bytes(50)),
        (200, b"GIF89a" + b"\xff" * 20),
        (200, bytes(17 << 20)),
    ],
    ids=["absent", "page", "damaged", "truncated", "too long"],
)
def test_a_picture_that_is_none_is_a_warning(
    site: CivitaiServer, program: Program, lora: Path, status: int, body: bytes
) -> None:
    known(site, lora)
    site.instead = [Instead(status, 9, body=body, below="/signed")]
    done = program("civitai", "enrich", lora, "--json")
    assert done.code == 0
    assert len(done.json[0]["problems"]) == 1
    assert not lora.with_suffix(".preview.png").exists()
    assert "warning:" in done.err


@pytest.mark.parametrize("address", ["http://203.0.113.7/x.png", "file:///etc/passwd", "x", "//"])
def test_a_picture_at_an_unsafe_address_is_not_asked_for(
    site: CivitaiServer, program: Program, lora: Path, address: str
) -> None:
    known(site, lora, images=[{"url": address}])
    done = program("civitai", "enrich", lora, "--json")
    assert (done.code, len(done.json[0]["problems"])) == (0, 1)


def test_of_a_picture_only_pixels_survive() -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    told = picture((3000, 1500), "JPEG", exif=exif, comment=b"secret comment")
    drawn = redrawn(told + b"PK\x03\x04 more", "x")
    assert b"secret" not in drawn
    assert b"PK" not in drawn
    with Image.open(io.BytesIO(drawn)) as found:
        assert found.size == (LONGEST_SIDE, LONGEST_SIDE // 2)
        assert not found.info


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    whole = bytearray(picture(form="PNG"))
    for side in (7_000, 10_000, 60_000):  # more than ours, than Pillow warns of, than it takes
        whole[16:24] = side.to_bytes(4, "big") * 2
        whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
        with pytest.raises(CorruptFile, match="too many pixels"):
            redrawn(bytes(whole), "x")


@examples(40)
@given(data=st.data())
def test_a_damaged_picture_is_refused_or_drawn(data: st.DataObject) -> None:
    whole = bytearray(picture(form=data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        drawn = redrawn(bytes(whole[: data.draw(st.integers(0, len(whole)))]), "x")
    except CorruptFile:
        return
    assert drawn.startswith(b"\x89PNG")


# ---- updates


def test_newer_versions_are_named_with_their_base_and_what_is_here_of_them(
    site: CivitaiServer, program: Program, models: Models, lora: Path
) -> None:
    known(site, lora)
    later = "2025-01-02T03:04:05.000Z"
    site.add(8, {"b.safetensors": models.unet_lora.read_bytes()}, model=70, publishedAt=later)
    site.add(9, {"c.safetensors": bytes(9)}, model=70, publishedAt=later, baseModel="Pony")
    site.add(6, {"a.safetensors": bytes(8)}, model=70, publishedAt="2020-01-02T03:04:05.000Z")
    program("civitai", "enrich", lora)
    other = shutil.copy(models.unet_lora, lora.with_name("other.safetensors"))
    program("scan", lora.parent)
    found = program("civitai", "updates", "--json").json["updates"]
    (one,) = [item for item in found if item["version"] == "7"]
    assert (one["state"], one["model_name"]) == ("newer", "Model 70")
    newest, next_one = one["newer"]
    assert (newest["version"], newest["base"], newest["same_base"]) == ("9", "sdxl", False)
    assert (next_one["version"], next_one["same_base"]) == ("8", True)
    assert next_one["asset"] == program("show", other, "--json").json["id"]
    shown = program("civitai", "updates").out
    assert "@9" in shown
    assert "for Pony" in shown


def test_an_asset_that_nothing_is_known_of_is_looked_up_by_its_hash(
    site: CivitaiServer, program: Program, lora: Path
) -> None:
    assert "nothing here is known" in program("civitai", "updates").out
    assert program("civitai", "updates", lora, "--json").json["errors"][0]["code"] == "bad_value"
    site.contents.clear()
    known(site, lora)
    shutil.rmtree(Path(os.environ["ASSETMGR_HOME"]) / "cache")
    (one,) = program("civitai", "updates", lora, "--json").json["updates"]
    assert (one["state"], one["version"]) == ("current", "7")


def test_a_model_that_the_site_shows_no_more_is_gone(
    site: CivitaiServer, program: Program, lora: Path
) -> None:
    known(site, lora)
    program("civitai", "enrich", lora)
    site.models.clear()
    (one,) = program("civitai", "updates", "--json").json["updates"]
    assert (one["state"], one["model_name"]) == ("gone", None)
    assert "not there any more" in program("civitai", "updates").out


# ---- search


def test_a_search_asks_for_all_that_is_wanted_and_goes_on_at_a_cursor(
    site: CivitaiServer, program: Program
) -> None:
    for number in range(1, 6):
        site.add(number, {"a.safetensors": bytes(8)})
    call = ("civitai", "search", "Model", "--limit", "2")
    wanted = ("--period", "month", "--tag", "style", "--creator", "me", "--no-nsfw")
    first = program(*call, *wanted, "--json").json
    for part in ("period=Month", "tag=style", "username=me", "nsfw=false"):
        assert part in site.requests[0]
    assert first["next_cursor"] is not None
    second = program(*call, "--cursor", first["next_cursor"], "--json").json
    assert [model["id"] for model in second["models"]] == ["1003", "1004"]
    assert "--cursor" in program(*call).out
    last = program(*call, "--cursor", second["next_cursor"], "--json").json
    assert ([model["id"] for model in last["models"]], last["next_cursor"]) == (["1005"], None)


# ---- hashes by themselves, and weak ones


@pytest.mark.parametrize("name", ["sha256", "autov2", "blake3", "autov3"])
def test_a_hash_by_itself_is_looked_up(
    name: str, site: CivitaiServer, program: Program, models: Models
) -> None:
    site.add(7, {"a.safetensors": models.lora.read_bytes()})
    (hashes,) = program("hash", models.lora, "--json").json
    digest = hashes[name][:12] if name == "autov3" else hashes[name]
    (item,) = program("civitai", "lookup", digest.upper(), "--json").json
    assert (item["asset"], item["matches"][0]["by"]) == (None, name)
    assert program("civitai", "lookup", "f" * 10, "--json").json[0]["matches"] == []


@pytest.mark.parametrize(("size", "is_same"), [(0, True), (5000, False)])
def test_a_hash_of_32_bits_is_believed_where_the_size_is_the_same(
    size: int, is_same: bool, site: CivitaiServer, program: Program, lora: Path
) -> None:
    site.add(7, {"a.safetensors": bytes(8)})
    (file,) = site.models[0]["modelVersions"][0]["files"]
    (hashes,) = program("hash", lora, "--json").json
    file["hashes"] = {"CRC32": hashes["crc32"].upper()}
    file["sizeKB"] = (lora.stat().st_size + size) / 1024
    (item,) = program("civitai", "lookup", lora, "--json").json
    assert [match["by"] for match in item["matches"]] == (["crc32"] if is_same else [])


# ---- the cache of answers


def test_a_young_answer_is_not_asked_for_again_and_an_old_one_is_validated(
    site: CivitaiServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add(7, {"a.safetensors": bytes(8)}, model=70)
    first = program("civitai", "info", "70", "--json").json
    assert program("civitai", "info", "70", "--json").json == first
    assert len(site.requests) == 1
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 7200)
    assert program("civitai", "info", "70", "--json").json == first
    assert len(site.requests) == 2
    assert site.unchanged == 1
    program("civitai", "info", "70")
    assert len(site.requests) == 2, "what was validated is young again"


def test_an_answer_from_the_future_is_none(
    site: CivitaiServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add(7, {"a.safetensors": bytes(8)}, model=70)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 10**6)
    program("civitai", "info", "70")
    monkeypatch.setattr(time, "time", now)
    program("civitai", "info", "70")
    assert len(site.requests) == 2


def test_the_answer_for_one_account_is_not_given_to_another(
    site: CivitaiServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add(7, {"a.safetensors": bytes(8)}, model=70)
    for token in ("one", "two"):
        monkeypatch.setenv("CIVITAI_TOKEN", token)
        program("civitai", "info", "70")
    assert len(site.requests) == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"{}\n{}", b'{"status": 200}', b"\xff\n", b'{"status":1e999,"time":0,"tag":3}\n'],
)
def test_a_broken_file_of_the_cache_is_passed_over(
    content: bytes, site: CivitaiServer, program: Program
) -> None:
    site.add(7, {"a.safetensors": bytes(8)}, model=70)
    first = program("civitai", "info", "70", "--json").json
    (file,) = (Path(os.environ["ASSETMGR_HOME"]) / "cache" / "civitai").iterdir()
    file.write_bytes(content)
    assert program("civitai", "info", "70", "--json").json == first


def test_what_is_no_answer_is_not_kept(site: CivitaiServer, program: Program) -> None:
    site.add(7, {"a.safetensors": bytes(8)}, model=70)
    site.instead = [Instead(200, 1, body=b"<html>"), Instead(403, 1, body=b'{"error":"no"}')]
    assert [program("civitai", "info", "70").code for _ in range(3)] == [3, 3, 0]


def test_many_requests_are_made_at_the_pace_of_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    pace = Pace(30, 2.0)
    for _ in range(30):
        pace.wait(SILENT)
    assert clock[0] == 0
    for _ in range(60):
        pace.wait(SILENT)
    assert clock[0] == pytest.approx(30, abs=1)
    clock[0] += 1000
    before = clock[0]
    for _ in range(31):
        pace.wait(SILENT)
    assert clock[0] - before == pytest.approx(0.5)
    assert connect().pace is not None


def test_all_that_the_site_says_of_models_is_shown_escaped(
    site: CivitaiServer, program: Program, lora: Path
) -> None:
    later = "2025-01-02T03:04:05.000Z"
    known(site, lora, name=HOSTILE, trainedWords=[HOSTILE], baseModel=HOSTILE)
    site.add(8, {f"{HOSTILE}.ckpt": b"x"}, model=70, name=HOSTILE, publishedAt=later)
    site.models[0]["name"] = HOSTILE
    for call in (("enrich", lora), ("updates",), ("lookup", lora)):
        done = program("civitai", *call)
        assert "owned" in done.out
        assert not set("\x1b\x07\u202e") & set(done.out + done.err)

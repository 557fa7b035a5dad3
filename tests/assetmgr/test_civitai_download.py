"""`civitai download` through the real client, against a server on loopback with two hosts."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from helpers.civitai_server import CivitaiServer
from helpers.loopback import Instead
from helpers.waiting import wait_until

from assetmgr.operations.civitai.plan import plan_civitai_download
from assetmgr.operations.civitai.receive import bring, wanted_of
from assetmgr.operations.downloads.placing import Destination
from assetmgr.sources.civitai import site as civitai
from assetmgr.sources.origins import may_follow
from assetmgr.sources.transfers import direct, trickle
from assetmgr.sources.transfers.bandwidth import Bandwidth
from assetmgr.sources.web import Web
from assetmgr.workspace import Workspace
from converters.errors import Cancelled
from converters.progress import CancellableProgress

if TYPE_CHECKING:
    from conftest import Done, Models

    Program = Callable[..., Done]

BIG = "big.dat"
GEM = "style.safetensors"


@pytest.fixture
def site(models: Models, monkeypatch: pytest.MonkeyPatch) -> Iterator[CivitaiServer]:
    with CivitaiServer() as server:
        monkeypatch.setenv("CIVITAI_ENDPOINT", server.url)
        monkeypatch.setattr(Web, "pause", lambda _, seconds, progress: progress.advance(0))
        server.add(7, {GEM: models.lora.read_bytes()}, model=70, trainedWords=["sks style"])
        yield server


def big(site: CivitaiServer) -> bytes:
    """A file of some megabytes, as version 8."""
    data = os.urandom(3 << 20)
    site.add(8, {BIG: data})
    return data


def remains(folder: Path) -> list[str]:
    """All files below a folder, hidden ones too."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def total_assets() -> int:
    with Workspace.open() as workspace:
        return workspace.library.search().total


def test_a_file_is_verified_placed_by_its_kind_and_registered_with_source_and_words(
    site: CivitaiServer, program: Program, models: Models
) -> None:
    done = program("civitai", "download", "7", "--json")
    assert (done.code, done.err) == (0, "")
    item = done.json
    assert (item["state"], item["kind"], item["safety"]) == ("downloaded", "lora", "safe")
    path = Path(item["path"])
    assert path.read_bytes() == models.lora.read_bytes()
    with Workspace.open() as workspace:
        assert path == workspace.paths.models / "loras" / GEM
        assert remains(workspace.paths.models) == ["loras/style.civitai.info", f"loras/{GEM}"]
    shown = program("show", f"#{item['asset']}", "--json").json
    (source,) = shown["sources"]
    assert (source["source"], source["repo"], source["revision"]) == ("civitai", "70", "7")
    assert source["url"] == f"{site.url}/api/download/models/7?fileId=70"
    (sidecar,) = shown["sidecars"]
    assert sidecar["trigger_words"] == ["sks style"]
    assert shown["hashes"]["sha256"] == item["sha256"]
    assert program("list", "sks", "--json").json["total"] == 1


def test_the_hashes_made_on_the_way_are_those_of_the_file(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    big(site)
    for version, name in (("7", GEM), ("8", BIG)):
        assert program("civitai", "download", version, "--to", tmp_path).code == 0
        (own,) = program("hash", tmp_path / name, "--json").json
        shown = program("show", tmp_path / name, "--json").json["hashes"]
        names = ("blake3", "sha256", "crc32", *(("autov3",) if name == GEM else ("autov1",)))
        assert [shown[key] for key in names] == [own[key] for key in names]


def test_what_a_scan_finds_beside_the_model_is_what_is_known_already(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    program("civitai", "download", "7", "--to", tmp_path)
    before = program("show", "#1", "--json").json["sidecars"]
    program("scan", tmp_path)
    assert program("show", "#1", "--json").json["sidecars"] == before


def test_a_description_that_lies_there_is_kept(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    (tmp_path / "style.civitai.info").write_text("mine")
    assert program("civitai", "download", "7", "--to", tmp_path).code == 0
    assert (tmp_path / "style.civitai.info").read_text() == "mine"


def test_what_the_library_has_is_not_downloaded_again(
    site: CivitaiServer, program: Program
) -> None:
    program("civitai", "download", "7")
    site.requests.clear()
    done = program("civitai", "download", "7", "--json")
    assert (done.code, done.json["state"]) == (0, "already")
    assert site.fetched == []
    assert "have it: #1" in program("civitai", "download", "7", "--dry-run").out


def test_a_dry_run_fetches_nothing(site: CivitaiServer, program: Program, tmp_path: Path) -> None:
    item = program("civitai", "download", "70@7", "--to", tmp_path, "--dry-run", "--json").json
    assert (item["state"], item["path"], item["file"]) == (None, None, GEM)
    assert site.fetched == remains(tmp_path) == []


@pytest.mark.parametrize("wanted", ["b.dat", "91"])
def test_a_file_is_chosen_by_its_name_or_number(
    site: CivitaiServer, program: Program, tmp_path: Path, wanted: str
) -> None:
    site.add(9, {"a.dat": b"a" * 99, "b.dat": b"b" * 99})
    assert program("civitai", "download", "9", wanted, "--to", tmp_path).code == 0
    assert remains(tmp_path) == ["b.dat"]


def test_a_file_that_the_version_lacks_is_named(site: CivitaiServer, program: Program) -> None:
    done = program("civitai", "download", "7", "absent.ckpt", "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (1, "not_found")
    assert GEM in done.err
    assert site.fetched == []


def test_a_model_has_to_be_named_with_its_version(site: CivitaiServer, program: Program) -> None:
    done = program("civitai", "download", "https://civitai.com/models/70/x", "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (2, "bad_value")
    bare = program("civitai", "download", "1007")
    assert "of a model, `assetmgr civitai info 1007` lists the versions" in bare.err


class StopsAfter(CancellableProgress):
    """Is cancelled when so many bytes have come."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def advance(self, amount: int = 1) -> None:
        super().advance(amount)
        self.left -= amount
        if self.left < 0:
            self.cancel()


def interrupt(site: CivitaiServer, folder: Path) -> None:
    """Cancel the download of version 8 when more than one megabyte of it came, and not all."""
    site.hold_after = 2 << 20
    with Workspace.open() as workspace, civitai.connect() as web:
        wanted = wanted_of(plan_civitai_download(workspace, "8"), Destination(folder))
        with pytest.raises(Cancelled):
            bring(workspace, wanted, web, Bandwidth(), StopsAfter(1 << 20))
    site.hold_after = None


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("tags", [True, False])
def test_an_interrupted_download_leaves_no_model_and_is_gone_on_with(
    site: CivitaiServer, program: Program, tmp_path: Path, ranges: bool, tags: bool
) -> None:
    data = big(site)
    site.ranges, site.tags = ranges, tags
    interrupt(site, tmp_path)
    left = remains(tmp_path)
    assert all(name.startswith(".downloads/") for name in left)
    assert all(name.endswith(".assetmgr-part") for name in left)
    assert total_assets() == 0
    kept = max((tmp_path / name).stat().st_size for name in left)
    assert 1 << 20 < kept < len(data)
    site.requests.clear()
    assert program("civitai", "download", "8", "--to", tmp_path).code == 0
    assert (tmp_path / BIG).read_bytes() == data
    assert remains(tmp_path) == [BIG]
    (request,) = site.fetched
    assert request.endswith(f"bytes={kept}-") is tags


def test_bytes_that_all_came_are_not_fetched_again(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    data = big(site)
    interrupt(site, tmp_path)
    part = max(tmp_path.glob(".downloads/*"), key=lambda path: path.stat().st_size)
    part.write_bytes(data)
    site.requests.clear()
    assert program("civitai", "download", "8", "--to", tmp_path).code == 0
    assert (tmp_path / BIG).read_bytes() == data
    assert len(site.fetched) == 1


@pytest.mark.parametrize("left", [b"", b"x", bytes(1000), bytes(4 << 20)], ids=len)
def test_remains_that_are_of_another_file_never_get_the_name(
    site: CivitaiServer, program: Program, tmp_path: Path, left: bytes
) -> None:
    data = big(site)
    interrupt(site, tmp_path)
    part = max(tmp_path.glob(".downloads/*"), key=lambda path: path.stat().st_size)
    part.write_bytes(left)
    first = program("civitai", "download", "8", "--to", tmp_path)
    if first.code:
        assert "corrupt" not in first.out
        assert remains(tmp_path) == []
        assert program("civitai", "download", "8", "--to", tmp_path).code == 0
    assert (tmp_path / BIG).read_bytes() == data


def test_a_file_that_changed_on_the_server_is_begun_anew(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    big(site)
    interrupt(site, tmp_path)
    # The same bytes under another name for their state: If-Range does not hold.
    (tag,) = tmp_path.glob(".downloads/*.tag.*")
    tag.write_text('"another"')
    assert program("civitai", "download", "8", "--to", tmp_path).code == 0
    assert remains(tmp_path) == [BIG]


def test_a_connection_that_breaks_is_taken_up_again_without_a_word(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    data = big(site)
    site.break_after = [100, 100_000, 5]
    done = program("civitai", "download", "8", "--to", tmp_path)
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / BIG).read_bytes() == data
    assert [line.rpartition("bytes=")[2] for line in site.fetched[1:]] == [
        "100-",
        "100100-",
        "100105-",
    ]


def test_a_connection_that_always_breaks_is_given_up_and_gone_on_with_later(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    data = big(site)
    site.break_after = [10] * 99
    done = program("civitai", "download", "8", "--to", tmp_path, "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (3, "not_available")
    assert len(site.fetched) == 5
    assert total_assets() == 0
    site.break_after = []
    assert program("civitai", "download", "8", "--to", tmp_path).code == 0
    assert site.fetched[-1].endswith("bytes=50-")
    assert (tmp_path / BIG).read_bytes() == data


def test_a_process_that_is_killed_leaves_nothing_wrong_and_the_next_goes_on(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    data = big(site)
    site.hold_after = 2 << 20
    command = [sys.executable, "-m", "assetmgr", "civitai", "download", "8", "--to", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        wait_until(lambda: _largest(tmp_path) >= 1 << 20, going_on=lambda: child.poll() is None)
        child.kill()
    kept = _largest(tmp_path)
    assert 1 << 20 <= kept < len(data)
    assert not (tmp_path / BIG).exists()
    assert total_assets() == 0
    site.hold_after = None
    assert program("civitai", "download", "8", "--to", tmp_path).code == 0
    assert site.fetched[-1].endswith(f"bytes={kept}-")
    assert (tmp_path / BIG).read_bytes() == data
    assert remains(tmp_path) == [BIG]


def _largest(folder: Path) -> int:
    return max((path.stat().st_size for path in folder.glob(".downloads/*")), default=0)


def test_a_connection_that_stalls_is_given_up_and_keeps_what_came(
    site: CivitaiServer, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big(site)
    monkeypatch.setattr(trickle, "DYING_SECONDS", 0.05)
    monkeypatch.setattr(trickle, "DYING_RATE", 1e12)
    monkeypatch.setattr(direct, "SLICE_SECONDS", 0.1)
    site.hold_after = 1000
    done = program("civitai", "download", "8", "--to", tmp_path)
    assert (done.code, len(done.errors)) == (3, 1)
    assert "the connection is dying" in done.err
    assert not (tmp_path / BIG).exists()
    assert 0 < _largest(tmp_path) <= 5000


def test_a_token_that_expires_in_the_middle_keeps_what_came(
    site: CivitaiServer, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = big(site)
    monkeypatch.setenv("CIVITAI_TOKEN", "s3cr3t-key")
    site.break_after = [100_000]
    site.instead = [Instead(401, below="/api/download/", after=1)]
    done = program("civitai", "download", "8", "--to", tmp_path)
    assert (done.code, len(done.errors)) == (3, 1)
    assert "needs a login" in done.err
    assert program("civitai", "download", "8", "--to", tmp_path).code == 0
    assert site.fetched[-1].endswith("bytes=100000-")
    assert (tmp_path / BIG).read_bytes() == data


def test_bytes_that_are_not_the_announced_ones_are_refused_and_removed(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    big(site)
    file = site.models[-1]["modelVersions"][0]["files"][0]
    file["hashes"] = {"SHA256": hashlib.sha256(b"other").hexdigest()}
    done = program("civitai", "download", "8", "--to", tmp_path, "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (1, "corrupt")
    assert "not those Civitai announced" in done.err
    assert remains(tmp_path) == []
    assert total_assets() == 0


def test_a_file_of_another_size_is_refused_before_it_is_fetched(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    big(site)
    site.models[-1]["modelVersions"][0]["files"][0]["sizeKB"] = 17.0
    done = program("civitai", "download", "8", "--to", tmp_path)
    assert done.code == 3
    assert "3,145,728 bytes, announced were 17,408" in done.err
    assert not (tmp_path / BIG).exists()


@pytest.mark.parametrize("announced", [b"", b"{}"])
def test_a_file_without_a_hash_is_checked_by_its_size(
    site: CivitaiServer, program: Program, tmp_path: Path, announced: bytes
) -> None:
    data = big(site)
    site.models[-1]["modelVersions"][0]["files"][0]["hashes"] = {}
    done = program("civitai", "download", "8", "--to", tmp_path, "--json")
    assert (done.code, done.json["sha256"]) == (0, None)
    assert (tmp_path / BIG).read_bytes() == data


def test_a_file_without_a_hash_that_is_a_few_bytes_short_is_refused(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    """So few that the announced size could have been rounded."""
    data = big(site)
    site.models[-1]["modelVersions"][0]["files"][0]["hashes"] = {}
    site.contents[80] = data[:-100]
    done = program("civitai", "download", "8", "--to", tmp_path)
    assert (done.code, len(done.errors)) == (1, 1)
    assert "not those Civitai announced" in done.err
    assert remains(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "kind", "told"),
    [
        (b"<!DOCTYPE html><p>Log in", "text/html; charset=utf-8", "a web page"),
        (b"  <HTML>", "application/octet-stream", "a web page"),
        (b'{"error": "gone fishing"}', "application/json", "gone fishing"),
        (b'{"error": "gone fishing"}', "binary/octet-stream", "a JSON text"),
    ],
)
def test_a_page_or_a_message_instead_of_a_file_is_called_what_it_is(
    site: CivitaiServer, program: Program, tmp_path: Path, content: bytes, kind: str, told: str
) -> None:
    site.add(8, {BIG: content})
    site.file_headers = {"Content-Type": kind}
    done = program("civitai", "download", "8", "--to", tmp_path, "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (3, "not_available")
    assert told in done.err
    assert BIG not in remains(tmp_path)
    assert total_assets() == 0


@pytest.mark.parametrize(
    ("status", "body", "code", "told"),
    [
        (401, b"{}", 3, "needs a login"),
        (403, b'{"error":"Early Access","deadline":"2030-01-01"}', 3, "Early Access, until 2030"),
        (401, b'{"error":"No","message":"Log in"}', 3, "needs a login: No; Log in\n"),
        (404, b"<html>", 1, "no such thing"),
        (410, b'{"error":"Archived"}', 1, "archived"),
        (429, b'{"error":"unusual amount"}', 3, "unusual amount"),
        (418, b"[]", 3, "status 418"),
    ],
)
def test_what_is_refused_is_named_with_what_to_do(
    site: CivitaiServer,
    program: Program,
    tmp_path: Path,
    status: int,
    body: bytes,
    code: int,
    told: str,
) -> None:
    site.instead = [Instead(status, 99, body=body, below="/api/download/")]
    done = program("civitai", "download", "7", "--to", tmp_path)
    assert (done.code, len(done.errors)) == (code, 1)
    assert told in done.err
    assert ("CIVITAI_TOKEN" in done.err) is (status in {401, 403})
    assert total_assets() == 0


def test_a_token_goes_to_the_site_and_to_no_other_host_file_or_log(
    site: CivitaiServer,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("CIVITAI_TOKEN", "s3cr3t-key")
    caplog.set_level(logging.DEBUG, "httpx")
    site.models[0]["modelVersions"][0]["description"] = "echo s3cr3t-key"
    done = program("civitai", "download", "7", "--to", tmp_path, "--verbose")
    assert done.code == 0
    assert site.tokens == {"service": {"Bearer s3cr3t-key"}, "cdn": {None}}
    told = done.out + done.err + caplog.text + "".join(site.requests)
    assert "s3cr3t" not in told
    assert "s3cret" not in done.out + done.err + caplog.text, "signatures are secrets, too"
    home = Path(os.environ["ASSETMGR_HOME"])
    for path in (*tmp_path.rglob("*"), *home.rglob("*")):
        assert path.is_dir() or b"s3cr3t" not in path.read_bytes(), path


def test_a_redirect_that_comes_home_gets_the_token_again(
    site: CivitaiServer, program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CIVITAI_TOKEN", "s3cr3t-key")
    site.instead = [Instead(307, 1, {"Location": "/api/v1/model-versions/7"}, below="/api/v1/")]
    assert program("civitai", "download", "@7", "--to", tmp_path).code == 0
    assert site.tokens["service"] == {"Bearer s3cr3t-key"}


@pytest.mark.parametrize(
    ("place", "cause"),
    [
        ("/api/download/models/7?fileId=70", "leads in circles"),
        ("file:///etc/passwd", "leads to an unsafe address"),
        ("javascript:alert(1)", "leads to an unsafe address"),
        ("http:", "leads in circles"),
        ("//[::1", "leads to an unsafe address"),
    ],
)
def test_a_redirect_in_circles_or_to_no_server_is_refused_at_once(
    site: CivitaiServer, program: Program, tmp_path: Path, place: str, cause: str
) -> None:
    site.location = place
    done = program("civitai", "download", "7", "--to", tmp_path)
    assert (done.code, len(done.errors)) == (3, 1)
    assert cause in done.err
    asked = [line for line in site.requests if "/api/download/" in line]
    assert len(asked) == (6 if "circles" in cause else 1)


@pytest.mark.parametrize(
    ("home", "target", "safe"),
    [
        ("https://civitai.com", "https://files.example/x", True),
        ("https://civitai.com", "http://files.example/x", False),
        ("https://civitai.com", "https://127.0.0.1/x", False),
        ("https://civitai.com", "https://10.0.0.1/x", False),
        ("https://civitai.com", "https://[::1]/x", False),
        ("https://civitai.com", "https://localhost/x", False),
        ("https://civitai.com", "https://169.254.169.254/x", False),
        ("https://civitai.com", "ftp://files.example/x", False),
        ("http://127.0.0.1:8000", "http://localhost:8001/x", True),
    ],
)
def test_redirects_lead_neither_out_of_https_nor_into_the_private_network(
    home: str, target: str, safe: bool
) -> None:
    assert may_follow(httpx.URL(home), httpx.URL(target)) is safe


def test_an_endpoint_with_a_password_is_refused(
    site: CivitaiServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIVITAI_ENDPOINT", "https://me:hunter2@civitai.com")
    done = program("civitai", "download", "7")
    assert done.code == 2
    assert "hunter2" not in done.err


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../evil.dat", "_.._.._evil.dat"),
        ("/etc/passwd", "_etc_passwd"),
        ("C:\\evil\x1b[2J.dat", "C__evil_[2J.dat"),
        ("..", "_"),
        ("nul.dat", "_nul.dat"),
    ],
)
def test_a_hostile_name_cannot_leave_the_folder(
    site: CivitaiServer, program: Program, tmp_path: Path, name: str, kept: str
) -> None:
    site.add(9, {name: os.urandom(99)})
    done = program("civitai", "download", "9", "--to", tmp_path / "mine")
    assert done.code == 0
    assert remains(tmp_path) == [f"mine/{kept}"]
    assert "\x1b" not in done.out + done.err


def test_a_target_with_other_content_is_kept_and_nothing_is_fetched(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    (tmp_path / GEM).write_bytes(b"precious")
    done = program("civitai", "download", "7", "--to", tmp_path, "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (1, "target_exists")
    assert (tmp_path / GEM).read_bytes() == b"precious"
    assert site.fetched == []


def test_a_disk_without_room_is_named_before_anything_is_fetched(
    site: CivitaiServer, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil has it
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 90, 10))
    done = program("civitai", "download", "7", "--to", tmp_path, "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (1, "disk_full")
    assert GEM not in remains(tmp_path)


def test_a_dangerous_pickle_is_registered_with_its_verdict_and_a_warning(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {marker}",)

    site.add(9, {"evil.pt": pickle.dumps(Hostile())})
    done = program("civitai", "download", "9", "--to", tmp_path / "mine", "--json")
    assert (done.code, done.json["safety"]) == (0, "dangerous")
    assert "dangerous pickle" in done.err
    assert not marker.exists()


def test_being_offline_is_one_line_as_a_whole_process(
    site: CivitaiServer, process: Callable[..., Done], tmp_path: Path
) -> None:
    dead = {"CIVITAI_ENDPOINT": "http://127.0.0.1:9"}
    done = process("civitai", "download", "7", "--to", tmp_path, "--json", env=dead)
    assert (done.code, json.loads(done.out)["errors"][0]["code"]) == (3, "not_available")
    assert done.err == (
        "error: civitai version 7: Civitai cannot be reached\n"
        "hint: check the connection and CIVITAI_ENDPOINT\n"
    )
    assert remains(tmp_path) == []

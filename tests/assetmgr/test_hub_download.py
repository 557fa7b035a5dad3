"""`hub download` through the real client, against a server on loopback."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.hub_server import COMMIT, HubServer
from helpers.loopback import Instead
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from assetmgr.operations.downloads.placing import Destination
from assetmgr.operations.hub.plan import Download, DownloadRequest, plan_download
from assetmgr.operations.hub.receive import bring, wanted_of
from assetmgr.operations.names import safe_name
from assetmgr.paths import find_paths
from assetmgr.sources.hub import files as huggingface
from assetmgr.sources.transfers.bandwidth import Bandwidth
from assetmgr.workspace import Workspace
from converters.errors import Cancelled
from converters.progress import CancellableProgress
from registry.scanning import scanner

if TYPE_CHECKING:
    from conftest import Done, Models

    Program = Callable[..., Done]

REPO = "org/gems"
GEM = "gem.safetensors"
BIG = "big.bin"
MIB = 1 << 20


def remains(folder: Path) -> list[str]:
    """All files below a folder, hidden ones too."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def test_a_file_is_verified_placed_by_its_kind_and_registered_with_its_source(
    hub: HubServer, program: Program
) -> None:
    done = program("hub", "download", REPO, GEM, "--json")
    assert (done.code, done.err) == (0, "")
    (item,) = done.json
    assert item["state"] == "downloaded"
    assert item["sha256"] == hub.sha256(GEM)
    path = Path(item["path"])
    assert path.read_bytes() == hub.files[GEM]
    with Workspace.open() as workspace:
        assert path == workspace.paths.models / "embeddings" / GEM
        assert remains(workspace.paths.models) == [f"embeddings/{GEM}"]
        assert not (workspace.paths.models / ".downloads").exists()
        asset = workspace.library.find(hub.sha256(GEM))
    (source,) = asset.sources
    assert (asset.id, asset.kind) == (item["asset"], "embedding")
    assert (source.source, source.repo, source.revision) == ("huggingface", REPO, COMMIT)
    assert (source.file, source.url) == (GEM, f"{hub.url}/{REPO}/resolve/{COMMIT}/{GEM}")


def test_a_file_of_xet_storage_comes_over_http_and_is_the_right_one(
    hub: HubServer, program: Program
) -> None:
    """Where our own transfer goes on, hashes and keeps to a rate, hf-xet has no part."""
    hub.xet = True
    (document,) = program("hub", "download", REPO, GEM, "--json").json
    assert Path(document["path"]).read_bytes() == hub.files[GEM]
    assert document["sha256"] == hub.sha256(GEM)
    hub.sizes = False  # a mirror's list tells nothing: the file itself is asked what it is
    again = program("hub", "download", REPO, GEM, "--again", "--json").json
    assert (again[0]["sha256"], again[0]["state"]) == (document["sha256"], "already")
    assert not any("xet" in line for line in hub.requests)


def test_without_a_file_all_model_files_are_downloaded_and_nothing_else(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    done = program("hub", "download", REPO, "--to", tmp_path / "mine", "--json")
    assert done.code == 0
    assert [item["file"] for item in done.json] == [GEM]
    assert remains(tmp_path / "mine") == [GEM]


def test_what_the_library_has_is_not_downloaded_again(hub: HubServer, program: Program) -> None:
    program("hub", "download", REPO, GEM)
    hub.requests.clear()
    done = program("hub", "download", REPO, GEM, "--json")
    assert (done.code, done.json[0]["state"]) == (0, "already")
    assert hub.fetched == []
    assert "have it: #1" in program("hub", "download", REPO, GEM, "--dry-run").out


def test_what_the_library_has_lost_is_downloaded_again(hub: HubServer, program: Program) -> None:
    path = Path(program("hub", "download", REPO, GEM, "--json").json[0]["path"])
    path.unlink()
    done = program("hub", "download", REPO, GEM, "--json")
    assert (done.code, done.json[0]["state"], done.json[0]["asset"]) == (0, "downloaded", 1)
    assert path.read_bytes() == hub.files[GEM]


def test_a_dry_run_fetches_nothing(hub: HubServer, program: Program) -> None:
    (item,) = program("hub", "download", REPO, GEM, "--dry-run", "--json").json
    assert (item["path"], item["state"]) == (None, None)
    assert item["bytes"] == len(hub.files[GEM])
    assert hub.fetched == []


def test_a_small_file_is_verified_by_the_name_git_gives_it(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    (item,) = program("hub", "download", REPO, "README.md", "--to", tmp_path, "--json").json
    assert (item["state"], item["sha256"], item["kind"]) == ("downloaded", None, "unknown")
    assert (tmp_path / "README.md").read_bytes() == b"# Gems"


@pytest.mark.parametrize(("name", "announced"), [(GEM, "ab" * 32), ("README.md", "ab" * 20)])
def test_bytes_that_are_not_the_announced_ones_are_refused_and_removed(
    hub: HubServer, program: Program, tmp_path: Path, name: str, announced: str
) -> None:
    hub.announced[name] = announced
    done = program("hub", "download", REPO, name, "--to", tmp_path, "--json")
    assert done.code == 1
    assert done.json[0]["code"] == "corrupt"
    assert "not those the Hub announced" in done.err
    assert remains(tmp_path) == []
    with Workspace.open() as workspace:
        assert workspace.library.search().total == 0


def test_a_target_with_other_content_is_kept_and_nothing_is_fetched(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    (tmp_path / GEM).write_bytes(b"precious")
    done = program("hub", "download", REPO, GEM, "--to", tmp_path, "--json")
    assert (done.code, done.json[0]["code"]) == (1, "target_exists")
    assert (tmp_path / GEM).read_bytes() == b"precious"
    assert hub.fetched == []


def test_a_target_with_other_content_in_the_folder_of_its_kind_is_kept(
    hub: HubServer, program: Program
) -> None:
    with Workspace.open() as workspace:
        folder = workspace.paths.models
    (folder / "embeddings").mkdir(parents=True)
    (folder / "embeddings" / GEM).write_bytes(b"precious")
    done = program("hub", "download", REPO, GEM, "--json")
    assert (done.code, done.json[0]["code"]) == (1, "target_exists")
    assert (folder / "embeddings" / GEM).read_bytes() == b"precious"
    hub.requests.clear()
    (folder / "embeddings" / GEM).unlink()
    assert program("hub", "download", REPO, GEM).code == 0
    assert hub.fetched == [], "what came is kept until it has a place"
    assert remains(folder) == [f"embeddings/{GEM}"]


def test_a_target_with_the_same_content_is_registered_and_not_fetched(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    (tmp_path / GEM).write_bytes(hub.files[GEM])
    (item,) = program("hub", "download", REPO, GEM, "--to", tmp_path, "--json").json
    assert (item["state"], item["kind"]) == ("already", "embedding")
    assert hub.fetched == []
    assert program("show", "#1", "--json").json["sources"][0]["repo"] == REPO


class StopsAfter(CancellableProgress):
    """Is cancelled when so many bytes have come; adds up what was advanced in the last stage."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.amount = most, 0

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        self.amount = 0

    def advance(self, amount: int = 1) -> None:
        self.amount += amount
        if self.amount > self.most:
            self.cancel()
        super().advance(amount)


def interrupted(hub: HubServer, folder: Path, most: int = MIB) -> Path:
    """A download of the big file that was interrupted after so many bytes; gives what is left."""
    file = next(plan_download_of(BIG))
    hub.hold_after = 2 * most
    with Workspace.open() as workspace, huggingface.connect() as web:
        wanted = wanted_of(workspace, file, Destination(folder))
        with pytest.raises(Cancelled):
            bring(workspace, wanted, web, Bandwidth(), StopsAfter(most))
    hub.hold_after = None
    (part,) = remains(folder)
    return folder / part


def plan_download_of(name: str) -> Iterator[Download]:
    with Workspace.open() as workspace:
        for found in plan_download(workspace, DownloadRequest(REPO, files=(name,))):
            assert isinstance(found, Download)
            yield found


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_leaves_no_model_and_is_gone_on_with(
    hub: HubServer, program: Program, tmp_path: Path, ranges: bool
) -> None:
    hub.files[BIG] = os.urandom(4 * MIB)
    hub.ranges = ranges
    part = interrupted(hub, tmp_path)
    kept = part.read_bytes()
    assert hub.files[BIG].startswith(kept)
    assert MIB < len(kept) < 4 * MIB
    assert part.parent.name == ".downloads"
    assert part.name.endswith(".assetmgr-part")
    hub.requests.clear()
    assert program("hub", "download", REPO, BIG, "--to", tmp_path).code == 0
    assert hub.fetched[-1] == f"GET /cdn/{BIG} bytes={len(kept)}-"
    assert remains(tmp_path) == [BIG]
    assert (tmp_path / BIG).read_bytes() == hub.files[BIG]


def test_a_connection_that_breaks_is_taken_up_again_without_a_word(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    hub.break_after = [100]
    done = program("hub", "download", REPO, GEM, "--to", tmp_path)
    assert (done.code, done.err) == (0, "")
    assert len([line for line in hub.fetched if "/cdn/" in line]) == 2
    assert remains(tmp_path) == [GEM]


def test_a_token_that_expires_in_the_middle_keeps_what_came(
    hub: HubServer, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.break_after = [100]
    hub.instead = [Instead(401, 9, below=f"/{REPO}/resolve/", after=1)]
    done = program("hub", "download", REPO, GEM, "--to", tmp_path)
    assert (done.code, len(done.errors)) == (3, 1)
    assert "refuses access" in done.err
    assert "hf_secret" not in done.err
    hub.instead = []
    assert program("hub", "download", REPO, GEM, "--to", tmp_path).code == 0
    assert hub.fetched[-1].endswith("bytes=100-")
    assert (tmp_path / GEM).read_bytes() == hub.files[GEM]


@pytest.mark.parametrize(
    "spoiled", [b"", b"x", b"x" * 5 * MIB, b"x" * 4 * MIB, b"x" * MIB], ids=len
)
def test_remains_that_are_no_part_of_the_file_are_found_out_and_fetched_anew(
    hub: HubServer, program: Program, tmp_path: Path, spoiled: bytes
) -> None:
    hub.files[BIG] = os.urandom(4 * MIB)
    interrupted(hub, tmp_path).write_bytes(spoiled)
    assert program("hub", "download", REPO, BIG, "--to", tmp_path).code == 0
    assert (tmp_path / BIG).read_bytes() == hub.files[BIG]
    assert remains(tmp_path) == [BIG]


def test_an_index_may_come_before_its_shards_and_a_scan_keeps_what_is_no_model(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    index = "unet/model.safetensors.index.json"
    hub.files |= {
        f"unet/{GEM}": hub.files[GEM],
        index: json.dumps({"weight_map": {"emb_params": GEM}}).encode(),
        "unet/config.json": b"{}",
    }
    call = ("hub", "download", REPO, "--to", tmp_path)
    assert program(*call, index).code == 0
    assert program("show", tmp_path / index, "--json").json["kind"] == "unknown"
    assert program(*call, "unet").code == 0
    assert program("show", tmp_path / index, "--json").json["kind"] == "embedding"
    assert remains(tmp_path / "unet") == ["config.json", GEM, Path(index).name]
    assert program("scan", tmp_path, "--json").json["missing"] == 0
    assert program("list", "--json").json["total"] == 3
    (tmp_path / index).unlink()
    assert program("scan", tmp_path, "--json").json["missing"] == 1


@pytest.mark.parametrize(
    ("layout", "folder"), [(None, "diffusers/gems"), ("sdnext", "models/Diffusers/gems")]
)
def test_a_model_in_several_files_arrives_whole_and_together(
    hub: HubServer, program: Program, tmp_path: Path, layout: str | None, folder: str
) -> None:
    """Each file by itself would go to the folder of its kind, and the index to no model's."""
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    shards = {f"te/{name}": save({name: np.zeros(3)}) for name in names}
    index = "te/model.safetensors.index.json"
    weight_map = json.dumps({"weight_map": {name: name for name in names}}).encode()
    hub.files = {**shards, index: weight_map, "te/config.json": b"{}", "README.md": b""}
    options = () if layout is None else ("--to", tmp_path / "ui", "--layout", layout)
    done = program("hub", "download", REPO, "--json", *options)
    assert (done.code, done.err) == (0, "")
    root = find_paths().models if layout is None else tmp_path / "ui"
    wanted = {*hub.files} - {"README.md"}
    assert {item["file"]: item["path"] for item in done.json} == {
        name: str(root / folder / name) for name in wanted
    }
    found = program("show", root / folder / index, "--json").json
    assert found["container"] == "sharded-safetensors"


def test_a_part_of_a_model_says_which_others_are_missing(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    first, second, third = (f"te/model-0000{n}-of-00003.safetensors" for n in (1, 2, 3))
    hub.files = {name: save({name: np.zeros(3)}) for name in (first, second, third)}
    call = ("hub", "download", REPO, "--to", tmp_path)
    done = program(*call, first, second)
    assert done.err == (
        f"warning: {second}: 1 other part of its model is missing: {Path(third).name};"
        f" `assetmgr hub download {REPO} te` brings all\n"
    )
    done = program(*call, first, "--json")
    assert [item["missing_parts"] for item in done.json] == [[third]]
    done = program(*call, third)
    assert (done.code, done.err) == (0, "")
    assert "2 other parts" in program(*call, first, "--dry-run").err


@pytest.mark.skipif(os.name != "posix", reason="folders are not synced elsewhere")
@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_bytes_reach_the_disk_before_their_name_and_the_name_before_the_library(
    hub: HubServer, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """What a power cut leaves is nothing, or a file that is whole."""
    hub.files[BIG] = os.urandom(size)
    happened: list[str] = []
    sync, link, record = os.fsync, os.link, scanner.scan_file

    def fsync(descriptor: int) -> None:
        sync(descriptor)
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            happened.append("folder")
        elif found.st_size == size:
            happened.append("bytes")

    def linked(*names: Path) -> None:
        link(*names)
        happened.append("name")

    def recorded(*given: Any, **more: Any) -> object:
        happened.append("library")
        return record(*given, **more)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(scanner, "scan_file", recorded)
    assert program("hub", "download", REPO, BIG, "--to", tmp_path).code == 0
    assert happened == ["bytes", "name", "folder", "library"]


def test_a_disk_without_room_is_named_before_anything_is_fetched(
    hub: HubServer, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil has it
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 90, 10))
    done = program("hub", "download", REPO, GEM, "--to", tmp_path, "--json")
    assert (done.code, done.json[0]["code"]) == (1, "disk_full")
    assert hub.fetched == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("absent.safetensors", "not_found"),
        ("../../evil.safetensors", "bad_value"),
        ("/etc/passwd", "bad_value"),
        ("a//b", "bad_value"),
        (".", "bad_value"),
        ("", "bad_value"),
    ],
)
def test_a_file_the_repository_cannot_have_is_one_error_and_the_others_go_on(
    hub: HubServer, program: Program, tmp_path: Path, name: str, code: str
) -> None:
    done = program("hub", "download", REPO, name, GEM, "--to", tmp_path / "mine", "--json")
    assert done.code == (1 if code == "not_found" else 2)
    assert [item.get("code") for item in done.json] == [code, None]
    assert done.json[1]["state"] == "downloaded"
    assert len(done.errors) == 1
    assert remains(tmp_path) == [f"mine/{GEM}"]


def test_a_hostile_listing_cannot_leave_the_folder(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    hub.files = {"../evil.ckpt": b"x", "sub/C:\\evil\x1b[2J.ckpt": b"y"}
    done = program("hub", "download", REPO, "--to", tmp_path / "mine", "--json")
    assert [item.get("code") for item in done.json] == ["bad_value", None]
    assert remains(tmp_path) == ["mine/sub/C__evil_[2J.ckpt"]
    assert "\x1b" not in done.err


def test_folders_of_the_repository_are_kept_below_the_folder_asked_for(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    hub.files["unet/model.fp16.safetensors"] = hub.files[GEM]
    assert (
        program("hub", "download", REPO, "unet/model.fp16.safetensors", "--to", tmp_path).code == 0
    )
    assert remains(tmp_path) == ["unet/model.fp16.safetensors"]


def test_names_that_every_repository_has_are_told_apart_in_the_folder_of_their_kind(
    hub: HubServer, program: Program
) -> None:
    name = "unet/model.fp16.safetensors"
    hub.files[name] = hub.files[GEM]
    (item,) = program("hub", "download", REPO, name, "--json").json
    assert Path(item["path"]).name == "gems-unet-model.fp16.safetensors"


@given(st.text(min_size=1, max_size=300))
def test_a_safe_name_is_one_name_on_every_system(name: str) -> None:
    safe = safe_name(name)
    assert safe not in {"", ".", ".."}
    assert not set('<>:"/\\|?*\0\n\x1b\u202e\u2066') & set(safe)
    assert len(safe.encode()) <= 255
    assert not safe.endswith((".", " "))
    assert safe_name(safe) == safe


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("con.ckpt", "_con.ckpt"),
        ("NUL", "_NUL"),
        ("com¹ .pt", "_com¹ .pt"),
        (GEM, GEM),
        ("C:\\x.pt", "C__x.pt"),
        ("a\u202egpj.exe", "a_gpj.exe"),
        ("caf\udce9.pt", "caf_.pt"),
    ],
)
def test_names_of_devices_are_no_names_of_files(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_dangerous_pickle_is_registered_with_its_verdict_and_a_warning(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {marker}",)

    hub.files["evil.pt"] = pickle.dumps(Hostile())
    done = program("hub", "download", REPO, "evil.pt", "--to", tmp_path / "mine", "--json")
    assert (done.code, done.json[0]["state"]) == (0, "downloaded")
    assert "warning: " in done.err
    assert "dangerous pickle" in done.err
    assert program("show", "#1", "--json").json["safety"]["verdict"] == "dangerous"
    assert not marker.exists()


def test_a_whole_process_says_one_line_for_one_file(
    hub: HubServer, process: Callable[..., Done], models: Models, tmp_path: Path
) -> None:
    hub.files["style.safetensors"] = models.lora.read_bytes()
    done = process("hub", "download", f"{REPO}@main", "style.safetensors", "--to", tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("\n") == 1
    assert done.out.startswith("style.safetensors  ")
    assert done.out.endswith(f"  downloaded -> {tmp_path / 'style.safetensors'}\n")


def test_files_are_chosen_by_folder_pattern_and_variant(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    hub.files |= {"unet/config.json": b"{}", "unet/x.fp16.bin": b"half", "unet/x.bin": b"whole"}
    call = ("hub", "download", REPO, "--to", tmp_path)
    done = program(*call, "unet", "--variant", "fp16", "--json")
    assert [item["file"] for item in done.json] == ["unet/config.json", "unet/x.fp16.bin"]
    assert remains(tmp_path) == ["unet/config.json", "unet/x.fp16.bin"]
    done = program(*call, "--include", "*.md", "--exclude", "unet/*", "--json")
    assert [item["file"] for item in done.json] == ["README.md"]
    done = program(*call, "absent/*")
    assert done.code == 1
    assert f"{REPO}/absent/*: the repository has no such file" in done.err


def test_a_wrong_rate_queues_nothing(hub: HubServer, program: Program) -> None:
    assert program("hub", "download", REPO, GEM, "--rate", "soon").code == 2
    assert program("downloads", "list", "--json").json["downloads"] == []


def test_the_cache_goes_with_no_folder(program: Program) -> None:
    for options in (("--to", "x"), ("--to", "x", "--layout", "comfyui")):
        assert program("hub", "download", REPO, "--cache", *options).code == 2


def test_nothing_that_only_the_end_needs_is_imported_before_the_first_byte() -> None:
    late = (
        "sqlalchemy",
        "converters.identify",
        "converters.containers",
        "registry.scanning.scanner",
    )
    never = ("rich", "pygments")
    code = (
        "import sys, assetmgr.cli.hub_download, assetmgr.cli.civitai_download\n"
        "import assetmgr.sources.transfers.direct\n"
        f"print([name for name in {late + never} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

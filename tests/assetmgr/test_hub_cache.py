"""`hub download --cache`: files where huggingface_hub has its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.hub_server import COMMIT, HubServer
from helpers.loopback import Instead
from helpers.waiting import wait_until
from huggingface_hub import (
    close_session,
    constants,
    file_download,
    get_session,
    hf_hub_download,
    scan_cache_dir,
    try_to_load_from_cache,
)
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

from assetmgr.sources.hub import cache as hub_cache
from assetmgr.sources.hub import client as hub_client
from assetmgr.sources.hub.client import asking
from converters.errors import NotAvailable

if TYPE_CHECKING:
    from conftest import Done

    Program = Callable[..., Done]

REPO = "org/gems"
GEM = "gem.safetensors"


def cached(hub: HubServer) -> Path:
    """Where huggingface_hub has the file."""
    folder = Path(os.environ["HF_HOME"]) / "hub" / "models--org--gems" / "snapshots" / COMMIT
    return folder / GEM


def test_a_file_lies_in_the_cache_as_huggingface_hub_wants_it_and_is_registered_there(
    hub: HubServer, program: Program
) -> None:
    done = program("hub", "download", REPO, GEM, "--cache", "--json")
    assert (done.code, done.err) == (0, "")
    path = cached(hub)
    assert path.read_bytes() == hub.files[GEM]
    assert path.resolve().name == hub.sha256(GEM)
    found = try_to_load_from_cache(REPO, GEM, cache_dir=path.parents[3], revision=COMMIT)
    assert found == str(path)
    (item,) = done.json
    assert (item["path"], item["kind"]) == (str(path), "embedding")
    assert item["state"] == "downloaded"
    asset = program("show", GEM.partition(".")[0], "--json").json
    (source,) = asset["sources"]
    assert (source["repo"], source["revision"]) == (REPO, COMMIT)
    hub.requests.clear()
    (item,) = program("hub", "download", REPO, GEM, "--cache", "--json").json
    assert (item["state"], hub.fetched) == ("already", [])
    scanned = program("scan", path.parents[3], "--json").json
    assert (scanned["added"], scanned["unchanged"]) == (0, 1)


@pytest.mark.parametrize("again", [(), ("--again",)])
def test_a_mirror_that_cannot_tell_of_a_file_is_no_broken_connection(
    hub: HubServer, program: Program, again: tuple[str, ...]
) -> None:
    hub.instead = [Instead(501, 9, below=f"/{REPO}/resolve/")]
    done = program("hub", "download", REPO, GEM, "--cache", *again)
    assert done.code == 3
    assert "the Hub answers with status 501" in done.err
    assert not cached(hub).exists()


def test_what_is_damaged_in_the_cache_is_fetched_once_more(
    hub: HubServer, program: Program
) -> None:
    program("hub", "download", REPO, GEM, "--cache")
    blob = cached(hub).resolve()
    blob.write_bytes(bytes(len(hub.files[GEM])))
    done = program("hub", "download", REPO, GEM, "--cache", "--json")
    assert (done.code, done.json[0]["state"]) == (0, "downloaded")
    assert cached(hub).read_bytes() == hub.files[GEM]


def test_bytes_that_were_not_announced_are_not_registered_from_the_cache(
    hub: HubServer, program: Program
) -> None:
    hub.announced[GEM] = "0" * 64
    done = program("hub", "download", REPO, GEM, "--cache", "--json")
    assert (done.code, done.json[0]["code"]) == (1, "corrupt")
    assert program("list", "--json").json["total"] == 0


@pytest.mark.parametrize("is_installed", [True, False])
def test_what_hf_xet_cannot_bring_comes_into_the_cache_over_http(
    hub: HubServer, program: Program, monkeypatch: pytest.MonkeyPatch, is_installed: bool
) -> None:
    """It is for those who ask for it: what it has begun it does not go on with."""
    tried: list[object] = []

    def blocked(**options: object) -> None:
        tried.append(options)
        assert os.environ.items() >= hub_cache.IMPATIENCE.items(), "it waits for minutes by itself"
        raise RuntimeError("CAS Client Error: https://cas.example/?signature=s3cret")

    def is_available() -> bool:
        return is_installed and not constants.HF_HUB_DISABLE_XET

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(constants, "HF_XET_HIGH_PERFORMANCE", True)
    monkeypatch.setattr(file_download, "xet_get", blocked)
    monkeypatch.setattr(file_download, "is_xet_available", is_available)
    monkeypatch.setattr(hub_cache, "find_spec", lambda _: is_installed or None)
    hub.xet = True
    done = program("hub", "download", REPO, GEM, "--cache", "--json")
    assert (done.code, len(tried)) == (0, int(is_installed))
    assert cached(hub).read_bytes() == hub.files[GEM]
    assert "s3cret" not in done.out + done.err


def test_what_broke_off_goes_on_and_is_there_for_programs_that_are_offline(
    hub: HubServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.break_after = [100]
    hub.instead = [Instead(401, 9, below=f"/{REPO}/resolve/", after=2)]
    call = ("hub", "download", REPO, "--cache")
    assert program(*call).code == 3
    assert not (cached(hub).parents[2] / "refs").exists()
    hub.instead, hub.xet = [], True
    assert program(*call).code == 0
    assert hub.fetched[-1] == f"GET /cdn/{GEM} bytes=100-"
    assert hub_cache_files(hub) == [
        f"blobs/{hub.sha256(GEM)}",
        "refs/main",
        f"snapshots/{COMMIT}/{GEM}",
    ]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = hf_hub_download(REPO, GEM, cache_dir=hub_cache.cache_folder())
    assert Path(found).read_bytes() == hub.files[GEM]
    cache = scan_cache_dir(hub_cache.cache_folder())
    assert (cache.warnings, cache.size_on_disk) == ([], len(hub.files[GEM]))


def hub_cache_files(hub: HubServer) -> list[str]:
    """All that lies in the folder of the repository."""
    folder = cached(hub).parents[2]
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def test_where_nothing_can_be_linked_the_name_is_the_file(
    hub: HubServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    call = ("hub", "download", f"{REPO}@{COMMIT}", "--cache", "--json")
    assert [program(*call).json[0]["state"] for _ in range(2)] == ["downloaded", "already"]
    assert hub_cache_files(hub) == [f"snapshots/{COMMIT}/{GEM}"]
    assert not cached(hub).is_symlink()
    assert len([line for line in hub.fetched if "/cdn/" in line]) == 1


def test_what_the_library_has_elsewhere_is_linked_into_the_cache(
    hub: HubServer, program: Program
) -> None:
    program("hub", "download", REPO)
    hub.requests.clear()
    (item,) = program("hub", "download", REPO, "--cache", "--json").json
    assert (item["state"], item["path"], hub.fetched) == ("already", str(cached(hub)), [])
    assert cached(hub).resolve().name == hub.sha256(GEM)
    assert len(program("show", "#1", "--json").json["files"]) == 2


def test_what_another_program_is_fetching_is_waited_for_and_not_fetched(
    hub: HubServer, program: Program
) -> None:
    blob = cached(hub).parents[2] / "blobs" / hub.sha256(GEM)
    lock = hub_cache.cache_folder() / ".locks" / "models--org--gems" / f"{hub.sha256(GEM)}.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        with WeakFileLock(lock):
            ours = pool.submit(program, "hub", "download", REPO, "--cache", "--json")
            wait_until(lambda: any(line.startswith("HEAD") for line in hub.requests))
            blob.write_bytes(hub.files[GEM])
        assert ours.result().json[0]["state"] == "already"
    assert hub.fetched == []


def test_another_program_waits_for_what_is_being_fetched(hub: HubServer, program: Program) -> None:
    hub.hold_after = 100
    with ThreadPoolExecutor() as pool:
        ours = pool.submit(program, "hub", "download", REPO, "--cache", "--json")
        wait_until(lambda: hub.fetched[-1:] == [f"GET /cdn/{GEM}"])
        cache = hub_cache.cache_folder()
        theirs = pool.submit(hf_hub_download, REPO, GEM, cache_dir=cache, endpoint=hub.url)
        wait_until(lambda: hub.requests.count(f"HEAD /{REPO}/resolve/main/{GEM}") == 1)
        hub.hold_after = None
        assert theirs.result() == ours.result().json[0]["path"]
    assert len([line for line in hub.fetched if "/cdn/" in line]) == 1


def test_a_mirror_that_calls_files_by_other_names_is_left_to_huggingface_hub(
    hub: HubServer, program: Program
) -> None:
    told = {
        "X-Linked-Etag": '"other"',
        "X-Repo-Commit": COMMIT,
        "X-Linked-Size": str(len(hub.files[GEM])),
        "Location": f"{hub.cdn}/cdn/{GEM}",
    }
    hub.instead = [Instead(302, 9, told, below=f"/{REPO}/resolve/")]
    assert program("hub", "download", REPO, "--cache", "--json").json[0]["state"] == "downloaded"
    assert cached(hub).resolve().name == "other"
    assert len([line for line in hub.fetched if "/cdn/" in line]) == 1


def test_what_came_before_the_end_is_not_fetched_again(
    hub: HubServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the bytes were in their place, and huggingface_hub had given no name to them."""

    def killed(*_: object, **__: object) -> Path:
        raise NotAvailable("killed")

    with monkeypatch.context() as dying:
        dying.setattr(hub_cache, "fetch_to_cache", killed)
        assert program("hub", "download", REPO, "--cache").code == 3
    assert program("list", "--json").json["total"] == 0
    hub.requests.clear()
    (item,) = program("hub", "download", REPO, "--cache", "--json").json
    assert (item["state"], hub.fetched) == ("already", [])
    assert not list(hub_cache.cache_folder().rglob("*part"))


@pytest.mark.parametrize(
    ("revision", "written"),
    [("v1", ["refs/v1"]), ("pr/1", ["refs/pr/1"]), (COMMIT, []), ("../../x", [])],
)
def test_names_of_revisions_are_noted_below_their_folder(
    tmp_path: Path, revision: str, written: list[str]
) -> None:
    repository = tmp_path / "hub" / "models--org--gems"
    for _ in range(2):
        hub_cache.note_revision(repository, revision, "f" * 40)
    found = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert [p.relative_to(repository).as_posix() for p in found] == written
    assert [p.read_text() for p in found] == ["f" * 40] * len(written)


def test_the_librarys_client_serves_who_has_it_when_another_thread_closes_it(
    hub: HubServer,
) -> None:
    with asking(GEM):
        theirs = get_session()
        close_session()  # as the library does for all where one cannot connect
        answer = theirs.get(f"{hub.url}/api/models/{REPO}")
    assert answer.json()["id"] == REPO


def test_threads_that_ask_at_once_give_the_library_one_client(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def give(factory: object) -> None:
        given.append(factory)
        time.sleep(0.01)  # lets the others in, if they may

    monkeypatch.setattr("huggingface_hub.utils.set_client_factory", give)
    hub_client._install.cache_clear()

    def ask(_: int) -> None:
        with asking(GEM):
            pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    hub_client._install.cache_clear()
    assert len(given) == 1

"""The queue as a user has it: both services side by side, stopped, gone on with, and killed."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from helpers.civitai_server import CivitaiServer
from helpers.hub_server import HubServer
from helpers.queueing import REPO, parts, queued, states
from helpers.waiting import wait_until

from assetmgr.config import LAYOUTS as SETTING_LAYOUTS
from assetmgr.operations.downloads import run as download_run
from assetmgr.operations.downloads.flow import Flow
from assetmgr.operations.downloads.queue import (
    cancel_downloads,
    list_downloads,
    open_queue,
    pause_downloads,
    resume_downloads,
)
from assetmgr.operations.downloads.reading import Reading
from assetmgr.operations.downloads.run import Ended, run_downloads
from assetmgr.operations.layouts import LAYOUTS
from assetmgr.operations.settings import change_setting
from assetmgr.rates import parse_rate
from assetmgr.sources.transfers.bandwidth import BURST_SECONDS, Bandwidth
from assetmgr.sources.web import Web
from assetmgr.workspace import Workspace
from converters.errors import BadValue, Cancelled
from converters.progress import CancellableProgress
from registry.downloads.records import DownloadState

if TYPE_CHECKING:
    from conftest import Done, Models

    Program = Callable[..., Done]

MIB = 1 << 20


# ---- on the command line


def test_downloads_are_queued_listed_ordered_and_run(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    done = program("hub", "download", REPO, "--queue", "--to", tmp_path, "--json")
    assert [item["state"] for item in done.json] == ["queued"] * 4
    assert hub.fetched == []
    program("downloads", "move", 3, "--first")
    program("downloads", "move", 1, "--priority", "low")
    program("downloads", "pause", 2)
    listed = program("downloads", "list", "--json").json
    assert [(item["id"], item["state"]) for item in listed["downloads"]] == [
        (3, "queued"),
        (2, "paused"),
        (4, "queued"),
        (1, "queued"),
    ]
    assert listed["shortages"] == []
    ran = program("downloads", "run", "--json")
    assert ran.code == 0
    found = {item["id"]: item["state"] for item in ran.json["downloads"]}
    assert found == {1: "done", 3: "done", 4: "done"}
    assert all(item["received"] == item["bytes"] for item in ran.json["downloads"])
    assert all(item["ended"] for item in ran.json["downloads"])
    again = program("hub", "download", REPO, "file0.bin", "--again", "--queue", "--to", tmp_path)
    assert again.out.endswith("queued\n"), "where the library has it is not where it will be"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "file0.bin",
        "file2.bin",
        "file3.bin",
    ]
    assert "paused" in program("downloads", "list").out
    program("downloads", "resume", "--all")
    assert "file1.bin  downloaded" in program("downloads", "run").out
    assert program("downloads", "run").out == "nothing is queued\n"
    assert program("downloads", "clear", "--json").json["cleared"] == 4


def test_what_is_cancelled_is_forgotten_with_what_has_come(
    hub: HubServer, program: Program, workspace: Workspace
) -> None:
    hub.files |= {"file0.bin": os.urandom(2 * MIB)}
    queued(workspace, "file0.bin", "file1.bin")
    hub.hold_after = MIB

    class Stops(CancellableProgress):
        def advance(self, amount: int = 1) -> None:
            if parts(workspace.paths.models):
                self.cancel()
            super().advance(amount)

    with pytest.raises(Cancelled):
        list(run_downloads(workspace, [1], progress=Stops()))
    with open_queue(workspace) as queue:
        assert queue.cancel(1)  # by a program that is killed before it can remove anything
    assert [each.id for each in list_downloads(workspace)] == [2]
    assert parts(workspace.paths.models)
    done = program("downloads", "cancel", "--all", "--json")
    assert [item["id"] for item in done.json["cancelled"]] == [2]
    assert list_downloads(workspace) == ()
    assert parts(workspace.paths.models) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ("pause",),
        ("pause", 1, "--all"),
        ("cancel",),
        ("move", 1),
        ("run", "--rate", "fast"),
        ("run", "0"),
    ],
)
def test_a_call_that_means_nothing_is_refused(
    hub: HubServer, program: Program, workspace: Workspace, arguments: tuple[object, ...]
) -> None:
    queued(workspace, "file0.bin")
    done = program("downloads", *arguments)
    assert (done.code, len(done.errors)) == (2, 1)
    assert states(workspace) == {f"{REPO}/file0.bin": "queued"}


def test_a_number_that_is_not_there_is_named(hub: HubServer, program: Program) -> None:
    for verb in ("pause", "resume", "cancel", "run"):
        done = program("downloads", verb, 7, "--json")
        assert (done.code, done.json["errors"][0]["code"]) == (1, "asset_not_found")


def test_a_failure_stays_in_the_queue_and_is_tried_again_if_it_may_have_passed(
    hub: HubServer, program: Program, workspace: Workspace
) -> None:
    hub.announced["file1.bin"] = "ab" * 32
    hub.refusal = (403, "GatedRepo")
    done = program("hub", "download", REPO, "file0.bin", "file1.bin", "--json")
    assert (done.code, [item["code"] for item in done.json]) == (3, ["not_available"] * 2)
    assert states(workspace) == {f"{REPO}/file{number}.bin": "failed" for number in range(2)}
    hub.refusal = None
    done = program("downloads", "run", "--json")
    assert done.code == 1
    assert {item["file"]: item["state"] for item in done.json["downloads"]} == {
        f"{REPO}/file0.bin": "done",
        f"{REPO}/file1.bin": "failed",
    }
    hub.requests.clear()
    assert program("downloads", "run").out == "nothing is queued\n", "other bytes stay other bytes"
    assert hub.requests == []
    del hub.announced["file1.bin"]
    assert program("downloads", "run", 2).code == 1, "still what was announced when it was queued"
    assert program("hub", "download", REPO, "file1.bin").code == 0


def test_both_services_go_through_one_queue_and_keep_source_and_licence(
    hub: HubServer, models: Models, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
    monkeypatch.setenv("CIVITAI_TOKEN", "c_s3cret")
    with CivitaiServer() as site:
        monkeypatch.setenv("CIVITAI_ENDPOINT", site.url)
        site.add(7, {"style.safetensors": models.lora.read_bytes()}, model=70)
        program("civitai", "download", "7", "--queue")
        program("hub", "download", REPO, "file0.bin", "--queue")
        home = Path(os.environ["ASSETMGR_HOME"])
        kept = b"".join(path.read_bytes() for path in (home / "downloads").iterdir())
        assert b"s3cret" not in kept, "tokens are not kept in the queue"
        assert b"http://" not in kept, "neither are addresses"
        ran = program("downloads", "run", "--json")
        assert sorted(item["service"] for item in ran.json["downloads"]) == [
            "civitai",
            "huggingface",
        ]
        assert site.tokens == {"service": {"Bearer c_s3cret"}, "cdn": {None}}
    shown = [program("show", f"#{item['asset']}", "--json").json for item in ran.json["downloads"]]
    licences = {each["sources"][0]["source"]: each["sources"][0]["licence"] for each in shown}
    assert licences["huggingface"] == "openrail"
    assert "no credit needed" in licences["civitai"]
    assert "commercial use: Image, Rent" in licences["civitai"]


# ---- where files go


def test_files_go_to_the_folders_of_the_program_that_is_named(
    hub: HubServer, models: Models, program: Program, tmp_path: Path
) -> None:
    hub.files = {"style.safetensors": models.lora.read_bytes()}
    for layout, folder in (("comfyui", "models/loras"), ("invokeai", "models/sd-1/lora")):
        root = tmp_path / layout
        done = program(
            *("hub", "download", REPO, "--to", root, "--layout", layout, "--again", "--json")
        )
        assert (done.code, done.json[0]["state"]) == (0, "downloaded")
        assert done.json[0]["path"] == str(root / folder / "style.safetensors")
        assert parts(root) == {}


def test_the_settings_say_where_files_go_by_default(
    hub: HubServer, models: Models, program: Program, workspace: Workspace, tmp_path: Path
) -> None:
    hub.files = {"style.safetensors": models.lora.read_bytes()}
    change_setting(workspace, "models", str(tmp_path / "ui"))
    change_setting(workspace, "models_layout", "a1111")
    (item,) = program("hub", "download", REPO, "--json").json
    assert item["path"] == str(tmp_path / "ui/models/Lora/style.safetensors")


def test_what_the_library_has_gets_a_second_name_and_is_fetched_only_when_asked(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    (first,) = program("hub", "download", REPO, "file0.bin", "--json").json
    hub.requests.clear()
    done = program("hub", "download", REPO, "file0.bin", "--to", tmp_path / "a")
    assert f"have it: #{first['asset']} -> {tmp_path / 'a' / 'file0.bin'}" in done.out
    assert (tmp_path / "a" / "file0.bin").read_bytes() == hub.files["file0.bin"]
    assert hub.fetched == []
    program("hub", "download", REPO, "file0.bin", "--to", tmp_path / "b", "--again")
    assert len([line for line in hub.fetched if "/cdn/" in line]) == 1
    shown = program("show", f"#{first['asset']}", "--json").json
    assert len(shown["files"]) == 3


def test_what_was_changed_since_it_was_recorded_is_not_what_the_library_has(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    (first,) = program("hub", "download", REPO, "file0.bin", "--json").json
    kept = Path(first["path"])
    kept.write_bytes(b"x" * kept.stat().st_size)
    program("hub", "download", REPO, "file0.bin", "--to", tmp_path)
    assert (tmp_path / "file0.bin").read_bytes() == hub.files["file0.bin"]


# ---- side by side


def test_downloads_run_side_by_side_as_the_settings_allow(
    hub: HubServer, workspace: Workspace
) -> None:
    hub.together = threading.Barrier(4)
    queued(workspace, *hub.files)
    assert [ended.error for ended in run_downloads(workspace)] == [None] * 4
    hub.together = None
    change_setting(workspace, "downloads_per_host", "1")
    queued(workspace, *hub.files, again=True, folder=workspace.paths.home / "again")
    most: list[int] = []
    list(run_downloads(workspace, watch=lambda reading: most.append(len(reading.running))))
    assert max(most) == 1


@pytest.mark.parametrize("value", ["0", "many", "", "-1", "1000"])
def test_a_setting_that_is_no_number_is_refused(program: Program, value: str) -> None:
    for name in ("downloads_at_once", "downloads_per_host"):
        done = program("config", "set", name, "--", value)
        assert (done.code, len(done.errors)) == (2, 1)
        assert name in done.err


def test_the_layouts_of_the_settings_are_those_of_the_table() -> None:
    assert set(SETTING_LAYOUTS) == set(LAYOUTS)


class Watcher:
    """Runs the queue in a thread, slowly, and waits for what is to be seen of it."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.readings: list[Reading] = []
        self.ended: list[Ended] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for ended in run_downloads(self.workspace, watch=self.readings.append):
            self.ended.append(ended)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, going_on=self._thread.is_alive)


def test_pause_resume_and_cancel_reach_what_runs_in_another_program(
    hub: HubServer, workspace: Workspace
) -> None:
    hub.files = {"a.bin": os.urandom(4 * MIB), "b.bin": os.urandom(4 * MIB)}
    hub.hold_after = 3 * MIB
    queued(workspace, "a.bin", "b.bin")
    with Watcher(workspace) as watcher, Workspace.open() as other:
        watcher.until(lambda: len(parts(workspace.paths.models)) == 2)
        watcher.until(lambda: all(size > 0 for size in parts(workspace.paths.models).values()))
        pause_downloads(other, [1])
        cancel_downloads(other, [2])
        watcher.until(lambda: len(watcher.ended) == 2)
    assert sorted(ended.stopped or "" for ended in watcher.ended) == ["cancelled", "paused"]
    assert states(workspace) == {f"{REPO}/a.bin": "paused"}
    ((name, size),) = parts(workspace.paths.models).items()
    assert 0 < size < 4 * MIB
    assert hub.files["a.bin"].startswith(
        (workspace.paths.models / ".downloads" / name).read_bytes()
    )
    hub.hold_after = None
    hub.requests.clear()
    resume_downloads(workspace)
    (ended,) = run_downloads(workspace)
    assert ended.received is not None
    assert ended.received.path.read_bytes() == hub.files["a.bin"]
    assert hub.fetched[-1] == f"GET /cdn/a.bin bytes={size}-"


def test_an_interruption_keeps_everything_for_the_next_run(
    hub: HubServer, program: Program, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files = {"a.bin": os.urandom(4 * MIB), "small.bin": b"small"}
    hub.hold_after = 2 * MIB
    real = Flow.advance

    def interrupt(flow: Flow, amount: int = 1) -> None:
        real(flow, amount)
        if flow.received > MIB:
            stop.set()

    class Interrupted(CancellableProgress):
        def advance(self, amount: int = 1) -> None:
            if stop.is_set() and states(workspace)[f"{REPO}/small.bin"] == "done":
                raise KeyboardInterrupt
            super().advance(amount)

    stop = threading.Event()
    monkeypatch.setattr(Flow, "advance", interrupt)
    queued(workspace, "a.bin", "small.bin")
    with pytest.raises(KeyboardInterrupt):
        list(run_downloads(workspace, progress=Interrupted()))
    found = {each.wanted.label: each.state for each in list_downloads(workspace)}
    assert found[f"{REPO}/a.bin"] is DownloadState.QUEUED
    (size,) = parts(workspace.paths.models).values()
    assert size > MIB
    monkeypatch.setattr(Flow, "advance", real)
    hub.hold_after = None
    assert program("downloads", "run").code == 0
    assert hub.fetched[-1] == f"GET /cdn/a.bin bytes={size}-"


def test_the_same_file_queued_from_two_places_is_fetched_once(
    hub: HubServer, models: Models, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = models.lora.read_bytes()
    hub.files = {"style.safetensors": data}
    with CivitaiServer() as site:
        monkeypatch.setenv("CIVITAI_ENDPOINT", site.url)
        site.add(7, {"other name.safetensors": data})
        from assetmgr.operations.civitai.download import CivitaiRequest, queue_civitai_download

        queued(workspace, "style.safetensors")
        queue_civitai_download(workspace, CivitaiRequest("7"))
        outcomes = [ended.received.state for ended in run_downloads(workspace) if ended.received]
        assert sorted(outcomes) == ["already", "downloaded"]
        assert len(site.fetched) + len([x for x in hub.fetched if "/cdn/" in x]) == 1


def test_a_whole_program_that_is_told_of_the_queue_sees_progress(
    hub: HubServer, workspace: Workspace
) -> None:
    hub.hold_after = 1000
    hub.files = {"a.bin": os.urandom(2 * MIB), "b.bin": os.urandom(MIB)}
    queued(workspace, "a.bin", "b.bin")
    with Watcher(workspace) as watcher:
        watcher.until(lambda: any(reading.done == 2000 for reading in watcher.readings))
        hub.hold_after = 10_000
        watcher.until(lambda: any(r.done == 20_000 and r.rate and r.left for r in watcher.readings))
        hub.hold_after = None
    last = watcher.readings[-1]
    assert (last.files, last.total) == (2, 3 * MIB)
    done = [reading.done for reading in watcher.readings]
    assert done == sorted(done)


# ---- the rate and the room


@pytest.mark.parametrize(
    ("text", "rate"),
    [("5MB", 5e6), ("500 kB/s", 5e5), ("1.5MiB", 1.5 * MIB), ("1000000", 1e6), ("2g", 2e9)],
)
def test_rates_are_read_as_people_write_them(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "-1MB", "0", "1TB", "1e9", "MB"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="no rate"):
        parse_rate(text)


def test_all_transfers_together_keep_to_the_rate(
    hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(Web, "pause", lambda _, seconds, progress: waited.append(seconds))
    standing = functools.partial(Bandwidth, clock=lambda: 0.0)
    monkeypatch.setattr(download_run, "Bandwidth", standing)
    queued(workspace, *hub.files)
    list(run_downloads(workspace, rate="100kB"))
    whole = sum(map(len, hub.files.values())) / 100_000 - BURST_SECONDS
    assert max(waited) == pytest.approx(whole), "the last one has to wait for all bytes before it"


def test_a_program_that_runs_the_queue_for_a_command_says_so_in_json_alone(
    hub: HubServer, program: Program
) -> None:
    done = program("hub", "download", REPO, "file0.bin", "--json")
    (item,) = done.json
    assert (done.code, done.err, item["state"], item["download"]) == (0, "", "downloaded", 1)

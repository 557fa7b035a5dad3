"""Work spread over a Ray cluster of two workers, of which some are killed in the middle."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest
from helpers import spreading
from helpers.previewing import Setting, Shelf, asset
from helpers.waiting import PATIENCE, wait_until
from hypothesis import given
from hypothesis import strategies as st

from assetmgr.operations.distribution import (
    CORES_EACH,
    SMALLEST_PART,
    Lost,
    _cluster,
    split,
    spread,
)
from assetmgr.operations.failures import Failure
from assetmgr.operations.preview import ray_cluster as preview_ray
from assetmgr.operations.preview.ray_cluster import run_previews_on_ray
from assetmgr.operations.preview.render import PreviewRequest, PreviewResult
from assetmgr.paths import Paths
from converters.errors import Cancelled, NotAvailable
from converters.progress import CancellableProgress

if TYPE_CHECKING:
    from conftest import Models, Program

with_ray = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
    pytest.mark.skipif(sys.platform == "win32", reason="ray's Windows port is experimental"),
    # ray's own code and the processes that it leaves to its raylet
    pytest.mark.filterwarnings("ignore"),
]


TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster with room for two workers on this machine; it ends with the tests.

    It is started as its users do. In the background `ray start` ends what it started.
    """
    place = tmp_path_factory.mktemp("r")
    patient = pytest.MonkeyPatch()
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_raylet_start_wait_time_s": "300",
        # A worker for every core, started before anybody asks, would only be in the way.
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_agent_register_timeout_ms": "300000",
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
    }.items():
        patient.setenv(name, value)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false"]
    command += [f"--num-cpus={2 * CORES_EACH}", "--num-gpus=0", "--object-store-memory=80000000"]
    command += [f"--temp-dir={place}", "--disable-usage-stats"]
    with (
        (place / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as head,
    ):
        try:
            wait_until_running(head, place / "log")
            yield address
        finally:
            started = psutil.Process(head.pid).children(recursive=True)
            head.terminate()
            head.wait(PATIENCE)
            patient.undo()
    _, alive = psutil.wait_procs(started, timeout=PATIENCE)
    assert alive == []


@pytest.fixture(scope="module")
def connected(cluster: str) -> Iterator[str]:
    """The address, with the connection that all further calls use."""
    with _cluster(cluster):
        yield cluster


def wait_until_running(head: subprocess.Popen[bytes], log: Path) -> None:
    """Until the cluster says that it runs; fails with what it said instead."""

    def runs() -> bool:
        said = log.read_bytes()
        assert head.poll() is None, said.decode(errors="replace")
        return b"runtime started" in said

    wait_until(runs)


class TestSplitting:
    @given(st.lists(st.lists(st.integers(), max_size=40), max_size=8), st.integers(0, 12))
    def test_parts_are_the_groups_and_keep_the_workers_busy(
        self, groups: list[list[int]], slots: int
    ) -> None:
        parts = split(groups, slots)
        assert sorted(i for part in parts for i in part) == sorted(i for g in groups for i in g)
        assert all(any(_within(part, group) for group in groups) for part in parts)
        large = [part for part in parts if len(part) >= 2 * SMALLEST_PART]
        assert len(parts) >= slots or not large
        assert all(parts)


def _within(part: Sequence[int], group: Sequence[int]) -> bool:
    size = len(part)
    return any(list(group[n : n + size]) == list(part) for n in range(len(group)))


def test_without_ray_the_hint_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NotAvailable, match="needs ray") as caught:
        list(spread("local", [[1]], iter))
    assert caught.value.hint == 'pip install "assetmgr[ray]"'


def test_ray_is_imported_only_when_work_is_spread() -> None:
    code = (
        "import sys, assetmgr.cli.preview, assetmgr.cli.convert;"
        "import assetmgr.operations.preview.ray_cluster;"
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class TestOnACluster:
    pytestmark = with_ray

    def test_workers_that_die_cost_only_what_kills_them_each_time(
        self, cluster: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("once-2", "always-5", "once-12"):
            (tmp_path / name).touch()
        groups = [[(str(tmp_path), n) for n in numbers] for numbers in (range(1, 7), range(11, 15))]
        found = list(spread(cluster, groups, spreading.die_once_or_always))
        given = [item[1] for item, _ in found]
        assert sorted(given) == [*range(1, 7), *range(11, 15)]
        assert [n for n in given if n < 10] == [*range(1, 7)], "a part keeps its order"
        lost = {item[1]: result for item, result in found if isinstance(result, Lost)}
        assert set(lost) == {5}
        done = [result for _, result in found if not isinstance(result, Lost)]
        assert [number for number, _ in done] == [n for n in given if n != 5]
        assert len({process for _, process in done}) >= 2
        assert capfd.readouterr().out == "", "what ray tells is not part of our document"

    def test_previews_come_back_into_this_library_though_a_worker_is_killed(
        self, connected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "once").touch()
        monkeypatch.setattr(preview_ray, "render_part", spreading.pretend_to_render)
        content = [
            asset(n, kind, base=base, path=str(tmp_path / f"{n}.safetensors"))
            for n, (kind, base) in enumerate(
                [("checkpoint", "sd-1"), ("lora", "sd-1"), ("lora", "sd-1"), ("checkpoint", "sdxl")]
            )
        ]
        setting = Setting(Shelf(content), tmp_path / "home")
        workspace = SimpleNamespace(
            library=setting.shelf, settings=setting.settings, paths=Paths(setting.home)
        )
        results = list(run_previews_on_ray(workspace, PreviewRequest(), connected))
        assert sorted(r.asset for r in results if isinstance(r, PreviewResult)) == [0, 1, 2, 3]
        for number, preview in setting.shelf.previews.items():
            assert preview.path is not None
            assert Path(preview.path).parent == setting.home / "previews"
            assert Path(preview.path).read_bytes() == f"png of {content[number].name}".encode()
            small = Path(preview.path).with_suffix(".thumbnail.png")
            assert small.read_bytes() == b"small png"
        again = list(run_previews_on_ray(workspace, PreviewRequest(), connected))
        assert all(isinstance(r, PreviewResult) and r.skipped for r in again)

    def test_conversions_are_written_there_and_registered_here(
        self, connected: str, program: Program, models: Models, tmp_path: Path
    ) -> None:
        sources = (models.pickled, models.lora, models.unet_lora)
        arguments = ("--dtype", "fp32", "--output-dir", tmp_path, "--json")
        done = program("convert", *sources, *arguments, "--ray", connected)
        assert done.code == 0, done.err
        assert {Path(item["target"]).name for item in done.json} == {
            f"{source.stem}.safetensors" for source in sources
        }
        for item in done.json:
            shown = program("show", f"#{item['asset']}", "--json").json
            assert shown["hashes"]["sha256"] == item["hashes"]["sha256"]
            assert shown["derived_from"][0]["name"] == Path(item["source"]).name
        missing = program("convert", tmp_path / "none.ckpt", "--json", "--ray", connected)
        assert (missing.code, missing.json[0]["code"]) == (1, "not_found")

    def test_cancelling_stops_the_workers(self, connected: str, tmp_path: Path) -> None:
        progress = CancellableProgress()
        items = [(str(tmp_path), n) for n in range(50)]
        results = spread(connected, [items], spreading.die_once_or_always, progress)
        next(results)
        progress.cancel()
        with pytest.raises(Cancelled):
            list(results)

    def test_machines_without_our_program_are_named_as_the_cause(
        self, connected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spreading.only_here, "__module__", "no_such_module")
        monkeypatch.setitem(sys.modules, "no_such_module", spreading)
        with pytest.raises(NotAvailable, match="no assetmgr of this version"):
            list(spread(connected, [[1]], spreading.only_here))

    def test_a_mistake_of_ours_is_not_tried_again(self, connected: str) -> None:
        with pytest.raises(TypeError):
            list(spread(connected, [[1, 2]], spreading.die_once_or_always))


def test_a_full_disk_here_costs_the_asset_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(Shelf([asset(1, "checkpoint"), asset(2, "lora")]), tmp_path)
    workspace = SimpleNamespace(
        library=setting.shelf, settings=setting.settings, paths=Paths(setting.home)
    )

    def rendered(_address: str, groups: list[list[object]], *_: object, **__: object) -> object:
        jobs = [job for group in groups for job in group]
        return zip(jobs, spreading.pretend_to_render(jobs), strict=True)

    monkeypatch.setattr(preview_ray, "spread", rendered)
    writes = iter([OSError(28, "No space left on device")])
    write = os.write

    def full_at_first(descriptor: int, data: memoryview) -> int:
        for error in writes:
            raise error
        return write(descriptor, data)

    monkeypatch.setattr("os.write", full_at_first)
    first, second = run_previews_on_ray(workspace, PreviewRequest(), "there")
    assert isinstance(first, Failure)
    assert first.code == "disk_full"
    assert isinstance(second, PreviewResult)
    assert set(setting.shelf.previews) == {2}
    assert not Path(tmp_path, "previews", "01" * 10 + ".png").exists()

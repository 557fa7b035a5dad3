"""The program's side of the sampler, against workers that behave in every way but well."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.rendering import SMALLEST
from helpers.waiting import PATIENCE, wait_until

from assetmgr.sampler.process import client as client_module
from assetmgr.sampler.process.client import SamplerClient, worker_environment
from converters.errors import AssetmgrError, Cancelled, NotAvailable, WrongFamily
from converters.progress import CancellableProgress, Progress

OUTCOME = {
    "image": "a.png",
    "thumbnail": "a.webp",
    "checks": [],
    "seconds": 1.0,
    "load_seconds": 0.0,
    "peak_memory_bytes": None,
    "parameters": {
        "prompt": "", "negative": "", "seed": 1, "steps": 1, "cfg": 1.0, "sampler": "Euler",
        "size": "64x64", "weight": None, "base": None, "device": "cpu", "dtype": "fp32",
    },
}  # fmt: skip
DONE = json.dumps({"event": "outcome", "outcome": json.dumps(OUTCOME)})


class Recorder(Progress):
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        self.seen.append((label, total, unit))

    def advance(self, amount: int = 1) -> None:
        self.seen.append(amount)

    def message(self, text: str) -> None:
        self.seen.append(text)


def worker(body: str) -> list[str]:
    """A worker that runs `body` for every job line it reads."""
    code = "import os, sys, time\n" + (
        "def say(line): print(line, flush=True)\n"
        "for number, line in enumerate(sys.stdin):\n"
        + "".join(f"  {s}\n" for s in body.split("\n"))
    )
    return [sys.executable, "-c", code]


def test_a_process_begun_before_its_first_job_is_the_one_that_renders(tmp_path: Path) -> None:
    there = tmp_path / "begun"
    command = worker(f"say({DONE!r})")
    command[-1] = f"open({str(there)!r}, 'a').write('once')\n{command[-1]}"
    progress = Recorder()
    with SamplerClient(command) as client:
        client.begin()
        wait_until(there.exists)
        client.render(SMALLEST, progress)
    assert there.read_text() == "once"
    assert progress.seen[0] == ("start the sampler", None, "steps"), "the first job waits for it"


def test_nothing_is_begun_where_packages_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "NEEDED", ("no_such_package",))
    with SamplerClient(["/no/such/program"]) as client:
        client.begin()
        with pytest.raises(NotAvailable):
            client.render(SMALLEST)


def test_progress_lines_reach_the_progress_and_the_outcome_is_returned() -> None:
    lines = [
        json.dumps({"event": "stage", "label": "sample", "total": 2, "unit": "steps"}),
        json.dumps({"event": "advance", "amount": 1}),
        json.dumps({"event": "message", "text": "hello"}),
        DONE,
    ]
    progress = Recorder()
    with SamplerClient(worker("\n".join(f"say({line!r})" for line in lines))) as client:
        outcome = client.render(SMALLEST, progress)
    assert outcome.verdict == "ok"
    assert [seen for seen in progress.seen if seen != 0] == [
        ("start the sampler", None, "steps"),
        ("sample", 2, "steps"),
        1,
        "hello",
    ]


def test_the_worker_stays_warm_between_jobs() -> None:
    body = f"say({DONE!r}.replace('a.webp', str(os.getpid())))"
    with SamplerClient(worker(body)) as client:
        assert client.render(SMALLEST).thumbnail == client.render(SMALLEST).thumbnail


def test_an_answered_error_has_its_class_back_and_leaves_the_worker_running() -> None:
    error = dict.fromkeys(("path", "hint"), "/a") | {"event": "error", "code": "wrong_family"}
    error["cause"] = "made for sdxl"
    body = f"say({json.dumps(error)!r} if number == 0 else {DONE!r})"
    with SamplerClient(worker(body)) as client:
        with pytest.raises(WrongFamily, match="made for sdxl") as caught:
            client.render(SMALLEST)
        assert (caught.value.path, caught.value.hint) == ("/a", "/a")
        assert client.render(SMALLEST).verdict == "ok"


def test_a_dying_worker_is_an_error_naming_the_subject_with_its_last_words(tmp_path: Path) -> None:
    died = tmp_path / "died"
    body = (
        f"if os.path.exists({str(died)!r}): say({DONE!r}); continue\n"
        f"open({str(died)!r}, 'w').close()\n"
        "print('RuntimeError: no such kernel', file=sys.stderr, flush=True)\n"
        "os._exit(3)"
    )
    with SamplerClient(worker(body)) as client:
        with pytest.raises(AssetmgrError, match=r"exit status 3.*no such kernel") as caught:
            client.render(SMALLEST)
        assert caught.value.path == SMALLEST.subject.path
        assert client.render(SMALLEST).verdict == "ok", "the next job starts another worker"


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_killed_worker_is_reported_as_out_of_memory() -> None:
    with (
        SamplerClient(worker("os.kill(os.getpid(), 9)")) as client,
        pytest.raises(AssetmgrError, match="out of memory"),
    ):
        client.render(SMALLEST)


def test_a_worker_that_talks_nonsense_is_stopped() -> None:
    with SamplerClient(worker("say('Downloading...')")) as client:
        with pytest.raises(AssetmgrError, match=r"unreadable.*Downloading"):
            client.render(SMALLEST)
        assert client._worker is None


def test_cancelling_ends_a_silent_worker_soon(tmp_path: Path) -> None:
    progress = CancellableProgress()
    threading.Timer(0.2, progress.cancel).start()
    started = time.monotonic()
    with (
        SamplerClient(worker("time.sleep(2 * 300)")) as client,
        pytest.raises(Cancelled),
    ):
        client.render(SMALLEST, progress)
    assert time.monotonic() - started < PATIENCE


def test_missing_packages_are_not_available_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "NEEDED", ("torch", "no_such_package"))
    with pytest.raises(NotAvailable, match="no_such_package") as caught:
        SamplerClient().render(SMALLEST)
    assert caught.value.hint == 'pip install "assetmgr[preview]"'
    assert caught.value.exit_code == 3


def test_the_worker_has_no_network_and_no_spinning_threads_but_the_users_settings() -> None:
    plain = worker_environment({})
    assert plain["HF_HUB_OFFLINE"] == plain["TRANSFORMERS_OFFLINE"] == "1"
    assert plain["OMP_WAIT_POLICY"] == "PASSIVE"
    assert worker_environment({"OMP_NUM_THREADS": "7"})["OMP_NUM_THREADS"] == "7"


def test_the_client_never_imports_torch() -> None:
    code = (
        "import sys; import assetmgr.sampler.process.client, assetmgr.sampler.process.jobs;"
        "assert not {'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

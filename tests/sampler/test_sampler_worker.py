"""The whole way: program, process, render, and back."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from assetmgr.sampler.process.client import SamplerClient, worker_environment
from assetmgr.sampler.process.jobs import RenderJob, RenderOutcome
from assetmgr.sampler.process.session import Session
from assetmgr.sampler.process.worker import serve
from converters.errors import Cancelled, DiskFull, FileMissing, NotAvailable
from converters.progress import SILENT, Progress

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Stages(Progress):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        self.seen.append(label)


@pytest.fixture(scope="module")
def client() -> Iterator[SamplerClient]:
    """With a process that is started when it is needed first."""
    with SamplerClient() as opened:
        yield opened


def test_a_process_renders_the_same_picture_and_survives_errors(
    client: SamplerClient, session: Session, job: RenderJob, tmp_path: Path
) -> None:
    progress = Stages()
    outcome = client.render(job, progress)
    with pytest.raises(FileMissing, match="no such file"):
        client.render(replace(job, subject=replace(job.subject, path="/no/such/file")))
    with pytest.raises(NotAvailable, match="no mps device"):
        client.render(replace(job, device="mps"))
    warm = client.render(job)
    assert progress.seen == ["start the sampler", "load", "sample", "decode"]
    assert warm.load_seconds == 0, "the base is still loaded"
    here = replace(job, image=str(tmp_path / "here.png"))
    session.render(here, SILENT)
    assert Path(job.image).read_bytes() == Path(here.image).read_bytes()
    assert [check.ok for check in outcome.checks] == [check.ok for check in warm.checks]


def test_a_full_disk_is_named_and_leaves_no_part_of_a_picture(
    session: Session, job: RenderJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("os.write", full)
        with pytest.raises(DiskFull):
            session.render(job, SILENT)
    assert job.image is not None
    assert list(Path(job.image).parent.iterdir()) == []
    assert session.render(job, SILENT).image == job.image


def test_a_killed_worker_leaves_pictures_whole_or_absent(
    client: SamplerClient, job: RenderJob
) -> None:
    class Impatient(Progress):
        def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
            if label == "decode":
                raise Cancelled

    assert job.image is not None
    with pytest.raises(Cancelled):
        client.render(replace(job, seed=2), Impatient())
    for picture in Path(job.image).parent.glob("image.*"):
        with Image.open(picture) as whole:
            whole.load()


def test_the_worker_imports_nothing_that_no_render_needs() -> None:
    """And leaves no trace of how it does so: others find compiler and distribution as they are."""
    code = """
import importlib.metadata, sys, torch.distributed
from assetmgr.sampler.process.libraries import UNUSED, import_libraries
available = torch.distributed.is_available
import_libraries()
import diffusers.utils
assert not diffusers.utils.is_peft_available() and not diffusers.utils.is_scipy_available()
assert all(sys.modules[name] is None for name in UNUSED)
assert "assetmgr.sampler.process.session" in sys.modules
assert not {"torch._dynamo", "torch.distributed.tensor", "sympy"} & sys.modules.keys()
assert torch.distributed.is_available is available
assert "torch" in importlib.metadata.packages_distributions()
import transformers.models
assert transformers.models.CLIPTextModel is transformers.CLIPTextModel
assert transformers.models.T5EncoderModel
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=worker_environment(os.environ))


def test_every_job_line_gets_one_answer(job: RenderJob) -> None:
    bad = replace(job, subject=replace(job.subject, path="/no/such/file"))
    jobs = io.StringIO("".join(f"{line.to_json()}\n" for line in (bad, job)))
    channel = io.StringIO()
    serve(jobs, channel)
    lines = [json.loads(line) for line in channel.getvalue().splitlines()]
    answers = [line for line in lines if line["event"] in {"error", "outcome"}]
    assert [line["event"] for line in answers] == ["error", "outcome"]
    assert answers[0]["code"] == "not_found"
    assert RenderOutcome.from_json(answers[1]["outcome"]).image == job.image

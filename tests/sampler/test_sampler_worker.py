"""The whole way: program, process, render, and back."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from assetmgr.sampler.client import SamplerClient
from assetmgr.sampler.jobs import RenderJob, RenderOutcome
from assetmgr.sampler.session import Session
from assetmgr.sampler.worker import serve
from converters.errors import FileMissing, NotAvailable
from converters.progress import SILENT, Progress

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Stages(Progress):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
        self.seen.append(label)


def test_a_process_renders_the_same_picture_and_survives_errors(
    session: Session, job: RenderJob, tmp_path: Path
) -> None:
    progress = Stages()
    with SamplerClient() as client:
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

"""A merged file renders as its checkpoint with the adapters at runtime; what does not is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from assetmgr.cli import main as program
from assetmgr.config import Settings
from assetmgr.operations.merge import check as merge_check
from assetmgr.operations.merge.adapters import (
    MergePlan,
    MergeRequest,
    plan_merge_adapters,
    run_merge_adapters,
)
from assetmgr.operations.merge.check import MergeCheck, check_merge
from assetmgr.operations.merge.weighted_adapters import WeightedAdapter
from assetmgr.paths import Paths
from assetmgr.sampler.process.jobs import ModelFile, RenderJob, RuntimeAdapter
from assetmgr.sampler.process.session import Session
from assetmgr.sampler.process.sheet_jobs import Difference, SheetJob, SheetOutcome
from assetmgr.sampler.process.sheet_session import render_sheet
from assetmgr.workspace import Workspace
from converters.errors import AssetmgrError
from converters.progress import SILENT, Progress

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


@dataclass
class Here:
    """A sampler in this process."""

    session: Session

    def draw(self, job: SheetJob, progress: Progress = SILENT) -> SheetOutcome:
        return render_sheet(self.session, job, progress)


@dataclass
class Told:
    """A sampler that finds the differences it was told to."""

    rounding: float | None
    merged: float | None

    def draw(self, job: SheetJob, progress: Progress = SILENT) -> SheetOutcome:
        value = self.rounding if job.cells[1].rounded else self.merged
        Path(job.image).parent.mkdir(parents=True, exist_ok=True)
        Path(job.image).touch()
        measured = value is not None and Difference(False, value, value, value, value, 9.0, 0.5)
        return SheetOutcome(job.image, (), measured or None, 1.0)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace(Settings(), Paths(tmp_path / "home")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_check, "STEPS", 2)


def planned(
    workspace: Workspace,
    family: Path,
    target: Path,
    *adapters: WeightedAdapter,
) -> MergePlan:
    checkpoint = str(family / "checkpoint.safetensors")
    request = MergeRequest(checkpoint, adapters, target, overwrite=True)
    return plan_merge_adapters(workspace, request)


def loha(folder: Path) -> Path:
    random = np.random.default_rng(1)
    parts = {f"hada_{w}_{x}": (64, 4) if x == "a" else (4, 64) for w in ("w1", "w2") for x in "ab"}
    tensors = {
        f"{LAYER}.{part}": random.standard_normal(shape).astype(np.float32) * 0.3
        for part, shape in parts.items()
    }
    path = folder / "loha.safetensors"
    save_file({**tensors, f"{LAYER}.alpha": np.array(4, np.float32)}, path)
    return path


def test_a_merged_file_renders_as_its_adapters_do_at_runtime(
    workspace: Workspace, family: Path, session: Session, tmp_path: Path
) -> None:
    adapters = (
        WeightedAdapter(str(family / "lora.safetensors"), 0.8, 0.3, "ALL"),
        WeightedAdapter(str(loha(tmp_path)), 0.5),
    )
    plan = planned(workspace, family, tmp_path / "merged.safetensors", *adapters)
    run_merge_adapters(workspace, plan)
    check = check_merge(workspace, plan, sampler=Here(session))
    assert check.ok, check
    assert 0 < check.value <= check.threshold < 0.02
    with Image.open(check.image) as sheet:
        assert sheet.size[0] > 3 * 64
    assert len(list(Path(check.image).parent.iterdir())) == 1


def test_another_weight_than_was_asked_for_is_noticed(
    workspace: Workspace, family: Path, session: Session, tmp_path: Path
) -> None:
    target, lora = tmp_path / "merged.safetensors", str(family / "lora.safetensors")
    run_merge_adapters(workspace, planned(workspace, family, target, WeightedAdapter(lora, 0.8)))
    plan = planned(workspace, family, target, WeightedAdapter(lora, 0.78))
    check = check_merge(workspace, plan, sampler=Here(session))
    assert not check.ok
    assert check.to_json()["verdict"] == "failed"


def test_a_render_leaves_the_networks_as_they_were(
    session: Session, family: Path, job: RenderJob
) -> None:
    adapter = RuntimeAdapter(str(family / "lora.safetensors"), 0.8)
    plain = RenderJob(**{**_fields(job), "subject": _checkpoint(family), "steps": 2})
    changed = RenderJob(**{**_fields(plain), "adapters": (adapter,), "rounded": "keep"})
    _, before = session.drawn(plain, SILENT)
    _, during = session.drawn(changed, SILENT)
    session.kept.warm.references.clear()
    _, after = session.drawn(plain, SILENT)
    assert (before.latents == after.latents).all()
    assert not (before.latents == during.latents).all()


def _fields(job: RenderJob) -> dict[str, object]:
    return {name: getattr(job, name) for name in job.__dataclass_fields__}


def _checkpoint(family: Path) -> ModelFile:
    return ModelFile(str(family / "checkpoint.safetensors"), "shapes", "checkpoint")


def test_jobs_with_adapters_travel_as_json(job: RenderJob) -> None:
    adapter = RuntimeAdapter("a.safetensors", 0.8, 0.3, "ALL")
    full = RenderJob(**{**_fields(job), "adapters": (adapter,), "rounded": "keep"})
    assert RenderJob.from_json(full.to_json()) == full


@pytest.fixture
def plan(workspace: Workspace, family: Path, tmp_path: Path) -> MergePlan:
    """A small merge that was made."""
    adapter = WeightedAdapter(str(loha(tmp_path)))
    plan = planned(workspace, family, tmp_path / "merged.safetensors", adapter)
    run_merge_adapters(workspace, plan)
    return plan


@pytest.mark.parametrize(
    ("rounding", "merged", "ok"), [(0.01, 0.0149, True), (0.01, 0.0151, False), (0.0, 0.0, True)]
)
def test_the_verdict_is_that_of_rounding(
    rounding: float, merged: float, ok: bool, workspace: Workspace, plan: MergePlan
) -> None:
    check = check_merge(workspace, plan, sampler=Told(rounding, merged))
    assert check.ok == ok


def test_a_render_without_a_picture_is_no_verdict(workspace: Workspace, plan: MergePlan) -> None:
    with pytest.raises(AssetmgrError, match="no picture"):
        check_merge(workspace, plan, sampler=Told(0.1, None))


def test_a_failed_check_is_an_error_and_the_file_stays(
    family: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    far = Difference(False, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1)
    near = Difference(True, 0.0, 0.0, 0.0, 0.0, None, 1.0)
    found = MergeCheck(far, near, 0.1, str(tmp_path / "check.png"), 1.0)
    monkeypatch.setattr("assetmgr.cli.merge.check_merge", lambda *_: found)
    target = tmp_path / "out.safetensors"
    call = ["merge", "adapters", str(family / "checkpoint.safetensors"), str(loha(tmp_path))]
    assert program.run([*call, "-o", str(target), "--check", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["check"]["verdict"] == "failed"
    assert document["errors"][0]["code"] == "merge_differs"
    assert target.exists()
    assert program.run([*call, "-o", str(target), "--check", "--overwrite"]) == 1
    assert "check failed" in capsys.readouterr().out


def test_without_the_packages_nothing_is_written(
    family: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("assetmgr.sampler.process.client.NEEDED", ("no-such-package",))
    target = tmp_path / "out.safetensors"
    call = ["merge", "adapters", str(family / "checkpoint.safetensors"), str(loha(tmp_path))]
    assert program.run([*call, "-o", str(target), "--check", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "not_available"
    assert not target.exists()

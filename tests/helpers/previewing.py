"""Stand-ins for previews: a library of some assets, and a sampler that renders nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from assetmgr.config import Settings
from assetmgr.operations.failures import Failure
from assetmgr.operations.preview.render import PreviewRequest, PreviewResult, run_previews
from assetmgr.paths import Paths
from assetmgr.sampler.process.jobs import Check, RenderJob, RenderOutcome
from assetmgr.sampler.process.sheet_jobs import Difference, SheetJob, SheetOutcome
from converters.errors import AssetNotFound, Cancelled, CorruptFile, NotAvailable
from converters.pickles.verdict import SAFE_NO_CODE
from converters.progress import SILENT, Progress
from registry.pictures import picture_files
from registry.records import Preview


def asset(number: int, kind: str, **more: object) -> SimpleNamespace:
    """What a preview needs to know of an asset."""
    known: dict[str, object] = {
        "id": number,
        "name": f"{kind}-{number}",
        "path": f"/models/{kind}-{number}.safetensors",
        "kind": kind,
        "base": "sd-1",
        "prediction": "epsilon",
        "trigger_words": (),
        "metadata": {},
        "hashes": {"sha256": f"{number:02x}" * 32, "autov3": None},
        "preview": None,
        "files": (),
        "safety": SAFE_NO_CODE,
    }
    return SimpleNamespace(**{**known, **more})


@dataclass
class Shelf:
    """A library of some assets that remembers what is recorded."""

    content: list[SimpleNamespace]
    previews: dict[int, Preview] = field(default_factory=dict)

    def assets(self, query: str = "") -> list[SimpleNamespace]:
        kind = query.removeprefix("kind:")
        return [one for one in self.content if kind in {"", one.kind}]

    def find(self, reference: str) -> SimpleNamespace:
        for one in self.content:
            if reference in {f"#{one.id}", one.name, one.path}:
                return one
        raise AssetNotFound("no such asset", path=reference)

    def bases(self, base: str) -> list[SimpleNamespace]:
        return [one for one in self.content if one.kind == "checkpoint" and one.base == base]

    def record_preview(self, number: int, preview: Preview) -> None:
        self.previews[number] = preview
        self.content = [
            SimpleNamespace(**{**vars(one), "preview": preview}) if one.id == number else one
            for one in self.content
        ]


class Sampler:
    """Renders nothing, remembers the jobs, and fails for names that say so."""

    def __init__(self) -> None:
        self.jobs: list[RenderJob] = []

    def render(self, job: RenderJob, progress: Progress) -> RenderOutcome:
        self.jobs.append(job)
        progress.stage("sample", job.steps, "steps")
        progress.advance(job.steps)
        match job.subject.name:
            case "broken":
                raise CorruptFile("not a model", path=job.subject.path)
            case "cancelled":
                raise Cancelled
            case "deviceless":
                raise NotAvailable("no cuda")
        check = Check("effect", job.subject.name != "weak", 0.1, 0.2, "difference")
        for picture in picture_files(job.image, job.thumbnail):
            Path(picture).parent.mkdir(parents=True, exist_ok=True)
            Path(picture).touch()
        parameters = job.parameters("cpu", "fp32")
        return RenderOutcome(job.image, job.thumbnail, (check,), 1.0, 0.5, None, parameters)

    def draw(self, job: SheetJob, progress: Progress) -> SheetOutcome:
        cells = tuple(self.render(cell, progress) for cell in job.cells)
        difference = Difference(False, 0.5, 0.1, 0.2, 0.05, 30.0, 0.9) if job.compared else None
        return SheetOutcome(job.image, cells, difference, 2.0)


BASE = asset(1, "checkpoint")
LORA = asset(2, "lora", trigger_words=("neon", "glow"))


@dataclass
class Setting:
    """A workspace with a shelf and a sampler."""

    shelf: Shelf
    home: Path
    settings: Settings = field(default_factory=Settings)
    sampler: Sampler = field(default_factory=Sampler)

    def run(
        self, request: PreviewRequest, progress: Progress = SILENT
    ) -> list[PreviewResult | Failure]:
        workspace = SimpleNamespace(
            library=self.shelf, settings=self.settings, paths=Paths(self.home)
        )
        return list(run_previews(workspace, request, progress, sampler=self.sampler))

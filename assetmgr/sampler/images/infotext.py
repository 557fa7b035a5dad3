"""The `parameters` text of a picture, in the grammar of the AUTOMATIC1111 web UI.

Prompt lines, an optional line of the negative prompt, and one line of `key: value` pairs; a value
is quoted as a JSON string when it holds a comma, a colon or a line break. Grammar and keys: the
web UI's `modules/infotext_utils.py` and `modules/processing.py` (`create_infotext`). Digests are
shortened as there: 10 hex digits of the SHA-256 for checkpoints, VAEs and hypernetworks, 12 of
AutoV3 for LoRAs, 12 of the SHA-256 for embeddings. Flux is told its guidance and not guided, which
is a key of its own in lllyasviel/stable-diffusion-webui-forge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from assetmgr.sampler.process.jobs import ModelFile, RenderJob
from assetmgr.sampler.rendering.solvers import solver_named
from converters.bases import Base
from registry.text import shown

EVEN = "Simple"
"""What the web UI calls levels of noise that are even before their shift, as Flux has them."""


def parameters_text(job: RenderJob) -> str:
    """The whole text of the picture that `job` makes."""
    lines = [_prompt(job)]
    if job.negative:
        lines.append(f"Negative prompt: {job.negative}")
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in _pairs(job)))
    return "\n".join(lines)


def _prompt(job: RenderJob) -> str:
    """The prompt as the web UI would have to be given it, with the adapter's tag."""
    tags = {"lora": "lora", "hypernetwork": "hypernet"}
    tag = tags.get(job.subject.kind)
    if tag is None:
        return job.prompt
    return f"{job.prompt} <{tag}:{_stem(job.subject)}:{job.weight:g}>".lstrip()


def _pairs(job: RenderJob) -> Iterator[tuple[str, str]]:
    solver = solver_named(job.sampler)
    is_flux = job.family == Base.FLUX
    schedule = EVEN if is_flux else solver.schedule
    yield "Steps", str(job.steps)
    yield "Sampler", solver.label
    if schedule is not None:
        yield "Schedule type", schedule
    yield "CFG scale", "1" if is_flux else f"{job.cfg:g}"
    if is_flux:
        yield "Distilled CFG Scale", f"{job.cfg:g}"
    yield "Seed", str(job.seed)
    yield "Size", f"{job.width}x{job.height}"
    if job.checkpoint.sha256:
        yield "Model hash", job.checkpoint.sha256[:10]
    yield "Model", _stem(job.checkpoint)
    if job.clip_skip > 1:
        yield "Clip skip", str(job.clip_skip)
    yield from _subject_pairs(job.subject)
    yield "RNG", "CPU"
    yield "Version", f"assetmgr {version('assetmgr')}"


def _subject_pairs(subject: ModelFile) -> Iterator[tuple[str, str]]:
    name = _stem(subject)
    if subject.kind == "vae":
        if subject.sha256:
            yield "VAE hash", subject.sha256[:10]
        yield "VAE", shown(Path(subject.path).name)
    elif subject.kind == "lora" and subject.autov3:
        yield "Lora hashes", f"{name}: {subject.autov3[:12]}"
    elif subject.kind == "embedding" and subject.sha256:
        yield "TI hashes", f"{name}: {subject.sha256[:12]}"
    elif subject.kind == "hypernetwork":
        digest = f"({subject.sha256[:10]})" if subject.sha256 else ""
        yield "Hypernet", f"{name}{digest}"


def _stem(model: ModelFile) -> str:
    return shown(Path(model.path).stem)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(c in value for c in ",:\n") else value

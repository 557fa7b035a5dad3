"""What is asked of the sampler and what it answers; plain values that travel as JSON.

One place, because two processes must agree on it. Nothing here imports torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

WEIGHTLESS = ("checkpoint", "diffusion-model", "vae", "embedding")
"""Kinds that have no strength to choose."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file taking part in a render, with the names it is known by.

    `kind` is a word of the contract (`checkpoint`, `lora`, ...). `sha256` and `autov3` are hex
    digests where known; they only go into the picture's parameters text. `danger` says what other
    programs would run that open the file.
    """

    path: str
    name: str
    kind: str
    sha256: str | None = None
    autov3: str | None = None
    danger: str | None = None


@dataclass(frozen=True, slots=True)
class RuntimeAdapter:
    """An adapter that is in effect while a checkpoint renders, with the weights of a merge."""

    path: str
    weight: float = 1.0
    text_encoder: float | None = None
    block_weights: str | None = None


@dataclass(frozen=True, slots=True)
class RenderJob:
    """One preview: a subject, the checkpoint it is tried on, and how to sample.

    `base` is None for a checkpoint, which is its own base. `trigger` is the word in the prompt that
    an embedding answers to. `weight` is the strength of an adapter. `device` is `auto`, `cpu`,
    `cuda` or `mps`; `dtype` is `auto`, `fp32`, `fp16` or `bf16`. `image` and `thumbnail` are the
    files to write, None for none. `with_effect` compares with the render without the asset.
    `low_vram` keeps networks off the accelerator but for their turn, and decodes in
    tiles. `companions` are files that hold what the checkpoint lacks of encoders, VAE and
    tokenizer; the kind of each is the role it plays. `clip_skip` is the layer of CLIP, counted
    from the end, whose output is taken. `adapters` are in effect on a checkpoint, and with
    `rounded` (an element type, or `keep`) the changed weights are rounded to it. `relatives` are
    checkpoints of the family that a checkpoint's blocks are compared with. `family` is the
    checkpoint's, as far as it is known.
    """

    subject: ModelFile
    base: ModelFile | None
    prompt: str
    negative: str
    steps: int
    cfg: float
    sampler: str
    width: int
    height: int
    seed: int
    weight: float
    trigger: str | None
    device: str
    dtype: str
    image: str | None
    thumbnail: str | None
    overwrite: bool
    companions: tuple[ModelFile, ...] = ()
    low_vram: bool = False
    with_effect: bool = True
    clip_skip: int = 1
    adapters: tuple[RuntimeAdapter, ...] = ()
    rounded: str | None = None
    relatives: tuple[ModelFile, ...] = ()
    family: str = "unknown"

    @property
    def checkpoint(self) -> ModelFile:
        """The file whose networks do the rendering."""
        return self.subject if self.base is None else self.base

    def parameters(self, device: str, dtype: str) -> Parameters:
        """How the picture is made, once device and type of the weights are settled."""
        return Parameters(
            prompt=self.prompt,
            negative=self.negative,
            seed=self.seed,
            steps=self.steps,
            cfg=self.cfg,
            sampler=self.sampler,
            size=f"{self.width}x{self.height}",
            weight=None if self.subject.kind in WEIGHTLESS else self.weight,
            base=None if self.base is None else self.base.path,
            device=device,
            dtype=dtype,
            clip_skip=self.clip_skip,
        )

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RenderJob:
        """The inverse of `to_json`."""
        document = json.loads(text)
        subject = ModelFile(**document.pop("subject"))
        base = document.pop("base")
        companions = tuple(ModelFile(**each) for each in document.pop("companions"))
        relatives = tuple(ModelFile(**each) for each in document.pop("relatives", ()))
        adapters = tuple(RuntimeAdapter(**each) for each in document.pop("adapters", ()))
        return cls(
            subject=subject,
            base=None if base is None else ModelFile(**base),
            companions=companions,
            adapters=adapters,
            relatives=relatives,
            **document,
        )


@dataclass(frozen=True, slots=True)
class Check:
    """One question the verdict rests on.

    `value` and `threshold` are what was compared, None for a check that has no number.
    """

    name: str
    ok: bool
    value: float | None
    threshold: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class Parameters:
    """How a picture was made; with the same device and dtype it can be made again, bit for bit."""

    prompt: str
    negative: str
    seed: int
    steps: int
    cfg: float
    sampler: str
    size: str
    weight: float | None
    base: str | None
    device: str
    dtype: str
    clip_skip: int = 1


_MEMORY = ("memory_measures", "memory_fallbacks")


@dataclass(frozen=True, slots=True)
class RenderOutcome:
    """What became of a job. `image` and `thumbnail` are None when nothing could be drawn.

    `seconds` is the whole job, `load_seconds` the part spent reading models;
    `peak_memory_bytes` is the accelerator's peak of this job, or the worker process's on a CPU
    (None where the system does not tell). `memory_measures` are what saved memory, in the words of
    `memory.Measure`; `memory_fallbacks` those of them that nobody asked for: memory ran out.
    `one_thread`: it was too small for several, so that other cores were idle.
    """

    image: str | None
    thumbnail: str | None
    checks: tuple[Check, ...]
    seconds: float
    load_seconds: float
    peak_memory_bytes: int | None
    parameters: Parameters
    memory_measures: tuple[str, ...] = ()
    memory_fallbacks: tuple[str, ...] = ()
    one_thread: bool = False

    @property
    def verdict(self) -> str:
        """`ok` when every check passed, else `failed`."""
        return "ok" if all(check.ok for check in self.checks) else "failed"

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RenderOutcome:
        """The inverse of `to_json`."""
        document = json.loads(text)
        checks = tuple(Check(**check) for check in document.pop("checks"))
        parameters = Parameters(**document.pop("parameters"))
        document |= {name: tuple(document.get(name, ())) for name in _MEMORY}
        return cls(checks=checks, parameters=parameters, **document)

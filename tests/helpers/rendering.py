"""The smallest render there is, for tests to change what matters to them."""

from __future__ import annotations

from assetmgr.sampler.process.jobs import ModelFile, RenderJob

SMALLEST = RenderJob(
    subject=ModelFile("/models/base.safetensors", "base", "checkpoint"),
    base=None,
    prompt="",
    negative="",
    steps=1,
    cfg=1.0,
    sampler="Euler",
    width=64,
    height=64,
    seed=1,
    weight=1.0,
    trigger=None,
    device="cpu",
    dtype="fp32",
    image="a.png",
    thumbnail="a.webp",
    overwrite=False,
)

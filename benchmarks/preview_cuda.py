"""Renders on a CUDA device: time of a picture, LoRA in and out, loading, against diffusers' ways.

    python -m benchmarks.preview_cuda sd-1|sdxl EDGE ROUNDS

makes pictures by random weights of the real sizes and prints a JSON object of seconds. As a part of
`benchmarks.run` every figure is measured in a process of its own, and what fails costs no other.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Case, Result, python, run
from benchmarks.preview import job_of
from benchmarks.preview_jobs import STEPS, Seconds, timed

_SD1: dict[str, Any] = {"cross_attention_dim": 768, "sample_size": 64}
_SDXL: dict[str, Any] = {
    "cross_attention_dim": 2048,
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}


def cuda(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """What the sampler does on a CUDA device, with the real sizes; nothing where there is none."""
    import torch

    if not torch.cuda.is_available() or scale < 1:
        return
    home = scratch / "preview home"
    for family, edge in (("sd-1", 512), ("sdxl", 1024)):
        yield from _measured(
            "a picture on CUDA", f"{family} {edge}", 1.0, _pictures(family, edge, rounds)
        )
    sd1 = scratch / "preview cuda sd-1"
    run(Case("files", python("-m", "benchmarks.merge", str(sd1), "sd-1", "32", "1")))
    job_of(home, "sd1_files", sd1)
    for name, job, goal in (("LoRA in and out", "swap", 0.2), ("load a file", "load", 1 / 3)):
        told = (sd1, min(rounds, 3), "cuda", "float16")
        yield from _measured(name, "SD1.5 on CUDA", goal, _both(home, job, *told))
    shutil.rmtree(sd1)


Measured = dict[str, float]


def _measured(
    benchmark: str, case: str, goal: float, measure: Callable[[], Measured]
) -> Iterator[Result]:
    """Ours as a ratio to theirs, and the floor; a failure is a figure that misses its goal."""
    try:
        found = measure()
    except RuntimeError as error:
        print(f"{benchmark}, {case}: {error}", file=sys.stderr)
        yield Result(benchmark, case, math.nan, "x", goal, note=f"failed: {error}")
        return
    times = (found["ours"], found["peer"])
    yield Result(benchmark, case, found["ours"] / found["peer"], "x", goal, times)
    if "floor" in found:
        note = "FLOPs of the UNet over the rate of a large matrix product"
        yield Result(benchmark, f"{case}: floor", found["floor"], "s", None, note=note)


def _both(home: Path, job: str, *told: object) -> Callable[[], Measured]:
    def measure() -> Measured:
        theirs = job_of(home, f"{job}_peer", *told)["each"]
        return {"ours": job_of(home, job, *told)["each"], "peer": theirs}

    return measure


def _pictures(family: str, edge: int, rounds: int) -> Callable[[], Measured]:
    def measure() -> Measured:
        return job_of(Path(), family, edge, rounds, module="benchmarks.preview_cuda")

    return measure


def _random(network: Callable[[], Any]) -> Any:
    """A network in fp16 on the device, of random weights, that never was in other memory."""
    import torch

    with torch.device("meta"):
        made = network().half()
    made = made.to_empty(device="cuda").eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.02)
    return made


def pictures(family: str, edge: str, rounds: str) -> Seconds:
    """A picture by our loop and by diffusers' pipeline, with the same random networks."""
    import diffusers
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from assetmgr.sampler.prompts.prompt import Conditioning
    from assetmgr.sampler.rendering.render import Denoiser, Sampling, decode, sample
    from assetmgr.sampler.rendering.replay import Replay
    from assetmgr.sampler.rendering.solvers import solver_named
    from converters.progress import SILENT

    xl, pixels = family == "sdxl", int(edge)
    torch.manual_seed(0)
    unet = _random(lambda: diffusers.UNet2DConditionModel(**(_SDXL if xl else _SD1)))
    vae = _random(lambda: diffusers.AutoencoderKL(**_VAE))
    width = 2048 if xl else 768
    texts = [torch.randn(1, 77, width, device="cuda", dtype=torch.float16) for _ in range(2)]
    pools = [torch.randn(1, 1280, device="cuda", dtype=torch.float16) if xl else None] * 2
    sampling = Sampling(solver_named("DPM++ 2M"), STEPS, 7.0, pixels, pixels, 1)
    sizes = torch.tensor([[pixels, pixels, 0, 0, pixels, pixels]] * 2, dtype=torch.float32)
    denoiser = Denoiser(unet, 8, sizes=sizes if xl else None, replay=Replay(unet))
    positive, negative = (
        Conditioning(text, pooled) for text, pooled in zip(texts, pools, strict=True)
    )
    kind = diffusers.StableDiffusionXLPipeline if xl else diffusers.StableDiffusionPipeline
    encoders = dict.fromkeys(("text_encoder", "tokenizer"))
    encoders |= {f"{name}_2": None for name in encoders} if xl else {}
    more = {} if xl else {"safety_checker": None, "feature_extractor": None}
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    )
    pipeline = kind(unet=unet, vae=vae, scheduler=scheduler, **encoders, **more)
    pipeline.set_progress_bar_config(disable=True)
    told = {"prompt_embeds": texts[0], "negative_prompt_embeds": texts[1]}
    if xl:
        told |= {"pooled_prompt_embeds": pools[0], "negative_pooled_prompt_embeds": pools[1]}

    def ours() -> object:
        return decode(vae, sample(denoiser, positive, negative, sampling, SILENT))

    def peer() -> object:
        return pipeline(
            **told, num_inference_steps=STEPS, guidance_scale=7.0, height=pixels, width=pixels
        )

    seconds = Seconds()
    for number in range(int(rounds) + 1):
        for name, draw in (("peer", peer), ("ours", ours)):
            torch.cuda.synchronize()
            with timed(seconds, name if number else f"first {name}"):
                draw()
                torch.cuda.synchronize()
    with FlopCounterMode(display=False) as flops, torch.inference_mode():
        sample(denoiser, positive, negative, sampling, SILENT)
    return {
        "ours": seconds["ours"] / int(rounds),
        "peer": seconds["peer"] / int(rounds),
        "floor": flops.get_total_flops() / _rate(),
    }


def _rate() -> float:
    """Operations a second of a large matrix product in fp16."""
    import torch

    edge, times = 8192, 20
    factor = torch.randn(edge, edge, device="cuda", dtype=torch.float16)
    seconds = Seconds()
    for name in ("first", "all"):
        torch.cuda.synchronize()
        with timed(seconds, name):
            for _ in range(times):
                factor @ factor
            torch.cuda.synchronize()
    return 2 * edge**3 * times / seconds["all"]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(pictures(*sys.argv[1:])))

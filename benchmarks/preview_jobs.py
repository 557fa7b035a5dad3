"""What runs inside the measured processes of previews; each prints a JSON object of seconds.

Importing the libraries is measured by itself, so that neither side is charged for it elsewhere.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converters.statedict import StateDict

PROMPT = "a red circle on a white background"
STEPS = 20
Seconds = dict[str, float]


def median(count: str, once: Callable[[], object]) -> float:
    """The median time of so many calls after a first one."""
    times = []
    for _ in range(int(count) + 1):
        started = time.perf_counter()
        once()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


@contextmanager
def timed(seconds: Seconds, name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started


def files(folder: str, count: str) -> Seconds:
    """The demo's trained checkpoint, as a file and as a folder of diffusers, and `count` LoRAs."""
    import shutil

    from assetmgr.demo.family import checkpoint, member
    from converters.writers.safetensors import write_safetensors

    base = Path(folder, "base.safetensors")
    write_safetensors(checkpoint(), base, with_hashes=False)
    lora = Path(folder, "lora-000.safetensors")
    write_safetensors(_of_unet(member("lora")), lora, with_hashes=False)
    for number in range(1, int(count)):
        shutil.copy(lora, Path(folder, f"lora-{number:03}.safetensors"))
    _pipeline(base, Path(folder, "pipeline"))
    return {}


def sd1_files(folder: str) -> Seconds:
    """A folder of diffusers beside a checkpoint and a LoRA that `benchmarks.merge` has made."""
    from converters.containers import open_model
    from converters.writers.safetensors import write_safetensors

    made = Path(folder, "lora-0.safetensors")
    state = _of_unet(open_model(made).state_dict)
    write_safetensors(state, Path(first_lora(folder)), overwrite=True, with_hashes=False)
    _pipeline(Path(folder, "base.safetensors"), Path(folder, "pipeline"))
    return {}


def _of_unet(lora: StateDict) -> StateDict:
    """The modules of the UNet: diffusers 0.42 refuses kohya's of the text encoder."""
    return lora.select(lambda name: name.startswith("lora_unet_"))


def first_lora(folder: str) -> str:
    return str(min(Path(folder).glob("lora-*.safetensors")))


def _pipeline(base: Path, target: Path) -> None:
    from assetmgr.operations.convert.plan import ConvertPlan, ConvertRequest, plan_convert
    from assetmgr.operations.convert.run import run_convert
    from assetmgr.workspace import Workspace

    with Workspace.open() as workspace:
        for plan in plan_convert(ConvertRequest((str(base),), output=target, to="diffusers")):
            if not isinstance(plan, ConvertPlan):
                raise SystemExit(plan.error)
            run_convert(workspace, plan)


def imports() -> Seconds:
    """The worker's imports, until the first job could be rendered."""
    seconds: Seconds = {}
    started = time.process_time()
    with timed(seconds, "wall"):
        from assetmgr.sampler.process.libraries import import_libraries

        import_libraries()
        from assetmgr.sampler.process.session import Session

        Session()
    return seconds | {"processor": time.process_time() - started}


def previews(folder: str, count: str) -> Seconds:
    """LoRAs on one base, each with its verdict and pictures, from the first to the last.

    That is with loading the base and the picture without any LoRA, and with whatever else it takes
    but for the libraries of the first sampler process: it is asked for something that is not there.
    """
    from contextlib import suppress

    from assetmgr.operations.preview.render import PreviewRequest, PreviewResult, run_previews
    from assetmgr.sampler.process.client import SamplerClient
    from assetmgr.sampler.process.jobs import ModelFile, RenderJob
    from assetmgr.workspace import Workspace
    from converters.errors import FileMissing

    _warm_up(folder)
    loras = sorted(Path(folder).glob("lora-*.safetensors"))[: int(count)]
    request = PreviewRequest(
        assets=tuple(map(str, loras)),
        base=str(Path(folder, "base.safetensors")),
        prompt=PROMPT,
        steps=STEPS,
        cfg=7.0,
        sampler="DPM++ 2M",
        size=(64, 64),
        device="cpu",
        dtype="fp32",
    )
    absent = ModelFile(str(Path(folder, "absent")), "absent", "checkpoint")
    nothing = RenderJob(
        *(absent, None, "", "", 1, 1.0, "Euler", 64, 64, 1, 1.0, None, "cpu", "fp32"),
        image=None,
        thumbnail=None,
        overwrite=True,
    )
    seconds: Seconds = {}
    with Workspace.open() as workspace, SamplerClient() as sampler:
        with suppress(FileMissing):
            sampler.render(nothing)
        with timed(seconds, "all"):
            for result in run_previews(workspace, request, sampler=sampler):
                if not isinstance(result, PreviewResult) or result.outcome.verdict != "ok":
                    raise SystemExit(f"a preview failed: {result}")
    return seconds


def pipelines(folder: str, count: str) -> Seconds:
    """The same as users of diffusers do it: a pipeline from the file for each LoRA."""
    import torch

    seconds = Seconds()
    _warm_up(folder)
    for lora in sorted(Path(folder).glob("lora-*.safetensors"))[: int(count)]:
        with timed(seconds, "all"):
            pipeline = _from_single_file(folder, torch.float32)
            pipeline.load_lora_weights(str(lora))
            image = pipeline(
                PROMPT, height=64, width=64, num_inference_steps=STEPS, guidance_scale=7.0
            ).images[0]
            image.save(lora.with_suffix(".peer.png"))
    return seconds


def swap(folder: str, count: str, device: str, dtype: str) -> Seconds:
    """A LoRA into the loaded networks and out again; fails unless they are what they were."""
    import torch

    from assetmgr.sampler.adapters.subjects import merged_onto
    from assetmgr.sampler.models.bundle import load_bundle
    from converters.containers import open_model
    from converters.merge.into_checkpoint import AdapterChoice
    from converters.progress import SILENT

    state = open_model(str(Path(folder, "base.safetensors"))).state_dict
    bundle = load_bundle(state, torch.device(device), getattr(torch, dtype), SILENT)
    before = _content(bundle.unet.network)

    def in_and_out() -> None:
        lora = open_model(first_lora(folder)).state_dict
        changed, _ = merged_onto(bundle, AdapterChoice("lora", lora, 1.0))
        with bundle.patched(changed):
            _wait(device)

    each = median(count, in_and_out)
    if _content(bundle.unet.network) != before:
        raise SystemExit("the networks are not what they were")
    return {"each": each}


def swap_peer(folder: str, count: str, device: str, dtype: str) -> Seconds:
    """The same by load_lora_weights, fuse_lora, unfuse_lora and unload_lora_weights."""
    import torch

    pipeline = _from_single_file(folder, getattr(torch, dtype)).to(device)
    before = _content(pipeline.unet)

    def in_and_out() -> None:
        pipeline.load_lora_weights(first_lora(folder))
        pipeline.fuse_lora()
        _wait(device)
        pipeline.unfuse_lora()
        pipeline.unload_lora_weights()

    each = median(count, in_and_out)
    return {"each": each, "exact": float(_content(pipeline.unet) == before)}


def load(folder: str, count: str, device: str, dtype: str) -> Seconds:
    """The networks of a file, with the look whether all weights are finite."""
    import torch

    from assetmgr.sampler.models.bundle import load_bundle
    from converters.containers import open_model
    from converters.progress import SILENT

    _warm_up(folder)

    def load_once() -> None:
        state = open_model(str(Path(folder, "base.safetensors"))).state_dict
        load_bundle(state, torch.device(device), getattr(torch, dtype), SILENT)
        _wait(device)

    return {"each": median(count, load_once)}


def load_peer(folder: str, count: str, device: str, dtype: str) -> Seconds:
    """The same by from_single_file with a configuration that is there."""
    import torch

    _warm_up(folder)

    def load_once() -> None:
        _from_single_file(folder, getattr(torch, dtype)).to(device)
        _wait(device)

    return {"each": median(count, load_once)}


def read(folder: str, count: str) -> Seconds:
    """The floor of loading: all bytes of the file once into memory that is there already."""
    path = Path(folder, "base.safetensors")
    target = bytearray(path.stat().st_size)

    def read_once() -> None:
        with path.open("rb", buffering=0) as file:
            view = memoryview(target)
            while read := file.readinto(view):
                view = view[read:]

    return {"each": median(count, read_once)}


def _from_single_file(folder: str, dtype: Any) -> Any:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_single_file(
        str(Path(folder, "base.safetensors")),
        config=str(Path(folder, "pipeline")),
        local_files_only=True,
        torch_dtype=dtype,
        safety_checker=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _warm_up(folder: str) -> None:
    """Import what both ways need, and have the file in the page cache."""
    import diffusers
    import transformers

    _ = (diffusers.StableDiffusionPipeline, diffusers.AutoencoderKL, transformers.CLIPTextModel)
    Path(folder, "base.safetensors").read_bytes()


def _content(network: Any) -> int:
    state = network.state_dict()
    return hash(tuple((name, value.cpu().numpy().tobytes()) for name, value in state.items()))


def _wait(device: str) -> None:
    """Until the device has done what it was told."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


JOBS: dict[str, Callable[..., Seconds]] = {
    job.__name__: job
    for job in (
        *(files, sd1_files, imports, previews, pipelines, swap, swap_peer),
        *(load, load_peer, read),
    )
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(JOBS[sys.argv[1]](*sys.argv[2:])))

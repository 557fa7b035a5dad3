"""Renders of every family, tiny and random, against the pipelines of diffusers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import pipelines, sd1
from helpers.sd1 import stored
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from assetmgr.sampler.adapters.embeddings import NamedVectors
from assetmgr.sampler.models.denoising import training_of
from assetmgr.sampler.models.schedules import Training
from assetmgr.sampler.process.jobs import ModelFile, RenderJob
from assetmgr.sampler.process.session import Session
from assetmgr.sampler.prompts.prompt import encode, tokenize
from assetmgr.sampler.prompts.tokenizer import tokenizer_files
from assetmgr.sampler.rendering.solvers import SOLVERS, solver_named
from converters.bases import Base, Prediction
from converters.containers import open_model
from converters.containers.diffusers_folder import ZERO_SNR_KEY
from converters.dtypes import DType
from converters.errors import WrongFamily
from converters.identify import identify
from converters.layouts.pipeline import ZERO_SNR_MARKER, to_components
from converters.merge.into_checkpoint import AdapterChoice, plan_merge
from converters.progress import SILENT
from converters.statedict import StateDict
from converters.writers.diffusers_folder import write_pipeline
from converters.writers.safetensors import write_safetensors

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning", "ignore::FutureWarning"
)

VOCABULARY = 49408
SIZE = 64
CALL = {"num_inference_steps": 3, "height": SIZE, "width": SIZE, "output_type": "latent"}


def _shapes(family: str, channels: int = 4) -> sd1.Shapes:
    """A family's shapes with the whole vocabulary, and a VAE that divides sizes by eight."""
    vae = replace(sd1.SMALL, vae_channels=(32, 32, 32, 32))
    shapes = {n: s for n, s in pipelines.FAMILIES[family]().items() if not n.startswith(sd1.VAE)}
    shapes |= sd1.prefixed(sd1.VAE, sd1.vae_shapes(vae))
    for name, shape in shapes.items():
        if name.endswith(("token_embedding.weight",)):
            shapes[name] = (VOCABULARY, shape[1])
    conv = "model.diffusion_model.input_blocks.0.0.weight"
    shapes[conv] = (shapes[conv][0], channels, *shapes[conv][2:])
    return shapes


@pytest.fixture(scope="module")
def checkpoint(
    tmp_path_factory: pytest.TempPathFactory, random_arrays: Callable[[Any], Any]
) -> Callable[..., Path]:
    """Writes a random checkpoint of a family once."""
    folder = tmp_path_factory.mktemp("families")

    def make(family: str, channels: int = 4, metadata: dict[str, str] | None = None) -> Path:
        path = folder / f"{family}-{channels}-{len(metadata or {})}.safetensors"
        if not path.exists():
            save_file(_mapped(random_arrays(_shapes(family, channels))), path, metadata)
        return path

    return make


def _mapped(arrays: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """The same with the tables of tokens, nearly all of it, in the type that CPUs compute with."""
    return {
        name: values.astype(np.float32) if name.endswith("token_embedding.weight") else values
        for name, values in arrays.items()
    }


def _folder(path: Path) -> Path:
    """The pipeline's folder of a single file, beside it; written once."""
    folder = path.with_suffix(".pipeline")
    if not folder.exists():
        sd = open_model(path).state_dict
        identity = identify(sd)
        files = {
            "tokenizer": tokenizer_files(padding_is_end=identity.base != "sd-2"),
            "tokenizer_2": tokenizer_files(padding_is_end=False),
        }
        write_pipeline(to_components(sd, identity.base), identity, folder, tokenizer=files)
    return folder


def _pipeline(path: Path) -> Any:
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(
        _folder(path), local_files_only=True, torch_dtype=torch.float32
    )


def _rendered(session: Session, job: RenderJob, path: Path, **changed: Any) -> Any:
    subject = ModelFile(str(path), path.stem, "checkpoint")
    settings: dict[str, Any] = {"width": SIZE, "height": SIZE, "steps": 3, "cfg": 5.0}
    settings |= {"sampler": "DDIM"}
    settings |= {"negative": "blurry", "with_effect": False, **changed}
    job = replace(job, subject=subject, base=None, **settings)
    outcome = session.render(job, SILENT)
    loads = next(check for check in outcome.checks if check.name == "loads completely")
    assert loads.ok, loads.detail
    assert session.kept.warm is not None
    return list(session.kept.warm.references.values())[-1]


def _theirs(pipeline: Any, job: RenderJob, **call: Any) -> torch.Tensor:
    """The latents of diffusers' pipeline for the same noise."""
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(job.seed)
    noise = torch.randn((1, 4, 8, 8), generator=generator)
    settings = {"negative_prompt": "blurry", "guidance_scale": 5.0, **CALL, **call}
    images: torch.Tensor = pipeline(
        job.prompt, latents=noise, generator=generator, **settings
    ).images
    return images


def _assert_equal(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """To 1e-4, where the latents of random networks are larger than those of trained ones to as
    large a part of them."""
    assert (ours - theirs).abs().max() <= 1e-4 * max(1.0, theirs.std().item())


EVERY = tuple(solver.name for solver in SOLVERS)
SOME = EVERY[::3]
"""Of other families: what is new there is what a step is told, not how it is made."""


@pytest.mark.parametrize(
    ("family", "prediction", "solvers"),
    [
        ("sd-1", "epsilon", EVERY),
        ("sd-2", "epsilon", SOME),
        ("sdxl", "epsilon", SOME),
        ("sd-1", "v", ("Euler",)),
        ("sd-2", "v", ("DPM++ 2M",)),
        ("sdxl", "v", ("DDIM",)),
    ],
)
def test_every_solver_ends_at_the_latents_of_the_diffusers_pipeline(
    family: str,
    prediction: str,
    solvers: tuple[str, ...],
    checkpoint: Callable[..., Path],
    job: RenderJob,
    tmp_path: Path,
) -> None:
    import diffusers

    path = checkpoint(family)
    pipeline, session = _pipeline(path), Session()
    config = {"timestep_spacing": "leading", **pipeline.scheduler.config}
    if prediction == "v":
        path, config["prediction_type"] = _told_to_predict_v(path, tmp_path), "v_prediction"
    for solver in map(solver_named, solvers):
        kind = getattr(diffusers, solver.scheduler)
        pipeline.scheduler = kind.from_config(config, **solver.options)
        ours = _rendered(session, job, path, sampler=solver.name)
        _assert_equal(ours.latents, _theirs(pipeline, job))


def _told_to_predict_v(path: Path, folder: Path) -> Path:
    """The same file with a configuration beside it, which saves writing hundreds of megabytes."""
    linked = folder / f"{path.stem}-v.safetensors"
    os.link(path, linked)
    linked.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    return linked


def _ddim(pipeline: Any) -> Any:
    from diffusers import DDIMScheduler

    options = next(solver.options for solver in SOLVERS if solver.name == "DDIM")
    return DDIMScheduler.from_config(pipeline.scheduler.config, **options)


def _marked(path: Path, target: Path, marks: dict[str, NDArray[np.generic]]) -> Path:
    """A copy of a checkpoint with further tensors."""
    save_file({**load_file(path), **marks}, target)
    return target


def _with_scheduler(pipeline: Path, target: Path, told: dict[str, Any]) -> Path:
    """A pipeline's folder with another scheduler, of EDM."""
    shutil.copytree(pipeline, target, copy_function=os.link)
    config = {"_class_name": "EDMEulerScheduler", "sigma_min": 0.002, **told}
    config.setdefault("prediction_type", "epsilon")
    (target / "scheduler" / "scheduler_config.json").unlink()
    (target / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return target


MEAN, DEVIATION = [-1.6574, 1.886, -1.383, 2.5155], [8.4927, 5.9022, 6.5498, 5.2299]
PLAYGROUND = {"edm_mean": np.array(MEAN, np.float32), "edm_std": np.array(DEVIATION, np.float32)}
COSXL = {"edm_vpred.sigma_max": np.array(120.0, np.float32)}


EDM_SOLVERS = {"DPM++ 2M": "DPMSolverMultistep", "Euler": "Euler"}


@pytest.mark.parametrize(
    ("marks", "told", "spread"),
    [
        (PLAYGROUND, {"sigma_max": 80.0, "sigma_data": 0.5, "sigma_schedule": "karras"}, " Karras"),
        (
            COSXL,
            {
                "sigma_max": 120.0,
                "sigma_data": 1.0,
                "sigma_schedule": "exponential",
                "prediction_type": "v_prediction",
            },
            "",
        ),
    ],
    ids=["playground", "cosxl"],
)
def test_models_with_levels_of_edm_end_where_diffusers_schedulers_do(
    marks: dict[str, NDArray[np.generic]],
    told: dict[str, Any],
    spread: str,
    checkpoint: Callable[..., Path],
    job: RenderJob,
    tmp_path: Path,
) -> None:
    import diffusers

    path = _marked(checkpoint("sdxl"), tmp_path / "marked.safetensors", marks)
    pipeline, session = _pipeline(checkpoint("sdxl")), Session()
    for asked, kind in EDM_SOLVERS.items():
        pipeline.scheduler = getattr(diffusers, f"EDM{kind}Scheduler")(sigma_min=0.002, **told)
        ours = _rendered(session, job, path, sampler=asked)
        _assert_equal(ours.latents, _theirs(pipeline, job))
    assert session.kept.warm is not None
    solvers = [each.sampling.solver.name for each in session.kept.warm.references]
    assert solvers == [asked + spread for asked in EDM_SOLVERS]
    folder = _with_scheduler(_folder(checkpoint("sdxl")), tmp_path / "pipeline", told)
    of_folder = _rendered(session, job, folder, sampler=asked)
    assert torch.equal(of_folder.latents, ours.latents)
    assert torch.equal(of_folder.pixels, ours.pixels)
    vae = session.kept.warm.bundle.vae.network
    if marks is PLAYGROUND:
        inner = ours.latents * torch.tensor(DEVIATION)[None, :, None, None] / 0.5
        inner = inner + torch.tensor(MEAN)[None, :, None, None]
        expected = (vae.decode(inner, return_dict=False)[0][0] + 1) / 2
        assert torch.allclose(ours.pixels, expected.clamp(0, 1), atol=1e-4)


def test_a_latent_consistency_model_is_told_its_guidance(
    checkpoint: Callable[..., Path], job: RenderJob, tmp_path: Path
) -> None:
    from diffusers import LCMScheduler

    numbers = np.random.default_rng(0)
    proj = numbers.normal(0, 0.1, (32, 256)).astype(np.float16)
    marks = {"model.diffusion_model.time_embedding.cond_proj.weight": proj}
    path = _marked(checkpoint("sd-1"), tmp_path / "lcm.safetensors", marks)
    pipeline = _pipeline(path)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    ours = _rendered(Session(), job, path, sampler="LCM")
    _assert_equal(ours.latents, _theirs(pipeline, job))


def test_a_lora_gives_the_latents_that_diffusers_gives_with_it(
    checkpoint: Callable[..., Path],
    job: RenderJob,
    tmp_path: Path,
    random_arrays: Callable[[Any], Any],
) -> None:
    pytest.importorskip("peft")
    exact = {n: v.astype(np.float32) for n, v in load_file(checkpoint("sd-1")).items()}
    save_file(exact, tmp_path / "exact.safetensors")
    text = sd1.kohya_text_modules(sd1.SMALL)
    # Of CLIP's attention diffusers loses what a LoRA changes, with this version of transformers.
    kept = {name: shape for name, shape in text.items() if "self_attn" not in name}
    modules = {**sd1.kohya_modules(sd1.SMALL), **kept}
    lora = random_arrays(sd1.lora_shapes(modules))
    save_file(lora, tmp_path / "lora.safetensors")
    subject = open_model(tmp_path / "lora.safetensors").state_dict
    base = open_model(tmp_path / "exact.safetensors").state_dict
    merged = plan_merge(base, [AdapterChoice("lora", subject, 0.5, None)])
    write_safetensors(merged.state_dict, tmp_path / "merged.safetensors", with_hashes=False)
    ours = _rendered(Session(), job, tmp_path / "merged.safetensors")
    pipeline = _pipeline(tmp_path / "exact.safetensors")
    pipeline.scheduler = _ddim(pipeline)
    pipeline.load_lora_weights({n: torch.from_numpy(v) for n, v in lora.items()})
    pipeline.fuse_lora(lora_scale=0.5)
    _assert_equal(ours.latents, _theirs(pipeline, job))


def test_an_embedding_gives_the_encoding_that_diffusers_gives_with_it(
    checkpoint: Callable[..., Path], job: RenderJob, tmp_path: Path
) -> None:
    path = checkpoint("sd-1")
    pipeline = _pipeline(path)
    vectors = torch.randn(2, 768, generator=torch.Generator().manual_seed(1))
    pipeline.load_textual_inversion({"<glow>": vectors}, token="<glow>")
    theirs, _ = pipeline.encode_prompt("a <glow> circle", "cpu", 1, False)
    session = Session()
    _rendered(session, job, path)
    assert session.kept.warm is not None
    named = NamedVectors("glow", {768: vectors})
    chunks = tokenize("a glow circle", session.kept.tokens_of, (named,))
    ours = encode(session.kept.warm.bundle.encoders, chunks)
    assert (ours.hidden - theirs).abs().max() <= 1e-4


def test_the_refiner_paints_from_noise_when_it_is_tried_alone(
    checkpoint: Callable[..., Path], job: RenderJob
) -> None:
    picture = _rendered(Session(), job, checkpoint("sdxl-refiner"))
    assert picture.pixels.shape == (3, SIZE, SIZE)
    assert torch.isfinite(picture.latents).all()


@pytest.mark.parametrize(("family", "channels"), [("sd-1", 9), ("sd-1", 8), ("sdxl", 9)])
def test_inpainting_and_editing_models_are_given_what_they_want_beside_the_latents(
    family: str, channels: int, checkpoint: Callable[..., Path], job: RenderJob
) -> None:
    picture = _rendered(Session(), job, checkpoint(family, channels))
    assert picture.latents.shape == (1, 4, 8, 8)


@pytest.mark.parametrize("family", ["sd-2", "sdxl"])
def test_a_pipelines_folder_renders_as_its_single_file(
    family: str, checkpoint: Callable[..., Path], job: RenderJob, tmp_path: Path
) -> None:
    path = checkpoint(family)
    single = _rendered(Session(), job, path)
    folder = _rendered(Session(), job, _folder(path))
    assert torch.equal(single.latents, folder.latents)


def test_an_embedding_for_both_encoders_of_sdxl_changes_the_picture(
    checkpoint: Callable[..., Path], job: RenderJob, tmp_path: Path
) -> None:
    numbers = np.random.default_rng(0)
    pair = {"clip_l": (2, 768), "clip_g": (2, 1280)}
    arrays = {n: numbers.standard_normal(s).astype(np.float32) for n, s in pair.items()}
    save_file(arrays, tmp_path / "glow.safetensors")
    base = ModelFile(str(checkpoint("sdxl")), "sdxl", "checkpoint")
    tried = replace(
        job,
        subject=ModelFile(str(tmp_path / "glow.safetensors"), "glow", "embedding"),
        base=base,
        prompt="a glow",
        trigger="glow",
        width=SIZE,
        height=SIZE,
        steps=2,
    )
    checks = {check.name: check for check in Session().render(tried, SILENT).checks}
    assert checks["loads completely"].detail == "2 vectors as 'glow'"
    assert checks["effect"].ok
    one = {"emb_params": arrays["clip_l"]}
    save_file(one, tmp_path / "one.safetensors")
    single = replace(tried, subject=replace(tried.subject, path=str(tmp_path / "one.safetensors")))
    with pytest.raises(WrongFamily, match="768 values, the text encoders want 768 and 1280"):
        Session().render(single, SILENT)


def test_weights_of_a_schedule_down_to_pure_noise_are_sampled_so(
    checkpoint: Callable[..., Path], job: RenderJob, tmp_path: Path
) -> None:
    plain = checkpoint("sd-2", 4, {"modelspec.prediction_type": "v"})
    told = {"modelspec.prediction_type": "v", "diffusers.rescale_betas_zero_snr": "true"}
    zero = checkpoint("sd-2", 4, told)
    assert not torch.equal(
        _rendered(Session(), job, plain).latents, _rendered(Session(), job, zero).latents
    )


@pytest.mark.parametrize("base", [Base.SD1, Base.SD2, Base.SDXL])
@pytest.mark.parametrize(
    ("marks", "metadata"),
    [((ZERO_SNR_MARKER,), {}), ((), {ZERO_SNR_KEY: "true"})],
    ids=["marker tensor", "metadata"],
)
def test_a_schedule_down_to_pure_noise_is_known_in_every_family(
    base: Base, marks: tuple[str, ...], metadata: dict[str, str]
) -> None:
    def training(prediction: Prediction, *names: str, **told: str) -> Training:
        tensors = {name: stored(DType.F32, (), bytes(4), name) for name in names}
        identity = SimpleNamespace(base=base, prediction=prediction)
        bundle: Any = SimpleNamespace(state_dict=StateDict(tensors, told), identity=identity)
        return training_of(bundle)

    assert training(Prediction.V, *marks, **metadata) == Training("v_prediction", zero_snr=True)
    assert training(Prediction.V) == Training("v_prediction", zero_snr=False)
    assert training(Prediction.EPSILON, *marks, **metadata) == Training()


@pytest.mark.parametrize("family", ["sd-2", "sdxl"])
def test_a_lora_renders_as_the_checkpoint_that_it_is_merged_into(
    family: str,
    checkpoint: Callable[..., Path],
    job: RenderJob,
    tmp_path: Path,
    random_arrays: Callable[[Any], Any],
) -> None:
    path = checkpoint(family)
    part = to_components(open_model(path).state_dict, identify(open_model(path).state_dict).base)
    last = "text_encoder_2" if family == "sdxl" else "text_encoder"
    prefixes = {"unet": "lora_unet_", last: "lora_te2_" if family == "sdxl" else "lora_te_"}
    modules = {
        prefix + name.removesuffix(".weight").replace(".", "_"): tensor.shape
        for component, prefix in prefixes.items()
        for name, tensor in part.parts[component].items()
        if name.endswith(("attn2.to_k.weight", "layers.0.self_attn.v_proj.weight"))
    }
    save_file(random_arrays(sd1.lora_shapes(modules)), tmp_path / "lora.safetensors")
    subject = open_model(tmp_path / "lora.safetensors").state_dict
    merged = plan_merge(open_model(path).state_dict, [AdapterChoice("lora", subject, 0.5, None)])
    write_safetensors(merged.state_dict, tmp_path / "merged.safetensors", with_hashes=False)
    alone = _rendered(Session(), job, tmp_path / "merged.safetensors")
    tried = replace(
        job,
        subject=ModelFile(str(tmp_path / "lora.safetensors"), "lora", "lora"),
        base=ModelFile(str(path), family, "checkpoint"),
        weight=0.5,
        negative="blurry",
        width=SIZE,
        height=SIZE,
        steps=3,
        cfg=5.0,
        sampler="DDIM",
    )
    outcome = Session().render(tried, SILENT)
    checks = {check.name: check for check in outcome.checks}
    assert checks["loads completely"].ok, checks["loads completely"].detail
    assert checks["effect"].ok
    with Image.open(tried.image) as image:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    assert (pixels - alone.pixels).abs().max() < 0.01


def test_scaled_fp8_is_rendered_with_its_scales(
    checkpoint: Callable[..., Path], job: RenderJob, tmp_path: Path
) -> None:
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    plain = load_torch(checkpoint("sd-1"))
    scaled = dict(plain)
    for name in [name for name in plain if name.endswith("attn2.to_k.weight")]:
        scale = plain[name].abs().max().float() / 448
        small = (plain[name].float() / scale).to(torch.float8_e4m3fn)
        scaled[name], plain[name] = small, small.float() * scale
        scaled[name.replace(".weight", ".scale_weight")] = scale
    save_torch(scaled, tmp_path / "scaled.safetensors")
    save_torch(plain, tmp_path / "plain.safetensors")
    pictures = [
        _rendered(Session(), job, tmp_path / f"{name}.safetensors") for name in ("scaled", "plain")
    ]
    assert torch.equal(pictures[0].latents, pictures[1].latents)

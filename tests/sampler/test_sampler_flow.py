"""SD3 and Flux: renders end at the latents of diffusers' pipelines, from files of any layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel
from helpers import mmdit
from safetensors.torch import save_file

from assetmgr.sampler.adapters.embeddings import NamedVectors
from assetmgr.sampler.process.jobs import Check, ModelFile, RenderJob
from assetmgr.sampler.process.session import Session
from assetmgr.sampler.process.warm import load_warm, place_of
from assetmgr.sampler.prompts.prose import prose
from assetmgr.sampler.prompts.t5_tokenizer import load_t5_tokenizer
from assetmgr.sampler.prompts.tokenizer import load_tokenizer, tokenizer_files
from assetmgr.sampler.rendering import flow
from assetmgr.sampler.rendering.memory import Measure, Thrift
from assetmgr.sampler.rendering.render import Picture
from converters.errors import AssetmgrError, BadValue, CorruptFile, WrongFamily
from converters.progress import SILENT

SIZE = 64
PROMPT = "a red circle"


@dataclass
class Made:
    """A model as diffusers has it, and files of its components."""

    family: str
    transformer: Any
    encoders: dict[str, Any]
    vae: Any
    folder: Path

    def write(self, name: str, tensors: mmdit.Tensors) -> str:
        path = self.folder / f"{name}.safetensors"
        save_file({n: t.detach().contiguous().clone() for n, t in tensors.items()}, path)
        return str(path)

    def alone(self, change: Callable[[mmdit.Tensors], mmdit.Tensors] = lambda t: t) -> str:
        """The transformer's own file."""
        return self.write("transformer", change(mmdit.original(self.transformer)))

    def companions(self, *without: str) -> tuple[ModelFile, ...]:
        files = {role: self.write(role, net.state_dict()) for role, net in self.encoders.items()}
        files["vae"] = self.write("vae", self.vae.state_dict())
        files["t5_tokenizer"] = str(mmdit.tokenizer(self.folder / "tokenizer.json"))
        return tuple(ModelFile(p, r, r) for r, p in files.items() if r not in without)

    def pipeline(self) -> Any:
        """Diffusers' own pipeline of the same networks."""
        import diffusers
        from transformers import CLIPTokenizer, PreTrainedTokenizerFast

        clip = []
        for number, padding_is_end in enumerate((True, False)):
            folder = self.folder / f"clip{number}"
            folder.mkdir(exist_ok=True)
            for name, data in tokenizer_files(padding_is_end=padding_is_end).items():
                (folder / name).write_bytes(data)
            clip.append(CLIPTokenizer.from_pretrained(folder))
        t5 = PreTrainedTokenizerFast(
            tokenizer_file=str(mmdit.tokenizer(self.folder / "tokenizer.json")),
            pad_token="<pad>",
            eos_token="</s>",
        )
        common = {"transformer": self.transformer, "vae": self.vae, "tokenizer": clip[0]}
        if self.family == "flux":
            dynamic = self.transformer.config.guidance_embeds
            made = diffusers.FluxPipeline(
                scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
                    shift=3.0 if dynamic else 1.0,
                    use_dynamic_shifting=dynamic,
                    base_shift=0.5,
                    max_shift=1.15,
                ),
                text_encoder=self.encoders["clip_l"],
                text_encoder_2=self.encoders["t5xxl"],
                tokenizer_2=t5,
                **common,
            )
        else:
            made = diffusers.StableDiffusion3Pipeline(
                scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
                text_encoder=self.encoders["clip_l"],
                text_encoder_2=self.encoders["clip_g"],
                text_encoder_3=self.encoders.get("t5xxl"),
                tokenizer_2=clip[1],
                tokenizer_3=t5,
                **common,
            )
        made.set_progress_bar_config(disable=True)
        return made


def _made(word: str, folder: Path) -> Made:
    t5 = mmdit.t5()
    if word.startswith("flux"):
        encoders = {"clip_l": mmdit.encoder(mmdit.CLIP_WIDTH, projected=False), "t5xxl": t5}
        transformer = mmdit.flux(guided=word == "flux dev")
        return Made("flux", transformer, encoders, mmdit.vae(0.3611, 0.1159), folder)
    encoders = {
        "clip_l": mmdit.encoder(mmdit.CLIP_WIDTH, projected=True),
        "clip_g": mmdit.encoder(mmdit.BIG_WIDTH, projected=True, activation="gelu"),
        "t5xxl": t5,
    }
    later = word != "sd3 medium"
    transformer = mmdit.sd3(dual=(0,) if word == "sd3.5 medium" else (), normed=later)
    return Made("sd-3", transformer, encoders, mmdit.vae(1.5305, 0.0609), folder)


WORDS = ("sd3 medium", "sd3.5 medium", "sd3.5 large", "flux dev", "flux schnell")


@pytest.fixture
def flow_job(job: RenderJob) -> RenderJob:
    return replace(job, prompt=PROMPT, width=SIZE, height=SIZE, steps=4, cfg=4.5, sampler="Euler")


def _picture(job: RenderJob, path: str, companions: tuple[ModelFile, ...]) -> Picture:
    session = Session()
    subject = ModelFile(path, "model", "checkpoint")
    outcome = session.render(replace(job, subject=subject, companions=companions), SILENT)
    loads = next(check for check in outcome.checks if check.name == "loads completely")
    assert loads.ok, loads.detail
    assert session.kept.warm is not None
    (picture,) = session.kept.warm.references.values()
    return picture


def _latents(job: RenderJob, path: str, companions: tuple[ModelFile, ...]) -> torch.Tensor:
    return _picture(job, path, companions).latents


def _alike(some: torch.Tensor, others: torch.Tensor) -> bool:
    """Equal but for the kernels that some processors choose by where weights lie in memory."""
    return bool((some - others).abs().max() <= 1e-5)


def _theirs(made: Made, job: RenderJob) -> torch.Tensor:
    noise = torch.randn((1, 16, SIZE // 8, SIZE // 8), generator=torch.Generator().manual_seed(1))
    call = {"num_inference_steps": 4, "width": SIZE, "height": SIZE, "output_type": "latent"}
    if made.family == "flux":
        pipeline = made.pipeline()
        packed = pipeline._pack_latents(noise, 1, 16, SIZE // 8, SIZE // 8)
        tokens = 512 if made.transformer.config.guidance_embeds else 256
        found = pipeline(
            PROMPT, guidance_scale=4.5, latents=packed, max_sequence_length=tokens, **call
        ).images
        return pipeline._unpack_latents(found, SIZE, SIZE, 8)
    return made.pipeline()(PROMPT, guidance_scale=4.5, latents=noise, **call).images


@pytest.mark.parametrize("word", WORDS)
def test_a_render_ends_at_the_latents_of_the_diffusers_pipeline(
    word: str, flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made(word, tmp_path)
    ours = _picture(flow_job, made.alone(), made.companions())
    assert (ours.latents - _theirs(made, flow_job)).abs().max() <= 1e-4
    scale, shift = (0.3611, 0.1159) if made.family == "flux" else (1.5305, 0.0609)
    with torch.inference_mode():
        decoded = made.vae.decode(ours.latents / scale + shift, return_dict=False)[0][0]
    assert torch.allclose(ours.pixels, ((decoded + 1) / 2).clamp(0, 1), atol=1e-4)


def test_t5_has_bf16_where_fp16_is_asked_for_which_it_would_overflow(tmp_path: Path) -> None:
    made = _made("flux schnell", tmp_path)
    model, lent = ModelFile(made.alone(), "model", "checkpoint"), made.companions()
    warm = load_warm(place_of(model, lent, torch.device("cpu"), torch.float16), lent, SILENT)
    bundle = warm.bundle
    assert bundle.prose is not None
    assert bundle.prose.network.dtype is torch.bfloat16
    others = [part for part in bundle.parts if part is not bundle.prose]
    assert {part.network.dtype for part in others} == {torch.float16}


def test_guidance_of_sd3_in_two_turns_gives_the_same_picture(
    flow_job: RenderJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, batches = _made("sd3 medium", tmp_path), []
    at_once = _latents(flow_job, made.alone(), made.companions())
    monkeypatch.setattr(
        Thrift,
        "begin",
        lambda device, _low, _forced: Thrift(device, frozenset({Measure.HALVES}), set()),
    )
    forward = SD3Transformer2DModel.forward

    def watched(self: Any, **told: Any) -> Any:
        batches.append(len(told["hidden_states"]))
        return forward(self, **told)

    monkeypatch.setattr(SD3Transformer2DModel, "forward", watched)
    one_by_one = _latents(flow_job, made.alone(), made.companions())
    assert batches == [1] * 8, "four steps, two turns"
    assert torch.allclose(one_by_one, at_once, atol=1e-5)


def test_where_nobody_looks_on_the_way_the_latents_are_the_same_and_failures_named(
    flow_job: RenderJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, calls = _made("sd3 medium", tmp_path), []
    looked_at = _latents(flow_job, made.alone(), made.companions())
    monkeypatch.setattr(flow, "WATCHED", set())
    assert torch.equal(_latents(flow_job, made.alone(), made.companions()), looked_at)
    forward = SD3Transformer2DModel.forward

    def broken(self: Any, **told: Any) -> Any:
        calls.append(told)
        (output,) = forward(self, **told)
        return (output / 0 if len(calls) in (3, 7) else output,)

    monkeypatch.setattr(SD3Transformer2DModel, "forward", broken)
    subject = ModelFile(made.alone(), "model", "checkpoint")
    job = replace(flow_job, subject=subject, companions=made.companions())
    failed = [check for check in Session().render(job, SILENT).checks if not check.ok]
    assert [check.name for check in failed] == ["finite"]
    assert "the transformer at step 3 of 4" in failed[0].detail


@pytest.mark.parametrize(
    ("word", "role", "name", "stage"),
    [
        ("flux dev", "clip_l", "final_layer_norm.bias", "of the prompt by CLIP"),
        ("flux dev", "t5xxl", "final_layer_norm.weight", "of the prompt by T5"),
        ("sd3 medium", "t5xxl", "final_layer_norm.weight", "of the prompt by T5"),
        ("sd3 medium", "clip_g", "text_projection.weight", "of the prompt"),
    ],
)
def test_an_encoder_whose_numbers_are_none_is_named_and_not_the_transformer(
    word: str, role: str, name: str, stage: str, flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made(word, tmp_path)
    wrong = (t for n, t in made.encoders[role].state_dict().items() if n.endswith(name))
    next(wrong).fill_(torch.nan)
    subject = ModelFile(made.alone(), "model", "checkpoint")
    job = replace(flow_job, subject=subject, companions=made.companions())
    checks = {check.name: check for check in Session().render(job, SILENT).checks}
    layer = name.rpartition(".")[0]
    told = checks["finite"].detail
    assert told.startswith(f"the text encoding {stage} is not finite, first in "), told
    assert told.endswith(layer)
    assert name in checks["weights finite"].detail


def _all_in_one(made: Made, *without: str) -> str:
    """One file with everything, as ComfyUI writes it."""
    tensors = {f"model.diffusion_model.{n}": t for n, t in mmdit.original(made.transformer).items()}
    tensors |= {f"vae.{n}": t for n, t in made.vae.state_dict().items()}
    for role, network in made.encoders.items():
        if role not in without:
            state = network.state_dict().items()
            tensors |= {f"text_encoders.{role}.transformer.{n}": t for n, t in state}
    return made.write("all-in-one", tensors)


@pytest.mark.parametrize("word", ["sd3.5 medium", "flux dev"])
def test_a_file_with_everything_and_a_pipelines_folder_render_alike(
    word: str, flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made(word, tmp_path)
    folder = tmp_path / "pipeline"
    made.pipeline().save_pretrained(folder)
    tokenizer = made.companions()[-1:]
    whole = _latents(flow_job, _all_in_one(made), tokenizer)
    assert _alike(whole, _latents(flow_job, made.alone(), made.companions()))
    assert (whole - _latents(flow_job, str(folder), tokenizer)).abs().max() <= 1e-4


def test_sd3_without_t5_is_given_zeros_as_its_authors_allow(
    flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made("sd3 medium", tmp_path)
    companions = made.companions("t5xxl", "t5_tokenizer")
    del made.encoders["t5xxl"]
    ours = _latents(flow_job, made.alone(), companions)
    assert (ours - _theirs(made, flow_job)).abs().max() <= 1e-4


def test_the_account_of_a_checkpoint_says_that_t5_is_missing(
    flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made("sd3 medium", tmp_path)
    subject = ModelFile(_all_in_one(made, "t5xxl"), "model", "checkpoint")
    outcome = Session().render(replace(flow_job, subject=subject), SILENT)
    loads = next(check for check in outcome.checks if check.name == "loads completely")
    assert loads.ok
    assert "without T5" in loads.detail


@pytest.mark.parametrize(
    ("word", "without", "named"),
    [
        ("sd3 medium", ("clip_g", "vae"), ["clip_g", "vae"]),
        ("flux dev", ("t5xxl", "t5_tokenizer"), ["t5xxl"]),
        ("flux dev", ("t5_tokenizer",), ["t5_tokenizer"]),
    ],
)
def test_what_is_missing_is_named(
    word: str, without: tuple[str, ...], named: list[str], flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made(word, tmp_path)
    job = replace(
        flow_job,
        subject=ModelFile(made.alone(), "model", "checkpoint"),
        companions=made.companions(*without),
    )
    outcome = Session().render(job, SILENT)
    assert outcome.verdict == "failed"
    assert outcome.image is None
    assert all(role in outcome.checks[0].detail for role in named)


def test_a_missing_tensor_of_the_transformer_is_named(flow_job: RenderJob, tmp_path: Path) -> None:
    made = _made("flux schnell", tmp_path)
    name = "double_blocks.1.img_mlp.2.bias"
    path = made.alone(lambda tensors: {n: t for n, t in tensors.items() if n != name})
    job = replace(
        flow_job, subject=ModelFile(path, "model", "checkpoint"), companions=made.companions()
    )
    assert "transformer_blocks.1.ff.net.2.bias" in Session().render(job, SILENT).checks[0].detail


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_weights_of_any_type_render_as_their_values_do(
    dtype: torch.dtype, flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made("flux schnell", tmp_path)
    small = made.alone(lambda tensors: {n: t.to(dtype) for n, t in tensors.items()})
    ours = _latents(flow_job, small, made.companions())
    wide = made.alone(lambda tensors: {n: t.to(dtype).float() for n, t in tensors.items()})
    assert _alike(ours, _latents(flow_job, wide, made.companions()))


def test_scaled_fp8_weights_are_multiplied_by_their_scales(
    flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made("flux dev", tmp_path)
    narrow, scale = torch.float8_e4m3fn, torch.tensor(0.25)

    def scaled(tensors: mmdit.Tensors) -> mmdit.Tensors:
        changed: mmdit.Tensors = {"scaled_fp8": torch.zeros(0).to(narrow)}
        for name, tensor in tensors.items():
            changed[name] = tensor
            if tensor.ndim == 2 and name.startswith("double_blocks"):
                changed[name] = (tensor / scale).to(narrow)
                changed[f"{name.removesuffix('.weight')}.scale_weight"] = scale
        return changed

    def values(tensors: mmdit.Tensors) -> mmdit.Tensors:
        return {
            n: (t / scale).to(narrow).float() * scale
            if t.ndim == 2 and n.startswith("double_blocks")
            else t
            for n, t in tensors.items()
        }

    ours = _latents(flow_job, made.alone(scaled), made.companions())
    assert _alike(ours, _latents(flow_job, made.alone(values), made.companions()))


LORAS = {
    "flux dev": [
        ("lora_unet_double_blocks_0_img_attn_qkv", (192, 64), "double_blocks.0.img_attn.qkv"),
        ("lora_unet_single_blocks_1_linear2", (64, 320), "single_blocks.1.linear2"),
    ],
    "sd3 medium": [
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", (192, 64), "joint_blocks.0.x_block.attn.qkv"),
    ],
}


@pytest.mark.parametrize("word", LORAS)
def test_a_kohya_lora_renders_as_the_weights_that_it_makes(
    word: str, flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made(word, tmp_path)
    torch.manual_seed(3)
    adapter, deltas = {}, {}
    for module, (rows, columns), path in LORAS[word]:
        up, down = torch.randn(rows, 2) * 0.3, torch.randn(2, columns) * 0.3
        adapter |= {f"{module}.lora_up.weight": up, f"{module}.lora_down.weight": down}
        adapter[f"{module}.alpha"] = torch.tensor(2.0)
        deltas[f"{path}.weight"] = up @ down
    lora = ModelFile(made.write("lora", adapter), "lora", "lora")
    base = ModelFile(made.alone(), "model", "checkpoint")
    companions = made.companions()
    job = replace(flow_job, subject=lora, base=base, companions=companions)
    session = Session()
    outcome = session.render(job, SILENT)
    checks = {check.name: check for check in outcome.checks}
    assert checks["loads completely"].ok, checks["loads completely"].detail
    assert checks["effect"].ok
    assert session.kept.warm is not None
    (reference,) = session.kept.warm.references.values()
    tried = Path(job.image).read_bytes()
    merged = made.write(
        "merged", {n: t + deltas.get(n, 0) for n, t in mmdit.original(made.transformer).items()}
    )
    alone = replace(flow_job, subject=ModelFile(merged, "m", "checkpoint"), companions=companions)
    Session().render(alone, SILENT)
    assert _pixels(tried) == pytest.approx(_pixels(Path(job.image).read_bytes()), abs=2)
    after = session.render(replace(flow_job, subject=base, companions=companions), SILENT)
    assert after.image is not None
    assert (session.kept.warm.references.popitem()[1].latents == reference.latents).all()


def _pixels(data: bytes) -> list[int]:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return list(image.tobytes())


def test_a_lora_of_diffusers_names_finds_its_layers(flow_job: RenderJob, tmp_path: Path) -> None:
    made = _made("flux dev", tmp_path)
    path = "transformer.single_transformer_blocks.0.proj_mlp"
    tensors = {
        f"{path}.lora_A.weight": torch.randn(2, 64),
        f"{path}.lora_B.weight": torch.randn(256, 2),
    }
    job = replace(
        flow_job,
        subject=ModelFile(made.write("lora", tensors), "lora", "lora"),
        base=ModelFile(made.alone(), "model", "checkpoint"),
        companions=made.companions(),
    )
    checks = {check.name: check for check in Session().render(job, SILENT).checks}
    assert checks["loads completely"].ok, checks["loads completely"].detail
    assert checks["effect"].ok


def test_another_vae_decodes_with_the_scale_and_shift_of_the_family(
    flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made("flux dev", tmp_path)
    base = ModelFile(made.alone(), "model", "checkpoint")
    companions = made.companions()
    vae = next(each for each in companions if each.kind == "vae")
    job = replace(flow_job, subject=vae, base=base, companions=companions)
    checks = {check.name: check for check in Session().render(job, SILENT).checks}
    assert checks["same picture"].value == pytest.approx(1)


@pytest.mark.parametrize("size", [72, 512])
def test_a_size_that_the_model_cannot_paint_is_an_error(
    size: int, flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made("sd3 medium", tmp_path)
    subject = ModelFile(made.alone(), "model", "checkpoint")
    job = replace(flow_job, subject=subject, companions=made.companions(), width=size)
    with pytest.raises(BadValue, match=r"16|256"):
        Session().render(job, SILENT)


ENCODERS = {"sd3 medium": ("clip_l", "clip_g", "t5xxl"), "flux dev": ("clip_l", "t5xxl")}


def _rows(made: Made, encoder: str, word: str) -> torch.Tensor:
    """The token embeddings of a word."""
    table = made.encoders[encoder].get_input_embeddings().weight
    if encoder == "t5xxl":
        return table[load_t5_tokenizer(str(made.folder / "tokenizer.json")).ids(word)]
    return table[load_tokenizer().encode(word, add_special_tokens=False)]


def _with_embedding(
    made: Made, tensors: mmdit.Tensors, job: RenderJob, **changes: Any
) -> RenderJob:
    return replace(
        job,
        subject=ModelFile(made.write("glow", tensors), "glow", "embedding"),
        base=ModelFile(made.alone(), "model", "checkpoint"),
        **{"companions": made.companions(), "prompt": "glow", "trigger": "glow", **changes},
    )


def _verdict(job: RenderJob) -> dict[str, Check]:
    return {check.name: check for check in Session().render(job, SILENT).checks}


@pytest.mark.parametrize("word", ENCODERS)
def test_an_embedding_is_told_to_every_encoder_as_the_word_that_it_is(
    word: str, flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made(word, tmp_path)
    made.companions()
    rows = {encoder: _rows(made, encoder, "cat") for encoder in ENCODERS[word]}
    job = _with_embedding(made, rows, flow_job)
    checks = _verdict(job)
    assert checks["loads completely"].ok
    assert checks["effect"].value
    assert checks["loads completely"].detail == f"{len(rows['t5xxl'])} vectors as 'glow'"
    ours = Path(job.image).read_bytes()
    base = replace(job, subject=ModelFile(made.alone(), "m", "checkpoint"), base=None, prompt="cat")
    Session().render(base, SILENT)
    assert _pixels(ours) == _pixels(Path(job.image).read_bytes())


def test_an_encoder_that_a_file_has_no_vectors_for_is_not_told_of_its_word(
    flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made("flux dev", tmp_path)
    checks = _verdict(_with_embedding(made, {"clip_l": torch.randn(2, 24)}, flow_job))
    assert checks["loads completely"].detail == "2 vectors as 'glow'; nothing for t5xxl"
    assert checks["effect"].value
    of_t5, t5 = load_t5_tokenizer(str(tmp_path / "tokenizer.json")), made.encoders["t5xxl"]
    for_clip = NamedVectors("glow", {24: torch.randn(2, 24)})
    assert torch.equal(prose(t5, "glow cat", of_t5, 16, [for_clip]), prose(t5, " cat", of_t5, 16))


def test_vectors_that_follow_an_encoder_take_the_place_of_what_it_makes(tmp_path: Path) -> None:
    t5, of_t5 = mmdit.t5(), load_t5_tokenizer(str(mmdit.tokenizer(tmp_path / "tokenizer.json")))
    vectors, silence = torch.randn(2, mmdit.TOKEN), torch.zeros(2, mmdit.TOKEN)
    after = NamedVectors("glow", {}, {mmdit.TOKEN: vectors})
    before = NamedVectors("glow", {mmdit.TOKEN: silence})
    made = prose(t5, "glow cat", of_t5, 16, [after])
    assert torch.equal(made[0, :2], vectors)
    assert torch.equal(made[0, 2:], prose(t5, "glow cat", of_t5, 16, [before])[0, 2:])


def test_vectors_for_a_t5_that_is_not_there_are_named_as_untried(
    flow_job: RenderJob, tmp_path: Path
) -> None:
    made = _made("sd3 medium", tmp_path)
    tensors = {"clip_l": torch.randn(1, 24), "clip_g": torch.randn(1, 40), "t5": torch.randn(1, 64)}
    without = made.companions("t5xxl", "t5_tokenizer")
    checks = _verdict(_with_embedding(made, tensors, flow_job, companions=without))
    assert checks["loads completely"].detail.endswith(
        "; those for T5 not tried, which the base is without"
    )
    assert checks["effect"].ok


@pytest.mark.parametrize(
    ("shapes", "error", "words"),
    [
        ({"clip_l": (1, 24), "clip_g": (1, 40)}, WrongFamily, "24 and 40 values"),
        ({"clip_l": (1, 32), "t5xxl": (1, 64)}, WrongFamily, "text encoders want 24 and 64"),
        ({"t5": (1, 64), "t5xxl": (1, 64)}, CorruptFile, "t5xxl are there twice"),
    ],
)
def test_vectors_that_the_encoders_do_not_take_are_refused(
    shapes: dict[str, tuple[int, ...]],
    error: type[AssetmgrError],
    words: str,
    flow_job: RenderJob,
    tmp_path: Path,
) -> None:
    made = _made("flux schnell", tmp_path)
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    with pytest.raises(error, match=words):
        Session().render(_with_embedding(made, tensors, flow_job, steps=1), SILENT)

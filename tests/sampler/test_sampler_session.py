"""Every kind of asset rendered by the session of a worker, on a tiny random checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from assetmgr.sampler.adapters.patching import at_hand
from assetmgr.sampler.models.bundle import load_bundle
from assetmgr.sampler.process.jobs import RenderJob, RenderOutcome
from assetmgr.sampler.process.session import Session
from assetmgr.sampler.process.warm import fingerprints
from assetmgr.sampler.prompts.prompt import encode_pair
from assetmgr.sampler.rendering import painter
from converters import compute
from converters.containers import open_model
from converters.errors import AssetmgrError, FileMissing, NotAvailable, UnsupportedFile, WrongFamily
from converters.merge.into_checkpoint import AdapterChoice, plan_merge
from converters.progress import SILENT, Progress
from registry.pictures import thumbnail_png

if TYPE_CHECKING:
    from conftest import Arrays, Models

    from converters.merge.into_checkpoint import MergePlan

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

OnBase = Callable[[Path, str], RenderJob]
VOCABULARY = 1 << 20
"""Fewer numbers than the one tensor that no adapter here is for."""


def pixels(outcome: RenderOutcome) -> bytes:
    assert outcome.image is not None
    with Image.open(outcome.image) as image:
        return image.tobytes()


def check(outcome: RenderOutcome, name: str) -> tuple[bool, str]:
    found = next(check for check in outcome.checks if check.name == name)
    return found.ok, found.detail


def test_a_file_that_runs_something_elsewhere_fails_though_its_picture_is_good(
    session: Session, job: RenderJob
) -> None:
    subject = replace(job.subject, danger="calls posix.system")
    outcome = session.render(replace(job, subject=subject), SILENT)
    assert (outcome.verdict, outcome.image) == ("failed", job.image)
    assert check(outcome, "safe") == (False, "calls posix.system")


def test_a_checkpoint_gives_a_picture_a_thumbnail_and_all_checks(
    session: Session, job: RenderJob
) -> None:
    outcome = session.render(job, SILENT)
    with Image.open(job.image) as image, Image.open(job.thumbnail) as thumbnail:
        assert image.size == thumbnail.size == (64, 64)
        assert image.info["parameters"].startswith("a glow circle\nSteps: 2, Sampler: Euler")
        assert thumbnail.format == "WEBP"
        with Image.open(thumbnail_png(str(job.thumbnail))) as small:
            assert (small.format, small.size) == ("PNG", (64, 64))
            assert small.info == image.info
    assert [check.name for check in outcome.checks] == [
        "loads completely",
        "weights finite",
        "finite",
        "denoised",
        "not black",
        "not white",
        "not flat",
        "not noise",
        "removes noise",
        "prompt matters",
        "round trip",
    ]
    assert check(outcome, "loads completely")[0]
    assert check(outcome, "finite")[0]
    assert outcome.peak_memory_bytes is None or outcome.peak_memory_bytes > 50 << 20
    assert outcome.seconds > outcome.load_seconds >= 0
    assert outcome.parameters.dtype == "fp32"


def test_a_render_repeats_bit_for_bit_and_another_seed_differs(job: RenderJob) -> None:
    first = pixels(Session().render(job, SILENT))
    assert pixels(Session().render(job, SILENT)) == first
    assert pixels(Session().render(replace(job, seed=2), SILENT)) != first


def test_a_random_network_does_not_pass(session: Session, job: RenderJob) -> None:
    outcome = session.render(job, SILENT)
    assert outcome.verdict == "failed"
    assert not check(outcome, "denoised")[0]
    assert not check(outcome, "removes noise")[0]


def test_progress_names_the_stages_and_counts_the_steps(job: RenderJob) -> None:
    class Recorder(Progress):
        def __init__(self) -> None:
            self.stages: list[tuple[str, int | None]] = []
            self.done: list[int] = []

        def stage(self, label: str, total: int | None = None, unit: str = "B") -> None:
            self.stages.append((label, total))
            self.done.append(0)

        def advance(self, amount: int = 1) -> None:
            self.done[-1] += amount

    progress = Recorder()
    Session().render(job, progress)
    assert [label for label, _ in progress.stages] == ["load", "sample", "decode"]
    assert progress.done[:2] == [total for _, total in progress.stages[:2]]


def test_a_lora_renders_as_the_checkpoint_it_is_merged_into(
    session: Session, job: RenderJob, on_base: OnBase, models: Models
) -> None:
    from converters.merge.into_checkpoint import AdapterChoice, plan_merge
    from converters.writers.safetensors import write_safetensors

    lora = models.lora("style")
    outcome = session.render(replace(on_base(lora, "lora"), weight=0.5), SILENT)
    assert check(outcome, "loads completely") == (True, "7 modules applied")
    assert check(outcome, "effect")[0]
    assert outcome.parameters.weight == 0.5
    plan = plan_merge(
        open_model(models.base).state_dict,
        [AdapterChoice("style", open_model(lora).state_dict, 0.5)],
    )
    merged = models.folder / "merged.safetensors"
    write_safetensors(plan.state_dict, merged)
    alone = replace(job, subject=replace(job.subject, path=str(merged)))
    assert pixels(session.render(alone, SILENT)) == pixels(outcome)


def test_prompts_are_encoded_anew_only_where_the_encoders_are_changed(
    session: Session, on_base: OnBase, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = models.lora("whole")
    of_unet = {n: a for n, a in load_file(whole).items() if n.startswith("lora_unet_")}
    asked: list[int] = []

    def encoding(*told: Any) -> Any:
        asked.append(1)
        return encode_pair(*told)

    monkeypatch.setattr(painter, "encode_pair", encoding)
    counts = []
    for lora in (models.write("of-unet", of_unet), models.write("again", of_unet), whole):
        session.render(replace(on_base(lora, "lora"), prompt="a new prompt"), SILENT)
        counts.append(len(asked))
    assert counts[0] == counts[1] == 1 < counts[2]


def test_a_lora_of_peft_renders_with_the_scale_that_lies_beside_it(
    session: Session, on_base: OnBase, models: Models
) -> None:
    from converters.adapters.peft_spelling import in_peft
    from converters.bases import Base
    from converters.writers.peft_folder import WEIGHTS_FILE, write_peft_folder

    arrays = {n: a for n, a in load_file(models.lora()).items() if n.startswith("lora_unet_")}
    for name in arrays:
        if name.endswith(".alpha"):
            arrays[name] = np.array(0.5, np.float16)
    weak = models.write("weak", arrays)
    write_peft_folder(in_peft(open_model(weak).state_dict, Base.SD1), models.folder / "fox")
    pictures = [
        pixels(session.render(on_base(path, "lora"), SILENT))
        for path in (weak, models.folder / "fox" / WEIGHTS_FILE)
    ]
    assert pictures[0] == pictures[1]


def test_nothing_of_an_adapter_remains_after_its_render(
    session: Session, job: RenderJob, on_base: OnBase, models: Models
) -> None:
    before = pixels(session.render(replace(job, seed=5), SILENT))
    for path, kind in (
        (models.lora("l"), "lora"),
        (models.embedding("glow"), "embedding"),
        (models.vae("v"), "vae"),
    ):
        assert pixels(session.render(replace(on_base(path, kind), seed=5), SILENT)) != before
    assert session.kept.warm is not None
    session.kept.warm.references.clear()
    assert pixels(session.render(replace(job, seed=5), SILENT)) == before


def test_a_change_in_place_is_taken_back_bit_for_bit_at_half_the_weight_too(
    session: Session, job: RenderJob, models: Models
) -> None:
    from converters.merge.into_checkpoint import AdapterChoice, plan_merge

    session.render(job, SILENT)
    assert session.kept.warm is not None
    bundle = session.kept.warm.bundle

    def parameters() -> list[torch.Tensor]:
        return [p.data for part in bundle.parts for p in part.network.parameters()]

    places, before = parameters(), [each.clone() for each in parameters()]
    small = [n for n, each in enumerate(before) if each.numel() < VOCABULARY]

    def are(expected: list[torch.Tensor]) -> bool:
        """By value; of what is large, by place, which nothing may have been written to."""
        now = parameters()
        large = (n for n in range(len(now)) if n not in small)
        return all(torch.equal(now[n], expected[n]) for n in small) and all(
            now[n].data_ptr() == places[n].data_ptr() for n in large
        )

    for name, arrays in adapters().items():
        path = models.write(name, arrays)
        choice = AdapterChoice(name, open_model(path).state_dict, 0.8)
        plan = plan_merge(bundle.state_dict, [choice])
        with bundle.patched(plan.state_dict) as patch:
            whole = [each.clone() if n in small else each for n, each in enumerate(parameters())]
            changed = [n for n in small if not torch.equal(whole[n], before[n])]
            assert changed, name
            now = [whole[n].flatten().tolist() for n in changed]
            assert all(values in now for values in merged(plan)), name
            with patch.scaled(0.5):
                for n in changed:
                    middle = torch.lerp(before[n], whole[n], 0.5)
                    assert torch.equal(parameters()[n], middle)
            with patch.scaled(0.0):
                assert are(before), name
            assert are(whole), name
        assert are(before), name
        assert [each.data_ptr() for each in parameters()] == [p.data_ptr() for p in places], name
    assert all(map(torch.equal, parameters(), before))


def merged(plan: MergePlan) -> list[list[float]]:
    """The tensors that a merge changes, as it would write them."""
    return [compute.value(plan.state_dict[name]).flatten().tolist() for name in plan.changed]


def adapters() -> dict[str, Arrays]:
    """One module of one weight by each way to tell a change."""
    numbers = np.random.default_rng(3)
    at = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"

    def part(**shapes: tuple[int, ...]) -> Arrays:
        return {
            f"{at}.{name.replace('__', '.')}": numbers.normal(0, 0.1, shape).astype(np.float32)
            for name, shape in shapes.items()
        }

    lora = part(lora_up__weight=(32, 4), lora_down__weight=(4, 768))
    return {
        "lora": lora,
        "loha": part(hada_w1_a=(32, 4), hada_w1_b=(4, 768), hada_w2_a=(32, 4), hada_w2_b=(4, 768)),
        "lokr": part(lokr_w1=(4, 4), lokr_w2=(8, 192)),
        "full": part(diff=(32, 768)),
        "ia3": {**part(weight=(32, 1)), f"{at}.on_input": np.array(False)},
        "oft": part(oft_blocks=(4, 8, 8)),
        "dora": {**lora, **part(dora_scale=(1, 768))},
        "boft": part(oft_blocks=(2, 4, 8, 8)),
        "glora": part(
            a1__weight=(4, 768), a2__weight=(768, 4), b1__weight=(4, 768), b2__weight=(32, 4)
        ),
        "norm": {
            f"lora_unet_mid_block_resnets_0_norm1.{name}": numbers.normal(0, 0.1, 64).astype(
                np.float32
            )
            for name in ("w_norm", "b_norm")
        },
    }


def test_keys_of_a_lora_that_fit_nowhere_fail_it_by_name(
    session: Session, on_base: OnBase, models: Models
) -> None:
    from safetensors.numpy import load_file

    arrays = load_file(models.lora("odd"))
    arrays["lora_unet_no_such_module.lora_up.weight"] = np.zeros((4, 4), np.float16)
    arrays["lora_unet_no_such_module.lora_down.weight"] = np.zeros((4, 4), np.float16)
    outcome = session.render(on_base(models.write("odd", arrays), "lora"), SILENT)
    ok, detail = check(outcome, "loads completely")
    assert not ok
    assert "2 not used: lora_unet_no_such_module" in detail


def test_a_tensor_without_a_place_is_named_as_in_the_file(
    session: Session, job: RenderJob, models: Models
) -> None:
    name = "model.diffusion_model.no_such_layer.weight"
    odd = models.checkpoint("stranger", lambda arrays: arrays.update({name: np.zeros(3)}))
    outcome = session.render(replace(job, subject=replace(job.subject, path=str(odd))), SILENT)
    assert check(outcome, "loads completely") == (False, f"1 not used: {name}")


def test_a_lora_without_effect_fails_for_that(
    session: Session, on_base: OnBase, models: Models
) -> None:
    outcome = session.render(on_base(models.lora("weak", scale=0), "lora"), SILENT)
    assert not check(outcome, "effect")[0]


def test_an_embedding_changes_only_the_prompt_that_names_it(
    session: Session, on_base: OnBase, models: Models
) -> None:
    job = on_base(models.embedding("glow"), "embedding")
    named = session.render(job, SILENT)
    assert check(named, "effect")[0]
    assert check(named, "loads completely") == (True, "2 vectors as 'glow'")
    silent = session.render(replace(job, prompt="a circle"), SILENT)
    assert not check(silent, "effect")[0]
    other = session.render(replace(job, trigger="circle", prompt="a circle"), SILENT)
    assert check(other, "effect")[0]


def test_an_embedding_in_a_loras_file_is_used_with_it(
    session: Session, on_base: OnBase, models: Models
) -> None:
    arrays = load_file(models.lora("weak", scale=0))
    arrays |= {f"bundle_emb.glow.{k}": v for k, v in load_file(models.embedding("glow")).items()}
    job = on_base(models.write("bundle", arrays), "lora")
    named = session.render(replace(job, prompt="a glow circle"), SILENT)
    assert check(named, "loads completely")[0]
    assert check(named, "effect")[0], "of the embedding: the adapter itself has none"
    arrays["bundle_emb.other.emb_params"] = np.zeros((1, 1024), np.float16)
    stray = session.render(on_base(models.write("stray", arrays), "lora"), SILENT)
    assert "bundle_emb.other.emb_params" in check(stray, "loads completely")[1]


def test_a_vae_decodes_the_same_latents_differently(
    session: Session, on_base: OnBase, models: Models
) -> None:
    outcome = session.render(on_base(models.vae(scale=0.5), "vae"), SILENT)
    assert check(outcome, "effect")[0]
    same = models.write(
        "same",
        {
            name.removeprefix("first_stage_model."): value
            for name, value in models.arrays.items()
            if name.startswith("first_stage_model.")
        },
    )
    assert not check(session.render(on_base(same, "vae"), SILENT), "effect")[0]


def test_a_vae_that_is_a_decoder_alone_decodes_and_makes_no_round_trip(
    session: Session, on_base: OnBase, models: Models
) -> None:
    half = models.vae("half", halves=("decoder", "post_quant_conv"))
    outcome = session.render(on_base(half, "vae"), SILENT)
    checks = {check.name: check for check in outcome.checks}
    assert outcome.image is not None
    assert checks["loads completely"].ok
    assert "a decoder alone" in checks["loads completely"].detail
    assert "same picture" in checks
    assert "round trip" not in checks


def test_a_vae_with_missing_tensors_fails_naming_them(
    session: Session, on_base: OnBase, models: Models
) -> None:
    from safetensors.numpy import load_file

    arrays = load_file(models.vae("holes"))
    del arrays["decoder.norm_out.bias"]
    outcome = session.render(on_base(models.write("holes", arrays), "vae"), SILENT)
    assert outcome.image is None
    assert check(outcome, "loads completely") == (
        False,
        "1 missing: vae.decoder.conv_norm_out.bias",
    )


def without_vae(arrays: Arrays) -> None:
    for name in [name for name in arrays if name.startswith("first_stage_model.")]:
        del arrays[name]


def test_a_checkpoint_without_vae_fails_and_cannot_be_a_base(
    session: Session, job: RenderJob, on_base: OnBase, models: Models
) -> None:
    bare = replace(job.subject, path=str(models.checkpoint("bare", without_vae)))
    outcome = session.render(replace(job, subject=bare), SILENT)
    assert check(outcome, "loads completely") == (False, "1 missing: the whole vae")
    with pytest.raises(AssetmgrError, match=r"cannot serve as base: .*the whole vae") as caught:
        session.render(replace(on_base(models.lora(), "lora"), base=bare), SILENT)
    assert caught.value.path == bare.path


CLIP = "cond_stage_model.transformer.text_model"
NAN_PLACES = {
    "the text encoding of the prompt": f"{CLIP}.final_layer_norm.bias",
    "the UNet at step 1 of 2": "model.diffusion_model.out.2.bias",
    "the picture from the VAE decoder": "first_stage_model.post_quant_conv.bias",
}


@pytest.mark.parametrize("stage", NAN_PLACES)
def test_non_finite_weights_fail_naming_the_stage_and_the_tensor(
    session: Session, job: RenderJob, models: Models, stage: str
) -> None:
    name = NAN_PLACES[stage]

    def break_it(arrays: Arrays) -> None:
        arrays[name] = np.full_like(arrays[name], np.nan)

    broken = models.checkpoint("broken", break_it)
    outcome = session.render(replace(job, subject=replace(job.subject, path=str(broken))), SILENT)
    assert outcome.verdict == "failed"
    assert outcome.image is None
    ok, detail = check(outcome, "finite")
    assert not ok
    assert detail.startswith(f"{stage} is not finite, first in ")
    first = detail.rpartition(" ")[2]
    assert (
        first
        in {
            "the text encoding of the prompt": ("final_layer_norm",),
            "the UNet at step 1 of 2": ("conv_out",),
            "the picture from the VAE decoder": ("post_quant_conv",),
        }[stage]
    )
    assert check(outcome, "weights finite") == (False, f"1 with NaN or infinities: {name}")


def test_values_that_overflow_in_half_precision_are_rendered_in_single(
    job: RenderJob, models: Models, on_base: OnBase
) -> None:
    def enlarge(arrays: Arrays) -> None:
        for part in ("weight", "bias"):
            out = f"model.diffusion_model.input_blocks.1.0.out_layers.3.{part}"
            arrays[out] = arrays[out].astype(np.float32) * 0 + 6e4  # sums leave the range of fp16

    messages: list[str] = []

    class Listener(Progress):
        def message(self, text: str) -> None:
            messages.append(text)

    large = replace(job.subject, path=str(models.checkpoint("large", enlarge)))
    session = Session()
    narrow = replace(job, subject=large, dtype="fp16", steps=1)
    outcome = session.render(narrow, Listener())
    assert messages == ["values overflow in fp16, going on in fp32"]
    assert outcome.parameters.dtype == "fp32"
    assert check(outcome, "finite")[0]
    adapter = replace(narrow, subject=on_base(models.lora(), "lora").subject, base=large)
    assert session.render(adapter, Listener()).parameters.dtype == "fp32"
    assert len(messages) == 1, "what is known of the base is not tried once more"
    models.checkpoint("large", lambda arrays: None)
    assert session.render(narrow, Listener()).parameters.dtype == "fp16", "it is another file now"


def test_a_lora_with_non_finite_weights_fails_naming_them(
    session: Session, on_base: OnBase, models: Models
) -> None:
    from safetensors.numpy import load_file

    arrays = load_file(models.lora("nan"))
    name = next(key for key in arrays if key.endswith("lora_up.weight"))
    arrays[name] = np.full_like(arrays[name], np.nan)
    outcome = session.render(on_base(models.write("nan", arrays), "lora"), SILENT)
    assert check(outcome, "finite") == (False, "the merge of the weights is not finite")
    assert check(outcome, "weights finite") == (False, f"1 with NaN or infinities: {name}")


def test_half_trained_extras_of_a_checkpoint_are_mentioned_and_harmless(
    session: Session, job: RenderJob, models: Models
) -> None:
    def add(arrays: Arrays) -> None:
        arrays["model_ema.decay"] = np.array(0.5, np.float16)

    path = models.checkpoint("ema", add)
    outcome = session.render(replace(job, subject=replace(job.subject, path=str(path))), SILENT)
    ok, detail = check(outcome, "loads completely")
    assert ok
    assert detail.endswith("; 1 others play no part in a render")


@pytest.mark.parametrize(
    ("model", "changed"),
    [
        ("model.safetensors", "model.safetensors"),
        ("model.safetensors", "model.yaml"),
        ("folder", "folder/unet/model.safetensors"),
        ("folder/unet/model.safetensors.index.json", "folder/unet/model.safetensors"),
    ],
)
def test_a_model_is_another_one_when_anything_it_is_read_from_is(
    model: str, changed: str, tmp_path: Path
) -> None:
    (tmp_path / "folder" / "unet").mkdir(parents=True)
    (tmp_path / "folder" / "unet" / "model.safetensors.index.json").touch()
    for name in {model, changed} - {"folder", "model.yaml"}:
        (tmp_path / name).touch()
    before = fingerprints(str(tmp_path / model))
    assert fingerprints(str(tmp_path / model)) == before
    (tmp_path / changed).write_bytes(b"other")
    assert fingerprints(str(tmp_path / model)) != before


def test_a_replaced_base_is_loaded_again(session: Session, job: RenderJob, models: Models) -> None:
    def brighter(arrays: Arrays) -> None:
        name = "first_stage_model.decoder.conv_out.bias"
        arrays[name] = arrays[name] + np.float16(0.5)

    path = models.checkpoint("base2", lambda arrays: None)
    again = replace(job, subject=replace(job.subject, path=str(path)))
    before = pixels(session.render(again, SILENT))
    models.checkpoint("base2", brighter)
    assert pixels(session.render(again, SILENT)) != before


def test_what_cannot_be_rendered_is_refused_in_words(
    session: Session, job: RenderJob, on_base: OnBase, models: Models
) -> None:
    sdxl = models.write("wide", {"emb_params": np.zeros((2, 1024), np.float16)})

    def widen(arrays: Arrays) -> None:
        name = "model.diffusion_model.input_blocks.0.0.weight"
        arrays[name] = np.zeros((32, 5, 3, 3), np.float16)

    depth = models.checkpoint("depth", widen)
    with pytest.raises(AssetmgrError, match="1024 values"):
        session.render(on_base(sdxl, "embedding"), SILENT)
    with pytest.raises(UnsupportedFile, match="not supported yet: kind upscaler"):
        session.render(on_base(sdxl, "upscaler"), SILENT)
    with pytest.raises(UnsupportedFile, match="not supported yet: variant 5-channel"):
        session.render(replace(job, subject=replace(job.subject, path=str(depth))), SILENT)
    with pytest.raises(FileMissing):
        session.render(replace(job, subject=replace(job.subject, path="/no/such")), SILENT)
    with pytest.raises(NotAvailable, match="no mps device"):
        session.render(replace(job, device="mps"), SILENT)


def test_a_lora_of_another_family_is_refused(
    session: Session, on_base: OnBase, models: Models
) -> None:
    from helpers import sd1

    modules = {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (32, 1024)}
    shapes = sd1.lora_shapes(modules)
    arrays = {name: np.ones(shape, np.float16) for name, shape in shapes.items()}
    with pytest.raises(WrongFamily):
        session.render(on_base(models.write("sd2", arrays), "lora"), SILENT)


def test_a_lora_changes_weights_at_hand_without_reading_them_again(models: Models) -> None:
    cpu = torch.device("cpu")
    state = open_model(models.base).state_dict
    bundle = load_bundle(state, cpu, torch.float16, SILENT)
    base = at_hand(bundle.parts, state, cpu)
    choice = AdapterChoice("lora", open_model(models.lora()).state_dict, 0.7)
    plan = plan_merge(base, [choice])
    of_file = plan_merge(state, [choice])
    assert plan.changed == of_file.changed
    assert all(base[name].extents is None for name in plan.changed)
    with bundle.patched(state.overlay({n: plan.state_dict[n] for n in plan.changed})) as patch:
        assert len(patch.originals) == len(plan.changed)
        for (parameter, _), name in zip(patch.originals, plan.changed, strict=True):
            merged = compute.value(of_file.state_dict[name]).float()
            last_place = 2**-10 * merged.abs().max()  # sums of blocks round otherwise
            assert (parameter.reshape(merged.shape).float() - merged).abs().max() <= last_place

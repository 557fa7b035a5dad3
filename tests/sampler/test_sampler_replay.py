"""A UNet called again and again gives the numbers that it gives itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from assetmgr.sampler.process.jobs import RenderJob
from assetmgr.sampler.process.session import Session
from assetmgr.sampler.rendering import replay
from assetmgr.sampler.rendering.replay import Replay
from assetmgr.sampler.rendering.threads import SMALL, side_by_side, threads_for
from converters.progress import SILENT

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WIDTH = 16


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded after three calls, however slow the machine is."""
    monkeypatch.setattr(replay, "CALLS", 3)
    monkeypatch.setattr(replay, "QUICK", 1e9)


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    network = UNet2DConditionModel(
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + 8,
    )
    return network.eval().requires_grad_(requires_grad=False)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def call(network: object, told: dict[str, object], moment: float, seed: int = 1) -> torch.Tensor:
    sample = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    output = network(sample, torch.tensor(moment), **told, return_dict=False)  # type: ignore[operator]
    result: torch.Tensor = output[0]
    return result


def prompt(seed: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(seed)
    added = {
        "text_embeds": torch.randn(2, 8, generator=generator),
        "time_ids": torch.randn(2, 6, generator=generator),
    }
    hidden = torch.randn(2, 77, WIDTH, generator=generator)
    return {"encoder_hidden_states": hidden, "added_cond_kwargs": added}


def same(again: Replay, unet: UNet2DConditionModel, seed: int) -> None:
    told = prompt(seed)
    expected = [call(unet, told, moment) for moment in (999, 500, 20.5, 3)]
    with again.told(told["encoder_hidden_states"]):  # type: ignore[arg-type]
        found = [call(again, told, moment) for moment in (999, 500, 20.5, 3)]
    assert all(map(torch.equal, found, expected))


def test_every_call_gives_what_the_network_gives(unet: UNet2DConditionModel) -> None:
    again, layers = Replay(unet), list(unet.named_modules())
    for seed in range(3):
        same(again, unet, seed)
    assert [kind is not None for kind in again._recorded.values()] == [True]
    assert list(unet.named_modules()) == layers, "the network is as it was"
    assert torch.equal(call(again, prompt(7), 5), call(unet, prompt(7), 5)), "outside of a prompt"


def test_a_prompt_that_is_one_for_all_of_a_batch_is_computed_once(
    unet: UNet2DConditionModel,
) -> None:
    told, again = prompt(0), Replay(unet)
    one = told["encoder_hidden_states"][:1]  # type: ignore[index]
    told["encoder_hidden_states"] = one.expand(2, -1, -1)
    asked: list[int] = []
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
    hook = layer.register_forward_hook(lambda _layer, inputs, _output: asked.append(len(inputs[0])))
    with again.told(told["encoder_hidden_states"]):  # type: ignore[arg-type]
        found = call(again, told, 500)
    hook.remove()
    assert asked == [1]
    torch.testing.assert_close(found, call(unet, told, 500))


def test_changed_weights_and_hooks_are_followed(unet: UNet2DConditionModel) -> None:
    again = Replay(unet)
    same(again, unet, 0)
    assert again._recorded
    attention = unet.mid_block.attentions[0].transformer_blocks[0]
    for layer in (attention.attn1.to_q, attention.attn2.to_k, unet.conv_in):
        before = layer.weight.data
        layer.weight.data = before * 1.5
        same(again, unet, 1)
        layer.weight.data = before
        hook = layer.register_forward_hook(lambda _layer, _inputs, output: output * 2)
        same(again, unet, 1)
        hook.remove()
    same(again, unet, 1)


def test_what_torch_cannot_record_is_called_as_it_is(
    unet: UNet2DConditionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.jit, "_get_trace_graph")
    again = Replay(unet)
    same(again, unet, 0)
    assert list(again._recorded.values()) == [None]


def test_a_picture_is_the_same_before_and_after_recording(job: RenderJob) -> None:
    session, pictures = Session(), []
    for seed in (1, 2, 1):  # a render that is repeated at once is remembered
        outcome = session.render(replace(job, seed=seed, overwrite=True), SILENT)
        assert outcome.image is not None
        with Image.open(outcome.image) as image:
            pictures.append(image.tobytes())
        assert session.kept.warm is not None
        session.kept.warm.references.clear()
    assert session.kept.warm.replay._recorded
    assert pictures[0] == pictures[2] != pictures[1]


def test_small_networks_get_one_thread_whatever_ran_before() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_for(110, latents=64):
            assert torch.get_num_threads() == 1
        with threads_for(110, latents=int(SMALL)):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_what_is_small_is_decoded_in_one_thread(session: Session, job: RenderJob) -> None:
    seen: list[int] = []
    with torch.inference_mode(mode=False):  # what the session loads here, other tests change
        session.render(job, SILENT)
    assert session.kept.warm is not None
    decoder = session.kept.warm.bundle.vae.network.decoder
    hook = decoder.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        session.render(replace(job, seed=2, with_effect=False, overwrite=True), SILENT)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
        hook.remove()
    assert seen == [1]


@pytest.mark.parametrize(("nbytes", "device"), [(0, "cpu"), (1 << 30, "cpu"), (1 << 30, "mps")])
def test_many_are_computed_in_order_and_the_first_error_is_told(nbytes: int, device: str) -> None:
    def half(number: int) -> int:
        assert torch.get_num_threads() == 1
        return 12 // number

    threads = torch.get_num_threads()
    assert list(side_by_side(half, [1, 2, 3], nbytes, torch.device(device))) == [12, 6, 4]
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(half, [4, 0, 1], nbytes, torch.device(device)))
    assert torch.get_num_threads() == threads

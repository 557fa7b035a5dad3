"""Hypernetworks between the context and the keys and values of attention."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from helpers import sd1
from numpy.typing import NDArray
from PIL import Image

from assetmgr.sampler.adapters.hypernetwork import build, listening
from assetmgr.sampler.process.jobs import RenderJob, RenderOutcome
from assetmgr.sampler.process.session import Session
from converters.dtypes import DType
from converters.errors import UnsupportedFile, WrongFamily
from converters.hypernetworks import read_hypernetwork
from converters.progress import SILENT
from converters.statedict import StateDict

if TYPE_CHECKING:
    from conftest import Arrays, Models

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

OnBase = Callable[[Path, str], RenderJob]


def linear_arrays(width: int, middle: int, scale: float, *, seed: int = 0) -> Arrays:
    """Two networks width -> middle -> width without activation or bias."""
    numbers = np.random.default_rng(seed)
    arrays: Arrays = {}
    for side in (0, 1):
        down = numbers.normal(0, width**-0.5, (middle, width))
        up = numbers.normal(0, scale * middle**-0.5, (width, middle))
        for index, weight in ((0, down), (1, up)):
            name = f"{width}.{side}.linear.{index}"
            arrays[f"{name}.weight"] = weight.astype(np.float32)
            arrays[f"{name}.bias"] = np.zeros(len(weight), np.float32)
    return arrays


def render(session: Session, job: RenderJob) -> RenderOutcome:
    return session.render(job, SILENT)


def pixels(outcome: RenderOutcome) -> NDArray[np.int16]:
    assert outcome.image is not None
    with Image.open(outcome.image) as image:
        return np.asarray(image).astype(np.int16)


def effect(outcome: RenderOutcome) -> float:
    value = next(check.value for check in outcome.checks if check.name == "effect")
    assert value is not None
    return value


def test_at_strength_zero_and_with_zero_weights_the_base_is_rendered_bit_for_bit(
    session: Session, on_base: OnBase, models: Models
) -> None:
    strong = models.write("strong", linear_arrays(768, 64, 1.0))
    zero = models.write("zero", linear_arrays(768, 64, 0.0))
    assert effect(render(session, replace(on_base(strong, "hypernetwork"), weight=0.0))) == 0
    assert effect(render(session, on_base(zero, "hypernetwork"))) == 0
    outcome = render(session, on_base(strong, "hypernetwork"))
    assert effect(outcome) > 0.002
    # Cross-attention: two on the way down, one in the middle, four on the way up.
    assert outcome.checks[0].detail == "in effect in 7 attention layers"


def test_a_linear_hypernetwork_equals_its_product_with_the_weights(
    session: Session, job: RenderJob, on_base: OnBase, models: Models
) -> None:
    arrays = linear_arrays(768, 64, 0.5)
    path = models.write("linear", arrays)
    hooked = pixels(render(session, replace(on_base(path, "hypernetwork"), weight=0.7)))

    def bake(checkpoint: Arrays) -> None:
        for side, projection in ((0, "attn2.to_k"), (1, "attn2.to_v")):
            product = arrays[f"768.{side}.linear.1.weight"] @ arrays[f"768.{side}.linear.0.weight"]
            change = np.eye(768) + 0.7 * product
            for name in [name for name in checkpoint if f"{projection}.weight" in name]:
                checkpoint[name] = (checkpoint[name].astype(np.float64) @ change).astype(np.float32)

    baked = models.checkpoint("baked", bake)
    alone = pixels(render(session, replace(job, subject=replace(job.subject, path=str(baked)))))
    assert np.abs(hooked - alone).max() <= 1, "equal up to the rounding of 8 bits"
    assert np.abs(hooked - pixels(render(session, job))).max() > 5


def state_dict(arrays: Arrays, extras: dict[str, object]) -> StateDict:
    tensors = {
        name: sd1.stored(DType.F32, value.shape, value.tobytes(), name)
        for name, value in arrays.items()
    }
    return StateDict(tensors, {"assetmgr.extras": json.dumps(extras)})


@pytest.mark.parametrize("activate_output", [True, False])
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", torch.relu),
        ("swish", torch.nn.functional.hardswish),
        ("leakyrelu", torch.nn.functional.leaky_relu),
        ("tanh", torch.tanh),
        ("mish", torch.nn.functional.mish),
        ("rrelu", lambda x: torch.nn.functional.leaky_relu(x, (1 / 8 + 1 / 3) / 2)),
        ("softmax", lambda x: torch.softmax(x, dim=0)),
        ("linear", lambda x: x),
    ],
)
def test_layers_are_linear_then_activation_then_norm(
    name: str, function: Callable[[torch.Tensor], torch.Tensor], activate_output: bool
) -> None:
    numbers = np.random.default_rng(1)
    arrays: Arrays = {}
    for side in (0, 1):
        for index, shape in ((0, (16, 8)), (2, (16,)), (3, (8, 16)), (5, (8,))):
            for part, size in (("weight", shape), ("bias", shape[:1])):
                value = numbers.normal(0, 1, size).astype(np.float32)
                arrays[f"8.{side}.linear.{index}.{part}"] = value
    extras = {"activation_func": name, "is_layer_norm": True, "activate_output": activate_output}
    hypernetwork = read_hypernetwork(state_dict(arrays, extras))
    x = torch.randn(3, 8)
    keys, values = hypernetwork.networks[8]
    for side, chain in enumerate((keys, values)):
        w = {key: torch.from_numpy(value) for key, value in arrays.items()}
        at = f"8.{side}.linear"
        norm = torch.nn.functional.layer_norm
        hidden = function(x @ w[f"{at}.0.weight"].T + w[f"{at}.0.bias"])
        hidden = norm(hidden, (16,), w[f"{at}.2.weight"], w[f"{at}.2.bias"])
        out = hidden @ w[f"{at}.3.weight"].T + w[f"{at}.3.bias"]
        out = function(out) if activate_output else out
        expected = norm(out, (8,), w[f"{at}.5.weight"], w[f"{at}.5.bias"])
        assert torch.allclose(build(chain, hypernetwork)(x), expected, atol=1e-5)


def test_what_a_prelu_learned_is_taken_from_the_file() -> None:
    numbers = np.random.default_rng(2)
    arrays = {
        f"8.{side}.linear.{index}.{part}": numbers.normal(0, 1, size).astype(np.float32)
        for side in (0, 1)
        for index, shape in ((0, (16, 8)), (2, (8, 16)))
        for part, size in (("weight", shape), ("bias", shape[:1]))
    }
    slopes = {f"8.{side}.linear.1.weight": np.array([0.7], np.float32) for side in (0, 1)}
    extras = {"activation_func": "prelu", "activate_output": False}
    hypernetwork = read_hypernetwork(state_dict({**arrays, **slopes}, extras))
    x = torch.randn(3, 8)
    w = {key: torch.from_numpy(value) for key, value in arrays.items()}
    hidden = x @ w["8.0.linear.0.weight"].T + w["8.0.linear.0.bias"]
    hidden = torch.where(hidden > 0, hidden, 0.7 * hidden)
    expected = hidden @ w["8.0.linear.2.weight"].T + w["8.0.linear.2.bias"]
    chain, _ = hypernetwork.networks[8]
    assert torch.allclose(build(chain, hypernetwork)(x), expected, atol=1e-5)
    assert not hypernetwork.layer_norm


@pytest.mark.parametrize("name", ["glu", "multiheadattention", "threshold"])
def test_activations_that_no_layer_can_have_are_refused_by_name(name: str) -> None:
    extras = {"activation_func": name}
    hypernetwork = read_hypernetwork(state_dict(linear_arrays(8, 4, 1.0), extras))
    with pytest.raises(UnsupportedFile, match=f"activation {name}"):
        build(hypernetwork.networks[8][0], hypernetwork)


def test_self_attention_listens_where_a_network_has_its_width(
    session: Session, on_base: OnBase, models: Models
) -> None:
    arrays = {**linear_arrays(768, 8, 1.0), **linear_arrays(32, 8, 1.0)}
    outcome = render(session, on_base(models.write("both", arrays), "hypernetwork"))
    assert outcome.checks[0].detail == "in effect in 10 attention layers"


def test_an_unknown_activation_and_foreign_widths_are_refused(
    session: Session, on_base: OnBase, models: Models
) -> None:
    arrays = linear_arrays(768, 8, 1.0)
    metadata = {"assetmgr.extras": json.dumps({"activation_func": "sparkle"})}
    strange = models.write("strange", arrays, metadata)
    with pytest.raises(UnsupportedFile, match="activation sparkle") as caught:
        render(session, on_base(strange, "hypernetwork"))
    assert caught.value.path == str(strange)
    wide = models.write("wide", linear_arrays(1024, 8, 1.0))
    with pytest.raises(WrongFamily):
        render(session, on_base(wide, "hypernetwork"))


def test_hooks_are_removed_when_the_render_ends(session: Session, job: RenderJob) -> None:
    render(session, job)
    assert session.kept.warm is not None
    unet = session.kept.warm.bundle.unet.network
    hypernetwork = read_hypernetwork(state_dict(linear_arrays(768, 8, 1.0), {}))
    with listening(unet, hypernetwork, 1.0) as effect:
        assert effect.places == 7
        assert any(module._forward_pre_hooks for module in unet.modules())
    assert not any(module._forward_pre_hooks for module in unet.modules())


def test_dropout_is_for_training_alone(session: Session, on_base: OnBase, models: Models) -> None:
    """Its places count in the numbers of the layers, and it does nothing in a render."""
    torch.manual_seed(2)
    chain = torch.nn.Sequential(
        *(torch.nn.Linear(768, 96), torch.nn.ReLU(), torch.nn.LayerNorm(96), torch.nn.Dropout(0.5)),
        *(torch.nn.Linear(96, 96), torch.nn.ReLU(), torch.nn.LayerNorm(96), torch.nn.Dropout(0.3)),
        *(torch.nn.Linear(96, 768), torch.nn.LayerNorm(768)),
    ).eval()
    arrays = {
        f"768.{side}.linear.{name}": value.numpy()
        for side in (0, 1)
        for name, value in chain.state_dict().items()
    }
    extras = {
        "activation_func": "relu",
        "is_layer_norm": True,
        "activate_output": False,
        "use_dropout": True,
        "dropout_structure": [0, 0.5, 0.3, 0],
        "layer_structure": [1, 0.125, 0.125, 1],
    }
    hypernetwork = read_hypernetwork(state_dict(arrays, extras))
    x = torch.randn(3, 768)
    with torch.inference_mode():
        for layers in hypernetwork.networks[768]:
            torch.testing.assert_close(build(layers, hypernetwork)(x), chain(x))
    path = models.write("dropout", arrays, {"assetmgr.extras": json.dumps(extras)})
    first, second = (pixels(render(session, on_base(path, "hypernetwork"))) for _ in range(2))
    assert np.array_equal(first, second)

"""LoRAs with other ranks: the best of each rank, the least of each energy, and true errors."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.sd1 import SMALL, kohya_modules, lora_shapes, random_fill, state_dict, stored
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.compute import value
from converters.dtypes import DType
from converters.errors import MergeProblem, UnsupportedFile
from converters.merge.low_rank import Size
from converters.merge.resize import Resized, lora_modules_of, resize_lora
from converters.statedict import StateDict

MODULES = kohya_modules(SMALL, convolutions=True)
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
QUERY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def lora(rank: int = 8, alpha: float = 4.0) -> StateDict:
    made = state_dict(lora_shapes(MODULES, rank), DType.F32, fill=random_fill(DType.F32, 0.3))
    number = stored(DType.F32, (), np.float32(alpha).tobytes())
    return made.overlay({name: number for name in made if name.endswith(".alpha")})


def resized(state: StateDict, size: Size, dtype: DType | None = None) -> Resized:
    return resize_lora(lora_modules_of(state), size, dtype)


def floats(state: StateDict, name: str) -> np.ndarray:
    return value(state[name]).float().numpy()


def change(state: StateDict, module: str) -> np.ndarray:
    """The change of the flattened weight that a module stands for."""
    up = floats(state, f"{module}.lora_up.weight")
    down = floats(state, f"{module}.lora_down.weight")
    rank = down.shape[0]
    alpha = floats(state, f"{module}.alpha") if f"{module}.alpha" in state else rank
    up = up.reshape(len(up), -1)
    if f"{module}.lora_mid.weight" in state:
        mid = floats(state, f"{module}.lora_mid.weight")
        spread = np.einsum("ijkl,jq->iqkl", mid, down.reshape(rank, -1))
        down = spread.reshape(len(spread), -1)
    product: np.ndarray = alpha / rank * (up @ down.reshape(len(down), -1))
    return product


@pytest.mark.parametrize("rank", [8, 20])
def test_the_same_or_a_larger_rank_changes_nothing(rank: int) -> None:
    before = lora()
    after = resized(before, Size(rank=rank))
    for module in MODULES:
        assert np.allclose(change(after.state, module), change(before, module), atol=1e-5)
    assert all(module.rank == 8 and module.error < 1e-6 for module in after.modules)
    assert after.state.keys() == before.keys()
    assert all(after.state[name].shape == before[name].shape for name in before)


@given(st.integers(1, 7), st.sampled_from([0.5, 4.0, 64.0]))
@settings(deadline=None, max_examples=12)
def test_a_smaller_rank_is_the_best_of_that_rank_and_its_error_is_true(
    rank: int, alpha: float
) -> None:
    before = lora(alpha=alpha)
    after = resized(before, Size(rank=rank))
    for module in after.modules:
        whole = change(before, module.name)
        best = np.linalg.norm(np.linalg.svd(whole, compute_uv=False)[rank:])
        missing = np.linalg.norm(whole - change(after.state, module.name))
        assert module.rank == rank
        assert missing <= best * 1.001
        assert module.error == pytest.approx(missing / np.linalg.norm(whole), rel=1e-3)
        assert floats(after.state, f"{module.name}.alpha") == rank


@given(st.floats(0.05, 1))
@settings(deadline=None, max_examples=12)
def test_an_energy_is_kept_with_the_least_rank(energy: float) -> None:
    before = lora()
    for module in resized(before, Size(energy=energy)).modules:
        values = np.linalg.svd(change(before, module.name), compute_uv=False)[:8]
        shares = np.cumsum(values**2) / (values**2).sum()
        enough = np.flatnonzero(shares >= energy - 1e-6)
        assert (
            module.rank in {int(enough[0]) + 1, int(np.flatnonzero(shares >= energy)[0]) + 1}
            if (shares >= energy).any()
            else module.rank == 8
        )
        assert module.error**2 <= 1 - energy + 1e-5


def test_a_middle_is_multiplied_into_down() -> None:
    shapes = {
        f"{CONV}.lora_up.weight": (32, 6, 1, 1),
        f"{CONV}.lora_mid.weight": (6, 5, 3, 3),
        f"{CONV}.lora_down.weight": (5, 32, 1, 1),
    }
    before = state_dict(shapes, DType.F32, fill=random_fill(DType.F32))
    after = resized(before, Size(energy=1.0))
    assert set(after.state) == {
        f"{CONV}.{p}" for p in ("lora_up.weight", "lora_down.weight", "alpha")
    }
    assert after.state[f"{CONV}.lora_down.weight"].shape[1:] == (32, 3, 3)
    assert np.allclose(change(after.state, CONV), change(before, CONV), atol=1e-5)


@pytest.mark.parametrize(
    ("stored_as", "wanted", "found"),
    [(DType.F16, None, DType.F16), (DType.F16, DType.F32, DType.F32)],
)
def test_the_result_has_the_type_of_the_adapter_or_the_one_asked_for(
    stored_as: DType, wanted: DType | None, found: DType
) -> None:
    before = state_dict(lora_shapes(MODULES, 4), stored_as, fill=random_fill(stored_as))
    after = resized(before, Size(rank=2), wanted)
    weights = {t.dtype for name, t in after.state.items() if not name.endswith(".alpha")}
    assert weights == {found}


def test_modules_that_change_nothing_stay() -> None:
    zero = state_dict(lora_shapes({QUERY: (32, 32)}, 4), DType.F32, fill=_zeros)
    (module,) = resized(zero, Size(energy=0.9)).modules
    assert (module.rank, module.error) == (1, 0.0)


def _zeros(_: str, shape: tuple[int, ...]) -> bytes:
    return np.zeros(shape, np.float32).tobytes()


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({}, "holds no modules"),
        ({f"{QUERY}.hada_w1_a": (4, 4)}, f"{QUERY}.hada_w1_a is no part of a LoRA"),
        ({f"{QUERY}.dora_scale": (4, 1)}, "dora_scale is no part"),
        ({f"{QUERY}.lora_up.weight": (4, 4)}, f"tensors of {QUERY} are no LoRA"),
        (
            {f"{QUERY}.lora_up.weight": (4, 3), f"{QUERY}.lora_down.weight": (4, 4)},
            r"up \[4, 3\], down \[4, 4\]",
        ),
        ({f"{QUERY}.lora_up.weight": (4, 0), f"{QUERY}.lora_down.weight": (0, 4)}, "are no LoRA"),
        (
            {
                f"{QUERY}.lora_up.weight": (4, 3),
                f"{QUERY}.lora_down.weight": (3, 4),
                f"{QUERY}.alpha": (2,),
            },
            "are no LoRA",
        ),
    ],
)
def test_what_is_no_lora_is_refused_naming_key_or_module(
    shapes: dict[str, tuple[int, ...]], said: str
) -> None:
    with pytest.raises(UnsupportedFile, match=said):
        lora_modules_of(state_dict(shapes))


PARTS = ("lora_up.weight", "lora_down.weight", "lora_mid.weight", "alpha")
SIZES = st.lists(st.sampled_from([0, 1, 2, 3]), max_size=5).map(tuple)


@given(
    st.dictionaries(st.sampled_from(PARTS).map(f"{QUERY}.{{}}".format), SIZES, max_size=4),
    st.sampled_from([DType.F16, DType.F64, DType.I64, DType.F8_E4M3, DType.F8_E8M0]),
    st.sampled_from([Size(rank=1), Size(energy=0.5)]),
)
@settings(deadline=None, max_examples=150)
def test_whatever_shapes_come_they_are_resized_or_one_error_says_why(
    shapes: dict[str, tuple[int, ...]], dtype: DType, size: Size
) -> None:
    state = state_dict(shapes, dtype, fill=lambda _, shape: b"\0" * _bytes(dtype, shape))
    try:
        after = resized(state, size)
    except UnsupportedFile:
        return
    assert [module.name for module in after.modules] == [QUERY]


def _bytes(dtype: DType, shape: tuple[int, ...]) -> int:
    return dtype.nbytes(int(np.prod(shape)))


@pytest.mark.parametrize("part", ["lora_up.weight", "lora_down.weight", "alpha"])
def test_values_that_are_not_finite_are_refused_naming_the_module(part: str) -> None:
    state = lora()
    name = f"{QUERY}.{part}"
    data = np.full(state[name].shape, np.nan, np.float32).tobytes()
    broken = state.overlay({name: stored(DType.F32, state[name].shape, data)})
    with pytest.raises(MergeProblem, match=f"{QUERY} holds NaN"):
        resized(broken, Size(rank=2))

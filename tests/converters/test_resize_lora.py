"""LoRAs with other ranks: the best of each rank, the least of each energy, and true errors."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.examples import examples
from helpers.sd1 import SMALL, kohya_modules, lora_shapes, random_fill, state_dict, stored
from hypothesis import given
from hypothesis import strategies as st

from converters.compute import value
from converters.dtypes import DType
from converters.errors import BadValue, MergeProblem, UnsupportedFile, WrongFamily
from converters.merge.addends import addends_of
from converters.merge.low_rank import Size
from converters.merge.resize import Resized, Weighed, resize_lora, sum_loras
from converters.statedict import StateDict

MODULES = kohya_modules(SMALL, convolutions=True)
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
QUERY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def lora(rank: int = 8, alpha: float = 4.0) -> StateDict:
    made = state_dict(lora_shapes(MODULES, rank), DType.F32, fill=random_fill(DType.F32, 0.3))
    number = stored(DType.F32, (), np.float32(alpha).tobytes())
    return made.overlay({name: number for name in made if name.endswith(".alpha")})


def resized(state: StateDict, size: Size, dtype: DType | None = None) -> Resized:
    return resize_lora(addends_of(state), size, dtype)


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
@examples(12)
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
@examples(12)
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


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
def test_the_stated_error_is_that_of_the_values_as_they_are_stored(dtype: DType) -> None:
    before = lora()
    for module in resized(before, Size(rank=8), dtype).modules:
        assert module.error > 1e-5  # the rank costs nothing
    after = resized(before, Size(rank=5), dtype)
    for module in after.modules:
        whole = change(before, module.name)
        missing = np.linalg.norm(whole - change(after.state, module.name))
        assert module.error == pytest.approx(missing / np.linalg.norm(whole), rel=1e-4)


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
        ({f"{QUERY}.hada_w1_a": (4, 4)}, f"{QUERY}.hada_w1_a cannot be made a LoRA of"),
        ({f"{QUERY}.lora_up.weight": (4, 4)}, "its module lacks down"),
        (
            {f"{QUERY}.lora_up.weight": (4, 3), f"{QUERY}.lora_down.weight": (4, 4)},
            r"up \[4, 3\], down \[4, 4\]",
        ),
        ({f"{QUERY}.lora_up.weight": (4, 0), f"{QUERY}.lora_down.weight": (0, 4)}, "do not fit"),
        (
            {
                f"{QUERY}.lora_up.weight": (4, 3),
                f"{QUERY}.lora_down.weight": (3, 4),
                f"{QUERY}.alpha": (2,),
            },
            "alpha of its module is not one number",
        ),
        (
            {
                f"{QUERY}.lora_up.weight": (4, 3),
                f"{QUERY}.lora_down.weight": (3, 4),
                f"{QUERY}.dora_scale": (4, 1),
            },
            f"{QUERY} is dora",
        ),
        ({f"{QUERY}.oft_blocks": (2, 4, 4), f"{QUERY}.alpha": ()}, f"{QUERY} is oft"),
        ({f"{QUERY}.diff_b": (4, 4)}, r"changes a bias of shape \[4, 4\]"),
        ({f"{QUERY}.w_norm": (0,)}, r"changes a weight of shape \[0\]"),
        ({"lycoris_nowhere.diff": (4, 4)}, "has no name among kohya's"),
    ],
)
def test_what_is_no_lora_is_refused_naming_key_or_module(
    shapes: dict[str, tuple[int, ...]], said: str
) -> None:
    with pytest.raises((UnsupportedFile, WrongFamily), match=said):
        addends_of(state_dict(shapes))


def test_changes_of_biases_and_norms_are_kept_or_summed_and_never_dropped() -> None:
    shapes = {
        f"{CONV}.diff": (4, 4, 3, 3),
        f"{CONV}.diff_b": (4,),
        "lora_unet_down_blocks_0_resnets_0_norm1.w_norm": (4,),
        "lora_unet_down_blocks_0_resnets_0_norm1.b_norm": (4,),
    }
    before = state_dict(shapes, DType.F16, fill=random_fill(DType.F16))
    vectors = set(shapes) - {f"{CONV}.diff"}
    after = resized(before, Size(rank=2))
    assert {m.name for m in after.modules} == {CONV, *vectors}
    assert all(bytes(after.state[key].read()) == bytes(before[key].read()) for key in vectors)
    assert {m.rank for m in after.modules if m.name in vectors} == {None}
    sums = [[Weighed(one, 0.5), Weighed(one, 0.25)] for one in addends_of(before)]
    joined = sum_loras(sums, Size(rank=2), DType.F32).state
    for key in vectors:
        assert np.allclose(floats(joined, key), 0.75 * floats(before, key), atol=1e-7)


PARTS = ("lora_up.weight", "lora_down.weight", "lora_mid.weight", "alpha")
SIZES = st.lists(st.sampled_from([0, 1, 2, 3]), max_size=5).map(tuple)


@given(
    st.dictionaries(st.sampled_from(PARTS).map(f"{QUERY}.{{}}".format), SIZES, max_size=4),
    st.sampled_from([DType.F16, DType.F64, DType.I64, DType.F8_E4M3, DType.F8_E8M0]),
    st.sampled_from([Size(rank=1), Size(energy=0.5)]),
)
@examples(150)
def test_whatever_shapes_come_they_are_resized_or_one_error_says_why(
    shapes: dict[str, tuple[int, ...]], dtype: DType, size: Size
) -> None:
    state = state_dict(shapes, dtype, fill=lambda _, shape: b"\0" * _bytes(dtype, shape))
    try:
        after = resized(state, size)
    except (UnsupportedFile, WrongFamily):
        return
    assert [module.name for module in after.modules] == [QUERY]


def _bytes(dtype: DType, shape: tuple[int, ...]) -> int:
    return dtype.nbytes(int(np.prod(shape)))


@pytest.mark.parametrize("part", ["lora_up.weight", "lora_down.weight", "alpha"])
def test_values_that_are_not_finite_are_refused_naming_the_module(part: str) -> None:
    state = lora()
    name = f"{QUERY}.{part}"
    data = np.full(state[name].shape, np.nan, np.float32).tobytes()
    broken = state.overlay({name: stored(DType.F32, state[name].shape, data, name)})
    with pytest.raises(MergeProblem, match=f"{QUERY}.* holds NaN"):
        resized(broken, Size(rank=2))


OTHERS = {
    "loha": {
        "hada_w1_a": (32, 2),
        "hada_w1_b": (2, 32),
        "hada_w2_a": (32, 2),
        "hada_w2_b": (2, 32),
    },
    "lokr": {"lokr_w1": (4, 4), "lokr_w2": (8, 8)},
    "full": {"diff": (32, 32)},
}


def other(algorithm: str, name: str = QUERY) -> StateDict:
    shapes = {f"{name}.{part}": shape for part, shape in OTHERS[algorithm].items()}
    return state_dict(shapes, DType.F32, fill=random_fill(DType.F32, 0.3))


@pytest.mark.parametrize("algorithm", OTHERS)
def test_other_algorithms_become_the_lora_nearest_to_them(algorithm: str) -> None:
    (addend,) = addends_of(other(algorithm))
    whole = addend.whole()
    after = resized(other(algorithm), Size(rank=3))
    best = np.linalg.norm(np.linalg.svd(whole, compute_uv=False)[3:])
    missing = np.linalg.norm(whole - change(after.state, QUERY))
    assert missing <= best * 1.02
    (module,) = after.modules
    assert module.error == pytest.approx(missing / np.linalg.norm(whole), rel=1e-3)
    exact = resized(other(algorithm), Size(energy=1.0))
    assert np.allclose(change(exact.state, QUERY), whole, atol=1e-5)


def test_names_of_other_programs_become_those_of_kohya() -> None:
    path = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    shapes = {f"{path}.lora_A.weight": (4, 320), f"{path}.lora_B.weight": (320, 4)}
    cross = path.replace("attn1.to_q", "attn2.to_k")
    shapes |= {f"{cross}.lora_A.weight": (4, 768), f"{cross}.lora_B.weight": (320, 4)}
    before = state_dict(shapes, DType.F32, fill=random_fill(DType.F32))
    after = resized(before, Size(rank=4))
    assert {module.name for module in after.modules} == {
        QUERY,
        QUERY.replace("attn1_to_q", "attn2_to_k"),
    }
    whole = floats(before, f"{path}.lora_B.weight") @ floats(before, f"{path}.lora_A.weight")
    assert np.allclose(change(after.state, QUERY), whole, atol=1e-5)


WEIGHTS = st.lists(st.floats(-2, 2, width=16), min_size=1, max_size=3)


@given(WEIGHTS)
@examples(12)
def test_a_sum_of_loras_is_exact_and_has_their_ranks_together(weights: list[float]) -> None:
    parts = [lora(rank=2 + number, alpha=1 + number) for number in range(len(weights))]
    addends = [addends_of(part) for part in parts]
    sums = [
        [Weighed(addend, weight) for addend, weight in zip(same, weights, strict=True)]
        for same in zip(*addends, strict=True)
    ]
    together = sum_loras(sums, None, None)
    for module in together.modules:
        expected = sum(
            weight * change(part, module.name) for part, weight in zip(parts, weights, strict=True)
        )
        assert np.allclose(change(together.state, module.name), expected, atol=1e-5)
        assert module.rank == sum(2 + number for number in range(len(weights)))
        assert module.error < 1e-6


def test_a_sum_with_other_algorithms_needs_a_rank() -> None:
    (product,) = addends_of(lora().select(lambda name: name.startswith(QUERY)))
    (whole,) = addends_of(other("full"))
    with pytest.raises(BadValue, match="give --rank or --energy"):
        sum_loras([[Weighed(product), Weighed(whole)]], None, None)
    together = sum_loras([[Weighed(product, 0.5), Weighed(whole, 2.0)]], Size(rank=32), None)
    expected = 0.5 * change(lora(), QUERY) + 2 * whole.whole()
    assert np.allclose(change(together.state, QUERY), expected, atol=1e-4)


def test_addends_of_other_shapes_are_refused_by_name() -> None:
    (one,) = addends_of(other("full"))
    shape = {f"{QUERY}.diff": (32, 16)}
    (two,) = addends_of(state_dict(shape, DType.F32, fill=random_fill(DType.F32)))
    with pytest.raises(WrongFamily, match=r"shape \[32, 16\].*\[32, 32\]"):
        sum_loras([[Weighed(one), Weighed(two)]], Size(rank=2), None)

"""Digests of components: the same weights are seen under whatever names, prefix and container."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from helpers.examples import examples
from helpers.pipelines import CLIP_G_PREFIX, checkpoint, openclip_shapes
from helpers.sd1 import (
    CLIP,
    OLD_CLIP,
    SMALL,
    UNET,
    VAE,
    clip_shapes,
    kohya_modules,
    lora_shapes,
    random_fill,
    state_dict,
    unet_shapes,
    vae_shapes,
)
from hypothesis import given
from hypothesis import strategies as st

from converters.bytesource import FileBytes, MemoryBytes
from converters.canonical import canonical_parts
from converters.containers import open_model
from converters.digest import DIGEST_BYTES, tensor_digest, weigh
from converters.digest_together import TOGETHER
from converters.dtypes import DType
from converters.errors import SourceChanged, TruncatedFile
from converters.hashing import hash_file
from converters.identify import identify
from converters.layouts.pipeline import to_components
from converters.statedict import Extent, LazyTensor, StateDict
from converters.transform.ema import averages
from converters.weights import CHECKED_BYTES, CHECKSUM_BYTES, Weights
from converters.writers.diffusers_folder import write_pipeline
from converters.writers.safetensors import write_safetensors
from converters.writers.torch_zip import write_torch_zip


def weighed(state: StateDict) -> Weights:
    return weigh(state, canonical_parts(state, identify(state).kind))


def streamed(path: Path) -> Weights:
    """The digests as a scan makes them: while the file's bytes pass by."""
    model = open_model(path)
    state = model.state_dict
    parts = canonical_parts(state, identify(state).kind)
    hashed = hash_file(path, header_bytes=model.header_bytes, weights_of=state, parts=parts)
    assert hashed.weights is not None
    return hashed.weights


def safetensors(state: StateDict, path: Path) -> Path:
    return write_safetensors(state, path, with_hashes=False).path


def pickled(state: StateDict, path: Path) -> Path:
    write_torch_zip({"state_dict": dict(state.items())}, path)
    return path


def pipeline(state: StateDict, folder: Path) -> Path:
    identity = identify(state)
    write_pipeline(to_components(state, identity.base), identity, folder, tokenizer={})
    return folder


def inside(state: StateDict, prefix: str) -> StateDict:
    """The tensors with a prefix, without it."""
    found = state.select(lambda name: name.startswith(prefix))
    return found.rename(lambda name: name.removeprefix(prefix))


@pytest.fixture(scope="module")
def sd1() -> StateDict:
    return checkpoint("sd-1")


def test_a_pickle_its_safetensors_twin_and_a_re_headed_copy_are_the_same_weights(
    sd1: StateDict, tmp_path: Path
) -> None:
    first = streamed(safetensors(sd1, tmp_path / "a.safetensors"))
    titled = sd1.with_metadata({"modelspec.title": "another name"})
    assert streamed(safetensors(titled, tmp_path / "b.safetensors")) == first
    assert streamed(pickled(sd1, tmp_path / "c.ckpt")) == first
    backwards = StateDict(dict(reversed(sd1.items())))
    assert streamed(pickled(backwards, tmp_path / "d.ckpt")) == first
    assert set(first.components) == {"unet", "vae", "text_encoder"}
    assert first.whole == weigh(sd1, {}).whole


def test_each_tensor_has_the_digest_of_its_own(sd1: StateDict, tmp_path: Path) -> None:
    found = streamed(safetensors(sd1, tmp_path / "a.safetensors")).tensors
    assert found.keys() == sd1.keys()
    for name, tensor in sd1.items():
        assert found[name][:3] == (
            tensor.dtype.label,
            tensor.shape,
            tensor_digest(tensor)[:DIGEST_BYTES],
        )
        if tensor.nbytes < CHECKED_BYTES:
            crc = zlib.crc32(tensor.read())
            assert found[name].other == crc.to_bytes(CHECKSUM_BYTES, "little")


def test_a_component_is_the_same_alone_and_in_a_checkpoint_with_prefix_and_without(
    sd1: StateDict,
) -> None:
    whole = weighed(sd1).components
    for name, prefix in (("unet", UNET), ("vae", VAE), ("text_encoder", CLIP)):
        with_prefix = sd1.select(lambda key, prefix=prefix: key.startswith(prefix))
        assert weighed(inside(sd1, prefix)).components == {name: whole[name]}
        if name != "text_encoder":
            assert weighed(with_prefix).components == {name: whole[name]}
    vae = weigh(inside(sd1, VAE), canonical_parts(inside(sd1, VAE), "vae")).components["vae"]
    assert vae == whole["vae"]


@pytest.mark.parametrize("family", ["sd-1", "sd-2", "sdxl", "sdxl-refiner"])
def test_a_pipeline_and_its_parts_are_the_components_of_the_single_file(
    family: str, tmp_path: Path
) -> None:
    single = checkpoint(family)
    whole = weighed(single).components
    folder = pipeline(single, tmp_path / "pipeline")
    assert weighed(open_model(folder).state_dict).components == whole
    for name, digest in whole.items():
        (alone,) = weighed(open_model(folder / name).state_dict).components.values()
        assert alone == digest, name


def test_a_text_encoder_is_the_same_under_every_spelling_of_its_names(sd1: StateDict) -> None:
    inner = inside(sd1, CLIP)
    whole = weighed(sd1).components["text_encoder"]
    old = sd1.drop({name for name in sd1 if name.startswith(CLIP)}).overlay(
        {OLD_CLIP + name: tensor for name, tensor in inner.items()}
    )
    assert weighed(old).components["text_encoder"] == whole
    buffers = state_dict({f"{CLIP}embeddings.position_ids": (1, 77)}, fill=random_fill())
    assert weighed(sd1.overlay(buffers)).components["text_encoder"] == whole
    named = inner.rename(lambda name: f"text_model.{name}")
    assert weighed(named).components == {"text_encoder": whole}
    for word in ("clip_l", "t5xxl"):
        together = sd1.drop({name for name in sd1 if name.startswith(CLIP)}).overlay(
            {f"text_encoders.{word}.transformer.{name}": t for name, t in named.items()}
        )
        assert weighed(together).components[word] == whole


def test_openclip_s_own_names_and_those_of_transformers_are_one_encoder(tmp_path: Path) -> None:
    single = checkpoint("sdxl")
    whole = weighed(single).components
    assert set(whole) == {"unet", "vae", "text_encoder", "text_encoder_2"}
    alone = inside(single, CLIP_G_PREFIX)
    assert streamed(safetensors(alone, tmp_path / "g.safetensors")).components == {
        "text_encoder": whole["text_encoder_2"]
    }
    other = openclip_shapes(1280, 2)
    assert other.keys() == alone.keys()


def test_another_vae_in_the_same_checkpoint_leaves_the_other_components_alone(
    sd1: StateDict,
) -> None:
    fill = random_fill(scale=0.1)
    others = state_dict({f"{VAE}{n}": s for n, s in vae_shapes(SMALL).items()}, fill=fill)
    before, after = weighed(sd1), weighed(sd1.overlay(others))
    assert before.whole != after.whole
    differing = {
        name for name in before.components if before.components[name] != after.components[name]
    }
    assert differing == {"vae"}


def test_another_element_type_is_another_digest(sd1: StateDict) -> None:
    wider = weighed(checkpoint("sd-1", DType.F32)).components
    ours = weighed(sd1).components
    assert not {ours[name] for name in ours} & set(wider.values())


def test_a_layer_is_the_same_as_a_1x1_convolution_and_as_a_linear_layer(sd1: StateDict) -> None:
    def flat(_: str, tensor: LazyTensor) -> LazyTensor:
        shape = tensor.shape
        return tensor.reshape(shape[:2]) if shape[2:] == (1, 1) else tensor

    straight = sd1.map(flat)
    assert any(a.shape != b.shape for a, b in zip(sd1.values(), straight.values(), strict=True))
    assert weighed(straight).components == weighed(sd1).components
    assert weighed(straight).whole != weighed(sd1).whole


def test_the_averages_of_the_unet_are_a_component_of_their_own(sd1: StateDict) -> None:
    values = random_fill(scale=0.01)
    unet = state_dict({UNET + n: s for n, s in unet_shapes(SMALL).items()}, fill=values)
    averages = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor
        for name, tensor in unet.items()
    }
    counter = state_dict({"model_ema.decay": ()}, fill=lambda *_: b"\0\0")
    trained = sd1.overlay(averages).overlay(counter)
    found = weighed(trained).components
    assert found["unet"] == weighed(sd1).components["unet"]
    assert found["unet_ema"] == weighed(sd1.overlay(unet)).components["unet"]


def test_what_no_map_knows_keeps_its_own_names() -> None:
    shapes = {"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "img_in.weight": (64, 64)}
    bare = state_dict(shapes, fill=random_fill())
    prefixed = bare.rename(lambda name: f"{UNET}{name}")
    ours, theirs = (
        weigh(state, canonical_parts(state, "diffusion-model")).components
        for state in (bare, prefixed)
    )
    assert ours.keys() == {"unet"}
    assert ours == theirs
    renamed = bare.rename(lambda name: name.replace("img_in", "x_embedder"))
    assert weigh(renamed, canonical_parts(renamed, "diffusion-model")).components != ours


def test_adapters_and_unknown_files_have_no_components() -> None:
    lora = state_dict(lora_shapes(kohya_modules(SMALL)), fill=random_fill())
    assert weighed(lora).components == {}
    assert canonical_parts(lora, "unknown") == {}


@pytest.mark.parametrize(
    "name",
    [
        f"{UNET}input_blocks.0.0.op.weight",
        f"{UNET}input_blocks.999999.0.op.weight",
        f"{UNET}input_blocks.{'9' * 5000}.0.op.weight",
        f"{VAE}encoder.down.999999.block.999999.conv1.weight",
        f"{VAE}encoder.down.{'9' * 5000}.block.0.conv1.weight",
        f"{CLIP}encoder.layers.{'9' * 6}.mlp.fc1.weight",
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight",
        "cond_stage_model.model.transformer.resblocks.999999.attn.in_proj_weight",
    ],
)
def test_names_with_absurd_numbers_cost_no_more_than_others(sd1: StateDict, name: str) -> None:
    odd = sd1.overlay(state_dict({name: (2, 2)}, fill=random_fill()))
    assert identify(odd).kind == "checkpoint"
    assert weighed(odd).components.keys() >= {"unet", "vae"}


def test_elements_of_half_a_byte_are_not_cut_into_rows() -> None:
    shapes = {f"{CLIP_G_PREFIX}{name}": shape for name, shape in openclip_shapes(8, 1).items()}
    state = StateDict(
        {
            name: replace(tensor, dtype=DType.F4)
            for name, tensor in state_dict(shapes).items()
            if len(tensor.shape) == 2
        }
    )
    assert list(canonical_parts(state, "checkpoint")) == ["text_encoder"]


def _at(source: FileBytes, start: int, count: int, name: str) -> LazyTensor:
    return LazyTensor(DType.U8, (count,), (Extent(source, start, count),), name)


ranges = st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 500)), max_size=8)


@examples(40)
@given(places=ranges, cut=st.integers(0, 8), block=st.sampled_from([64, 700, 5000]))
def test_tensors_may_overlap_in_the_file_and_between_components(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[int, int]], cut: int, block: int
) -> None:
    path = tmp_path_factory.mktemp("overlap") / "file"
    path.write_bytes(bytes(range(250)) * 8)
    source = FileBytes(path)
    state = StateDict({f"t{n}": _at(source, *place, "t") for n, place in enumerate(places)})
    parts = {"first": StateDict(dict(list(state.items())[:cut])), "all": state}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("converters.hashing.BLOCK_BYTES", block)
        monkeypatch.setattr("converters.hashing.SMALL_BYTES", 0)
        hashed = hash_file(path, weights_of=state, parts=parts)
    assert hashed.weights == weigh(state, parts)


small_shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
named = st.dictionaries(st.text("abc.", min_size=1, max_size=5), small_shapes, max_size=6)


@examples(30)
@given(shapes=named, order=st.randoms(use_true_random=False))
def test_any_order_and_any_container_have_one_digest(
    tmp_path_factory: pytest.TempPathFactory, shapes: Mapping[str, tuple[int, ...]], order: object
) -> None:
    folder = tmp_path_factory.mktemp("containers")
    state = state_dict({f"w.{name}.x": shape for name, shape in shapes.items()}, fill=random_fill())
    names = sorted(state)
    order.shuffle(names)  # type: ignore[attr-defined]
    shuffled = StateDict({name: state[name] for name in names})
    expected = weigh(state, {"all": state})
    one = open_model(safetensors(shuffled, folder / "a.safetensors")).state_dict
    assert weigh(one, {"all": one}) == expected
    if shapes:  # a pickle without tensors is no model
        other = open_model(pickled(shuffled, folder / "b.ckpt")).state_dict
        assert weigh(other, {"all": other}) == expected


@examples(30)
@given(shapes=named, small=st.booleans(), mean=st.sampled_from([0, 40, 1 << 14]))
def test_files_of_all_sizes_are_digested_alike(
    tmp_path_factory: pytest.TempPathFactory,
    shapes: Mapping[str, tuple[int, ...]],
    small: bool,
    mean: int,
) -> None:
    """Small ones and those of one structure take a shorter way, so do those of small tensors."""
    state = state_dict(shapes, fill=random_fill())
    path = safetensors(state, tmp_path_factory.mktemp("sizes") / "a.safetensors")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("converters.digest_together.SMALL_BYTES", mean)
        monkeypatch.setattr("converters.hashing.SMALL_BYTES", 1 << 20 if small else 0)
        opened = open_model(path).state_dict
        assert hash_file(path, weights_of=opened).weights == weigh(state, {})


def test_a_file_whose_tensors_cannot_be_read_still_has_its_hashes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcd")

    def broken() -> bytes:
        raise TruncatedFile("ends too early", path=path)

    state = StateDict({"w": LazyTensor(DType.U8, (4,), broken, "w")})
    hashed = hash_file(path, weights_of=state)
    assert hashed.hashes == hash_file(path).hashes
    assert hashed.weights is None
    assert isinstance(hashed.unread, TruncatedFile)


def test_a_file_put_in_the_place_of_the_opened_one_is_not_taken_for_it(tmp_path: Path) -> None:
    state = state_dict({"w": (2, 2)}, fill=random_fill())
    path = safetensors(state, tmp_path / "a.safetensors")
    opened = open_model(path).state_dict
    other = safetensors(state.rename(lambda name: name * 9), tmp_path / "b.safetensors")
    other.replace(path)
    with pytest.raises(SourceChanged):
        hash_file(path, weights_of=opened)


def test_large_tensors_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converters.digest.PIECE_BYTES", 3)
    source = MemoryBytes(b"abcdefgh")
    asked: list[int] = []

    class Watched(MemoryBytes):
        def pread(self, offset: int, count: int) -> bytes:
            asked.append(count)
            return super().pread(offset, count)

    watched = Watched(b"abcdefgh")
    digests = {
        tensor_digest(LazyTensor(DType.U8, (8,), (Extent(each, 0, 8),), "t"))
        for each in (source, watched)
    }
    assert len(digests) == 1
    assert asked == [3, 3, 2]


def test_computed_tensors_are_digested_piece_by_piece() -> None:
    def never() -> bytes:
        raise AssertionError("was computed as a whole")

    halves = tuple(
        LazyTensor(DType.U8, (2,), lambda part=part: part, "t") for part in (b"ab", b"cd")
    )
    whole = LazyTensor(DType.U8, (4,), lambda: b"abcd", "t")
    assert tensor_digest(LazyTensor(DType.U8, (4,), never, "t", pieces=halves)) == tensor_digest(
        whole
    )


def test_averages_of_weights_that_are_not_there_keep_their_names(sd1: StateDict) -> None:
    stray = state_dict({"model_ema.diffusion_modelnowhereweight": (2, 2)}, fill=random_fill())
    assert list(averages(sd1.overlay(stray))) == ["model_ema.diffusion_modelnowhereweight"]
    assert "unet_ema" in weighed(sd1.overlay(stray)).components
    assert not averages(sd1)


def test_the_clip_of_the_tests_has_the_names_that_identification_knows() -> None:
    shapes = {name: s for name, s in clip_shapes(SMALL).items() if "position_ids" not in name}
    assert identify(state_dict(shapes)).kind == "text-encoder"


def _bytes(**tensors: bytes) -> StateDict:
    return StateDict(
        {
            name: LazyTensor(
                DType.U8, (len(data),), (Extent(MemoryBytes(data), 0, len(data)),), name
            )
            for name, data in tensors.items()
        }
    )


def test_small_tensors_are_digested_together_by_the_rule_that_is_written_down() -> None:
    tiny, small, large = b"ab", bytes(range(200)), bytes(20_000)
    found = weigh(_bytes(b=small, a=tiny, c=large, d=tiny), {})
    heads = {"a": b"U8\n2\n", "b": b"U8\n200\n", "c": b"U8\n20000\n", "d": b"U8\n2\n"}
    listing = b"".join(b"\1\0\0\0" + n.encode() + head for n, head in heads.items())
    values = hashlib.sha256(tiny + small + large + tiny).digest()
    whole = TOGETHER + blake3(listing).digest() + values
    assert found.whole == blake3(whole).hexdigest()
    assert [each.digest for each in found.tensors.values()] == [
        zlib.crc32(piece).to_bytes(4, "little") for piece in (tiny, small, large, tiny)
    ]


@pytest.mark.parametrize("small", [0, 1 << 20])
def test_of_a_file_as_the_library_writes_it_the_values_are_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr("converters.hashing.SMALL_BYTES", small)
    state = _bytes(b=b"ab" * 20, a=b"c" * 9).overlay(
        StateDict({"f": LazyTensor(DType.F32, (1,), lambda: memoryview(b"abcd"), "f")})
    )
    path = safetensors(state, tmp_path / "a.safetensors")
    model = open_model(path)
    hashed = hash_file(path, header_bytes=model.header_bytes, weights_of=model.state_dict)
    assert hashed.weights == weigh(state, {})
    with monkeypatch.context() as other:
        other.setattr("converters.digest.hashlib", None)
        other.setattr("converters.digest_small.hashlib", None)
        again = hash_file(path, header_bytes=model.header_bytes, weights_of=model.state_dict)
    assert again == hashed


def test_what_is_moved_from_one_small_tensor_to_the_next_is_another_model() -> None:
    assert weigh(_bytes(a=b"ab" * 20, b=b"c"), {}) != weigh(_bytes(a=b"ab" * 19, b=b"abc"), {})


def test_a_model_of_many_small_tensors_is_digested_from_one_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_dict({f"w{n}": (n + 9,) for n in range(30)}, fill=random_fill())
    path = pickled(state, tmp_path / "a.pt")
    opened = open_model(path).state_dict
    monkeypatch.setattr("converters.hashing.SMALL_BYTES", 0)
    with monkeypatch.context() as never:
        never.setattr(LazyTensor, "read", None)
        weights = hash_file(path, weights_of=opened).weights
    assert weights == weigh(state, {})
    monkeypatch.setattr("converters.digest.MOST_BYTES", -1)
    assert hash_file(path, weights_of=opened).weights == weights, "too large to be kept meanwhile"

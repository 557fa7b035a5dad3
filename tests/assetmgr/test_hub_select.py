"""Which files of a repository are meant."""

from __future__ import annotations

import pytest
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]
from hypothesis import given
from hypothesis import strategies as st

from assetmgr.operations.hub.select import Selection, select, several, shards_with, whole_model
from converters.errors import BadValue, FileMissing

PIPELINE = (
    "README.md",
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "text_encoder/model.fp16-00001-of-00002.safetensors",
    "text_encoder/model.fp16-00002-of-00002.safetensors",
    "text_encoder/model-00001-of-00003.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "v1-5-pruned.safetensors",
)


def chosen(*names: str, **options: object) -> tuple[str, ...]:
    return select(PIPELINE, Selection(names, **options), "org/repo")  # type: ignore[arg-type]


def test_nothing_means_all_model_files() -> None:
    assert set(PIPELINE) - set(chosen()) == {"README.md", "model_index.json", "unet/config.json"}


SHARDED = (
    "config.json",
    "te/config.json",
    "te/model-00001-of-00002.safetensors",
    "te/model-00002-of-00002.safetensors",
    "te/model.fp16-00001-of-00002.safetensors",
    "te/model.safetensors.index.fp16.json",
    "te/model.safetensors.index.json",
    "te/tokenizer.json",
    "vae/config.json",
    "vae/model.safetensors",
)


def test_a_model_in_several_files_means_what_they_are_put_together_by_too() -> None:
    assert set(SHARDED) - set(select(SHARDED, Selection(), "org/repo")) == {
        "config.json",
        "te/tokenizer.json",
        "vae/config.json",
    }
    assert select(SHARDED, Selection(variant="fp16"), "org/repo") == (
        "te/config.json",
        "te/model.fp16-00001-of-00002.safetensors",
        "te/model.safetensors.index.fp16.json",
        "vae/model.safetensors",
    )
    assert select(SHARDED, Selection(exclude=("te/*.json", "vae/")), "org/repo") == SHARDED[2:5]


def test_files_that_have_to_stay_together_are_told_by_their_names() -> None:
    assert several(SHARDED) == set(SHARDED) - {"config.json", "te/tokenizer.json"} - {*SHARDED[8:]}
    assert several(["config.json", "a-00001-of-00002.gguf"]) == {
        "config.json",
        "a-00001-of-00002.gguf",
    }
    assert several(["config.json", "model.safetensors", "model_index.json"]) == frozenset()


def test_a_folder_means_all_in_it() -> None:
    assert chosen("unet") == chosen("unet/") == PIPELINE[2:7]


def test_a_name_may_be_a_pattern() -> None:
    assert chosen("*.json") == ("model_index.json", "unet/config.json")
    assert chosen("README.md", "vae/*") == ("README.md", "vae/diffusion_pytorch_model.safetensors")


def test_include_means_any_file_and_exclude_takes_away() -> None:
    assert chosen(include=("unet/", "*.md"), exclude=("*.bin", "*.safetensors")) == (
        "README.md",
        "unet/config.json",
    )
    assert chosen("unet", include=("*.json",)) == ("unet/config.json",)


def test_a_variant_goes_before_the_same_file_without_it() -> None:
    assert chosen(variant="fp16") == (
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16-00001-of-00002.safetensors",
        "text_encoder/model.fp16-00002-of-00002.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "v1-5-pruned.safetensors",
    )


@pytest.mark.parametrize("names", [("absent.bin",), ("README.md", "absent/"), ("*.ckpt",), ("un",)])
def test_what_is_not_there_is_named(names: tuple[str, ...]) -> None:
    with pytest.raises(FileMissing, match="org/repo/"):
        chosen(*names)


def test_a_selection_of_nothing_is_an_error() -> None:
    with pytest.raises(FileMissing, match="no such files"):
        chosen(exclude=("*",))
    with pytest.raises(FileMissing, match="variant bf16"):
        chosen(variant="bf16")
    with pytest.raises(BadValue):
        chosen(variant="../x")


@given(
    include=st.lists(st.text("un/*?[]em.", max_size=6).filter(bool), min_size=1, max_size=3),
    exclude=st.lists(st.text("un/*?[]em.", max_size=6), max_size=3),
)
def test_patterns_mean_what_they_mean_to_huggingface_hub(
    include: list[str], exclude: list[str]
) -> None:
    theirs = tuple(filter_repo_objects(PIPELINE, allow_patterns=include, ignore_patterns=exclude))
    try:
        ours = chosen(include=tuple(include), exclude=tuple(exclude))
    except FileMissing:
        ours = ()
    assert ours == theirs


@pytest.mark.parametrize(
    ("selection", "needs"),
    [
        (Selection(), True),
        (Selection(("a.ckpt",)), False),
        (Selection(("a*",)), True),
        (Selection(("unet/",)), True),
        (Selection(("a.ckpt",), variant="fp16"), True),
    ],
)
def test_only_plain_names_need_no_listing(selection: Selection, needs: bool) -> None:
    assert selection.needs_listing is needs


@pytest.mark.parametrize(
    "name", ["te/model.safetensors", "a-00001-of-00002.json", "a-00001-of-99999.ckpt"]
)
def test_what_is_no_part_by_its_name_has_no_others(name: str) -> None:
    assert shards_with(name) == ()


def test_a_part_and_the_index_mean_the_whole_model_and_any_other_file_itself() -> None:
    fp16 = {name for name in SHARDED if "fp16" in name}
    plain = {"te/config.json", *(name for name in SHARDED if name.startswith("te/model"))} - fp16
    for name in ("te/model-00002-of-00002.safetensors", "te/model.safetensors.index.json"):
        assert set(whole_model(SHARDED, name)) == plain
    assert set(whole_model(SHARDED, min(fp16))) == {*fp16, "te/config.json"}
    assert whole_model(SHARDED, "vae/model.safetensors") == ("vae/model.safetensors",)

"""What is read from the files that other programs keep beside models."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.document import MAX_BYTES, MAX_ITEMS, MAX_TEXT, MAX_VALUES
from registry.sidecars import ROWS, Origin, Row, Sidecar, beside, read_sidecar
from registry.sidecars.markup import plain_text

BY_OWNER = {row.owner: row for row in ROWS}
SHA256 = "6F6D687FE041FCDC0FE55B9CD90AE7634DC50EBC9DA849DC869B232A8DF60F9D"
VERSION = {
    "id": 9413,
    "modelId": 7984,
    "name": "v2",
    "baseModel": "SD 1.5",
    "trainedWords": ["figure", "figure"],
    "description": "<p>Weaker &amp; wider.</p>",
    "stats": {"rating": 4.5, "downloadCount": 1},
    "creator": {"username": "somebody"},
    "model": {"name": "Figures", "type": "LORA", "tags": ["anime"]},
    "files": [
        {"id": 1, "name": "data.zip", "type": "Training Data", "hashes": {"SHA256": "0" * 64}},
        {
            "id": 2,
            "name": "fox.safetensors",
            "primary": True,
            "hashes": {"SHA256": SHA256, "AutoV2": "6F6D687FE0", "AutoV3": "DC746A5A4DA9"},
        },
    ],
    "downloadUrl": "https://civitai.com/api/download/models/9413",
}
SITE = Origin(
    "civitai",
    "7984",
    "9413",
    "2",
    "somebody",
    ("https://civitai.com/api/download/models/9413",),
)


def told(owner: str, content: object, tmp_path: Path) -> Sidecar | None:
    """What a sidecar of `fox.safetensors` says whose content is bytes, a text or JSON."""
    row = BY_OWNER[owner]
    path = tmp_path / f"fox{row.endings[0]}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    return read_sidecar(row, str(path))


def test_civitai_info_is_the_answer_for_a_version(tmp_path):
    found = told("civitai-info", VERSION, tmp_path)
    assert found == Sidecar(
        path=str(tmp_path / "fox.civitai.info"),
        owner="civitai-info",
        name="Figures - v2",
        description="Weaker & wider.",
        trigger_words=("figure",),
        base="SD 1.5",
        tags=("anime",),
        rating=4.5,
        source=SITE,
        claimed_hashes={
            "sha256": SHA256.lower(),
            "autov2": "6f6d687fe0",
            "autov3": "dc746a5a4da9",
        },
    )


def test_the_hashes_claimed_are_those_of_the_file_with_our_name(tmp_path):
    files = [
        {"name": "fox_pruned.safetensors", "primary": True, "hashes": {"CRC32": "11111111"}},
        {"name": "fox.ckpt", "hashes": {"CRC32": "22222222"}},
    ]
    found = told("civitai-info", {**VERSION, "files": files}, tmp_path)
    assert found.claimed_hashes == {"crc32": "22222222"}


def test_no_hash_is_claimed_where_it_may_be_that_of_another_file(tmp_path):
    files = [{"name": f"{name}.ckpt", "hashes": {"CRC32": "11111111"}} for name in "ab"]
    found = told("civitai-info", {**VERSION, "files": files}, tmp_path)
    assert found.claimed_hashes == {}


def test_the_stub_of_a_model_that_the_site_does_not_know_says_nothing(tmp_path):
    found = told("civitai-info", {"id": "", "modelId": "", "name": ""}, tmp_path)
    assert found == Sidecar(str(tmp_path / "fox.civitai.info"), "civitai-info")


def test_a1111_keeps_what_the_user_typed(tmp_path):
    found = told(
        "a1111",
        {
            "description": "A fox",
            "sd version": "SDXL",
            "activation text": "fox, red fur",
            "preferred weight": 0.8,
            "negative text": "cat",
            "notes": "good",
        },
        tmp_path,
    )
    assert (found.description, found.base, found.notes) == ("A fox", "SDXL", "good")
    assert (found.trigger_words, found.negative, found.weight) == (("fox, red fur",), "cat", 0.8)


def test_what_a1111_says_by_default_is_nothing(tmp_path):
    found = told("a1111", {"sd version": "Unknown", "preferred weight": 0, "notes": ""}, tmp_path)
    assert found == Sidecar(str(tmp_path / "fox.json"), "a1111")


def test_a_json_file_of_another_program_is_no_sidecar_of_a1111(tmp_path):
    assert told("a1111", {"_class_name": "UNet2DConditionModel"}, tmp_path) is None


def test_stability_matrix_keeps_the_model_and_its_version(tmp_path):
    found = told(
        "stability-matrix",
        {
            "ModelId": 7984,
            "VersionId": 9413,
            "RemoteFileId": 2,
            "AuthorUsername": "somebody",
            "ModelName": "Figures",
            "VersionName": "v2",
            "ModelDescription": "<h1>Figures</h1><ul><li>one</li><li>two</li></ul>",
            "VersionDescription": None,
            "TrainedWords": ["figure"],
            "Tags": ["anime"],
            "BaseModel": "SD 1.5",
            "Hashes": {"SHA256": SHA256, "CRC32": "4DF210A6", "BLAKE3": None},
            "Stats": {"rating": 5},
        },
        tmp_path,
    )
    assert (found.name, found.description) == ("Figures - v2", "Figures\none\ntwo")
    assert (found.trigger_words, found.tags, found.base) == (("figure",), ("anime",), "SD 1.5")
    assert found.claimed_hashes == {"sha256": SHA256.lower(), "crc32": "4df210a6"}
    assert found.source == Origin("civitai", "7984", "9413", "2", "somebody")
    assert (found.rating, found.problems) == (5, ())


def test_a_title_of_the_users_own_wins_in_stability_matrix(tmp_path):
    found = told("stability-matrix", {"UserTitle": "Mine", "ModelName": "Theirs"}, tmp_path)
    assert found.name == "Mine"


def test_lora_manager_adds_the_users_words_to_those_of_the_site(tmp_path):
    found = told(
        "lora-manager",
        {
            "model_name": "My figures",
            "sha256": "a" * 64,
            "base_model": "Pony",
            "notes": "use at 0.6",
            "tags": ["figures"],
            "favorite": True,
            "civitai": VERSION,
        },
        tmp_path,
    )
    assert (found.owner, found.name, found.base) == ("lora-manager", "My figures", "Pony")
    assert (found.notes, found.tags) == ("use at 0.6", ("figures", "favorite"))
    assert (found.trigger_words, found.source) == (("figure",), SITE)
    assert found.claimed_hashes["sha256"] == "a" * 64


@pytest.mark.parametrize(
    ("tips", "weight"),
    [
        ('{"strength": 0.7}', 0.7),
        ("{}", None),
        ("[1]", None),
        ("{", None),
        ('{"strength": "x"}', None),
    ],
)
def test_the_strength_in_a_lora_manager_s_tips_is_the_recommended_one(tips, weight, tmp_path):
    assert told("lora-manager", {"model_name": "a", "usage_tips": tips}, tmp_path).weight == weight


def test_a_model_that_lora_manager_did_not_find_on_the_site_has_no_source(tmp_path):
    found = told("lora-manager", {"model_name": "a", "civitai": None, "autov3": None}, tmp_path)
    assert (found.source, found.claimed_hashes, found.problems) == (None, {}, ())


def test_rgthrees_trigger_words_are_those_of_site_and_user_not_every_training_tag(tmp_path):
    words = [
        {"word": "figure", "civitai": True},
        {"word": "mine", "user": True},
        {"word": "1girl", "count": 900, "metadata": True},
    ]
    found = told(
        "rgthree",
        {
            "name": "Figures",
            "sha256": SHA256,
            "baseModel": "SD 1.5",
            "trainedWords": words,
            "links": ["https://civitai.com/models/7984"],
            "raw": {"civitai": VERSION},
        },
        tmp_path,
    )
    assert (found.name, found.trigger_words) == ("Figures", ("figure", "mine"))
    assert found.source.urls == ("https://civitai.com/models/7984",)
    assert (found.source.model_id, found.base) == ("7984", "SD 1.5")


def test_hanakura_tells_where_it_downloaded_from(tmp_path):
    document = {
        "source": "civitai",
        "model_id": 7984,
        "version_id": "9",
        "file_id": None,
        "name": "Fox",
        "version_name": "v2",
        "base_model": "sd1",
        "base_model_label": "SD 1.5",
        "trained_words": ["red fox"],
        "creator": "somebody",
        "page_url": "https://civitai.com/models/7984",
        "sha256": SHA256,
        "detected": {"kind": "lora"},
    }
    found = told("hanakura", document, tmp_path)
    assert (found.name, found.base, found.trigger_words) == ("Fox - v2", "SD 1.5", ("red fox",))
    urls = ("https://civitai.com/models/7984",)
    assert found.source == Origin("civitai", "7984", "9", None, "somebody", urls)
    assert found.claimed_hashes == {"sha256": SHA256.lower()}
    bare = told("hanakura", {"url": "https://x.example/a.pt", "sha256": SHA256}, tmp_path)
    assert bare.source == Origin("url", urls=("https://x.example/a.pt",))


@pytest.mark.parametrize(
    ("text", "claimed"),
    [
        (f"{SHA256}  a.safetensors\n", {"sha256": SHA256.lower()}),
        (f"{SHA256}", {"sha256": SHA256.lower()}),
        (f"\\{SHA256}  odd\\nname.pt", {"sha256": SHA256.lower()}),
        ("not a hash", {}),
    ],
)
def test_a_checksum_file_claims_its_first_word(tmp_path, text, claimed):
    found = told("checksum", text.encode(), tmp_path)
    assert (found.claimed_hashes, bool(found.problems)) == (claimed, not claimed)


def test_swarms_keys_are_those_of_modelspec(tmp_path):
    found = told(
        "swarm",
        {
            "modelspec.title": "Fox",
            "modelspec.author": "somebody",
            "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
            "modelspec.trigger_phrase": "red fox",
            "modelspec.tags": "animal, anime,",
            "modelspec.prediction_type": "v",
            "modelspec.usage_hint": "at 0.7",
            "modelspec.hash_sha256": f"0x{SHA256}",
            "modelspec.thumbnail": "data:image/jpeg;base64,AAAA",
        },
        tmp_path,
    )
    assert (found.name, found.trigger_words, found.tags) == (
        "Fox",
        ("red fox",),
        ("animal", "anime"),
    )
    assert (found.base, found.prediction) == ("stable-diffusion-xl-v1-base/lora", "v")
    assert (found.notes, found.source.author) == ("at 0.7", "somebody")
    assert found.claimed_hashes == {"sha256": SHA256.lower()}


def test_a_text_is_the_description(tmp_path):
    found = told("description", "A fox\nin the snow\n", tmp_path)
    assert found.description == "A fox\nin the snow"
    assert told("description", " \n", tmp_path) is None


@pytest.mark.parametrize(
    ("params", "prediction"),
    [
        ('    parameterization: "v"\n', "v"),
        ("    parameterization: v # as in 2.1\n", "v"),
        ("    parameterization: 'eps'\n", "epsilon"),
        ("    linear_start: 0.00085\n", "epsilon"),
        ("    unet_config:\n      params:\n        parameterization: v\n", "epsilon"),
        ("    parameterization: x0\n", None),
    ],
)
def test_a_model_configuration_says_what_the_model_predicts(params, prediction, tmp_path):
    head = "# made by hand\nmodel:\n  target: ldm.LatentDiffusion\n  params:\n"
    found = told("model-config", head + params, tmp_path)
    assert found.prediction == prediction
    assert bool(found.problems) == (prediction is None)


def test_a_yaml_file_of_another_program_configures_no_model(tmp_path):
    assert told("model-config", "slices:\n  - sources:\n    - model: a\n", tmp_path) is None


@pytest.mark.parametrize(
    "head", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\0\0\0\0WEBP"]
)
def test_a_picture_is_a_preview(head, tmp_path):
    found = told("picture", head + b"\0" * 100, tmp_path)
    assert found.preview == found.path == str(tmp_path / "fox.png")


def test_a_web_page_that_was_saved_as_a_picture_is_none(tmp_path):
    found = told("picture", "<!DOCTYPE html>", tmp_path)
    assert (found.preview, found.problems) == (None, ("is not a picture",))


def lying(model: str, *names: str) -> dict[str, str]:
    return {row.owner: name for row, name in beside(model, set(names))}


def test_a_stem_is_the_name_without_its_last_suffix_only():
    assert lying("my.v1.safetensors", "my.json", "my.v1.json", "my.v1.civitai.info") == {
        "a1111": "my.v1.json",
        "civitai-info": "my.v1.civitai.info",
    }


def test_a_plain_picture_comes_before_a_preview_and_png_before_the_others():
    assert lying("a.pt", "a.preview.png", "a.gif") == {"picture": "a.gif"}
    assert lying("a.pt", "a.jpg", "a.png") == {"picture": "a.png"}
    assert lying("a.pt", "a.preview.webp", "a.preview.jpeg") == {"picture": "a.preview.jpeg"}


def test_a_plain_text_comes_before_a_description():
    assert lying("a.pt", "a.txt", "a.description.txt") == {"description": "a.txt"}


def test_rgthree_names_its_file_after_the_whole_name():
    assert lying("a.pt", "a.pt.rgthree-info.json") == {"rgthree": "a.pt.rgthree-info.json"}
    assert lying("a.pt", "a.pt.json", "a.pt.png") == {}


def test_a_model_in_a_picture_is_not_its_own_preview():
    assert lying("a.png", "a.png") == {}


JSON_ROWS = [row for row in ROWS if row.endings[0].endswith(("json", "info"))]


@pytest.mark.parametrize("row", JSON_ROWS, ids=lambda row: row.owner)
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[1]", "not an object"),
        (b"null", "not an object"),
        (b" \n<!DOCTYPE html><title>Log in</title>", "is a web page"),
        (b"<html>", "is a web page"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "is not JSON"),
        (b'{"a": [' + b"[]," * (MAX_VALUES // 2) + b"[]]}", f"more than {MAX_VALUES} values"),
        (b" " * (MAX_BYTES + 1), "bytes, more than 8,000,000 are not read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_json_object_is_a_named_problem(row: Row, content, problem, tmp_path):
    found = told(row.owner, content, tmp_path)
    assert problem in found.problems[0]
    assert found.trigger_words == ()


def test_wrong_types_are_named_and_the_rest_is_used(tmp_path):
    wrong = {
        **VERSION,
        "name": ["v2"],
        "trainedWords": ["a", 5],
        "stats": {"rating": "high"},
        "model": [],
    }
    found = told("civitai-info", wrong, tmp_path)
    assert (found.trigger_words, found.base, found.name) == (("a",), "SD 1.5", None)
    assert set(found.problems) == {
        "name is not a text",
        "trainedWords is not a list of texts",
        "stats.rating is not a number",
        "model is not an object",
    }


def test_what_is_no_hash_is_not_claimed(tmp_path):
    found = told("lora-manager", {"sha256": "../../etc", "CRC32": "zzzzzzzz"}, tmp_path)
    assert found.claimed_hashes == {}
    assert found.problems == ("sha256 is not a hash", "CRC32 is not a hash")


def test_numbers_that_are_none_are_named(tmp_path):
    for value in ("NaN", "1e999", str(10**400), "true"):
        found = told("a1111", f'{{"preferred weight": {value}, "notes": "n"}}', tmp_path)
        assert (found.weight, found.notes, len(found.problems)) == (None, "n", 1)


def test_texts_and_lists_are_cut(tmp_path):
    huge = {"trainedWords": [str(n) for n in range(2 * MAX_ITEMS)], "description": "x" * 1_000_000}
    found = told("civitai-info", huge, tmp_path)
    assert (len(found.trigger_words), len(found.description)) == (MAX_ITEMS, MAX_TEXT)
    assert found.problems == (f"trainedWords has {2 * MAX_ITEMS} entries, {MAX_ITEMS} used",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_understood(encoding, tmp_path):
    content = json.dumps({"notes": "Füchse 狐"}, ensure_ascii=False).encode(encoding)
    found = told("a1111", content, tmp_path)
    assert (found.notes, found.problems) == ("Füchse 狐", ())


def test_other_encodings_are_guessed_and_named(tmp_path):
    found = told("a1111", '{"notes": "Füchse"}'.encode("cp1252"), tmp_path)
    assert found.notes == "Füchse"
    assert found.problems == ("is not UTF-8 at byte 12, read as Windows-1252",)


def test_texts_have_a_form_that_databases_can_store(tmp_path):
    found = told("a1111", r'{"notes": "a\u0000b\ud800c"}', tmp_path)
    assert found.notes == "a b?c"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("<p>One<br/>two</p><p>three</p>", "One\ntwo\nthree"),
        ('a <b>bold</b> &lt;fox&gt; <a href="x">link</a>', "a bold <fox> link"),
        ("<lora:fox:0.8> 1 < 2 and 3 > 2", "<lora:fox:0.8> 1 < 2 and 3 > 2"),
        ("<p>&#" + "9" * 5000 + ";</p>", "&#" + "9" * 5000 + ";"),
        ("<p>say <sks> or <cat-toy></p>", "say <sks> or <cat-toy>"),
        ("<p></p>", None),
        ("<![if !x]><p>a</p>", "<![if !x]>\na"),
    ],
)
def test_html_becomes_text(text, plain):
    assert plain_text(text) == plain


def test_what_vanished_says_nothing(tmp_path):
    assert all(read_sidecar(row, str(tmp_path / "gone")) is None for row in ROWS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_and_a_folder_are_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for row in ROWS:
        for path in (tmp_path / "pipe", tmp_path):
            found = read_sidecar(row, str(path))
            assert len(found.problems) == 1


def test_reading_takes_no_more_memory_than_a_few_times_the_file(tmp_path):
    contents = {
        "civitai-info": b'{"trainedWords": [' + b'"a",' * 400_000 + b'""]}',
        "description": b"<p>a" * (MAX_BYTES // 4),
        "model-config": b"a:\n" * 60_000,  # a kilobyte each, if they were all kept
    }
    for owner, content in contents.items():
        tracemalloc.start()
        told(owner, content, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * MAX_BYTES, owner


NESTED = (
    "hashes",
    "SHA256",
    "stats",
    "rating",
    "civitai",
    "raw",
    "tags",
    "word",
    "Hashes",
    "Stats",
)
OTHERS = ("notes", "favorite", "links", "TrainedWords", "preferred weight", "modelspec.title")
KEYS = st.sampled_from((*VERSION, *NESTED, *OTHERS))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sidecars")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.owner)
@given(content=st.binary() | st.dictionaries(KEYS, VALUES).map(lambda d: json.dumps(d).encode()))
def test_no_content_is_an_error_and_all_that_is_told_can_be_stored(row, content, folder):
    path = folder / row.owner
    path.write_bytes(content)
    found = read_sidecar(row, str(path))
    if found is not None:
        stored = json.dumps(found.to_json(), allow_nan=False, ensure_ascii=False).encode("utf-8")
        assert Sidecar.from_json(json.loads(stored)) == found

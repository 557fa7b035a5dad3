"""`hub search`, `info` and `updates` against a server on loopback."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_models import alone
from helpers.hub_server import COMMIT, HubServer
from helpers.loopback import Instead

from assetmgr.operations.hub import find as hub_find
from assetmgr.sources.hub.cards import summary
from assetmgr.sources.hub.models import HubModel
from assetmgr.sources.hub.tags import base_of, kind_of
from assetmgr.workspace import Workspace
from registry.document import Fields

if TYPE_CHECKING:
    from conftest import Done, Models

    Program = Callable[..., Done]

REPO = "org/gems"
HOSTILE = "\x1b]0;owned\x07\u202egnp.exe"
CARD = b"""---
license: mit
---
# Gems

<p align="center"><img src="x.png"></p>

Pictures of **gems**, see [the page](https://example.com).

```python
import os
```
"""


@pytest.fixture
def hub(models: Models, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    files = {"style.safetensors": models.lora.read_bytes(), "README.md": CARD}
    with HubServer(REPO, files) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield server


def model(repo: str, *tags: str, **fields: Any) -> dict[str, Any]:
    """A repository as a search answers it."""
    return {"id": repo, "sha": COMMIT, "tags": list(tags), "downloads": 1234, **fields}


# ---- search


def test_a_search_asks_by_tags_and_takes_as_many_pages_as_it_needs(
    hub: HubServer, program: Program
) -> None:
    hub.models = [
        model(f"org/line-art-{n}", "lora", "base_model:stabilityai/stable-diffusion-xl-base-1.0")
        for n in range(7)
    ]
    call = ("hub", "search", "line-art", "--kind", "lora", "--base", "sdxl", "--sort", "newest")
    found = program(*call, "--limit", "3", "--offset", "2", "--json").json["models"]
    assert [one["repo"] for one in found] == ["org/line-art-2", "org/line-art-3", "org/line-art-4"]
    assert {(one["kind"], one["base"]) for one in found} == {("lora", "sdxl")}
    assert len(hub.queries) == 3
    first = hub.queries[0]
    assert first["search"] == ["line-art"]
    assert first["filter"] == ["lora", "base_model:stabilityai/stable-diffusion-xl-base-1.0"]
    assert first["sort"] == ["createdAt"]


def test_a_search_says_where_it_goes_on(hub: HubServer, program: Program) -> None:
    hub.models = [model(f"org/m{n}") for n in range(5)]
    found = program("hub", "search", "m", "--limit", "3", "--json").json
    assert (len(found["models"]), found["next_offset"]) == (3, 3)
    assert program("hub", "search", "m", "--limit", "3").out.endswith("3 found\nmore: --offset 3\n")
    for limit in ("2", "9"):
        rest = program("hub", "search", "m", "--offset", "3", "--limit", limit, "--json").json
        assert (len(rest["models"]), rest["next_offset"]) == (2, None)
    assert program("hub", "search", "m", "--limit", "5").out.endswith("5 found\n")


def test_results_that_tags_contradict_are_left_out_and_the_unknown_stay(
    hub: HubServer, program: Program
) -> None:
    hub.models = [
        model("org/plain", "text-to-image", "stable-diffusion"),
        model(
            "org/pipeline", "text-to-image", "stable-diffusion", siblings=_files("model_index.json")
        ),
        model("org/lora", "text-to-image", "stable-diffusion", "lora"),
        model(
            "org/sd2",
            "text-to-image",
            "stable-diffusion",
            "base_model:stabilityai/stable-diffusion-2-1",
        ),
    ]
    found = program("hub", "search", "--kind", "checkpoint", "--base", "sd-1", "--json").json
    told = {one["repo"]: (one["kind"], one["base"]) for one in found["models"]}
    assert told == {"org/plain": ("unknown", "unknown"), "org/pipeline": ("checkpoint", "unknown")}


def test_author_and_licence_are_asked_for(hub: HubServer, program: Program) -> None:
    program("hub", "search", "x", "--author", "someone", "--licence", "mit", "--json")
    assert hub.queries[0]["author"] == ["someone"]
    assert hub.queries[0]["filter"] == ["license:mit"]


def test_results_are_shown_without_control_characters(hub: HubServer, program: Program) -> None:
    hub.models = [model(f"org/{HOSTILE}", "lora", f"license:{HOSTILE}", lastModified=HOSTILE)]
    done = program("hub", "search", "")
    assert done.code == 0
    assert "\\x1b]0;owned" in done.out
    assert not set(done.out) & set("\x1b\x07\u202e")


@pytest.mark.parametrize("body", [b"{}", b"7", b"[[]", b"<html>", b"\xff", b"", b'{"error":"x"}'])
def test_an_answer_that_is_none_of_a_hub_is_called_so(
    body: bytes, hub: HubServer, program: Program
) -> None:
    hub.instead = [Instead(200, body=body)]
    done = program("hub", "search", "x", "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (3, "not_available")
    hub.instead = [Instead(200, body=body)]
    done = program("hub", "info", REPO, "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (3, "not_available")


def test_a_mirror_that_cannot_search_is_told_from_a_repository_that_is_not_there(
    hub: HubServer, program: Program
) -> None:
    hub.instead = [Instead(404, body=b"{}")]
    done = program("hub", "search", "x")
    assert done.code == 3
    assert "the search: cannot be made at this address" in done.err
    assert "mirror" in done.err


def test_entries_of_other_types_are_passed_over(hub: HubServer, program: Program) -> None:
    odd = b'[3, null, {}, {"id": 4}, {"id": "org/a", "tags": 7, "downloads": "x", "gated": {}}]'
    hub.instead = [Instead(200, body=odd)]
    (found,) = program("hub", "search", "x", "--json").json["models"]
    assert (found["repo"], found["tags"], found["downloads"]) == ("org/a", [], None)


def test_the_next_page_of_another_host_is_asked_without_the_token(
    hub: HubServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    elsewhere = f"{hub.cdn}/cdn/style.safetensors"
    link = {"Link": f'<{elsewhere}>; rel="next"'}
    hub.instead = [Instead(200, body=b'[{"id":"org/a"}]', headers=link)]
    program("hub", "search", "x", "--json")
    assert "Bearer hf_secret" in hub.tokens["service"]
    assert hub.tokens["cdn"] == {None}


# ---- a busy Hub


def test_a_busy_hub_is_asked_again_as_late_as_it_wants(
    hub: HubServer, program: Program, pauses: list[float]
) -> None:
    hub.instead = [Instead(429, headers={"Retry-After": "7"}), Instead(503)]
    done = program("hub", "info", REPO)
    assert done.code == 0
    assert 7 + 1 <= sum(pauses) <= 7 + 2


def test_a_hub_that_wants_to_be_left_alone_for_long_is_left_alone(
    hub: HubServer, program: Program, pauses: list[float]
) -> None:
    hub.instead = [Instead(429, 99, headers={"Retry-After": "86400"})]
    done = program("hub", "info", REPO)
    assert done.code == 3
    assert "hint: try again in 86400 seconds" in done.err
    assert sum(pauses) == 0
    assert len(hub.requests) == 1


def test_a_hub_that_stays_busy_is_not_asked_for_ever(
    hub: HubServer, program: Program, pauses: list[float]
) -> None:
    for call in (("hub", "info", REPO), ("hub", "search", "x"), ("hub", "peek", REPO, "a.ckpt")):
        hub.requests.clear()
        hub.instead = [Instead(503, 99)]
        done = program(*call)
        assert done.code == 3
        assert len(hub.requests) == 4, call


# ---- info


def test_info_says_what_is_in_a_repository_and_what_of_it_is_here(
    hub: HubServer, program: Program, models: Models, tmp_path: Path
) -> None:
    hub.about = {
        "tags": ["lora", "license:mit", "base_model:adapter:black-forest-labs/FLUX.1-dev"],
        "cardData": {"instance_prompt": "a gem", "base_model": "black-forest-labs/FLUX.1-dev"},
        "downloads": 5,
    }
    lora = alone(models.lora, tmp_path)
    program("scan", lora.parent)
    found = program("hub", "info", REPO, "--json").json
    assert (found["repo"], found["revision"]) == (REPO, COMMIT)
    assert (found["kind"], found["base"], found["licence"]) == ("lora", "flux", "mit")
    assert found["base_models"] == ["black-forest-labs/FLUX.1-dev"]
    assert found["trigger_words"] == ["a gem"]
    assert found["gated"] is None
    assert found["summary"] == "Gems\nPictures of gems, see the page."
    file, card = found["files"]
    assert (file["name"], file["sha256"]) == ("style.safetensors", hub.sha256("style.safetensors"))
    assert (card["sha256"], card["asset"]) == (None, None)
    assert found["bytes"] == sum(len(data) for data in hub.files.values())
    asset = program("show", lora, "--json").json["id"]
    assert file["asset"] == asset
    shown = program("hub", "info", REPO)
    assert f"style.safetensors  have it: #{asset}" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_what_a_mirror_does_not_tell_is_unknown(hub: HubServer, program: Program) -> None:
    hub.sizes = False
    found = program("hub", "info", REPO, "--json").json
    assert (found["bytes"], {file["bytes"] for file in found["files"]}) == (None, {None})
    assert "2 files, -" in program("hub", "info", REPO).out


def test_a_gated_repository_says_where_its_conditions_are_accepted(
    hub: HubServer, program: Program
) -> None:
    hub.about = {"gated": "manual"}
    found = program("hub", "info", REPO, "--json").json
    assert found["gated"] == "manual"
    assert f"accept its conditions at {hub.url}/{REPO}" in program("hub", "info", REPO).out
    hub.refusal = (403, "GatedRepo")
    done = program("hub", "peek", REPO, "style.safetensors")
    assert done.code == 3
    assert f"hint: accept its conditions at {hub.url}/{REPO}, then" in done.err


def test_what_is_known_is_shown_where_the_card_cannot_be_had(
    hub: HubServer, program: Program
) -> None:
    hub.instead = [Instead(501, below=f"/{REPO}/resolve/")]
    found = program("hub", "info", REPO, "--json")
    assert (found.code, found.json["summary"], len(found.json["files"])) == (0, None, 2)


def test_a_card_is_shown_without_control_characters(hub: HubServer, program: Program) -> None:
    hub.files["README.md"] = f"Gems {HOSTILE} &#27;[2J\nrest".encode()
    done = program("hub", "info", REPO)
    assert "rest" in done.out
    assert not set(done.out) & set("\x1b\x07\u202e")


@pytest.mark.parametrize(
    ("repo", "code"),
    [("org/absent", "not_found"), (f"{REPO}@absent", "not_found"), ("a/b/c", "bad_value")],
)
def test_what_is_not_there_is_named(repo: str, code: str, hub: HubServer, program: Program) -> None:
    done = program("hub", "info", repo, "--json")
    assert done.json["errors"][0]["code"] == code
    assert done.code in {1, 2}


def test_a_token_that_is_not_accepted_is_called_so(hub: HubServer, program: Program) -> None:
    message = {"X-Error-Message": "Invalid credentials in Authorization header"}
    hub.instead = [Instead(401, headers=message)]
    done = program("hub", "info", REPO)
    assert done.code == 3
    assert "the Hub does not accept the token" in done.err


def test_without_network_nothing_is_asked(
    hub: HubServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    calls = (("search", "x"), ("info", REPO), ("peek", REPO, "a.ckpt"), ("download", REPO))
    for call in calls:
        done = program("hub", *call)
        assert done.code == 3
        assert "the network is switched off" in done.err
        assert "hint: unset HF_HUB_OFFLINE" in done.err
    assert hub.requests == []


@pytest.mark.parametrize("address", ["http://example.com", "https://user:s3cret@example.com"])
def test_an_address_that_would_give_secrets_away_is_refused(
    address: str, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("CIVITAI_ENDPOINT", address)
    for call in (("hub", "search", "x"), ("civitai", "search", "x")):
        done = program(*call)
        assert done.code == 2
        assert "s3cret" not in done.err


# ---- updates


def test_updates_tell_what_is_newer_gone_and_the_same(
    hub: HubServer, program: Program, models: Models, tmp_path: Path
) -> None:
    hub.files |= {"a.safetensors": models.unet_lora.read_bytes(), "b.ckpt": b"\0" * 64}
    program("hub", "download", REPO, "--to", tmp_path / "mine")
    done = program("hub", "updates", "--json")
    assert (done.code, {one["state"] for one in done.json["updates"]}) == (0, {"current"})
    hub.commit = "f" * 40
    hub.about = {"lastModified": "2026-01-02T03:04:05.000Z"}
    hub.files["a.safetensors"] = models.sdxl_lora.read_bytes()
    del hub.files["b.ckpt"]
    hub.requests.clear()
    found = program("hub", "updates", "--json").json["updates"]
    told = {one["file"]: one["state"] for one in found}
    assert told == {"a.safetensors": "newer", "b.ckpt": "gone", "style.safetensors": "current"}
    newer = next(one for one in found if one["state"] == "newer")
    assert (newer["revision"], newer["newest_revision"]) == (COMMIT, "f" * 40)
    assert newer["sha256"] == hub.sha256("a.safetensors")
    assert newer["replacement"] is None
    assert len(hub.requests) == 1, "each repository is asked once"
    shown = program("hub", "updates", f"#{newer['asset']}").out
    assert "newer since 2026-01-02" in shown
    del hub.about["lastModified"]
    assert ": newer\n" in program("hub", "updates", f"#{newer['asset']}").out
    lora = alone(models.sdxl_lora, tmp_path)
    program("scan", lora.parent)
    (newer,) = program("hub", "updates", f"#{newer['asset']}", "--json").json["updates"]
    assert newer["replacement"] == program("show", lora, "--json").json["id"]


def test_what_lies_in_the_cache_of_huggingface_hub_is_compared_too(
    hub: HubServer, program: Program, models: Models, tmp_path: Path
) -> None:
    place = tmp_path / "hub" / "models--org--gems" / "snapshots" / COMMIT / "sub" / "x.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(models.lora.read_bytes())
    program("scan", tmp_path / "hub")
    hub.commit = "f" * 40
    (found,) = program("hub", "updates", "--json").json["updates"]
    assert (found["repo"], found["file"], found["state"]) == (REPO, "sub/x.safetensors", "gone")


def test_what_library_and_cache_both_know_is_compared_once(
    hub: HubServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    assert program("hub", "download", REPO, "style.safetensors", "--cache").code == 0
    (found,) = program("hub", "updates", "--json").json["updates"]
    assert (found["file"], found["state"]) == ("style.safetensors", "current")


def test_a_repository_that_is_gone_does_not_stop_the_others(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    program("hub", "download", REPO, "--to", tmp_path)
    hub.repo = "org/renamed"
    done = program("hub", "updates", "--json")
    assert (done.code, done.json["updates"]) == (1, [])
    assert done.json["errors"][0]["path"] == REPO


def test_an_asset_from_elsewhere_has_no_updates(
    program: Program, models: Models, tmp_path: Path
) -> None:
    lora = alone(models.lora, tmp_path)
    program("scan", lora.parent)
    done = program("hub", "updates", lora, "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (2, "bad_value")


# ---- the judge, and cards


def _files(*names: str) -> list[dict[str, str]]:
    return [{"rfilename": name} for name in names]


def _judged(*tags: str) -> tuple[str, str]:
    empty = Fields("", {}, [])
    found = HubModel("o/r", None, None, None, False, *[None] * 6, tags, empty, None)  # type: ignore[arg-type]
    return kind_of(found), base_of(found)


@pytest.mark.parametrize(
    ("tags", "kind", "base"),
    [
        ((), "unknown", "unknown"),
        (("stable-diffusion",), "unknown", "unknown"),
        (("lora", "flux"), "lora", "flux"),
        (("lora", "flux", "stable-diffusion-xl"), "lora", "unknown"),
        (("flux", "base_model:finetune:Qwen/Qwen-Image"), "unknown", "qwen-image"),
        (("diffusers:StableDiffusionXLPipeline", "sd3"), "unknown", "sdxl"),
        (("diffusers:StableDiffusionPipeline",), "unknown", "unknown"),
        (("textual_inversion",), "embedding", "unknown"),
        (("lora", "controlnet"), "unknown", "unknown"),
        (("base_model:adapter:runwayml/stable-diffusion-v1-5",), "lora", "sd-1"),
    ],
)
def test_tags_are_judged_and_contradictions_are_unknown(
    tags: tuple[str, ...], kind: str, base: str
) -> None:
    assert _judged(*tags) == (kind, base)


@pytest.mark.parametrize(
    ("card", "text"),
    [
        (None, None),
        ("", None),
        ("---\nlicense: mit\n---\n", None),
        ("---\r\nlicense: mit\r\n---\r\nGems", "Gems"),
        ("a <lora:gem:1> b", "a <lora:gem:1> b"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "| a | b |\n| 1 | 2 |"),
        ("![p](x) [t][r] `c` 2 * 3", "t c 2 * 3"),
    ],
)
def test_a_card_becomes_plain_text(card: str | None, text: str | None) -> None:
    assert summary(card) == text


@pytest.mark.parametrize(
    "piece", ["[", "![", "*", "`", "|-", "<!--", "```\n", "# ", "- \n", "[a]("]
)
def test_no_card_takes_long(piece: str) -> None:
    begun = time.process_time()
    summary(piece * (1_000_000 // len(piece)))
    assert time.process_time() - begun < 5


def test_a_search_says_what_the_library_got_from_a_repository(
    hub: HubServer, program: Program, tmp_path: Path
) -> None:
    program("hub", "download", REPO, "--to", tmp_path)
    hub.models = [model(REPO), model("org/other")]
    with Workspace.open() as workspace:
        found = list(hub_find.search(workspace, hub_find.HubSearch()))
    assert [one.assets for one in found] == [(1,), ()]

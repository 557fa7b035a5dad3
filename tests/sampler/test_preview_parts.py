"""What an SD3 or Flux checkpoint lacks is found in the library by content, or named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import mmdit
from safetensors.torch import save_file

from assetmgr.operations.failures import Failure
from assetmgr.operations.preview.parts import find_companions
from assetmgr.operations.preview.render import PreviewRequest, PreviewResult, run_previews
from assetmgr.operations.scan import scan
from assetmgr.sampler.process.jobs import ModelFile
from assetmgr.sampler.process.session import Session
from assetmgr.workspace import Workspace
from converters.errors import NotAvailable
from converters.layouts.components import VAE

Write = Callable[..., Path]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("ASSETMGR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with Workspace.open() as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    return path


def _write(folder: Path, name: str, tensors: mmdit.Tensors) -> str:
    path = folder / f"{name}.safetensors"
    save_file({n: t.detach().contiguous().clone() for n, t in tensors.items()}, path)
    return str(path)


def _flux(folder: Path) -> str:
    return _write(folder, "flux", mmdit.original(mmdit.flux(guided=True)))


def _encoders(folder: Path, *, projected: bool) -> None:
    small = mmdit.encoder(mmdit.CLIP_WIDTH, projected=projected)
    _write(folder, "small", small.state_dict())
    _write(folder, "big", mmdit.encoder(mmdit.BIG_WIDTH, projected=True).state_dict())


def _vae(folder: Path) -> None:
    _write(folder, "vae", mmdit.vae(0.3611, 0.1159).state_dict())


def _t5(folder: Path) -> None:
    _write(folder, "t5", mmdit.t5().state_dict())


def _rendered(workspace: Workspace, folder: Path, path: str, **more: Any) -> Any:
    scan(workspace, [str(folder)])
    request = PreviewRequest((path,), steps=2, size=(64, 64), device="cpu", **more)
    sampler: Any = Session()
    (result,) = run_previews(workspace, request, sampler=sampler)
    return result


def test_flux_borrows_its_encoders_and_vae_from_the_library(
    workspace: Workspace, folder: Path
) -> None:
    _encoders(folder, projected=False)
    _vae(folder)
    _t5(folder)
    mmdit.tokenizer(folder / "tokenizer.json")
    result = _rendered(workspace, folder, _flux(folder))
    assert isinstance(result, PreviewResult)
    assert result.outcome.checks[0].ok, result.outcome.checks[0].detail
    assert result.outcome.image is not None
    assert result.outcome.parameters.sampler == "Euler"
    assert result.outcome.parameters.cfg == 3.5


def test_everything_that_is_missing_is_named_at_once(workspace: Workspace, folder: Path) -> None:
    result = _rendered(workspace, folder, _flux(folder))
    assert isinstance(result, Failure)
    for word in ("CLIP-L", "T5-XXL", "autoencoder", "tokenizer"):
        assert word in result.error


def test_of_sd3s_encoders_only_the_missing_one_is_named(workspace: Workspace, folder: Path) -> None:
    _write(folder, "small", mmdit.encoder(768, projected=True).state_dict())
    path = _write(folder, "sd3", mmdit.original(mmdit.sd3(pooled=2048)))
    result = _rendered(workspace, folder, path)
    assert isinstance(result, Failure)
    assert "CLIP-G" in result.error
    assert "CLIP-L" not in result.error
    assert "T5" not in result.error


def test_an_encoder_of_another_width_is_not_taken(workspace: Workspace, folder: Path) -> None:
    _write(folder, "other", mmdit.encoder(32, projected=False).state_dict())
    _vae(folder)
    _t5(folder)
    mmdit.tokenizer(folder / "tokenizer.json")
    result = _rendered(workspace, folder, _flux(folder))
    assert isinstance(result, Failure)
    assert "CLIP-L" in result.error
    assert "autoencoder" not in result.error


def test_an_autoencoder_is_taken_by_its_name_where_its_tensors_are_those_of_two_families(
    workspace: Workspace, folder: Path
) -> None:
    _encoders(folder, projected=False)
    _t5(folder)
    mmdit.tokenizer(folder / "tokenizer.json")
    checkpoint = ModelFile(_flux(folder), "flux", "diffusion-model")
    vae = mmdit.vae(1.5305, 0.0609).state_dict()
    _write(folder, "a-sd3.5_vae", vae)
    scan(workspace, [str(folder)])
    with pytest.raises(NotAvailable, match="lacks an autoencoder of this family"):
        find_companions(workspace, checkpoint, "flux")
    _write(folder, "ae", {name: tensor + 1e-3 for name, tensor in vae.items()})
    scan(workspace, [str(folder)])
    (taken,) = (each for each in find_companions(workspace, checkpoint, "flux") if each.kind == VAE)
    assert taken.name == "ae"


def test_sd3_is_rendered_without_t5_and_says_so(workspace: Workspace, folder: Path) -> None:
    _encoders(folder, projected=True)
    _vae(folder)
    path = _write(folder, "sd3", mmdit.original(mmdit.sd3()))
    result = _rendered(workspace, folder, path, clip_skip=3)
    assert isinstance(result, PreviewResult)
    assert "without T5" in result.outcome.checks[0].detail
    assert result.outcome.parameters.clip_skip == 1, "what it does not heed is not recorded"
    assert result.outcome.parameters.cfg == 4.5


def test_a_t5_without_its_tokenizer_is_left_aside(workspace: Workspace, folder: Path) -> None:
    _encoders(folder, projected=True)
    _vae(folder)
    _t5(folder)
    path = _write(folder, "sd3", mmdit.original(mmdit.sd3()))
    assert "without T5" in _rendered(workspace, folder, path).outcome.checks[0].detail


@pytest.mark.parametrize("place", ["tokenizer_3", "hub"])
def test_the_tokenizer_may_lie_beside_the_encoders_or_in_the_hubs_cache(
    place: str, workspace: Workspace, folder: Path, tmp_path: Path
) -> None:
    _encoders(folder, projected=True)
    _vae(folder)
    _t5(folder)
    snapshot = tmp_path / "hub" / "hub" / "models--a--b" / "snapshots" / "0" / "tokenizer_3"
    target = folder / "tokenizer_3" if place == "tokenizer_3" else snapshot
    target.mkdir(parents=True)
    mmdit.tokenizer(target / "tokenizer.json")
    path = _write(folder, "sd3", mmdit.original(mmdit.sd3()))
    detail = _rendered(workspace, folder, path).outcome.checks[0].detail
    assert "without T5" not in detail


def test_a_file_that_is_no_t5_tokenizer_is_not_taken(workspace: Workspace, folder: Path) -> None:
    _encoders(folder, projected=False)
    _vae(folder)
    _t5(folder)
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {}}}')
    result = _rendered(workspace, folder, _flux(folder))
    assert isinstance(result, Failure)
    assert "tokenizer" in result.error


def test_an_adapter_is_tried_on_a_transformer_that_borrows(
    workspace: Workspace, folder: Path
) -> None:
    _encoders(folder, projected=False)
    _vae(folder)
    _t5(folder)
    mmdit.tokenizer(folder / "tokenizer.json")
    base = _flux(folder)
    module = "lora_unet_single_blocks_1_linear2"
    tensors = {
        f"{module}.lora_up.weight": torch.randn(64, 2),
        f"{module}.lora_down.weight": torch.randn(2, 320),
    }
    result = _rendered(workspace, folder, _write(folder, "lora", tensors), base=base)
    assert isinstance(result, PreviewResult), result
    assert result.outcome.parameters.base == base

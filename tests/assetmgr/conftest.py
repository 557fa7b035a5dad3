"""The program in process, and model files that are built once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `cli_models`

import cli_models
from helpers.civitai_server import CivitaiServer
from helpers.dying import Dying
from helpers.hub_server import HubServer
from helpers.scripted_server import ScriptedServer
from helpers.transferring import CONTENT, reset

from assetmgr.cli.main import run
from assetmgr.sources.hub import client as hub_client
from assetmgr.sources.web import Web
from converters.bytesource import MemoryBytes
from converters.dtypes import DType
from converters.statedict import Extent, LazyTensor, StateDict
from converters.writers.safetensors import write_safetensors
from registry.library import Library


@pytest.fixture(scope="session")
def _new_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("new") / "library.db"
    Library.open(f"sqlite:///{path.as_posix()}").close()
    return path


@pytest.fixture(autouse=True)
def _library(_own_home: None, _new_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty library that need not be migrated again for every test."""
    shutil.copy(_new_library, Path(os.environ["ASSETMGR_HOME"]) / "library.db")
    # Broken files of tests stay so.
    monkeypatch.setattr("registry.scanning.scanner.STILL_SECONDS", 0.01)


@pytest.fixture(scope="session", autouse=True)
def _hub_client() -> Iterator[None]:
    """huggingface_hub keeps its connections for the whole process."""
    yield
    if "huggingface_hub" in sys.modules:
        sys.modules["huggingface_hub"].close_session()


@dataclass(frozen=True)
class Done:
    """What a run of the program said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout; more or less than one is a failure."""
        return json.loads(self.out)

    @property
    def errors(self) -> list[str]:
        """The `error:` lines."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


Program = Callable[..., Done]
Scan = Callable[[Path], None]


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Program:
    """Run the program in this process."""

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        code = run([os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments])
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def _scanned(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """Folders that were scanned, with a library of each."""
    return {Path(): tmp_path_factory.mktemp("scanned")}


@pytest.fixture
def scan(program: Program, _scanned: dict[Path, Path]) -> Scan:
    """`assetmgr scan` of a folder whose files no test changes, once for all that begin with it."""

    def call(folder: Path) -> None:
        library = Path(os.environ["ASSETMGR_HOME"]) / "library.db"
        if folder not in _scanned:
            assert program("scan", folder).code == 0
            known = _scanned[Path()] / f"{len(_scanned)}.db"
            _scanned[folder] = Path(shutil.copy(library, known))
        shutil.copy(_scanned[folder], library)

    return call


@pytest.fixture
def process() -> Callable[..., Done]:
    """Run the program as a process of its own."""

    def call(*arguments: object, env: Mapping[str, str] | None = None, code: str = "") -> Done:
        command = ["-c", code] if code else ["-m", "assetmgr"]
        done = subprocess.run(
            [sys.executable, *command, *map(str, arguments)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def quick_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` without the seconds that importing torch takes."""
    answer = '{"torch": "2.9", "cuda": [["H200", 150000000000]], "mps": false}'
    monkeypatch.setattr("assetmgr.operations.doctor.machine.PROBE", f"print({answer!r})")


@pytest.fixture(scope="session")
def dying() -> Iterator[Dying]:
    """Runs the program as a process that dies at a step of its own."""
    killed = Dying()
    yield killed
    killed.close()


@dataclass(frozen=True)
class Models:
    """Files that tests read and never change."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """A small SD1 checkpoint, safetensors."""
        return self.folder / "base.safetensors"

    @property
    def pickled(self) -> Path:
        """The same with EMA and training leftovers, as a Lightning `.ckpt`."""
        return self.folder / "old.ckpt"

    @property
    def lora(self) -> Path:
        """A LoRA of UNet and text encoder."""
        return self.folder / "style.safetensors"

    @property
    def unet_lora(self) -> Path:
        """A LoRA of the UNet alone."""
        return self.folder / "unet-style.safetensors"

    @property
    def sdxl_lora(self) -> Path:
        """A LoRA for another family."""
        return self.folder / "xl.safetensors"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    made = Models(tmp_path_factory.mktemp("models"))
    cli_models.checkpoint(made.checkpoint, metadata={"author": "somebody"})
    cli_models.pickled_checkpoint(made.pickled)
    cli_models.lora(made.lora, metadata={"ss_output_name": "style"})
    cli_models.lora(made.unet_lora, text=False)
    cli_models.sdxl_lora(made.sdxl_lora)
    return made


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[CivitaiServer]:
    """A Civitai of this test's own, still empty."""
    with CivitaiServer() as server:
        monkeypatch.setenv("CIVITAI_ENDPOINT", server.url)
        yield server


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nothing is waited for; what would have been is added up."""
    waited: list[float] = []
    clock = [0.0]

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return waited


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    """Whose answers are scripted; see `helpers.transferring`."""
    with ScriptedServer(CONTENT.proper) as running:
        yield running


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch, server: ScriptedServer) -> list[float]:
    """The seconds that would have been waited."""
    waited: list[float] = []
    monkeypatch.setattr(Web, "pause", lambda _, seconds, progress: waited.append(seconds))
    reset(server)
    return waited


@pytest.fixture(scope="session")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An SD1 embedding of two vectors."""
    data = os.urandom(2 * 768 * 2)
    tensor = LazyTensor(DType.F16, (2, 768), (Extent(MemoryBytes(data), 0, len(data)),), "made")
    target = tmp_path_factory.mktemp("hub") / "gem.safetensors"
    write_safetensors(StateDict({"emb_params": tensor}), target)
    return target.read_bytes()


@pytest.fixture
def hub(embedding: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub with one repository, org/gems; files that need others have one of their own."""
    files = {"gem.safetensors": embedding, "README.md": b"# Gems"}
    with HubServer("org/gems", files) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setattr(Web, "pause", lambda _, seconds, progress: progress.advance(0))
        monkeypatch.setattr(hub_client, "pause", lambda seconds, progress: progress.advance(0))
        yield server

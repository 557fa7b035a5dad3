"""What a user installs: four packages, their data, and nothing else."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    builder = WheelBuilder(str(PROJECT))
    built = next(
        builder.build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    )
    return zipfile.ZipFile(built)


def test_the_wheel_holds_our_four_packages_and_no_other_name(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "assetmgr",
        "converters",
        "registry",
        "tui",
    }


@pytest.mark.parametrize("package", ["assetmgr", "converters", "registry", "tui"])
def test_every_package_is_marked_as_typed(wheel: zipfile.ZipFile, package: str) -> None:
    assert f"{package}/py.typed" in wheel.namelist()


def test_every_tracked_data_file_of_the_packages_is_installed(wheel: zipfile.ZipFile) -> None:
    """A file that lies in a package but not in the wheel works for us and fails for users."""
    packed = set(wheel.namelist())
    lying = {
        path.relative_to(PROJECT).as_posix()
        for package in ("assetmgr", "converters", "registry", "tui")
        for path in (PROJECT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert lying - packed == set()


def test_the_licence_travels_with_the_wheel(wheel: zipfile.ZipFile) -> None:
    licences = [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]
    assert len(licences) == 1
    assert b"Apache License" in wheel.read(licences[0])

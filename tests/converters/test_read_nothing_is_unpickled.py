"""No code of ours unpickles, evaluates or loads a file by a library that would."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("converters", "registry", "assetmgr", "tui")
MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "pickletools",
    "joblib",
    "dill",
    "cloudpickle",
    "shelve",
    "marshal",
}
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    ("pickle", "load"), ("pickle", "loads"), ("pickle", "Unpickler"), ("torch", "load"),
    ("torch", "hub"), ("np", "load"), ("numpy", "load"), ("yaml", "load"), ("jit", "load"),
}  # fmt: skip


def offences(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(f"from {node.module}")
        elif isinstance(node, ast.ImportFrom) and node.module == "torch":
            found += [alias.name for alias in node.names if alias.name == "load"]
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS
        ):
            found.append(node.func.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, (ast.Name, ast.Attribute)):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if (owner, node.attr) in ATTRIBUTES:
                found.append(f"{owner}.{node.attr}")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_unpickles_or_evaluates(package: str) -> None:
    found = {
        str(path.relative_to(ROOT)): names
        for path in sorted((ROOT / package).rglob("*.py"))
        if (names := offences(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "eval('1')",
        "import numpy as np\nnp.load('x')",
        "import torch\ntorch.jit.load('x')",
    ],
)
def test_the_scan_sees_what_it_looks_for(source: str) -> None:
    assert offences(source)

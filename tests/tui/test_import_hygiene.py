"""The first frame waits for no library that only an operation needs."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "torch",
    "diffusers",
    "transformers",
    "huggingface_hub",
    "httpx",
    "httpx2",
    "alembic",
    "safetensors",
    "registry.records",
)


def test_importing_the_program_loads_nothing_heavy() -> None:
    code = f"import sys, tui.app; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

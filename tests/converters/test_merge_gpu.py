"""A merge computed on a CUDA device is that of the CPU. Run by `make gpu`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.adapters import adapter
from helpers.sd1 import (
    SMALL,
    checkpoint_shapes,
    kohya_modules,
    kohya_text_modules,
    lora_shapes,
    random_fill,
    state_dict,
)

from converters.compute import value
from converters.containers import open_model
from converters.dtypes import DType
from converters.merge import AdapterChoice, plan_merge
from converters.statedict import StateDict
from converters.writers.safetensors import write_safetensors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

MODULES = kohya_modules(SMALL, convolutions=True) | kohya_text_modules(SMALL)
QUERY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def _choices() -> list[AdapterChoice]:
    fill = random_fill(DType.F32, 0.1)
    first, second = (state_dict(lora_shapes(MODULES, r), DType.F32, fill=fill) for r in (4, 7))
    other: dict[str, StateDict] = {
        "oft": adapter({f"{QUERY}.oft_blocks": torch.randn(8, 4, 4) * 0.1}),
        "loha": adapter(
            {
                f"{QUERY}.hada_w{half}_{part}": torch.randn(*shape)
                for half in (1, 2)
                for part, shape in (("a", (32, 4)), ("b", (4, 32)))
            }
        ),
    }
    return [
        AdapterChoice("first", first, 0.7),
        *(AdapterChoice(name, state) for name, state in other.items()),
        AdapterChoice("second", second, -0.3),
    ]


@pytest.mark.parametrize("dtype", [DType.F32, DType.F16])
def test_a_merge_is_that_of_the_cpu(dtype: DType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = state_dict(checkpoint_shapes(SMALL), dtype, fill=random_fill(dtype))
    choices = _choices()
    here, there = (plan_merge(base, choices, device=device) for device in ("cpu", "cuda"))
    target = tmp_path / "merged.safetensors"
    write_safetensors(there.state_dict, target)
    written = open_model(target).state_dict
    for name in here.changed:
        expected = value(here.state_dict[name])
        torch.testing.assert_close(value(written[name]), expected, rtol=2e-3, atol=1e-5)
    for number in range(len(choices)):
        one, other = here.measured(number), there.measured(number)
        assert one.norm == pytest.approx(other.norm, rel=1e-4)

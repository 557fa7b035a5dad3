"""Models that are sampled in few steps are known by their names."""

import pytest

from assetmgr.sampler.models.few_steps import FEW_STEPS, few_steps
from assetmgr.sampler.rendering.solvers import solver_named


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("LCM_Dreamshaper_v7", "LCM"),
        ("lcm-lora-sdv1-5", "LCM"),
        ("sdxl_turbo_fp16", "Euler a"),
        ("Hyper-SD15-8steps", "Euler a"),
        ("sdxl_lightning_4step", "Euler a"),
        ("lightning bolts", None),
        ("hyperrealism", None),
        ("calcmodel", None),
        ("v1-5-pruned", None),
    ],
)
def test_a_name_tells_whether_few_steps_are_enough(name: str, solver: str | None) -> None:
    found = few_steps("shapes", name)
    assert (None if found is None else found.solver) == solver


def test_every_row_is_a_way_that_its_sampler_can_go() -> None:
    for row in FEW_STEPS:
        assert row.steps <= solver_named(row.solver).most_steps

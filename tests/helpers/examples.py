"""How many examples a law is tried with: some in every run, many more in `make fuzz`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

USUAL = 30
"""Of what says nothing else; enough to find what is plainly wrong."""


def register_profiles() -> None:
    """`everyday`, which is loaded, and `thorough` for `pytest --hypothesis-profile=thorough`."""
    # A machine that is busy with other things is slow, and nothing is wrong with the program then.
    patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("everyday", patient, max_examples=USUAL)
    settings.register_profile("thorough", patient, max_examples=20 * USUAL)
    settings.load_profile("everyday")


def examples(count: int, **others: object) -> settings:
    """So many of them in every run, and accordingly many in a thorough one."""
    return settings(max_examples=count * settings().max_examples // USUAL, **others)  # type: ignore[arg-type]

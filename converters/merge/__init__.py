"""Combining models: plans that read nothing until the result is written."""

from converters.merge.into_checkpoint import (
    AdapterChoice,
    AdapterReport,
    MergePlan,
    plan_merge,
)

__all__ = ["AdapterChoice", "AdapterReport", "MergePlan", "plan_merge"]

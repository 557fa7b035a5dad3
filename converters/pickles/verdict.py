"""What a verdict on a file is; `converters.pickles.safety` comes to it.

A place of its own: most model files hold no pickle, and need not load what follows pickles.

safe        only tensors, plain containers and data classes known to do nothing on loading
suspicious  unknown classes or functions, streams that break off, unexpected bytes
dangerous   names that run code, open resources or reach into the interpreter
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How safe it would be to unpickle the file."""

    SAFE = "safe"
    SUSPICIOUS = "suspicious"
    DANGEROUS = "dangerous"


@dataclass(frozen=True, slots=True)
class SafetyReport:
    """The verdict, every name the file mentions (dotted), and the reasons in words."""

    verdict: Verdict
    imports: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


SAFE_NO_CODE = SafetyReport(Verdict.SAFE)
"""For formats that cannot hold code."""

Finding = tuple[Verdict, str]


def together(reports: Mapping[str, SafetyReport]) -> SafetyReport:
    """The report on a model in several files, by name: the worst verdict, the gravest first."""
    rank = list(Verdict).index
    ordered = sorted(reports.items(), key=lambda item: -rank(item[1].verdict))
    return SafetyReport(
        worst(report.verdict for report in reports.values()),
        tuple(dict.fromkeys(name for _, report in ordered for name in report.imports)),
        tuple(f"{file}: {finding}" for file, report in ordered for finding in report.findings),
    )


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest of them; safe where there are none."""
    return max(verdicts, key=list(Verdict).index, default=Verdict.SAFE)

"""The verdict on a pickle: what would happen if an ordinary loader unpickled the file."""

from __future__ import annotations

from collections.abc import Iterable

from converters.pickles.listing import hidden
from converters.pickles.names import PYTHON_2, danger, is_class_name, is_harmless
from converters.pickles.unpickling import Unpickled, unpickle
from converters.pickles.values import Global
from converters.pickles.verdict import Finding, SafetyReport, Verdict, worst


def judge(streams: Iterable[Unpickled], findings: Iterable[Finding] = ()) -> SafetyReport:
    """The report on a file from the streams in it and what its container showed besides."""
    names: dict[str, None] = {}
    reasons: dict[str, Verdict] = {}
    for stream in streams:
        for name in (*stream.names, *stream.buried):
            names[name.shown] = None
        reasons.update((reason, verdict) for verdict, reason in _findings(stream))
    reasons.update((reason, verdict) for verdict, reason in findings)
    return SafetyReport(worst(reasons.values()), tuple(names), _in_order(reasons))


def after_stop(data: bytes, end: int) -> list[Finding]:
    """What the bytes after a pickle's STOP hold: no loader runs them here, but another might."""
    if end >= len(data):
        return []
    found = [(Verdict.SUSPICIOUS, f"{len(data) - end} bytes follow the end of the pickle")]
    following = unpickle(data, end)
    reasons = [*_findings(following)] if following.names or following.remarks else []
    reasons += [reason for name in hidden(data, end) if (reason := judge_name(name))]
    return found + [(verdict, f"after its end: {reason}") for verdict, reason in reasons]


def judge_name(name: Global, *, called: bool = True) -> Finding | None:
    """What a name in a pickle means: None for harmless ones."""
    module = PYTHON_2.get(name.module, name.module)
    if is_harmless(module, name.name):
        return None
    reason = danger(module, name.name)
    if reason is not None:
        return Verdict.DANGEROUS, f"{name.shown} {reason}"
    what = "an unknown class" if is_class_name(name.name) else "unknown"
    use = "called" if called else "named"
    return Verdict.SUSPICIOUS, f"{name.shown} is {what} and {use}; it was left out"


def _findings(stream: Unpickled) -> Iterable[Finding]:
    for name in stream.names:
        finding = judge_name(name, called=name in stream.called)
        if finding is not None:
            yield finding
    for name in stream.buried:
        finding = judge_name(name)
        if finding is not None:
            yield finding[0], f"a value holds another pickle: {finding[1]}"
    for remark in stream.remarks:
        yield Verdict.DANGEROUS, f"the pickle {remark}"
    if stream.stopped is not None:
        yield Verdict.SUSPICIOUS, f"the pickle cannot be followed: {stream.stopped.reason}"


def _in_order(reasons: dict[str, Verdict]) -> tuple[str, ...]:
    """The gravest reasons first."""
    rank = list(Verdict).index
    return tuple(sorted(reasons, key=lambda reason: -rank(reasons[reason])))

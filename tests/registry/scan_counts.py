"""What a scan says that it did, as tests compare it."""

from __future__ import annotations

from registry.scanning.scan_records import ScanReport


def counts(report: ScanReport) -> dict[str, int]:
    """The counters that are not zero."""
    names = ("added", "updated", "moved", "missing", "restored", "unchanged", "failed")
    return {name: getattr(report, name) for name in names if getattr(report, name)}

"""Conversions on the machines of a Ray cluster, which have the files under the same paths.

The machines read and write, nothing else: the library is written where the call was made.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from assetmgr.operations.convert.plan import ConvertPlan, ConvertRequest, plan_convert
from assetmgr.operations.convert.run import Converted, ConvertResult, registered, write_converted
from assetmgr.operations.derive import hashed_parent, known_parent
from assetmgr.operations.distribution import Lost, spread
from assetmgr.operations.failures import Failure
from converters.errors import AssetmgrError
from converters.progress import SILENT, Progress
from converters.transform.metadata import Parent

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


@dataclass(frozen=True, slots=True)
class RemoteConversion:
    """A conversion for another machine: the request for it alone, and what is known of its parents.

    `number` is its place in the plan.
    """

    number: int
    request: ConvertRequest
    parents: tuple[Parent | None, ...]
    verify: bool


def run_converts_on_ray(
    workspace: Workspace,
    plans: Sequence[ConvertPlan],
    request: ConvertRequest,
    address: str,
    progress: Progress = SILENT,
    *,
    verify: bool = False,
) -> Iterator[ConvertResult | Failure]:
    """Run plans of a request, each a task of its own; results come as they are ready.

    Raises NotAvailable without ray or cluster, and Cancelled.
    """
    started = time.perf_counter()
    groups = [
        [_remote(workspace, number, plan, request, verify=verify)]
        for number, plan in enumerate(plans)
    ]
    for sent, result in spread(address, groups, convert_part, progress, on_gpu=False):
        plan = plans[sent.number]
        if isinstance(result, Lost):
            cause = f"the machines that converted this were lost each time ({result.cause})"
            yield Failure(str(plan.source), cause, AssetmgrError.code, None, item=str(plan.source))
        elif isinstance(result, Failure):
            yield replace(result, item=str(plan.source))
        else:
            yield _registered(workspace, plan, result, started)


def _registered(
    workspace: Workspace, plan: ConvertPlan, made: Converted, started: float
) -> ConvertResult | Failure:
    try:
        return registered(workspace, plan, made, started)
    except AssetmgrError as error:
        return Failure.of(error, plan.source)


def _remote(
    workspace: Workspace, number: int, plan: ConvertPlan, request: ConvertRequest, *, verify: bool
) -> RemoteConversion:
    alone = replace(
        request,
        sources=(str(plan.source.absolute()),),
        output=plan.target.absolute(),
        output_dir=None,
        recursive=False,
    )
    parents = tuple(known_parent(workspace, path) for path in plan.parent_paths)
    return RemoteConversion(number, alone, parents, verify)


def convert_part(items: Sequence[RemoteConversion]) -> Iterator[Converted | Failure]:
    """On a machine of the cluster: plan again from the headers, and write."""
    for item in items:
        try:
            yield _converted(item)
        except AssetmgrError as error:
            yield Failure.of(error, item.request.sources[0])


def _converted(item: RemoteConversion) -> Converted | Failure:
    plan = next(iter(plan_convert(item.request)))
    if isinstance(plan, Failure):
        return plan
    parents = [
        known or hashed_parent(path)
        for known, path in zip(item.parents, plan.parent_paths, strict=True)
    ]
    return write_converted(plan, parents, verify=item.verify)

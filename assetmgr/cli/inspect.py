"""`assetmgr inspect`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping

import click

from assetmgr.cli import completion
from assetmgr.cli.options import Session, common_options
from assetmgr.operations.inspect import Inspection, inspect_paths
from assetmgr.operations.statistics import tensor_statistics
from assetmgr.text import plain, size
from converters.identify.about import About, about
from converters.identify.compatibility import Compatibility
from converters.progress import Progress
from converters.statistics import Statistics

Known = Mapping[str, Statistics | None]
"""Name of a tensor -> what its numbers are like."""

_SHOWN = 3
_LONGEST = 300


@click.command(epilog="Example: assetmgr inspect --json ~/models/*.safetensors")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=completion.file)
@click.option("--tensors", is_flag=True, help="List every tensor.")
@click.option(
    "--statistics", is_flag=True, help="List every tensor with what its numbers are like (reads)."
)
@click.option("--hash", "with_hashes", is_flag=True, help="Hash the files too (reads them).")
@click.option(
    "--with",
    "checkpoint",
    metavar="CHECKPOINT",
    help="Say whether the files fit this checkpoint, and what they would change in it.",
)
@common_options
@click.pass_obj
def inspect(
    session: Session,
    paths: tuple[str, ...],
    tensors: bool,
    statistics: bool,
    with_hashes: bool,
    checkpoint: str | None,
) -> int:
    """Say what files are, and whether they are safe, reading headers only.

    Folders mean the model files in them. Nothing is registered, nothing in a file is ever run.
    """
    found = []
    with session.progress() as progress:
        for inspection in inspect_paths(
            paths, with_hashes=with_hashes, checkpoint=checkpoint, progress=progress
        ):
            if inspection.failure:
                session.fail(inspection.failure)
            known = _statistics(inspection, progress) if statistics else None
            found.append(_document(inspection, known, tensors=tensors, hashes=with_hashes))
            if not session.as_json and inspection.nbytes is not None:  # else the error says it all
                print_inspection(session, inspection, tensors=tensors, statistics=known)
    if not found:
        session.warn("no model files there")
    if session.as_json:
        session.output.document(found)
    return session.status


def _statistics(inspection: Inspection, progress: Progress) -> Known:
    if inspection.model is None:
        return {}
    return dict(tensor_statistics(inspection.model.state_dict, progress=progress))


def _document(
    inspection: Inspection, known: Known | None, *, tensors: bool, hashes: bool
) -> dict[str, object]:
    document = inspection.to_json(tensors=tensors or known is not None, hashes=hashes)
    listed = document.get("tensor_list")
    for entry in listed if known is not None and isinstance(listed, list) else ():
        numbers = known.get(entry["name"]) if known else None
        entry["statistics"] = None if numbers is None else numbers.to_json()
    return document


def print_inspection(
    session: Session, inspection: Inspection, *, tensors: bool, statistics: Known | None = None
) -> None:
    """What is inside of a file, for people."""
    out = session.output
    out.line(plain(str(inspection.path)))
    out.fields(_fields(inspection), indent="  ")
    if inspection.model and (tensors or statistics is not None):
        for name, tensor in inspection.model.state_dict.items():
            out.line(f"  {tensor.dtype.label:<6} {list(tensor.shape)!s:<24} {plain(name)}")
            numbers = statistics.get(name) if statistics else None
            if numbers is not None and numbers.mean is not None:
                out.line(f"  {'':6} {_numbers(numbers)}")
    out.line()


def _numbers(found: Statistics) -> str:
    said = (
        f"{found.minimum:.4g} .. {found.maximum:.4g}  "
        f"mean {found.mean:.4g}  deviation {found.deviation:.4g}  zeros {found.zeros:,}"
    )
    return said + (f"  NOT FINITE {found.non_finite:,}" if found.non_finite else "")


def _fields(inspection: Inspection) -> list[tuple[str, str]]:
    document = inspection.to_json()
    identity, model, safety = inspection.identity, inspection.model, inspection.safety
    fields = [("kind", "unknown"), ("size", size(inspection.nbytes))]
    if identity and model:
        fields = [
            ("kind", _kind(inspection)),
            ("algorithm", ", ".join(identity.algorithm)),
            ("rank", str(identity.rank or "")),
            ("container", f"{model.container}, {size(model.nbytes)}"),
            ("layout", identity.layout or ""),
            ("tensors", f"{len(model.state_dict)} ({model.state_dict.parameters:,} parameters)"),
            ("dtypes", ", ".join(f"{n} {t}" for t, n in _counts(document["dtypes"]))),
            ("parts", ", ".join(f"{c.name} {c.parameters:,}" for c in identity.components)),
            ("trigger words", ", ".join(identity.trigger_words)),
            *_about(about(model.state_dict)),
            ("evidence", "; ".join(identity.evidence)),
        ]
    if safety:
        fields.append(("safety", "; ".join([safety.verdict.value, *safety.findings])))
    fields += [("problem", str(text)) for text in _texts(document["problems"])]
    fields += _fitting(inspection.compatibility)
    hashes = document.get("hashes")
    if isinstance(hashes, dict):
        fields += [(name, value or "") for name, value in hashes.items()]
    return fields


def _about(found: About) -> list[tuple[str, str]]:
    """The author's words, long ones cut, and the training settings in one line."""
    settings = (
        f"{word.replace('_', ' ')} {value if isinstance(value, str) else json.dumps(value)}"
        for word, value in found.training.items()
    )
    return [
        ("title", found.title or ""),
        ("author", found.author or ""),
        ("description", textwrap.shorten(found.description or "", _LONGEST, placeholder=" ...")),
        ("license", found.license or ""),
        ("usage", textwrap.shorten(found.usage or "", _LONGEST, placeholder=" ...")),
        ("tags", ", ".join(found.tags)),
        ("training", ", ".join(settings)),
    ]


def _fitting(found: Compatibility | None) -> list[tuple[str, str]]:
    """Whether an adapter fits, and the first of what it would change and leave over."""
    if found is None:
        return []
    verdict = {True: "yes", False: "no", None: "cannot be told"}[found.fits]
    return [
        ("fits", f"{verdict}: {found.reason}"),
        ("would change", _some("tensors", found.changed)),
        ("left over", _some("keys", found.unused)),
    ]


def _some(what: str, names: tuple[str, ...]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}"


def _kind(inspection: Inspection) -> str:
    identity = inspection.identity
    if identity is None:
        return "unknown"
    words = [identity.kind.value, identity.base.value, identity.variant or ""]
    return f"{' '.join(filter(None, words))} ({identity.confidence:.0%} sure)"


def _counts(value: object) -> list[tuple[str, int]]:
    return sorted(value.items()) if isinstance(value, dict) else []


def _texts(value: object) -> list[object]:
    return value if isinstance(value, list) else []

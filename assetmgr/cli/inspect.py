"""`assetmgr inspect`."""

from __future__ import annotations

import json
import textwrap

import click

from assetmgr.cli import completion
from assetmgr.cli.options import Session, common_options
from assetmgr.operations.inspect import Inspection, inspect_paths
from assetmgr.text import plain, size
from converters.identify.about import About, about
from converters.identify.compatibility import Compatibility

_SHOWN = 3
_LONGEST = 300


@click.command(epilog="Example: assetmgr inspect --json ~/models/*.safetensors")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=completion.file)
@click.option("--tensors", is_flag=True, help="List every tensor.")
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
            found.append(inspection.to_json(tensors=tensors))
            if not session.as_json:
                print_inspection(session, inspection, tensors=tensors)
    if not found:
        session.warn("no model files there")
    if session.as_json:
        session.output.document(found)
    return session.status


def print_inspection(session: Session, inspection: Inspection, *, tensors: bool) -> None:
    """What is inside of a file, for people."""
    out = session.output
    out.line(plain(str(inspection.path)))
    out.fields(_fields(inspection), indent="  ")
    if tensors and inspection.model:
        for name, tensor in inspection.model.state_dict.items():
            out.line(f"  {tensor.dtype.label:<6} {list(tensor.shape)!s:<24} {plain(name)}")
    out.line()


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

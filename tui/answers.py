"""Answers of forms as values, and what plans have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from converters.errors import AssetmgrError, BadValue, Cancelled, FileMissing
from tui.forms import Field, same
from tui.sections import Section, text

if TYPE_CHECKING:
    from assetmgr.operations.failures import Failure
    from converters.merge.low_rank import Size
    from converters.progress import Progress
    from registry.records import Asset


def place_of(asset: Asset) -> str:
    """Where an asset lies. Raises FileMissing."""
    if asset.path is None:
        raise FileMissing("all files of this asset are missing", path=asset.name)
    return asset.path


def title_of(verb: str, assets: Sequence[Asset]) -> str:
    """The title of a form.

    >>> title_of("Convert", [])
    'Convert 0 assets'
    """
    return f"{verb} {assets[0].name}" if len(assets) == 1 else f"{verb} {len(assets)} assets"


def beside(asset: Asset, ending: str) -> str:
    """A path for something new beside an asset's file."""
    return str(Path(place_of(asset)).with_suffix("")) + ending


def dtype_field(more: Iterable[str] = ()) -> Field:
    """The choice of a precision; `more` are those that only some containers have."""
    from assetmgr.operations.convert.change import DTYPES

    return Field("dtype", "precision", "keep", same(*DTYPES, *more))


def folder(answer: str) -> Path | None:
    """A folder, None for an empty line."""
    return Path(answer.strip()).expanduser() if answer.strip() else None


def file(answer: str) -> Path:
    """A file to be written. Raises BadValue."""
    if not answer.strip():
        raise BadValue("a file needs a name")
    return Path(answer.strip()).expanduser()


def whole(answer: str, what: str, most: int = 1 << 16, least: int = 1) -> int:
    """A whole number. Raises BadValue."""
    if not answer.strip().isdecimal() or not least <= int(answer) <= most:
        raise BadValue(f"{what} is a whole number, not {answer or 'nothing'}")
    return int(answer)


def number(answer: str, what: str) -> float:
    """A number. Raises BadValue."""
    try:
        return float(answer)
    except ValueError as error:
        raise BadValue(f"{what} is a number, not {answer or 'nothing'}") from error


def size_of_lora(answer: str) -> Size | None:
    """`32` is a rank, `0.95` or `95%` an energy, nothing keeps all. Raises BadValue."""
    from converters.merge.low_rank import Size

    said = answer.strip()
    if not said:
        return None
    if said.endswith("%"):
        return Size(energy=number(said[:-1], "an energy") / 100)
    return (
        Size(energy=number(said, "an energy")) if "." in said else Size(rank=whole(said, "a rank"))
    )


def problem(error: AssetmgrError) -> Section:
    """Why something cannot be done."""
    hint = () if error.hint is None else (("", text(error.hint, "$dim")),)
    return Section("Cannot be done", (("", text(error, "$error")), *hint))


def each(
    items: Iterable[object], run: Callable[..., object], progress: Progress
) -> tuple[list[object], int]:
    """Go through a batch: what came of it, and how many failed; failures go to the log.

    The failure of a batch of one is the job's own.
    """
    batch, done, failed = list(items), [], 0
    for item in batch:
        try:
            done.append(run(item))
        except Cancelled:
            raise
        except AssetmgrError as error:
            if len(batch) == 1:
                raise
            failed += 1
            progress.message(str(error))
    return done, failed


def tell(found: Iterable[object], progress: Progress, step: int = 0) -> tuple[list[object], int]:
    """What succeeded of results and failures, and how many failed; failures go to the log.

    Every result counts as `step` of the progress. Raises the last failure where nothing succeeded.
    """
    from assetmgr.operations.failures import Failure

    done, failed = [], 0
    last: Failure | None = None
    for result in found:
        progress.advance(step)
        if isinstance(result, Failure):
            failed, last = failed + 1, result
            progress.message(f"{result.path}: {result.error}")
        else:
            done.append(result)
    if last is not None and not done:
        raise AssetmgrError(last.error, path=last.path, hint=last.hint)
    return done, failed


def summed(count: int, what: str, failed: int) -> str:
    """What became of a batch.

    >>> summed(3, "moved", 1)
    '3 moved, 1 failed'
    """
    return f"{count:,} {what}" + (f", {failed:,} failed" if failed else "")


def told(failure: Failure, progress: Progress, *, alone: bool) -> None:
    """The failure of a batch goes to the log; that of a batch of one is the job's own."""
    if alone:
        raise AssetmgrError(failure.error, path=failure.path, hint=failure.hint)
    progress.message(f"{failure.path}: {failure.error}")


def summed_verdicts(verdicts: Sequence[str]) -> str:
    """What became of a batch: its only verdict, or how many were of each.

    >>> summed_verdicts(["ok in 2.0 s"]), summed_verdicts(["ok", "failed", "ok"])
    ('ok in 2.0 s', '1 failed, 2 ok')
    """
    if len(verdicts) == 1:
        return verdicts[0]
    return ", ".join(f"{verdicts.count(word)} {word}" for word in sorted(set(verdicts)))

"""The terminal UI on a large library: first paint, keystrokes, scrolling, memory.

First paint is that of a whole process on a terminal of its own; the others are measured inside of
a process that draws to no terminal. A keystroke lasts from the key as Textual's driver hands it
over until the screen was composed that shows the rows it finds; and until it also says how many
these are. A frame lasts from the move until the screen with the list drawn anew, without Textual's
wait for its next tick.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import hashlib
import json
import os
import pty
import select
import statistics
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from assetmgr.__main__ import NEW_OBJECTS
from benchmarks.measure import Case, Result, python, run

ASSETS = 100_000
COLUMNS, LINES = 120, 40
FRAMES = 200
TYPED = ("ink", "kind:lora neon", "base:sdxl tag:ink", "size:>300mb city", "dream v7")
GOALS = {"paint": 0.8, "rows": 0.8, "keystroke": 40.0, "frame": 16.0, "memory": 120.0}
_WORDS = ("anime", "ink", "wash", "pastel", "vision", "detail", "style", "hands", "neon", "city")
_KINDS = ("lora",) * 7 + ("checkpoint", "embedding", "vae")
_BASES = ("sd-1", "sdxl", "flux", "sd-3", "unknown")
_NAMES = {" ": "space", ":": "colon", ">": "greater_than_sign"}
_BATCH = 10_000
_PATIENCE = 30.0
_FRAME_MARK, _ROW_MARK = b"filter", b"anime "


def tui(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """Everything, on a library of `scale` times 100,000 assets."""
    home = scratch / "tui home"
    home.mkdir()
    assets = max(round(ASSETS * scale), 100)
    run(Case("library", python("-m", "benchmarks.tui", "build", str(home), str(assets))))
    _first(home)
    paints, rows = zip(*(_first(home) for _ in range(max(rounds, 3))), strict=True)
    yield _result("first paint", statistics.median(paints), "s", "paint", paints)
    yield _result("first rows", statistics.median(rows), "s", "rows", rows)
    report = scratch / "tui.json"
    run(Case("session", python("-m", "benchmarks.tui", "session", str(home), str(report))))
    found = json.loads(report.read_text())
    report.unlink()
    yield _result("keystroke to rows, p95", _p95(found["rows"]), "ms", "keystroke")
    yield _result("keystroke to rows, median", statistics.median(found["rows"]), "ms")
    yield _result("keystroke to number, p95", _p95(found["numbers"]), "ms")
    yield _result("keystroke to number, median", statistics.median(found["numbers"]), "ms")
    yield _result("the search alone, p95", _p95(found["searches"]), "ms")
    yield _result("the search alone, median", statistics.median(found["searches"]), "ms")
    yield _result("a frame of scrolling, p95", _p95(found["frames"]), "ms", "frame")
    yield _result("a frame of the grid, p95", _p95(found["tiles"]), "ms", "frame")
    yield _result("memory, peak resident", found["memory"], "MB", "memory")


def _result(
    case: str, value: float, unit: str, goal: str = "", seconds: tuple[float, ...] = ()
) -> Result:
    return Result("tui", case, value, unit, GOALS.get(goal), seconds)


def _p95(values: list[float]) -> float:
    return sorted(values)[min(round(len(values) * 0.95), len(values) - 1)]


# ---- a whole process on a terminal


def _first(home: Path) -> tuple[float, float]:
    """Seconds from starting the process to its first frame, and to the first row of the list."""
    started = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        # As installed: a package manager leaves compiled modules behind.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ.update(
            ASSETMGR_HOME=str(home),
            TERM="xterm-256color",
            PYTHONPYCACHEPREFIX=str(home / "compiled"),
        )
        os.execv(sys.executable, python("-m", "assetmgr", "tui"))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    seen: dict[bytes, float] = {}
    output = b""
    while len(seen) < 2 and time.perf_counter() - started < _PATIENCE:
        if select.select([terminal], [], [], 0.05)[0]:
            output += os.read(terminal, 1 << 16)
            now = time.perf_counter() - started
            for mark in (_FRAME_MARK, _ROW_MARK):
                if mark in output:
                    seen.setdefault(mark, now)
    os.write(terminal, b"\x11")
    with suppress(OSError):
        while os.read(terminal, 1 << 16):
            pass
    os.waitpid(pid, 0)
    os.close(terminal)
    return seen.get(_FRAME_MARK, _PATIENCE), seen.get(_ROW_MARK, _PATIENCE)


# ---- inside of a process


async def _session(report: Path) -> None:
    from assetmgr.workspace import Workspace
    from tui.app import AssetManagerApp
    from tui.widgets.asset_list import AssetList
    from tui.widgets.browser import Browser

    with Workspace.open() as workspace:
        app = AssetManagerApp(workspace)
        app.animation_level = "none"
        async with app.run_test(size=(COLUMNS, LINES)) as pilot:
            await _until(lambda: len(app.screen_stack) > 1)
            assets, browser = app.screen.query_one(AssetList), app.screen.query_one(Browser)
            await _until(lambda: assets.loaded)
            watch, move = _Watch(app, assets), assets.action_move_page
            frames = [await _frame(pilot, watch, move) for _ in range(FRAMES)]
            browser.tiled = True
            assets.action_move_to_start()
            tiles = [await _frame(pilot, watch, move) for _ in range(FRAMES)]
            browser.tiled = False
            typed = [each async for each in _typing(pilot, browser, watch)]
        memory = _peak_megabytes()
        searches = [_searching(workspace.library.search, text) for text in _typed()]
    found = {
        "rows": [rows for rows, _ in typed],
        "numbers": [number for _, number in typed],
        "searches": searches,
        "frames": frames,
        "tiles": tiles,
        "memory": memory,
    }
    report.write_text(json.dumps(found))


async def _until(happened: Callable[[], object]) -> None:
    started = time.perf_counter()
    while not happened():
        if time.perf_counter() - started > _PATIENCE:
            raise TimeoutError
        await asyncio.sleep(0.001)


async def _frame(pilot, watch, move) -> float:  # type: ignore[no-untyped-def]
    """Milliseconds of work from moving by a page to the screen with the list drawn anew."""
    watch.painted = 0.0
    started = time.perf_counter()
    move(1)
    while not watch.painted:
        await asyncio.sleep(0)
        pilot.app.screen._on_timer_update()  # noqa: SLF001 - draws what has changed, now
    spent = watch.painted - started
    await asyncio.sleep(0.03)  # the page comes
    return spent * 1000


class _Watch:
    """When the list was last painted; when it first showed what a filter finds, and how many."""

    def __init__(self, app, assets) -> None:  # type: ignore[no-untyped-def]
        self._wanted: str | None = None
        self.rows = self.number = self.painted = 0.0
        drawn: list[object] = []  # since the last display
        shown: list[object] = [None]
        render_lines, display = assets.render_lines, app._display  # noqa: SLF001

        def rendering(crop):  # type: ignore[no-untyped-def]
            drawn.append(assets._listing)  # noqa: SLF001
            return render_lines(crop)

        def displaying(screen, update):  # type: ignore[no-untyped-def]
            display(screen, update)
            now = time.perf_counter()
            if drawn:
                shown[0], self.painted = drawn[-1], now
                drawn.clear()
            listing = shown[0]
            if listing is not None and listing.view.text == self._wanted:  # type: ignore[attr-defined]
                self.rows = self.rows or now
                if listing.total is not None:  # type: ignore[attr-defined]
                    self.number = self.number or now

        assets.render_lines, app._display = rendering, displaying  # noqa: SLF001

    def want(self, text: str) -> None:
        """Wait for what this filter finds."""
        self._wanted, self.rows, self.number = text, 0.0, 0.0


async def _typing(pilot, browser, watch):  # type: ignore[no-untyped-def]
    """Milliseconds from each key in the filter to the rows that it finds, and to their number."""
    from textual import events

    await pilot.press("slash")
    for text in TYPED:
        await asyncio.sleep(0.3)
        for key in text:
            watch.want(browser.view.text + key)
            started = time.perf_counter()
            pilot.app.post_message(events.Key(_NAMES.get(key, key), key))
            with suppress(TimeoutError):  # a filter that is only half typed shows nothing new
                async with asyncio.timeout(1):
                    await _until(lambda: watch.number)
                    yield (watch.rows - started) * 1000, (watch.number - started) * 1000
            await asyncio.sleep(0.12)
        pilot.app.screen.focused.value = ""


def _typed() -> Iterator[str]:
    """Every filter that is shown while `TYPED` is typed and means something."""
    for text in TYPED:
        whole = (text[:end] for end in range(1, len(text) + 1))
        yield from (each for each in whole if not each.endswith((":", ">")))


def _searching(search: Callable[..., object], text: str) -> float:
    """Milliseconds of the search alone; of what means nothing yet, those of saying so."""
    from converters.errors import BadValue

    started = time.perf_counter()
    with suppress(BadValue):
        search(text, limit=128)
    return (time.perf_counter() - started) * 1000


def _peak_megabytes() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


# ---- the library


def _build(home: Path, assets: int) -> None:
    """A library with so many assets, written straight into its tables."""
    from sqlalchemy import create_engine, insert

    from registry.library import Library
    from registry.tables import schema

    url = f"sqlite:///{home / 'library.db'}"
    Library.open(url).close()
    picture = home / "preview.webp"
    _draw(picture)
    tables = (
        schema.asset,
        schema.asset_metadata,
        schema.asset_search,
        schema.file,
        schema.tag,
        schema.preview,
    )
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(insert(schema.root).values(machine="", path="/models"))
        for first in range(1, assets + 1, _BATCH):
            numbers = range(first, min(first + _BATCH, assets + 1))
            rows = [_rows(n) | _preview(n, picture) for n in numbers]
            for table in tables:
                values = [each[table.name] for each in rows if table.name in each]
                connection.execute(insert(table), values)
    engine.dispose()


def _draw(path: Path) -> None:
    """A picture as the sampler keeps them."""
    from PIL import Image

    Image.effect_mandelbrot((512, 512), (-2, -1.5, 1, 1.5), 60).convert("RGB").save(path)


def _preview(number: int, picture: Path) -> dict[str, dict[str, object]]:
    """Of two assets one has been rendered."""
    if number % 2:
        return {}
    row: dict[str, object] = {
        "asset_id": number,
        "path": str(picture),
        "thumbnail": str(picture),
        "seed": 1,
        "prompt": "a red circle",
        "verdict": "ok" if number % 10 else "failed",
        "checks": [],
        "parameters": {},
    }
    return {"preview": row}


def _rows(number: int) -> dict[str, dict[str, object]]:
    """The rows of one asset, by table."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    kind, word = _KINDS[number % len(_KINDS)], _WORDS[number % len(_WORDS)]
    name = f"{word} {_WORDS[number // 7 % len(_WORDS)]} {digest[:8]} v{number % 9}"
    path = f"/models/{kind}/{word}/{name}.safetensors"
    moment = datetime(2026, 1, 1) + timedelta(minutes=number)  # noqa: DTZ001 - as the tables keep it
    nbytes = 1000 * (number * 7919 % 700_000 + 1)
    empty = ("components", "evidence", "problems", "safety_imports", "safety_findings")
    asset: dict[str, object] = {
        "id": number,
        "blake3": digest[::-1],
        "sha256": digest,
        "crc32": digest[:8],
        "autov1": digest[8:16],
        "autov3": digest,
        "name": name,
        "name_folded": name,
        "kind": kind,
        "base": _BASES[number % len(_BASES)],
        "prediction": "epsilon",
        "layout": "kohya",
        "container": "safetensors",
        "bytes": nbytes,
        "rank": 16,
        "tensors": 264,
        "parameters": nbytes // 2,
        "confidence": 1.0,
        "safety": "safe",
        "added": moment,
        "updated": moment,
        "algorithm": ["lora"] if kind == "lora" else [],
        "dtypes": {"F16": 264},
        "trigger_words": [word],
        **{column: [] for column in empty},
    }
    place = {
        "machine": "",
        "path": path,
        "path_folded": path,
        "asset_id": number,
        "bytes": nbytes,
        "mtime_ns": 0,
        "inode": str(number),
        "state": "present",
    }
    rows: dict[str, dict[str, object]] = {
        "asset": asset,
        "asset_metadata": {"asset_id": number, "metadata": {"ss_output_name": name}},
        "asset_search": {"asset_id": number, "text": f"{name}\n{word}"},
        "file": place,
    }
    if number % 3 == 0:
        rows["tag"] = {"asset_id": number, "name": _WORDS[number // 3 % len(_WORDS)]}
    return rows


if __name__ == "__main__":
    verb, place, last = sys.argv[1:]
    if verb == "build":
        _build(Path(place), int(last))
    else:
        os.environ["ASSETMGR_HOME"] = place
        gc.set_threshold(NEW_OBJECTS)  # this and the next as `assetmgr tui` does
        gc.disable()
        asyncio.run(_session(Path(last)))

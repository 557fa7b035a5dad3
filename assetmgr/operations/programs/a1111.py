"""AUTOMATIC1111's web UI and Forge: models are moved by flags in `webui-user.bat` or `.sh`.

Flags: `modules/cmd_args.py` and `modules/paths_internal.py` of lllyasviel/stable-diffusion-webui-
forge and AUTOMATIC1111/stable-diffusion-webui. `config.json` holds no folders of models.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from assetmgr.operations.programs.configuration import Configuration, has

_FLAGS = frozenset(
    {
        "--models-dir",
        "--ckpt-dir",
        "--vae-dir",
        "--lora-dir",
        "--embeddings-dir",
        "--hypernetwork-dir",
        "--text-encoder-dir",
        "--controlnet-dir",
        "--esrgan-models-path",
        "--realesrgan-models-path",
        "--swinir-models-path",
        "--dat-models-path",
        "--bsrgan-models-path",
        "--scunet-models-path",
        "--codeformer-models-path",
        "--gfpgan-models-path",
    }
)
_DATA = "--data-dir"
_LINE = re.compile(
    r"^[ \t]*(?:@?set|export)?[ \t]*\"?COMMANDLINE_ARGS=(.*)$", re.IGNORECASE | re.MULTILINE
)


def title(root: Path) -> str:
    """Forge has a folder of its own modules."""
    return "Forge" if has(root, "modules_forge") else "AUTOMATIC1111"


def is_root(root: Path) -> bool:
    """Whether the program lies here."""
    return has(root, "webui.py", "launch.py", "modules")


def folders(configuration: Configuration) -> Iterator[Path]:
    """The folders that the flags name."""
    for name in ("webui-user.sh", "webui-user.bat"):
        text = configuration.text(name) or ""
        for line in _LINE.findall(text):
            yield from _named(configuration, name, line.strip())


def _named(configuration: Configuration, name: str, line: str) -> Iterator[Path]:
    try:
        words = _batch_words(line) if name.endswith(".bat") else _shell_words(line)
    except ValueError:
        configuration.warn(f"{configuration.root / name}: a quote is not closed")
        return
    for flag, value in _options(words):
        for folder in configuration.folder(value):
            if flag == _DATA:
                yield folder / "models"
                yield folder / "embeddings"
            elif flag in _FLAGS:
                yield folder


def _shell_words(line: str) -> list[str]:
    """The value of an assignment is one word of the shell; the flags are words in it."""
    assigned = shlex.split(line, comments=True)
    return shlex.split(assigned[0]) if assigned else []


def _batch_words(line: str) -> list[str]:
    """Backslashes are parts of paths there."""
    return [word.strip('"') for word in shlex.split(line, posix=False)]


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """`--flag value` and `--flag=value`."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        yield flag, value.strip('"') if equals else after

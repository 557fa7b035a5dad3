"""What every command shares: its common options, and the session they describe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from assetmgr.cli.failures import DONE, print_failure, warn
from assetmgr.cli.output import Output
from assetmgr.cli.progress import TerminalProgress
from assetmgr.operations.failures import Failure
from assetmgr.text import plain

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

_SWITCHES = {
    "--json": ("as_json", "Print one JSON document."),
    "--quiet": ("quiet", "No progress, no warnings."),
    "--verbose": ("verbose", "Say more on stderr."),
    "--debug": ("debug", "Show tracebacks of errors."),
}

WORDS_MAY_BEGIN_WITH_MINUS = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
"""Without `-h`: click would read `-hair` as `-h` and more."""

_MOST = 2**31 - 1
"""More is a slip of the hand, and more than a database or the platform can count is a fault."""

AT_LEAST_ONE = click.IntRange(1, _MOST)
COUNT = click.IntRange(0, _MOST)


class Document(Protocol):
    """What an operation planned or did, as scripts read it."""

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""


Result = TypeVar("Result", bound=Document)


@dataclass(slots=True)
class Session:
    """One run of the program: how it talks, and whether something in it failed."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Session:
        """The session that the arguments ask for; read ahead of parsing, for errors in parsing."""
        given = set(arguments[: arguments.index("--")] if "--" in arguments else arguments)
        session = cls()
        for switch, (name, _) in _SWITCHES.items():
            setattr(session, name, switch in given)
        return session

    @property
    def output(self) -> Output:
        """The door to stdout."""
        return Output(as_json=self.as_json)

    def progress(self) -> TerminalProgress:
        """Bars on stderr, when wanted."""
        return TerminalProgress(quiet=self.quiet or self.as_json, verbose=self.verbose)

    def fail(self, failure: Failure) -> None:
        """Name a failed item now and remember it for the exit code."""
        self.failures.append(failure)
        print_failure(failure)

    def succeeded(self, results: Iterable[T | Failure]) -> list[T]:
        """What succeeded of some items; what failed is named."""
        done: list[T] = []
        for result in results:
            if isinstance(result, Failure):
                self.fail(result)
            else:
                done.append(result)
        return done

    def warn(self, text: str) -> None:
        """A warning on stderr."""
        if not self.quiet:
            warn(f"warning: {plain(text)}")

    def answer(self, result: Result, line: Callable[[Result], str]) -> int:
        """Say what was planned or done, to scripts or to people. Returns the exit code."""
        if self.as_json:
            self.output.document(result.to_json())
        else:
            self.output.line(line(result))
        return self.status

    @property
    def status(self) -> int:
        """The exit code so far: the worst of the failures."""
        return max((failure.exit_code for failure in self.failures), default=DONE)

    def errors(self) -> list[dict[str, object]]:
        """The `errors` list of a JSON document."""
        return [failure.to_json() for failure in self.failures]


def common_options(command: Command) -> Command:
    """Add the switches that every command has; their values are in the session."""
    for switch, (_, text) in reversed(_SWITCHES.items()):
        command = click.option(switch, is_flag=True, expose_value=False, help=text)(command)
    return command


def model_output(command: Command) -> Command:
    """`-o` of what writes a model as safetensors."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        required=True,
        callback=_warn_of_ending,
        help="Target.",
    )(command)


def _warn_of_ending(ctx: click.Context, _: click.Parameter, output: Path | None) -> Path | None:
    """Other programs choose by the ending how they read a file, and fail where it is another's."""
    if output is not None and output.suffix.lower() in {".ckpt", ".pt", ".pth", ".bin", ".gguf"}:
        cause = "will hold safetensors, which other programs expect under .safetensors alone"
        ctx.find_root().ensure_object(Session).warn(f"{output}: {cause}")
    return output


def refuse_options(words: Iterable[str]) -> None:
    """For commands that take any words: one like `--this` is a slip. Raises click.NoSuchOption."""
    for word in words:
        if word.startswith("--"):
            raise click.NoSuchOption(word, ctx=click.get_current_context())


def failed_item(failure: Failure, fields: dict[str, object]) -> dict[str, object]:
    """The entry of a failed item in a JSON list: its fields, all null, and what went wrong."""
    return {**fields, **failure.to_json(), "errors": [failure.to_json()]}

"""The program: a table of commands that are imported only when they are called."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click

from assetmgr import __version__
from assetmgr.cli.failures import FAILED, INTERRUPTED, WRONG_CALL
from assetmgr.cli.options import Session
from assetmgr.operations.failures import Failure
from converters.errors import AssetmgrError

COMMANDS: dict[str, tuple[str, str]] = {
    "inspect": ("assetmgr.cli.inspect:inspect", "Say what files are and whether they are safe."),
    "hash": ("assetmgr.cli.hash:hash_", "Print every hash of files, from one read."),
    "scan": ("assetmgr.cli.library:scan", "Add or update folders in the library."),
    "list": ("assetmgr.cli.library:list_", "List the assets that match a query."),
    "show": ("assetmgr.cli.library:show", "Show all that is known of an asset."),
    "tag": ("assetmgr.cli.library:tag", "Add and remove tags of assets."),
    "convert": ("assetmgr.cli.convert:convert", "Convert model files to safetensors."),
    "merge": ("assetmgr.cli.merge:merge", "Merge adapters into a checkpoint."),
    "preview": ("assetmgr.cli.preview:preview", "Verify assets with a render."),
    "hub": ("assetmgr.cli.hub:hub", "Download from the Hugging Face Hub."),
    "demo": ("assetmgr.cli.demo:demo", "See the whole journey on small real models."),
    "tui": ("assetmgr.cli.tui:tui", "Browse the library in the terminal."),
}
"""Name -> where the command is, and its line in the help; the order is that of the help."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. None for an unknown name."""
        entry = COMMANDS.get(cmd_name)
        return _load(entry[0]) if entry else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest one that is spelled alike."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            suggestion = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{suggestion}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _load(place: str) -> click.Command:
    module, _, attribute = place.partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    return command


@click.command(
    cls=LazyGroup,
    invoke_without_command=True,
    epilog="Example: assetmgr inspect model.ckpt",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="assetmgr")
@click.pass_context
def cli(context: click.Context) -> int:
    """Know, trust, convert, merge, verify and browse diffusion model files."""
    if context.invoked_subcommand is not None:
        return 0
    if sys.stdin.isatty() and sys.stdout.isatty():
        return int(context.invoke(_load(COMMANDS["tui"][0])))
    click.echo(context.get_help())
    return 0


def run(arguments: Sequence[str]) -> int:
    """Run the program and give its exit code; every error is named, none escapes."""
    session = Session.of(list(arguments))
    try:
        result = cli.main(list(arguments), prog_name="assetmgr", standalone_mode=False, obj=session)
        return result if isinstance(result, int) else session.status
    except click.UsageError as error:
        _report(
            session, Failure(None, error.format_message(), "usage", _help_of(error), WRONG_CALL)
        )
    except (KeyboardInterrupt, click.Abort):
        _report(session, Failure(None, "interrupted", "cancelled", None, INTERRUPTED))
    except BrokenPipeError:
        _silence_stdout()
    except AssetmgrError as error:
        if session.debug:
            raise
        _report(session, Failure.of(error))
    except Exception as error:
        if session.debug:
            raise
        cause = f"internal error: {type(error).__name__}: {error}"
        hint = "run again with --debug and report what it shows"
        _report(session, Failure(None, cause, "internal", hint, FAILED))
    return session.status


def _report(session: Session, failure: Failure) -> None:
    session.fail(failure)
    if session.as_json:
        session.output.document({"errors": session.errors()})


def _help_of(error: click.UsageError) -> str | None:
    return f"see {error.ctx.command_path} --help" if error.ctx else None


def _silence_stdout() -> None:
    """The reader went away: the interpreter must not complain when it flushes at exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """The console script."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))

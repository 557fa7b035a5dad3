"""The program: a table of commands that are imported only when they are called."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from assetmgr import __version__
from assetmgr.cli.failures import FAILED, INTERRUPTED, WRONG_CALL, print_traceback
from assetmgr.cli.lazy import LazyGroup, Table, load
from assetmgr.cli.options import Session
from assetmgr.cli.output import StdoutFailed, on_terminal
from assetmgr.operations.failures import Failure
from converters.errors import AssetmgrError

COMMANDS: Table = {
    "inspect": ("assetmgr.cli.inspect:inspect", "Say what files are and whether they are safe."),
    "hash": ("assetmgr.cli.hash:hash_", "Print every hash of files, from one read."),
    "scan": ("assetmgr.cli.library:scan", "Add or update folders in the library."),
    "list": ("assetmgr.cli.list:list_", "List the assets that match a query."),
    "show": ("assetmgr.cli.library:show", "Show all that is known of an asset."),
    "lineage": ("assetmgr.cli.lineage:lineage", "Say what assets were made of."),
    "tag": ("assetmgr.cli.library:tag", "Add and remove tags of assets."),
    "note": ("assetmgr.cli.annotate:note", "Keep a note on an asset."),
    "rate": ("assetmgr.cli.annotate:rate", "Rate an asset from 0 to 5."),
    "diff": ("assetmgr.cli.diff:diff", "Say which tensors two models differ in."),
    "duplicates": ("assetmgr.cli.duplicates:duplicates", "List what is there more than once."),
    "link": ("assetmgr.cli.link:link", "Show the library in another program's folders."),
    "sidecar": ("assetmgr.cli.sidecar:sidecar", "Write what is known beside models."),
    "export": ("assetmgr.cli.userdata:export_", "Write all tags, notes and ratings."),
    "import": ("assetmgr.cli.userdata:import_", "Take in what another library exported."),
    "forget": ("assetmgr.cli.annotate:forget", "Remove assets from the library, not their files."),
    "move": ("assetmgr.cli.move:move", "Move the files of assets into a folder."),
    "rename": ("assetmgr.cli.move:rename", "Give the file of an asset another name."),
    "trash": ("assetmgr.cli.trash:trash", "Move the files of assets to the trash."),
    "restore": ("assetmgr.cli.restore:restore", "Bring files back from the trash."),
    "verify": ("assetmgr.cli.verify:verify", "Read files again and look for damage."),
    "convert": (
        "assetmgr.cli.convert:convert",
        "Convert models to another container or precision.",
    ),
    "merge": ("assetmgr.cli.merge:merge", "Merge adapters into a checkpoint, or checkpoints."),
    "extract": (
        "assetmgr.cli.extract:extract",
        "Take parts or differences out of models.",
    ),
    "resize": ("assetmgr.cli.resize:resize", "Give a LoRA another rank."),
    "preview": ("assetmgr.cli.preview:preview", "Verify assets with a render."),
    "hub": ("assetmgr.cli.hub:hub", "Find, peek, download and update on the Hub."),
    "civitai": ("assetmgr.cli.civitai:civitai", "Find, look up, download and update on Civitai."),
    "downloads": ("assetmgr.cli.downloads:downloads", "See and run the queue of downloads."),
    "config": ("assetmgr.cli.config:config", "Look at the settings, or change one."),
    "login": ("assetmgr.cli.login:login_", "Keep a token for the Hub or Civitai."),
    "logout": ("assetmgr.cli.login:logout_", "Forget a token."),
    "doctor": ("assetmgr.cli.doctor:doctor", "Check what the program needs."),
    "demo": ("assetmgr.cli.demo:demo", "See the whole journey on small real models."),
    "tui": ("assetmgr.cli.tui:tui", "Browse the library in the terminal."),
}
"""Name -> where the command is, and its line in the help; the order is that of the help."""


@click.command(
    cls=LazyGroup,
    table=COMMANDS,
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
    if on_terminal():
        return int(context.invoke(load(COMMANDS["tui"][0])))
    click.echo(context.get_help())
    return 0


def run(arguments: Sequence[str]) -> int:
    """Run the program and give its exit code; every error is named, none escapes."""
    session = Session.of(list(arguments))
    try:
        return _invoke(session, list(arguments))
    except BrokenPipeError:
        _silence_stdout()  # whoever read our output has seen enough
    except StdoutFailed as error:
        _silence_stdout()
        session.fail(Failure.of(error))
    except Exception as error:
        if session.debug:
            raise
        cause = f"internal error: {type(error).__name__}: {error}"
        hint = _how_to_report(error)
        _report(session, Failure(None, cause, "internal", hint, FAILED))
    return session.status


def _invoke(session: Session, arguments: list[str]) -> int:
    """The exit code of a run whose failures are errors that we or click name."""
    try:
        # Not `cli.main`: that answers Ctrl-C with an empty line and a closed pipe with exit code 1.
        with cli.make_context("assetmgr", arguments, obj=session) as context:
            result = cli.invoke(context)
        return result if isinstance(result, int) else session.status
    except click.exceptions.Exit as stop:  # after --help and --version
        return stop.exit_code
    except click.UsageError as error:
        _report(session, _wrong_call(error))
    except (KeyboardInterrupt, click.Abort):
        _report(session, Failure(None, "interrupted", "cancelled", None, INTERRUPTED))
    except StdoutFailed:
        raise
    except AssetmgrError as error:
        if session.debug:
            print_traceback(error)
        _report(session, Failure.of(error))
    return session.status


def _how_to_report(error: Exception) -> str:
    from assetmgr.fault_log import note_fault
    from assetmgr.paths import find_paths

    kept = None
    with contextlib.suppress(RuntimeError):  # of a home that is nobody's
        kept = note_fault(error, find_paths().faults)
    return (
        f"report what {kept} tells" if kept else "run again with --debug and report what it shows"
    )


def _report(session: Session, failure: Failure) -> None:
    session.fail(failure)
    if session.as_json:
        session.output.document({"errors": session.errors()})


def _wrong_call(error: click.UsageError) -> Failure:
    context = error.ctx
    hint = f"see {context.command_path} --help" if context else None
    cause = " ".join(error.format_message().split())  # click lists choices line by line
    if isinstance(error, NoArgsIsHelpError) and isinstance(error.ctx.command, click.Group):
        names = ", ".join(error.ctx.command.list_commands(error.ctx))
        cause = f"Name what to do: {names}."
    return Failure(None, cause, "usage", hint, WRONG_CALL)


def _silence_stdout() -> None:
    """Nothing reads stdout: the interpreter must not complain when it flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """The console script."""
    if "_ASSETMGR_COMPLETE" in os.environ:
        cli.main(prog_name="assetmgr")  # answers the shell and exits
    signal.signal(signal.SIGTERM, _interrupt)
    _leave(run(sys.argv[1:]))


def _leave(status: int) -> NoReturn:
    """End the process, without taking down its modules one by one: that takes a fifth of a `list`.

    What was left for the end is done (`atexit`), results were written when they were printed, and
    the system takes the rest. Where threads still run, the interpreter ends them as ever.
    """
    if threading.active_count() > 1:
        sys.exit(status)
    atexit._run_exitfuncs()  # noqa: SLF001 - what `sys.exit` would call, and there is no other way
    with contextlib.suppress(OSError, ValueError):  # a stream that was closed has nothing to write
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)

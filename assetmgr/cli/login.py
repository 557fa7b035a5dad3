"""`assetmgr login` and `assetmgr logout`."""

from __future__ import annotations

import sys

import click

from assetmgr.cli.options import Session, common_options
from assetmgr.operations.login import SERVICES, login, logout
from assetmgr.text import plain

_LONGEST = 10_000
_service = click.argument("service", type=click.Choice(list(SERVICES)))


@click.command("login", epilog="Example: assetmgr login hub")
@_service
@click.argument("extra", nargs=-1, metavar="")
@common_options
@click.pass_obj
def login_(session: Session, service: str, extra: tuple[str, ...]) -> int:
    """Keep a token for the Hub or Civitai, in the system's keyring or in a file of yours alone.

    The token is asked for, or read from standard input. It is sent to the service it is for, at the
    address in use, and to no other.
    """
    if extra:  # not repeated: it may be the token
        cause = "A token on the command line can be seen by others: it is asked for."
        raise click.UsageError(cause, click.get_current_context())
    with session.progress() as progress:
        done = login(service, _token(service), progress)
    if not done.checked:
        session.warn(f"{done.address} cannot be reached: the token was not checked")
    if done.overridden_by:
        session.warn(f"{done.overridden_by} is set and goes before it")
    if session.as_json:
        session.output.document({**done.to_json(), "errors": []})
        return session.status
    user = f" as {plain(done.user)}" if done.user else ""
    session.output.line(f"logged in to {plain(done.address)}{user}; kept in {plain(done.place)}")
    return session.status


def _token(service: str) -> str:
    """From the terminal without an echo, or the first line of standard input."""
    if sys.stdin.isatty():
        text = f"Token for {SERVICES[service].name}"
        return str(click.prompt(text, hide_input=True, default="", show_default=False, err=True))
    return sys.stdin.readline(_LONGEST)


@click.command("logout", epilog="Example: assetmgr logout civitai")
@_service
@common_options
@click.pass_obj
def logout_(session: Session, service: str) -> int:
    """Forget the token that `login` kept for the address in use."""
    address, was_kept = logout(service)
    if session.as_json:
        document = {"service": service, "address": address, "removed": was_kept, "errors": []}
        session.output.document(document)
        return session.status
    told = "forgot the token for" if was_kept else "no token was kept for"
    session.output.line(f"{told} {plain(address)}")
    return session.status

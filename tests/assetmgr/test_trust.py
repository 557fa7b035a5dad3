"""Hosts that cannot show who they are: as when a clock is wrong, or a proxy reads along."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from assetmgr.sources.hub import client as hub_client
from assetmgr.sources.hub import files as huggingface
from assetmgr.sources.hub import models as hub_models
from assetmgr.sources.hub.web import connect
from assetmgr.sources.patience import Unreachable
from assetmgr.sources.trust import read_certificates
from converters.errors import FileMissing

KEY = """
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDp+Bfm5XyQsPrBjt
KwFgc2x4AeI7Ua5Ju7H1MxU0tQehRANCAAQx9xWGKN8DW9xzOHe+E2yCvgn9sT4h
xu/v2gfU8K4Q0hqlOLsGEq6LJfqbvOxCJbDYvD6YkAe8gFS6Dd8HqNx3
-----END PRIVATE KEY-----
"""
VALID = """
-----BEGIN CERTIFICATE-----
MIIBOjCB4aADAgECAgEBMAoGCCqGSM49BAMCMBMxETAPBgNVBAMMCGxvb3BiYWNr
MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjATMREwDwYDVQQDDAhs
b29wYmFjazBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABDH3FYYo3wNb3HM4d74T
bIK+Cf2xPiHG7+/aB9TwrhDSGqU4uwYSrosl+pu87EIlsNi8PpiQB7yAVLoN3weo
3HejJDAiMA8GA1UdEQQIMAaHBH8AAAEwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjO
PQQDAgNIADBFAiEA04hNPe9v+9QgczP9IN0znlizDLmHlZsdRfasp5jdTakCIEU5
rjHviDHw+R9tQVCz0J4AB99W+obqLa42BSeXuDcf
-----END CERTIFICATE-----
"""
"""Of 127.0.0.1, by itself, for a hundred years from 2020 on."""
EXPIRED = """
-----BEGIN CERTIFICATE-----
MIIBNzCB36ADAgECAgECMAoGCCqGSM49BAMCMBMxETAPBgNVBAMMCGxvb3BiYWNr
MB4XDTIwMDEwMTAwMDAwMFoXDTIwMDEwMjAwMDAwMFowEzERMA8GA1UEAwwIbG9v
cGJhY2swWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQx9xWGKN8DW9xzOHe+E2yC
vgn9sT4hxu/v2gfU8K4Q0hqlOLsGEq6LJfqbvOxCJbDYvD6YkAe8gFS6Dd8HqNx3
oyQwIjAPBgNVHREECDAGhwR/AAABMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0E
AwIDRwAwRAIgYari7JP+MWoZdZDUqZcS34SVy/Kn7DhNRSGcF0fHRqMCIAF4TWz1
bBtR1mNFuo7E14f92tas0SnEq1PqHeU4B3T1
-----END CERTIFICATE-----
"""
"""The same for the first of January 2020 alone."""

HINT = "check the clock; behind a proxy that reads along, SSL_CERT_FILE names its certificate"


@pytest.fixture
def fresh() -> Iterator[None]:
    """What is trusted is read once in the life of a program."""
    cached = (read_certificates.cache_clear, hub_client._install.cache_clear)
    for clear in cached:
        clear()
    yield
    for clear in cached:
        clear()


@contextlib.contextmanager
def speaking_tls(certificate: str, folder: Path) -> Iterator[str]:
    """The address of a host that knows nothing but to say so."""

    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    pem = folder / "host.pem"
    pem.write_text(KEY + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def ask_by_our_client() -> None:
    with connect() as web:
        hub_models.repository(web, "org/gems")


def ask_by_huggingface_hub() -> None:
    huggingface.describe("org/gems", "model.safetensors", None)


ASKING = pytest.mark.parametrize("ask", [ask_by_our_client, ask_by_huggingface_hub])


@ASKING
@pytest.mark.parametrize("trusted", [None, EXPIRED], ids=["unknown", "expired"])
@pytest.mark.usefixtures("fresh")
def test_a_certificate_that_does_not_hold_is_named_with_what_may_be_wrong(
    ask: Callable[[], None],
    trusted: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if trusted is not None:
        known = tmp_path / "known.pem"
        known.write_text(trusted)
        monkeypatch.setenv("SSL_CERT_FILE", str(known))
    with speaking_tls(trusted or VALID, tmp_path) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(Unreachable, match="certificate of the Hub cannot be trusted") as caught:
            ask()
    assert caught.value.hint == HINT


@ASKING
@pytest.mark.usefixtures("fresh")
def test_a_certificate_that_the_user_names_is_trusted(
    ask: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "known.pem"
    known.write_text(VALID)
    monkeypatch.setenv("SSL_CERT_FILE", str(known))
    with speaking_tls(VALID, tmp_path) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(FileMissing):
            ask()

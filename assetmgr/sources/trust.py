"""Whom to trust that a host is the one it says it is: the same for every request.

The two HTTP clients have defaults of their own, the system's certificates and those of certifi;
behind a company's proxy one would know a host that the other refuses.
"""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
import sys
import threading

from assetmgr.sources.patience import Unreachable
from converters.errors import AssetmgrError

_reading = threading.Lock()


def begin_reading() -> None:
    """Read them in the background, as long as the rest of what a request needs is loaded."""

    def read() -> None:
        with contextlib.suppress(OSError):  # said by whoever needs them
            certificates()

    if not read_certificates.cache_info().currsize:
        threading.Thread(target=read, daemon=True).start()


def certificates() -> ssl.SSLContext:
    """What is read once, and waited for while somebody does."""
    with _reading:
        return read_certificates()


@functools.cache
def read_certificates() -> ssl.SSLContext:
    """Those of the system, or of `SSL_CERT_FILE`; certifi's where the system has none.

    As huggingface_hub's client chooses them (httpcore2 `_ssl.py`), without loading that. Kept,
    because to read them takes longer than many an answer.
    """
    are_named = any(os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    if sys.platform in {"win32", "darwin"} and not are_named:
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    if not context.cert_store_stats()["x509_ca"]:
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def is_distrust(error: BaseException) -> bool:
    """Whether a request failed because the host could not show who it is."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def distrusted(service: str, subject: str) -> AssetmgrError:
    """The error of that; the clock decides, too, whether a certificate holds."""
    hint = "check the clock; behind a proxy that reads along, SSL_CERT_FILE names its certificate"
    cause = f"the certificate of {service} cannot be trusted"
    return Unreachable(cause, path=subject, hint=hint)

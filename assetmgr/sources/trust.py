"""Whom to trust that a host is the one it says it is: the same for every request.

The two HTTP clients have defaults of their own, the system's certificates and those of certifi;
behind a company's proxy one would know a host that the other refuses.
"""

from __future__ import annotations

import functools
import ssl
import sys

from assetmgr.sources.patience import Unreachable
from converters.errors import AssetmgrError


@functools.cache
def certificates() -> ssl.SSLContext:
    """Those of the system, or of `SSL_CERT_FILE`; certifi's where the system has none.

    Kept, because to read them takes longer than many an answer.
    """
    import certifi
    import httpcore2

    context = httpcore2.default_ssl_context()
    has_keychain = sys.platform in {"win32", "darwin"}
    if not has_keychain and not context.cert_store_stats()["x509_ca"]:
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

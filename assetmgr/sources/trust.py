"""Whom to trust that a host is the one it says it is: the same for every request.

The two HTTP clients have defaults of their own, the system's certificates and those of certifi;
behind a company's proxy one would know a host that the other refuses.
"""

from __future__ import annotations

import functools
import ssl
import sys


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

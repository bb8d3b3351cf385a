"""TLS certificate and key: found, readable and belonging together before a model is loaded.

Knows no HTTP and opens no socket.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from serve.errors import AccessError

if TYPE_CHECKING:
    from serve.config import AccessSettings


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """Two PEM files; `chain` holds the server's certificate first."""

    chain: Path
    key: Path


def certificate(access: AccessSettings) -> Certificate | None:
    """Return what the server proves itself with, None for plain HTTP.

    Raises:
        AccessError: a file cannot be read, is no PEM, needs a passphrase, or the two do not match.
    """
    if access.tls_cert is None or access.tls_key is None:
        return None
    found = Certificate(chain=_readable(access.tls_cert), key=_readable(access.tls_key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(found.chain, found.key, password="")  # never ask for one
    except ssl.SSLError as error:
        raise AccessError(
            f"the certificate {found.chain} and the key {found.key} cannot be used: "
            f"{error.reason or error}; both must be PEM, belong together and have no passphrase"
        ) from error
    return found


def _readable(name: str) -> Path:
    path = Path(name).expanduser()
    try:
        path.open("rb").close()
    except OSError as error:
        raise AccessError(f"cannot read {path}: {error.strerror}") from error
    return path

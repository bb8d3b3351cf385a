"""Take the listening socket before anything slow starts, so that a port in use is known at once.

Knows nothing of what will be served on it.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

from serve.errors import BindError

_BACKLOG = 256


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; connections made while the model loads wait in the backlog.

    Raises:
        BindError: the host is unknown, or the port is taken or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BindError(
            f"cannot listen on {host}: {error.strerror}; use --host 127.0.0.1"
        ) from error
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere the option would share a port in use
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise BindError(_explain(error, host, port)) from error
    return sock


def url(sock: socket.socket, scheme: str = "http") -> str:
    """Return the base URL that OpenAI clients want."""
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}/v1" if ":" in host else f"{scheme}://{host}:{port}/v1"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; stop what uses it or choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights; choose one above 1023 with --port"
    return f"cannot listen on {host} port {port}: {error.strerror}"

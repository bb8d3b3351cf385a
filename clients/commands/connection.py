"""Which server a command talks to, and how: flags, key and model.

Knows the flags that all commands share and nothing of what a command does.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from clients import DEFAULT_BASE_URL
from clients.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from clients.async_client import AsyncClient
    from clients.calls import Options
    from clients.client import Client
    from clients.policy import RetryPolicy, Timeout

KEY_VARIABLE = "EDGESMITH_API_KEY"


def add_server_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where the server is."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--base-url", default=DEFAULT_BASE_URL, metavar="URL", help="default: %(default)s"
    )
    group.add_argument(
        "--api-key-file",
        metavar="FILE",
        type=Path,
        help=f"file that holds the key; without it ${KEY_VARIABLE} is used, when set",
    )
    group.add_argument("--model", metavar="NAME", help="default: the first that the server lists")
    group.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="longest silence of the server to bear (default: %(default)g)",
    )


def add_sampling_flags(parser: argparse.ArgumentParser, *, max_tokens: int | None = None) -> None:
    """Add the flags that shape an answer; what is not given is left to the server."""
    group = parser.add_argument_group("answer")
    group.add_argument("--max-tokens", type=int, default=max_tokens, metavar="N")
    group.add_argument("--temperature", type=float, metavar="T", help="0 is greedy")
    group.add_argument("--top-p", type=float, metavar="P")
    group.add_argument("--top-k", type=int, metavar="K")
    group.add_argument("--min-p", type=float, metavar="P")
    group.add_argument("--seed", type=int, metavar="N")
    group.add_argument("--stop", action="append", metavar="TEXT", help="may be given repeatedly")


def sampling(args: argparse.Namespace) -> Options:
    """Return the sampling flags as request options."""
    options: Options = {}
    names = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop")
    for name in names:
        value = getattr(args, name)
        if value is not None:
            options[name] = value  # type: ignore[literal-required]  # names are Options' keys
    return options


@contextmanager
def connected(args: argparse.Namespace) -> Iterator[Client]:
    """Yield a client whose model is chosen.

    Raises:
        UsageError: the key file cannot be read, or the server has no such model.
    """
    from clients.client import Client

    with Client(args.base_url, api_key=api_key(args.api_key_file), timeout=timeout(args)) as client:
        client.model = args.model or _first_model(client)
        try:
            yield client
        except NotFoundError as error:
            _explain_missing_model(client, error)
            raise


def async_client(
    args: argparse.Namespace, model: str | None, retry: RetryPolicy | None = None
) -> AsyncClient:
    """Return a client for many requests at once, to the server of the flags."""
    from clients.async_client import AsyncClient
    from clients.policy import RetryPolicy

    return AsyncClient(
        args.base_url,
        api_key=api_key(args.api_key_file),
        model=model,
        timeout=timeout(args),
        retry=retry or RetryPolicy(),
    )


def timeout(args: argparse.Namespace) -> Timeout:
    """Return the limits that the flags ask for."""
    from clients.policy import Timeout

    return Timeout(read_seconds=args.timeout)


def api_key(file: Path | None) -> str | None:
    """Return the key from the file, else from the environment, else None.

    Raises:
        UsageError: the file cannot be read or is empty.
    """
    if file is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the key file {file}: {error}") from None
    if not key:
        raise UsageError(f"the key file {file} is empty; write the server's key into it")
    return key


def _first_model(client: Client) -> str | None:
    """Servers that list no models take requests without a name."""
    try:
        models = client.models()
    except NotFoundError:
        return None
    return models[0].id if models else None


def _explain_missing_model(client: Client, error: NotFoundError) -> None:
    """Turn "no such model" into the list of those there are."""
    served = [model.id for model in client.models()] if client.model else []
    if not served or client.model in served:
        return
    close = get_close_matches(str(client.model), served, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UsageError(
        f"the server has no model {client.model!r}; {hint}it serves: {', '.join(served)}"
    ) from error

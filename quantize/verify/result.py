"""One check of the parity gate, as data, and a hop that could not be checked."""

import msgspec


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """Say what was compared on which hop, and how it ended."""

    hop: str
    name: str
    passed: bool
    detail: str
    """The figure, or the case and its first difference."""
    figures: dict[str, float] = {}


class NotRun(msgspec.Struct, frozen=True, kw_only=True):
    """Name a hop that nothing was checked on; it has not passed."""

    hop: str
    reason: str

"""One check of the parity gate, as data."""

import msgspec


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """Say what was compared on which hop, and how it ended."""

    hop: str
    name: str
    passed: bool
    detail: str
    """The figure, or the case and its first difference."""
    figures: dict[str, float] = {}

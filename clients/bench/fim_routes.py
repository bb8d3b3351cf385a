"""How each peer is asked to fill a gap: by /infill, or by what comes nearest to it.

Knows the marks of a few model families; which of them a model has, a peer's tokenizer tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from clients.bench.scenarios import Ask
from clients.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clients.async_client import AsyncClient

MARKS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, SmolLM
)
PHRASES = {
    "infill": "/infill",
    "spelled": "/v1/completions with the model's FIM marks spelled out",
    "plain": "/v1/completions with the text before the gap only",
}


class FimRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One peer's way. `marks` stand before prefix, suffix and gap where they are spelled out."""

    kind: Literal["infill", "spelled", "plain"]
    marks: tuple[str, str, str] | None = None

    def ask(self, prefix: str, suffix: str, max_tokens: int) -> Ask:
        """Return the request for one gap."""
        if self.kind == "infill":
            return Ask(
                kind="fim", prompt=prefix, suffix=suffix, max_tokens=max_tokens, label="short"
            )
        if self.marks:
            before, after, gap = self.marks
            prefix = f"{before}{prefix}{after}{suffix}{gap}"
        return Ask(kind="complete", prompt=prefix, max_tokens=max_tokens, label="short")


async def routes_of(clients: Sequence[AsyncClient]) -> list[FimRoute]:
    """Find each peer's way, in their order. All serve one model, so one tokenizer tells for all.

    Only where some peer takes /infill is the model trained for it; where none does, all get plain
    completions.
    """
    takes_infill = [await _takes_infill(client) for client in clients]
    if all(takes_infill):
        return [FimRoute(kind="infill") for _ in clients]
    marks = await _marks(clients) if any(takes_infill) else None
    other = FimRoute(kind="spelled", marks=marks) if marks else FimRoute(kind="plain")
    return [FimRoute(kind="infill") if takes else other for takes in takes_infill]


async def _takes_infill(client: AsyncClient) -> bool:
    try:
        await client.fim("def one():\n    return ", "\n", max_tokens=1, temperature=0.0)
    except ClientError:
        return False
    return True


async def _marks(clients: Sequence[AsyncClient]) -> tuple[str, str, str] | None:
    """Return the marks of which each is one token."""
    for client in clients:
        for marks in MARKS:
            try:
                lengths = [len(await client.tokenize(mark)) for mark in marks]
            except ClientError:
                break
            if lengths == [1, 1, 1]:
                return marks
    return None

"""All scenarios of a comparison by name. Knows nothing of what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.bench import edits, workloads
from clients.bench.constrained import constrained
from clients.bench.crowded import crowded
from clients.bench.keystrokes.replay import keystrokes
from clients.bench.mixed_edits import mixed_edits
from clients.bench.restart import restart

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from clients.bench.workloads import Figures, Turn

WORKLOADS: dict[str, Callable[[Turn], Awaitable[Figures]]] = {
    "decode": workloads.decode,
    "decode-many": workloads.decode_many,
    "prefill": workloads.prefill,
    "mixed": workloads.mixed,
    "mixed-edits": mixed_edits,
    "chat-replay": workloads.chat_replay,
    "keystrokes": keystrokes,
    "restart": restart,
    "edit": edits.edit,
    "unforeseen": edits.unforeseen,
    "constrained": constrained,
    "crowded": crowded,
}

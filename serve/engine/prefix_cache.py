"""Prefixes that were read once and lie outside the KV cache, and which of them is worth its bytes.

A prefix is its tokens, the scope that may see it, and the bytes of its cells. Two tiers: memory,
here, and files (`disk_tier`, optional). Knows neither seats nor how bytes become cells; the worker
thread is the only caller.

    resident cells ──idle──▶ memory ──unused for long, or at the end──▶ files
          ▲────────restore─────┴───────────────────────restore────────────┘
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve.engine.prefix import (
    Match,
    Prefix,
    Tier,
    common_prefix_length,
    covers,
    gives_way,
    scope_digest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serve.engine.disk_tier import DiskTier
    from serve.engine.prefix import State, StateFile

MIN_TOKENS = 32  # the first chunk of any prompt: shorter ones are read as fast as they are managed
SETTLED_SECONDS = 30.0  # unused for this long it is written out: a pause, not a keystroke


class PrefixCache:
    """The stored prefixes of one model, at most `capacity_bytes` in memory."""

    def __init__(
        self, capacity_bytes: int, *, can_trim: bool = True, disk: DiskTier | None = None
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self.prefixes: list[Prefix] = []
        self.num_bytes = 0
        self.evictions = 0
        self.disk = disk
        self._can_trim = can_trim

    @property
    def is_on(self) -> bool:
        """Say whether anything can be kept at all."""
        return self.capacity_bytes > 0

    def match(self, token_ids: list[int], scope: str, max_tokens: int) -> Match | None:
        """Find the longest stored beginning of a prompt, memory first.

        The last token is left out: it is always read, for its logits. `max_tokens` is the longest
        state that there are cells for. Memory that cannot be cut gets only whole prefixes.
        """
        best: Match | None = None
        for tier, sources in self._visible(scope):
            for source in sources:
                count = self._num_shared(source.token_ids, token_ids, max_tokens)
                if count >= MIN_TOKENS and (best is None or count > best.num_tokens):
                    best = Match(source, count, tier)
        return best

    def _visible(self, scope: str) -> Iterator[tuple[Tier, list[Prefix] | list[StateFile]]]:
        yield Tier.MEMORY, [prefix for prefix in self.prefixes if prefix.scope == scope]
        if self.disk is not None:
            digest = scope_digest(scope)
            yield Tier.DISK, [file for file in self.disk.files if file.scope == digest]

    def _num_shared(self, held: list[int], token_ids: list[int], max_tokens: int) -> int:
        if len(held) > max_tokens or held[:1] != token_ids[:1]:
            return 0
        count = min(common_prefix_length(held, token_ids), len(token_ids) - 1)
        return count if self._can_trim or count == len(held) else 0

    def fetch(self, match: Match, now: float) -> State | None:
        """Return the bytes of a match; None when they are gone or damaged."""
        source = match.source
        if isinstance(source, Prefix):
            source.used_at = now
            return source.state
        return self.disk.load(source) if self.disk is not None else None

    def touch(self, token_ids: list[int], scope: str, now: float) -> bool:
        """Note the use of a prefix that memory holds already, whole or within a longer one."""
        for prefix in self.prefixes:
            if prefix.scope != scope:
                continue
            if covers(prefix.token_ids, token_ids, can_trim=self._can_trim):
                prefix.used_at = now
                return True
        return False

    def is_wanted(self, num_tokens: int, num_bytes: int) -> bool:
        """Say whether a prefix of this size would be kept."""
        return num_tokens >= MIN_TOKENS and num_bytes <= self.capacity_bytes - self._pinned_bytes()

    def put(self, token_ids: list[int], scope: str, state: State, now: float) -> None:
        """Keep a prefix in memory; those of the least worth make room."""
        prefix = Prefix(token_ids, scope, state, now)
        if not self.is_wanted(len(token_ids), prefix.num_bytes):
            return
        for old in self._replaced_by(prefix):
            self._remove(old)
        while self.num_bytes + prefix.num_bytes > self.capacity_bytes:
            loose = [each for each in self.prefixes if not each.is_pinned]
            self._remove(min(loose, key=lambda each: each.worth(now)))
            self.evictions += 1
        self.prefixes.append(prefix)
        self.num_bytes += prefix.num_bytes

    def _replaced_by(self, new: Prefix) -> list[Prefix]:
        """Return those that would add little to the new one: earlier states of the same text."""
        loose = [old for old in self.prefixes if old.scope == new.scope and not old.is_pinned]
        return [
            old for old in loose if gives_way(old.token_ids, new.token_ids, can_trim=self._can_trim)
        ]

    def _remove(self, prefix: Prefix) -> None:
        self.prefixes.remove(prefix)
        self.num_bytes -= prefix.num_bytes

    def _pinned_bytes(self) -> int:
        return sum(prefix.num_bytes for prefix in self.prefixes if prefix.is_pinned)

    def next_settled(self, now: float) -> Prefix | None:
        """Return one that was unused for long enough to be written to its file."""
        prefix = self._oldest_unwritten()
        settled = prefix is not None and now - prefix.used_at >= SETTLED_SECONDS
        return prefix if settled else None

    def next_settles_at(self) -> float | None:
        """Return when the next one is due to be written; None when none is."""
        prefix = self._oldest_unwritten()
        return None if prefix is None else prefix.used_at + SETTLED_SECONDS

    def _oldest_unwritten(self) -> Prefix | None:
        if self.disk is None:
            return None
        unwritten = [prefix for prefix in self.prefixes if not prefix.is_written]
        return min(unwritten, key=lambda prefix: prefix.used_at, default=None)

    def write_out(self, prefix: Prefix) -> None:
        """Hand a prefix to the writer, pinned until its bytes are on the disk."""
        if self.disk is not None and not prefix.is_written:
            prefix.is_written = prefix.is_pinned = True
            self.disk.write(prefix, on_done=lambda: setattr(prefix, "is_pinned", False))

    def close(self) -> None:
        """Write what has no file yet and wait for the writer."""
        if self.disk is not None:
            for prefix in self.prefixes:
                self.write_out(prefix)
            self.disk.close()

    def purge(self) -> None:
        """Forget everything, in memory and on the disk."""
        self.prefixes.clear()
        self.num_bytes = 0
        if self.disk is not None:
            self.disk.purge()

    def what_is_wrong(self) -> str | None:
        """Check the books; None when they are right."""
        num_bytes = sum(prefix.num_bytes for prefix in self.prefixes)
        if num_bytes != self.num_bytes:
            return f"it counts {self.num_bytes} bytes and holds {num_bytes}"
        if num_bytes > self.capacity_bytes:
            return f"it holds {num_bytes} bytes of at most {self.capacity_bytes}"
        if len({(each.scope, *each.token_ids) for each in self.prefixes}) < len(self.prefixes):
            return "it holds a prefix twice"
        return None

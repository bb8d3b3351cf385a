"""One request's tokens: where it stands, its limits, why it ended.

Knows no seats beyond its own id, no text and no llama_cpp.
"""

from __future__ import annotations

import enum
import itertools

from serve.engine.prefix import Tier, common_prefix_length
from serve.engine.request import FinishReason, GenerationRequest, Priority

_numbers = itertools.count()

# A fill-in-the-middle answer this short is worth holding other prefills back for; a longer one is
# a chat that happens to have a suffix.
URGENT_TOKENS = 64


class Status(enum.StrEnum):
    """Where a sequence stands."""

    QUEUED = "queued"
    PREFILL = "prefill"
    DECODE = "decode"
    FINISHED = "finished"


class Sequence:
    """The state of one request, changed by the worker thread only, but for `is_cancelled`.

    token_ids     [ prompt ............... | output ....... ]
    num_computed  [ cells exist ...... | to be read ....... ]
    A decoding sequence has one token left to read, the one sampled last, and those that its
    constraint forced after it.
    """

    def __init__(self, request: GenerationRequest, *, context_length: int, now: float) -> None:
        self.request = request
        self.number = next(_numbers)
        self.token_ids = list(request.prompt_token_ids)
        self.num_prompt_tokens = len(self.token_ids)
        self.context_length = context_length
        self.num_computed = 0
        self.num_cached_tokens = 0
        self.num_scored = 1  # leading tokens whose logprob needs no reading any more
        self.cached_tier = Tier.RESIDENT  # where those came from
        self.num_draft_tokens = 0  # computed as drafts, and of those the ones that came true
        self.num_accepted_tokens = 0
        self.seq_id = -1
        self.status = Status.QUEUED
        self.finish_reason: FinishReason | None = None
        self.is_cancelled = False  # set by any thread, acted on by the worker
        self.queued_at = now
        self.served_at = now  # when it was last given rows; what aging counts from
        self.seated_at: float | None = None
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None
        self.finished_at: float | None = None

    def __repr__(self) -> str:
        return (
            f"<Sequence {self.number} {self.status} {self.num_computed}/{len(self.token_ids)} "
            f"seq_id={self.seq_id}>"
        )

    @property
    def priority(self) -> Priority:
        """Return the class it was submitted with."""
        return self.request.priority

    @property
    def is_seated(self) -> bool:
        """Say whether it holds a seat."""
        return self.seq_id >= 0

    @property
    def num_output_tokens(self) -> int:
        """Count the tokens generated so far, an end-of-generation token included."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_to_read(self) -> int:
        """Count the tokens whose cells do not exist yet."""
        return len(self.token_ids) - self.num_computed

    def num_shared_with(self, other: Sequence) -> int:
        """Count the leading tokens of both; the last of this one is always read, for its logits."""
        shared = common_prefix_length(self.token_ids, other.token_ids)
        return min(shared, len(self.token_ids) - 1)

    @property
    def is_scored(self) -> bool:
        """Say whether logprobs of its prompt are wanted, so that all of it has to be read."""
        return self.request.prompt_logprobs is not None

    @property
    def reads_all(self) -> bool:
        """Say whether its prompt is read whole, whatever is known of it."""
        return self.is_scored or not self.request.from_cache

    @property
    def is_scoring(self) -> bool:
        """Say whether some of them are not known yet."""
        return self.is_scored and self.num_scored < self.num_prompt_tokens

    @property
    def num_useful(self) -> int:
        """Count the leading tokens that need not be read again when their cells exist."""
        return (self.num_scored if self.is_scoring else len(self.token_ids)) - 1

    @property
    def is_urgent(self) -> bool:
        """Say whether lower prefills should wait while it decodes."""
        return self.priority is Priority.FIM and self.num_output_tokens < URGENT_TOKENS

    def append(self, token_id: int) -> None:
        """Take a sampled token; it will be read in the next step."""
        self.token_ids.append(token_id)

    @property
    def num_tokens_left(self) -> int:
        """Count the tokens it may still generate."""
        left = self.context_length - len(self.token_ids)
        limit = self.request.max_tokens
        return left if limit is None else min(left, limit - self.num_output_tokens)

    def limit_reached(self) -> bool:
        """Say whether the token limit or the end of the context is reached."""
        return self.num_tokens_left <= 0

    def cells_wanted(self, headroom: int) -> int:
        """Return the cells it needs now and for `headroom` more tokens, within its limits."""
        end = self.context_length
        if self.request.max_tokens is not None:
            end = min(end, self.num_prompt_tokens + self.request.max_tokens)
        return min(len(self.token_ids) + 1 + headroom, max(end, len(self.token_ids)))

    def finish(self, reason: FinishReason, now: float) -> None:
        """End it; called once."""
        assert self.status is not Status.FINISHED  # invariant
        self.status = Status.FINISHED
        self.finish_reason = reason
        self.finished_at = now

"""What a request has to be before it is queued, and how many may be queued.

Knows neither lanes nor steps; may be used from any thread.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import msgspec

from serve.engine.errors import InvalidSamplingError, PromptTooLongError, QueueFullError
from serve.engine.sampler import check_sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.engine.model import Model
    from serve.engine.request import GenerationRequest
    from serve.engine.stats import Counters

_MAX_RETRY_SECONDS = 60


def checked(request: GenerationRequest, model: Model) -> GenerationRequest:
    """Return a request as it is computed: one bad row would fail everyone's batch.

    Raises: PromptTooLongError, InvalidSamplingError, UnknownAdapterError.
    """
    info = model.info
    if request.begins_with and request.constraint is not None:
        request = _unhealed(request, model)  # a constraint holds the answer alone
    prompt = request.prompt_token_ids or _begin_of_text(model)
    check_token_ids(prompt, info.n_vocab)
    check_token_ids(request.prediction_token_ids, info.n_vocab)
    check_sampling(request.sampling, info.n_vocab)
    if request.max_tokens is not None and request.max_tokens < 0:
        raise InvalidSamplingError(
            "max_tokens", f"max_tokens is {request.max_tokens}; it must be at least 0"
        )
    if len(prompt) >= info.context_length:
        raise PromptTooLongError(len(prompt), info.context_length)
    mix = model.adapters.check(request.adapters)
    scope = model.adapters.scope(request.cache_scope, mix)
    return msgspec.structs.replace(
        request, prompt_token_ids=prompt, adapters=mix, cache_scope=scope
    )


def check_token_ids(token_ids: Sequence[int], n_vocab: int) -> None:
    """Refuse ids that no token has. Raises: InvalidSamplingError."""
    if token_ids and not (min(token_ids) >= 0 and max(token_ids) < n_vocab):
        wrong = next(i for i in token_ids if not 0 <= i < n_vocab)
        raise InvalidSamplingError(
            "prompt", f"token {wrong} does not exist; the vocabulary has {n_vocab} tokens"
        )


def _unhealed(request: GenerationRequest, model: Model) -> GenerationRequest:
    """Read the beginning of the answer as the end of the prompt."""
    text = request.begins_with
    more = model.vocabulary.tokenize(text, add_special=False, parse_special=False)
    prompt = [*request.prompt_token_ids, *more]
    return msgspec.structs.replace(request, prompt_token_ids=prompt, begins_with="")


def _begin_of_text(model: Model) -> tuple[int, ...]:
    ids = (model.info.bos_token_id, model.info.eos_token_id, 0)
    return (next(token_id for token_id in ids if token_id is not None),)


class Places:
    """`num_slots` that are answered and `queue_limit` that wait."""

    def __init__(self, num_slots: int, queue_limit: int, counters: Counters) -> None:
        self.num_taken = 0
        self._num_slots = num_slots
        self._queue_limit = queue_limit
        self._counters = counters
        self._lock = threading.Lock()

    def take(self) -> None:
        """Count a request in. Raises: QueueFullError."""
        with self._lock:
            if self.num_taken >= self._num_slots + self._queue_limit:
                num_waiting = self.num_taken - self._num_slots
                raise QueueFullError(num_waiting, self._queue_limit, self._retry_seconds())
            self.num_taken += 1

    def give_back(self) -> None:
        """Count a request out."""
        with self._lock:
            self.num_taken -= 1

    def _retry_seconds(self) -> int:
        """Estimate when the next place gets free: the mean stay over the seats."""
        num_finished = max(self._counters.requests_finished.total(), 1)
        stay = self._counters.seated_seconds / num_finished / self._num_slots
        return min(max(math.ceil(stay), 1), _MAX_RETRY_SECONDS)

"""Guesses at what a sequence says next, copied from where it was said before.

    prediction  [ ..... same ..... | at ......... )   what the client expects the answer to be
    token_ids   [ prompt ... same | at ... output )   what was read and said so far
                                    ^ copied from here while it holds

A pointer walks along one of the two. Every token of the output is compared with the one under the
pointer, whether it was drafted or not, so how well guesses do is known without paying for them.
Where they part, the pointer is set anew: behind the latest occurrence of the last three tokens,
found in an index, O(1) a token. Knows neither batches nor what a row costs.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from serve.engine.acceptance import MAX_AGREEMENT, Acceptance

if TYPE_CHECKING:
    from serve.engine.constraint import ConstraintState
    from serve.engine.sequence import Sequence

KEY_LENGTH = 3  # tokens that must agree before a copy is tried: two are found by chance in code
NEAR = 16  # tokens behind an edit of the prediction in which a single equal one is taken up again
PREDICTION_TRUST = 9  # the agreement that the client's word counts for

Key = tuple[int, int, int]


class Drafter:
    """Follows one sequence, whose token ids only ever get more."""

    def __init__(self, sequence: Sequence, constraint: ConstraintState | None = None) -> None:
        """What the constraint does not let through is not proposed."""
        self._constraint = constraint
        self.acceptance = Acceptance()
        self.num_predicted = 0  # output tokens that the prediction named
        self._token_ids = sequence.token_ids
        self._num_seen = sequence.num_prompt_tokens
        self._prediction = list(sequence.request.prediction_token_ids)
        self._places = _all_places(self._prediction)
        self._anchor = 0  # in the prediction, behind the last agreement that was no accident
        self._latest: dict[Key, int] | None = None
        self._source: list[int] | None = self._prediction or None
        self._at = 0
        self._agreement = PREDICTION_TRUST

    @property
    def num_unused(self) -> int:
        """Count the tokens of the prediction that the output did not take up."""
        return max(len(self._prediction) - self.num_predicted, 0)

    @property
    def agreement(self) -> int:
        """Count the tokens before the pointer that are the same in both places."""
        return self._agreement

    def propose(self, limit: int) -> tuple[int, ...]:
        """Return at most `limit` tokens that may come next; none when there is no clue."""
        self.follow()
        source = self._source
        tokens = () if source is None else tuple(source[self._at : self._at + max(limit, 0)])
        if tokens and self._constraint is not None:
            return tokens[: self._constraint.allowed_prefix(tokens)]
        return tokens

    def follow(self) -> None:
        """Take in what the sequence has said since."""
        if self._latest is None:
            self._latest = _latest_places(self._token_ids[: self._num_seen])
        for end in range(self._num_seen + 1, len(self._token_ids) + 1):
            self._follow_one(self._token_ids[end - 1], end)
            if end >= KEY_LENGTH:
                self._latest[self._key(end)] = end
        self._num_seen = len(self._token_ids)

    def _follow_one(self, token_id: int, end: int) -> None:
        source = self._source
        if source is not None and self._at < len(source):
            is_hit = source[self._at] == token_id
            self.acceptance.observe(self._agreement, is_hit=is_hit)
            if is_hit:
                self._step_on(source)
                return
        self._relocate(token_id, end)

    def _step_on(self, source: list[int]) -> None:
        self._at += 1
        self._agreement += 1
        if source is self._prediction:
            self.num_predicted += 1
            if self._agreement >= KEY_LENGTH:
                self._anchor = self._at

    def _relocate(self, token_id: int, end: int) -> None:
        """Set the pointer behind the best place that `token_ids[:end]` ends like."""
        self._source = None
        if end >= KEY_LENGTH and (self._in_prediction(end) or self._in_history(end)):
            return
        near = self._prediction[self._anchor : self._anchor + NEAR]
        if token_id in near:
            self._point(self._prediction, self._anchor + near.index(token_id) + 1, end)

    def _in_prediction(self, end: int) -> bool:
        """Prefer the first place ahead; a block that was moved up is found behind."""
        places = self._places.get(self._key(end))
        if not places:
            return False
        ahead = bisect_left(places, self._anchor)
        self._anchor = places[ahead] if ahead < len(places) else places[-1]
        self._point(self._prediction, self._anchor, end)
        return True

    def _in_history(self, end: int) -> bool:
        assert self._latest is not None  # made before the first token is followed
        place = self._latest.get(self._key(end))
        if place is None:
            return False
        self._point(self._token_ids, place, end)
        return True

    def _point(self, source: list[int], at: int, end: int) -> None:
        self._source, self._at = source, at
        self._agreement = _common_suffix_length(source, at, self._token_ids, end)

    def _key(self, end: int) -> Key:
        first, second, third = self._token_ids[end - KEY_LENGTH : end]
        return first, second, third


def _latest_places(token_ids: list[int]) -> dict[Key, int]:
    """Map three tokens to the position behind their last occurrence."""
    keys = zip(token_ids, token_ids[1:], token_ids[2:], strict=False)
    return dict(zip(keys, range(KEY_LENGTH, len(token_ids) + 1), strict=False))


def _all_places(token_ids: list[int]) -> dict[Key, list[int]]:
    """Map three tokens to the positions behind all their occurrences, in order."""
    places: dict[Key, list[int]] = {}
    keys = zip(token_ids, token_ids[1:], token_ids[2:], strict=False)
    for end, key in enumerate(keys, start=KEY_LENGTH):
        places.setdefault(key, []).append(end)
    return places


def _common_suffix_length(left: list[int], left_end: int, right: list[int], right_end: int) -> int:
    """Count equal tokens before two positions, at most `MAX_AGREEMENT`."""
    limit = min(left_end, right_end, MAX_AGREEMENT)
    for length in range(limit):
        if left[left_end - 1 - length] != right[right_end - 1 - length]:
            return length
    return limit

"""How likely a guessed token comes true, learned from those that did and did not.

The longer a copy has held, the likelier it holds on: a copy that began three tokens ago breaks
off half the time, one of a whole line almost never. So the odds are kept by agreement, the number
of tokens before the guess that were already the same. Knows no tokens and no cost.
"""

from __future__ import annotations

MAX_AGREEMENT = 17  # longer ones count the same
_WEIGHT = 8.0  # of the prior, in tokens
_MEMORY = 64.0  # tokens that an estimate remembers

# Smallest agreement of a class, and the odds assumed before any token was seen. Those of short
# agreements are too small to draft on: what is not known to pay is watched first.
_CLASSES = ((17, 0.93), (9, 0.85), (5, 0.6), (3, 0.45), (2, 0.4), (0, 0.3))
_CLASS_OF = tuple(
    next(i for i, (low, _) in enumerate(_CLASSES) if n >= low) for n in range(MAX_AGREEMENT + 1)
)


class Acceptance:
    """Odds by agreement: a prior, moved by what is observed, the last tokens counting most."""

    def __init__(self) -> None:
        self._hits = [_WEIGHT * odds for _, odds in _CLASSES]
        self._tokens = [_WEIGHT] * len(_CLASSES)

    def observe(self, agreement: int, *, is_hit: bool) -> None:
        """Take in whether the token guessed after so much agreement came."""
        i = _CLASS_OF[min(agreement, MAX_AGREEMENT)]
        if self._tokens[i] >= _MEMORY:
            self._hits[i] *= 1 - 1 / _MEMORY
            self._tokens[i] *= 1 - 1 / _MEMORY
        self._hits[i] += is_hit
        self._tokens[i] += 1

    def odds(self, agreement: int) -> float:
        """Return the probability that the next guess comes true."""
        i = _CLASS_OF[min(agreement, MAX_AGREEMENT)]
        return self._hits[i] / self._tokens[i]

    def expected_tokens(self, agreement: int, length: int) -> list[float]:
        """Return how many tokens a step yields with 0, 1 ... `length` drafted ones.

        One is sampled in any case, and one more after every guess that came true.
        """
        expected, all_true = [1.0], 1.0
        for i in range(length):
            all_true *= self.odds(agreement + i)
            expected.append(expected[-1] + all_true)
        return expected

"""How much texts have in common, in n-grams of words: near duplicates and benchmark problems.

Words are runs of letters, digits or underscores in lower case, so neither layout nor punctuation
hides a copy. MinHash with locality-sensitive hashing finds candidates (Broder 1997; the library's
LSH), the true Jaccard similarity decides. Knows no file and no tokenizer.
"""

import re
from collections.abc import Iterable, Sequence

import msgspec

WORD = re.compile(r"\w+")
DUPLICATE_GRAM, PROBLEM_GRAM = 5, 8
PERMUTATIONS = 64

Gram = tuple[str, ...]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One benchmark problem, by the file and identifier it came from."""

    source: str
    identifier: str
    text: str


class Contamination(msgspec.Struct, frozen=True, kw_only=True):
    """An example that holds `share` of a problem's n-grams."""

    example: int
    source: str
    identifier: str
    share: float


def grams(text: str, size: int) -> frozenset[Gram]:
    """Return the distinct word n-grams of a text; a shorter text is one gram."""
    words = WORD.findall(text.lower())
    if not words:
        return frozenset()
    count = max(1, len(words) - size + 1)
    return frozenset(tuple(words[start : start + size]) for start in range(count))


def near_duplicates(texts: Sequence[str], threshold: float) -> dict[int, int]:
    """Return {position: the earlier position it repeats} for Jaccard similarity >= threshold."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
    sets = [grams(text, DUPLICATE_GRAM) for text in texts]
    repeats: dict[int, int] = {}
    encoded = ([" ".join(gram).encode() for gram in found] for found in sets)
    for position, sketch in enumerate(MinHash.bulk(encoded, num_perm=PERMUTATIONS)):
        candidates = sorted(int(key) for key in index.query(sketch))
        original = next(
            (c for c in candidates if _jaccard(sets[c], sets[position]) >= threshold), None
        )
        if original is None:
            index.insert(str(position), sketch)
        else:
            repeats[position] = original
    return repeats


def _jaccard(left: frozenset[Gram], right: frozenset[Gram]) -> float:
    union = len(left | right)
    return len(left & right) / union if union else 1.0


def contaminated(
    texts: Sequence[str], problems: Iterable[Problem], threshold: float
) -> list[Contamination]:
    """Return the examples that hold at least `threshold` of some problem's n-grams.

    A problem too short for one n-gram is left out: its few words stand in many honest texts.
    """
    where: dict[Gram, list[int]] = {}
    kept: list[tuple[Problem, int]] = []
    for problem in problems:
        found = {gram for gram in grams(problem.text, PROBLEM_GRAM) if len(gram) == PROBLEM_GRAM}
        if found:
            for gram in found:
                where.setdefault(gram, []).append(len(kept))
            kept.append((problem, len(found)))
    results = []
    for example, text in enumerate(texts):
        worst = _worst(grams(text, PROBLEM_GRAM), where, kept)
        if worst is not None and worst[1] >= threshold:
            problem, share = worst
            results.append(
                Contamination(
                    example=example,
                    source=problem.source,
                    identifier=problem.identifier,
                    share=share,
                )
            )
    return results


def _worst(
    found: frozenset[Gram], where: dict[Gram, list[int]], kept: list[tuple[Problem, int]]
) -> tuple[Problem, float] | None:
    """Return the problem of which a text holds the largest share."""
    hits: dict[int, int] = {}
    for gram in found:
        for number in where.get(gram, ()):
            hits[number] = hits.get(number, 0) + 1
    if not hits:
        return None
    number = max(hits, key=lambda n: (hits[n] / kept[n][1], -n))
    return kept[number][0], hits[number] / kept[number][1]

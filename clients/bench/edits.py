"""What predictions are worth: a file written again with a change, and text nobody foresaw.

Each turn asks the same server twice, with drafts and without (`drafts: false`, which servers that
know no drafts ignore), so that the speedup is one server's own and of the same minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clients.bench import load
from clients.bench.scenarios import Ask
from clients.bench.workloads import WorkloadError, answered

if TYPE_CHECKING:
    from clients.bench.load import Measured
    from clients.bench.workloads import Figures, Turn

FILE = '''class Shelf:
    """Books in the order they were put there, with a limit on their weight."""

    def __init__(self, limit_grams):
        self.limit_grams = limit_grams
        self.books = []
        self.is_locked = False

    def weight(self):
        """Add up what stands on it."""
        return sum(book.grams for book in self.books)

    def put(self, book):
        """Place a book at the right end, if it holds."""
        if self.is_locked:
            raise ValueError(f"{book.title} cannot be put on a locked shelf")
        if self.weight() + book.grams > self.limit_grams:
            raise ValueError(f"{book.title} is too heavy for {self.limit_grams} grams")
        self.books.append(book)

    def take(self, title):
        """Remove the first book of that title and return it."""
        for place, book in enumerate(self.books):
            if book.title == title:
                return self.books.pop(place)
        raise KeyError(title)

    def authors(self):
        """Return every author once, sorted by name."""
        return sorted({author for book in self.books for author in book.authors})
'''
OLD_NAME = "limit_grams"
NEW_NAME = "max_grams"
FORMER_EDIT = ("books", "volumes")
NUM_GIVEN_LINES = 7  # of the new file; with the former edit, a small model sees what is wanted
FREE = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.05, "seed": 7}
QUESTION = "\nA letter from an old sailor to his granddaughter about the worst storm of his life:\n"


async def edit(turn: Turn) -> Figures:
    """Write a file again in which an attribute has another name; the old file is the prediction."""
    edited = FILE.replace(OLD_NAME, NEW_NAME).splitlines(keepends=True)
    versions = (FILE, FILE.replace(*FORMER_EDIT), "".join(edited[:NUM_GIVEN_LINES]))
    told = [f"# version {number}\n{text}" for number, text in enumerate(versions, start=1)]
    return await _both(turn, "\n\n".join([f"# {turn.key}", *told]).rstrip(), FILE)


async def unforeseen(turn: Turn) -> Figures:
    """Write text that neither the prediction nor the prompt has anything to do with."""
    return await _both(turn, turn.key + QUESTION, FILE, FREE)


async def _both(
    turn: Turn, prompt: str, prediction: str, sampling: dict[str, Any] | None = None
) -> Figures:
    """Return the rates with and without drafts; the prompt is read before either is timed."""
    fields = (sampling or {}) | {"prediction": {"type": "content", "content": prediction}}
    num = turn.sizes.num_edited_tokens
    ask = Ask(kind="complete", prompt=prompt, max_tokens=num, extra=fields)
    plain = Ask(kind="complete", prompt=prompt, max_tokens=num, extra=fields | {"drafts": False})
    first = Ask(kind="complete", prompt=prompt, max_tokens=1, extra={"drafts": False})
    answers = [await load.one(turn.client, each) for each in (first, plain, ask, ask, plain)]
    _, *measured = answered(answers)
    without = rate(measured[0], measured[3])
    drafted = rate(measured[1], measured[2])
    return {
        "tokens_per_second": drafted,
        "plain_tokens_per_second": without,
        "speedup": drafted / without,
    }


def rate(*answers: Measured) -> float:
    """Return tokens a second after the first piece.

    Raises:
        WorkloadError: too little was written.
    """
    num_tokens = sum(answer.num_tokens - 1 for answer in answers)
    seconds = sum(answer.total_seconds - answer.first_token_seconds for answer in answers)
    if num_tokens < 2 * len(answers) or not seconds:
        raise WorkloadError("the answers ended after a few tokens, too few to time")
    return num_tokens / seconds

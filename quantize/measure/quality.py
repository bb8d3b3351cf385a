"""How far each file's words are from the reference's: on held-out examples and on a text.

Knows texts, sessions and where the reference's logits come from; times nothing.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from quantize.config import MeasureConfig, to_dict
from quantize.digest import sha256_file
from quantize.examples import (
    ScoredText,
    TextRef,
    example_texts,
    plain_texts,
    python_reference,
    read_examples,
    text_file,
)
from quantize.llama.gguf_header import read_header
from quantize.llama.session import LlamaSession
from quantize.machine import available_bytes
from quantize.perplexity import (
    LiveReference,
    Reference,
    num_scored,
    score,
    score_alone,
    score_reference,
)
from quantize.progress import Draw, no_draw
from quantize.space import require_space

_STORED_BYTES = 1 << 30
"""Reference logits up to this size are kept on disk; more are made again beside each file."""
_WORKING_BYTES = 512 << 20
_EVERYTHING = 1 << 40


class Corpus(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one set of scored texts; the figures' names begin with `prefix`."""

    prefix: str
    texts: list[ScoredText]
    ref: TextRef


def corpora(model: Path, heldout: Path | None, config: MeasureConfig) -> list[Corpus]:
    """Return the held-out examples, where there are any, and the text.

    Figures of the first have plain names, those of the text beside it begin with `text_`.
    """
    template = read_header(model).text("tokenizer.chat_template")
    found: list[Corpus] = []
    with LlamaSession(model, n_ctx=16, n_batch=16) as session:
        if heldout is not None and template is not None:
            texts = example_texts(
                session,
                template,
                read_examples(heldout),
                scored_tokens=_EVERYTHING if config.full else config.scored_tokens,
                max_example_tokens=config.max_example_tokens,
                names=session.special_names(),
            )
            ref = TextRef(kind="heldout_examples", ref=heldout.name, sha256=sha256_file(heldout))
            found.append(Corpus(prefix="", texts=texts, ref=ref))
        text, ref = text_file(Path(config.text)) if config.text else python_reference()
        windows = plain_texts(
            session,
            text,
            scored_tokens=_EVERYTHING if config.full else config.text_tokens,
            max_example_tokens=config.max_example_tokens,
        )
        found.append(Corpus(prefix="text_" if found else "", texts=windows, ref=ref))
    return found


class Judge:
    """Score files against one reference file; use it in a `with`."""

    def __init__(self, reference: Path, found: Sequence[Corpus], config: MeasureConfig) -> None:
        self.reference = reference
        self.corpora = found
        self.config = config
        self._stack = contextlib.ExitStack()
        self._kept: dict[str, Reference] = {}
        self._live: LlamaSession | None = None

    def close(self) -> None:
        """Give back what was opened."""
        self._stack.close()

    def of_reference(self, draw: Draw) -> dict[str, Any]:
        """Return the reference's own figures; its logits are kept where they are small."""
        if self._logits_bytes() > _STORED_BYTES:
            with self._session(self.reference) as session:
                return self._joined(
                    (corpus, score_alone(session, corpus.texts, draw)) for corpus in self.corpora
                )
        return self._store(draw)

    def of(self, path: Path, draw: Draw, *, kv_type: str = "f16") -> dict[str, Any]:
        """Return the figures of another file, or of the reference with another KV cache type."""
        self._open(path)
        with self._session(path, kv_type) as session:
            return self._joined(
                (corpus, score(session, corpus.texts, self._logits(corpus), draw))
                for corpus in self.corpora
            )

    def _open(self, path: Path) -> None:
        """Make the reference's logits, or load it beside the file where these would be large."""
        if self._live is not None or self._kept:
            return
        together = self.reference.stat().st_size + path.stat().st_size + _WORKING_BYTES
        if self._logits_bytes() > _STORED_BYTES and together < (available_bytes() or 0):
            self._live = self._stack.enter_context(self._session(self.reference))
            return
        self._store(no_draw)

    def _store(self, draw: Draw) -> dict[str, Any]:
        """Keep the reference's logits on disk and return its figures."""
        folder = Path(tempfile.gettempdir())
        require_space(folder, self._logits_bytes(), "keeping the reference's logits")
        found = []
        with self._session(self.reference) as session:
            for corpus in self.corpora:
                quality, stored = score_reference(session, corpus.texts, draw)
                self._stack.callback(stored.close)
                self._kept[corpus.prefix] = stored
                found.append((corpus, quality))
        return self._joined(iter(found))

    def _logits_bytes(self) -> int:
        n_vocab = read_header(self.reference).metadata.get("tokenizer.ggml.tokens", 0)
        num_rows = sum(num_scored(corpus.texts) for corpus in self.corpora)
        return 4 * num_rows * (n_vocab if isinstance(n_vocab, int) else len(n_vocab))

    def _logits(self, corpus: Corpus) -> Reference:
        if self._live is not None:
            return LiveReference(self._live, corpus.texts)
        return self._kept[corpus.prefix]

    def _session(self, path: Path, kv_type: str = "f16") -> LlamaSession:
        return LlamaSession(
            path,
            n_ctx=self.config.max_example_tokens + 1,
            n_batch=self.config.n_batch,
            kv_type=kv_type,
        )

    @staticmethod
    def _joined(scored: Iterator[tuple[Corpus, Any]]) -> dict[str, Any]:
        return {
            f"{corpus.prefix}{key}": value
            for corpus, quality in scored
            for key, value in to_dict(quality).items()
        }

"""The SentencePiece vocabulary of a GGUF as a tokenizer, and as the file it was made from.

    pieces, scores, types ──▶ tokenizer.json   byte-pair merges, ordered by the scores
                          └─▶ tokenizer.model  what llama.cpp's converter asks for

SentencePiece joins the two neighbours whose joined piece scores highest; a merge list says the same
when it holds every split of every piece into two pieces, best piece first. Knows no weights.
"""

from pathlib import Path
from typing import Any

import msgspec

UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6  # llama.cpp's and SentencePiece's own numbers
BPE_MODEL = 2  # TrainerSpec.ModelType
BLANK = "▁"
DEFAULT_UNKNOWN_ID = 0  # llama.cpp's, for a file that names none


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """Pieces with score and type by token id; what is put before a text."""

    pieces: list[str]
    scores: list[float]
    types: list[int]
    unknown_id: int
    bos_id: int | None
    adds_blank: bool

    def ids_of(self, *types: int) -> list[int]:
        """Return the ids of these types."""
        return [token_id for token_id, kind in enumerate(self.types) if kind in types]


def read_vocabulary(fields: Any) -> Vocabulary:
    """Read the `tokenizer.ggml.*` fields of an open GGUF; what is absent is llama.cpp's default."""

    def value(name: str, default: Any = None) -> Any:
        key = f"tokenizer.ggml.{name}"
        return fields[key].contents() if key in fields else default

    tokens = fields["tokenizer.ggml.tokens"]
    return Vocabulary(
        pieces=[bytes(tokens.parts[place]).decode("utf-8") for place in tokens.data],
        scores=value("scores"),
        types=value("token_type"),
        unknown_id=value("unknown_token_id", DEFAULT_UNKNOWN_ID),
        bos_id=value("bos_token_id") if value("add_bos_token", default=True) else None,
        adds_blank=value("add_space_prefix", default=True),
    )


def make_tokenizer(vocabulary: Vocabulary) -> Any:
    """Return a tokenizer that gives llama.cpp's ids for this vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = vocabulary.pieces
    model = models.BPE(
        vocab={piece: token_id for token_id, piece in enumerate(pieces)},
        merges=merges(vocabulary),
        unk_token=pieces[vocabulary.unknown_id],
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    blanks: list[Any] = [normalizers.Replace(" ", BLANK)]
    steps: list[Any] = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if vocabulary.adds_blank:
        blanks.insert(0, normalizers.Prepend(BLANK))
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(blanks)
    tokenizer.decoder = decoders.Sequence(steps)
    for kinds, special in (((CONTROL, UNKNOWN), True), ((USER_DEFINED,), False)):
        marks = [
            AddedToken(pieces[each], normalized=False, special=special)
            for each in vocabulary.ids_of(*kinds)
        ]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(marks)
    _begin_with_bos(tokenizer, vocabulary)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def merges(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Return every way to join two pieces into one, best first, the left one shortest on a tie.

    Tokens with a meaning are cut out of a text before, so none is made by joining.
    """
    apart = set(vocabulary.ids_of(CONTROL, UNKNOWN, USER_DEFINED, BYTE))
    scores = {
        piece: score
        for token_id, (piece, score) in enumerate(
            zip(vocabulary.pieces, vocabulary.scores, strict=True)
        )
        if token_id not in apart
    }
    ranked = sorted(scores, key=lambda piece: -scores[piece])
    return [
        (piece[:cut], piece[cut:])
        for piece in ranked
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]


def _begin_with_bos(tokenizer: Any, vocabulary: Vocabulary) -> None:
    from tokenizers import processors

    if vocabulary.bos_id is not None:
        bos = vocabulary.pieces[vocabulary.bos_id]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, vocabulary.bos_id)],
        )


def write_model(vocabulary: Vocabulary, path: Path) -> None:
    """Write the vocabulary as SentencePiece's own file.

    Source: sentencepiece_model.proto, `ModelProto`.
    """
    from transformers.convert_slow_tokenizer import import_protobuf

    model = import_protobuf().ModelProto()
    rows = zip(vocabulary.pieces, vocabulary.scores, vocabulary.types, strict=True)
    for token_id, (piece, score, kind) in enumerate(rows):
        named = UNKNOWN if token_id == vocabulary.unknown_id else kind
        model.pieces.add(piece=piece, score=score, type=named)
    model.trainer_spec.model_type = BPE_MODEL
    model.trainer_spec.vocab_size = len(vocabulary.pieces)
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.unk_id = vocabulary.unknown_id
    model.trainer_spec.unk_piece = vocabulary.pieces[vocabulary.unknown_id]
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = vocabulary.adds_blank
    model.normalizer_spec.remove_extra_whitespaces = False
    path.write_bytes(model.SerializeToString())

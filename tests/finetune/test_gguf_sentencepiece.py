"""A base out of a SentencePiece GGUF: llama.cpp's own token ids, logits, and the file behind it."""

import ctypes
from pathlib import Path

import pytest

from finetune import gguf_base
from finetune.fingerprint import sha256_file
from finetune.gguf_sentencepiece import Vocabulary, make_tokenizer, merges, read_vocabulary

TEXTS = [
    "def add(a, b):\n    return a + b\n",
    "x = 1234567890 + 0x1F  # 3.14159\n\n\n\tif x:\n",
    "naïve café · 日本語 🙂 \u200b end",
    "👩‍👩‍👧‍👦 🇩🇪 e\u0301 ﬁ \U0001d539",
    "<start_of_turn>user\nhello<end_of_turn>\n",
    "   leading and trailing   \n \n",
    "a" + " " * 70 + "b" + "\n" * 45 + "\t\tc\r\n",
    "<table><b>x</b></table> \x00\x7f <0x09>",
]


@pytest.fixture(scope="module")
def from_tiny(tiny_gemma_gguf, tmp_path_factory):
    """The tiny GGUF made loadable: its folder and facts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return gguf_base.dequantise(tiny_gemma_gguf, sha256_file(tiny_gemma_gguf))


@pytest.fixture
def tokenizer(from_tiny):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(from_tiny[0])


class LlamaVocabulary:
    """llama.cpp's view of a file, weights left out."""

    def __init__(self, path):
        import llama_cpp

        self._lib, params = llama_cpp, llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)

    def ids(self, text, *, add_special=False):
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 8))()
        num = self._lib.llama_tokenize(
            self._vocab, data, len(data), ids, len(ids), add_special, True
        )
        return list(ids[:num])

    def close(self):
        self._lib.llama_model_free(self._model)


@pytest.fixture
def llama_vocabulary(tiny_gemma_gguf):
    vocabulary = LlamaVocabulary(tiny_gemma_gguf)
    yield vocabulary
    vocabulary.close()


def test_ids_are_llama_cpps_after_saving_and_loading(tokenizer, llama_vocabulary):
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == llama_vocabulary.ids(text)
        assert tokenizer.decode(ids) == text
    assert tokenizer("a")["input_ids"] == llama_vocabulary.ids("a", add_special=True)


def test_special_tokens_and_template_are_the_files_own(tokenizer):
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<bos>",
        "<eos>",
        "<pad>",
    )
    assert tokenizer.chat_template == "{{ messages }}"


def test_logits_are_llama_cpps(from_tiny, tiny_gemma_gguf, llama_vocabulary):
    import numpy as np
    import torch
    from llama_cpp import Llama
    from transformers import AutoModelForCausalLM

    ids = llama_vocabulary.ids(TEXTS[0], add_special=True)
    model = AutoModelForCausalLM.from_pretrained(from_tiny[0], dtype=torch.float32)
    with torch.no_grad():
        mine = model(torch.tensor([ids])).logits[0].numpy()
    llama = Llama(str(tiny_gemma_gguf), n_ctx=64, logits_all=True, verbose=False)
    try:
        llama.eval(ids)
        theirs = np.array(llama.scores[: len(ids)])
    finally:
        llama.close()
    assert np.abs(mine - theirs).max() < 0.02 * theirs.std()


def test_the_sentencepiece_file_holds_every_piece_with_score_and_type(from_tiny, tiny_gemma_gguf):
    from gguf import GGUFReader
    from sentencepiece import SentencePieceProcessor

    fields = GGUFReader(tiny_gemma_gguf).fields
    types = fields["tokenizer.ggml.token_type"].contents()
    scores = fields["tokenizer.ggml.scores"].contents()
    file = SentencePieceProcessor(model_file=str(from_tiny[0] / "tokenizer.model"))
    assert file.vocab_size() == len(types)
    assert file.unk_id() == 3
    for token_id, (kind, score) in enumerate(zip(types, scores, strict=True)):
        assert file.is_byte(token_id) == (kind == 6)
        assert file.is_control(token_id) == (kind == 3 and token_id != 3)
        assert file.get_score(token_id) == pytest.approx(score)


def test_every_split_of_the_best_piece_comes_first_and_none_makes_a_special_token():
    vocabulary = Vocabulary(
        pieces=["<unk>", "a", "b", "ab", "bb", "abb", "a<"],
        scores=[0.0, -4.0, -5.0, -3.0, -2.0, -1.0, 0.0],
        types=[2, 1, 1, 1, 1, 1, 3],
        unknown_id=0,
        bos_id=None,
        adds_blank=False,
    )
    assert merges(vocabulary) == [("a", "bb"), ("ab", "b"), ("b", "b"), ("a", "b")]


@pytest.mark.weights
def test_gemmas_ids_are_llama_cpps(gemma_gguf):
    from gguf import GGUFReader

    made = make_tokenizer(read_vocabulary(GGUFReader(gemma_gguf).fields))
    vocabulary = LlamaVocabulary(gemma_gguf)
    try:
        for text in [*TEXTS, Path(__file__).read_text(encoding="utf-8")]:
            ids = made(text, add_special_tokens=False)["input_ids"]
            assert ids == vocabulary.ids(text)
    finally:
        vocabulary.close()

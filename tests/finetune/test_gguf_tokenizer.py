"""Token ids of a base out of a GGUF equal llama.cpp's own, from the first hop on."""

import ctypes

import pytest

from finetune.errors import BaseModelError
from finetune.gguf_tokenizer import _pre_tokenizer, correct_word_cutting

TEXTS = [
    "def add(a, b):\n    return a + b\n",
    "x = 1234567890 + 0x1F  # 3.14159\n\n\n\tif x:\n",
    "naïve café · 日本語 🙂 \u200b end",
    "<|im_start|>user\nhello<|im_end|>\n",
    "   leading and trailing   \n \n",
]


def llama_ids(llama_cpp, vocab, text):
    data = text.encode()
    ids = (ctypes.c_int32 * (len(data) + 8))()
    count = llama_cpp.llama_tokenize(vocab, data, len(data), ids, len(ids), False, True)
    return list(ids[:count])


@pytest.mark.weights
def test_the_rebuilt_tokenizer_gives_llama_cpps_token_ids(smollm2_tokenizer, smollm2_gguf):
    import llama_cpp

    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(smollm2_gguf).encode(), params)
    vocab = llama_cpp.llama_model_get_vocab(model)
    try:
        for text in TEXTS:
            ids = smollm2_tokenizer(text, add_special_tokens=False)["input_ids"]
            assert ids == llama_ids(llama_cpp, vocab, text)
            assert smollm2_tokenizer.decode(ids) == text
    finally:
        llama_cpp.llama_model_free(model)


def test_an_unknown_way_of_cutting_words_is_refused_with_the_remedy():
    with pytest.raises(BaseModelError, match=r"'hieroglyph'.*Hugging Face folder"):
        _pre_tokenizer("hieroglyph")


def test_a_sentencepiece_vocabulary_is_left_alone(tiny_tokenizer):
    before = tiny_tokenizer.backend_tokenizer.to_str()
    correct_word_cutting(tiny_tokenizer, "llama", None)
    assert tiny_tokenizer.backend_tokenizer.to_str() == before


def test_a_byte_level_vocabulary_is_cut_as_its_file_says(tiny_tokenizer):
    correct_word_cutting(tiny_tokenizer, "gpt2", "smollm")
    cutting = tiny_tokenizer.backend_tokenizer.pre_tokenizer
    assert [piece for piece, _ in cutting.pre_tokenize_str("a12")] == ["a", "1", "2"]


@pytest.mark.parametrize(("pre", "pieces"), [("llama-bpe", ["123", "4"]), ("qwen2", [*"1234"])])
def test_digits_are_grouped_as_the_model_family_does(pre, pieces):
    cut = [piece for piece, _ in _pre_tokenizer(pre).pre_tokenize_str("1234")]
    assert cut == pieces


def test_a_tokenizer_that_came_back_without_merges_is_refused():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, [])))
    with pytest.raises(BaseModelError, match=r"has no merges .* Hugging Face folder"):
        correct_word_cutting(bare, "llama", "default")

"""The embedding engine on a small random BERT, which sees an input from both sides."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from serve.engine.compute import ComputeThread
from serve.engine.config import EngineConfig
from serve.engine.embedding import MAX_INPUTS, EmbeddingEngine
from serve.engine.errors import EngineClosedError, InputTooLongError, ModelLoadError
from serve.engine.sizing import size

SIZE, LENGTH, WORDS = 32, 64, 96
MEAN, CLS, RANK = 1, 2, 4


@pytest.fixture(scope="module")
def reference():
    torch = pytest.importorskip("torch", reason="torch comes with the quantize extra")
    transformers = pytest.importorskip("transformers", reason="comes with the quantize extra")
    torch.manual_seed(7)
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=SIZE,
        intermediate_size=2 * SIZE,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        initializer_range=0.3,
    )
    return transformers.BertModel(config, add_pooling_layer=False).eval()


@pytest.fixture(scope="module")
def write(gguf, reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")

    def write_(pooling):
        path = folder / f"{pooling}.gguf"
        writer = gguf.GGUFWriter(path, "bert")
        writer.add_block_count(reference.config.num_hidden_layers)
        writer.add_context_length(LENGTH)
        writer.add_embedding_length(SIZE)
        writer.add_feed_forward_length(reference.config.intermediate_size)
        writer.add_head_count(reference.config.num_attention_heads)
        writer.add_layer_norm_eps(reference.config.layer_norm_eps)
        writer.add_causal_attention(False)
        writer.add_pooling_type(gguf.PoolingType(pooling))
        write_vocabulary(writer)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 2)
        for name, tensor in reference.state_dict().items():
            ours = names.get_name(name, try_suffixes=(".weight", ".bias"))
            writer.add_tensor(ours, tensor.float().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write_


def write_vocabulary(writer):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [f"\u2581w{number}" for number in range(WORDS - len(special))]
    writer.add_tokenizer_model("bert")
    writer.add_token_list([*special, *words])
    writer.add_token_types([3] * len(special) + [1] * len(words))
    writer.add_token_type_count(2)
    for number, name in enumerate(("padding", "unknown", "bos", "seperator", "mask")):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", number)


@pytest.fixture
def load(write):
    engines = []

    def load_(pooling=MEAN, compute=None, **fields):
        config = EngineConfig(model=str(write(pooling)), threads=1, **fields)
        engines.append(EmbeddingEngine.load(size(config, None), compute))
        return engines[-1]

    yield load_
    for engine in engines:
        engine.close()


def expected(reference, token_ids, pooling):
    torch = pytest.importorskip("torch", reason="torch comes with the quantize extra")
    with torch.no_grad():
        states = reference(torch.tensor([token_ids])).last_hidden_state[0].numpy()
    return states.mean(0) if pooling == MEAN else states[0]


def cosine(left, right):
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


@pytest.mark.parametrize("pooling", [MEAN, CLS])
async def test_vectors_equal_those_of_transformers_whatever_shares_their_call(
    load, reference, pooling
):
    engine = load(pooling)
    random = np.random.default_rng(1)
    lengths = [1, 5, LENGTH, 30, 30, 7]
    inputs = [random.integers(5, WORDS, length).tolist() for length in lengths]
    for token_ids, vector in zip(inputs, await engine.embed(inputs), strict=True):
        assert cosine(vector, expected(reference, token_ids, pooling)) > 0.9999


async def test_many_short_inputs_and_many_askers_keep_their_order(load, reference):
    compute = ComputeThread()
    engine = load(compute=compute)
    inputs = [[5 + number % 90] for number in range(MAX_INPUTS + 9)]
    answers = await asyncio.gather(*(engine.embed(inputs) for _ in range(3)))
    for vectors in answers:
        for token_ids, vector in zip(inputs, vectors, strict=True):
            assert cosine(vector, expected(reference, token_ids, MEAN)) > 0.9999
    engine.close()
    compute.close()


async def test_an_input_beyond_the_trained_length_is_refused_before_anything_is_computed(load):
    with pytest.raises(InputTooLongError, match="65 tokens and the model takes 64"):
        await load(context_length=500).embed([[5], [5] * 65])


async def test_a_closed_engine_says_so(load):
    engine = load()
    engine.close()
    for ask in (engine.embed([[5]]), engine.embed([[6]])):
        with pytest.raises(EngineClosedError):
            await ask


def test_a_model_that_ranks_is_refused(load):
    with pytest.raises(ModelLoadError, match="ranks texts"):
        load(RANK)


def test_a_text_gets_the_marks_the_model_wants(load):
    assert load().tokenize("w0 w1", add_special=True, parse_special=False) == [2, 5, 6, 3]

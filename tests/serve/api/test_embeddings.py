"""Embeddings of a small random model that transformers has, too, beside a model that writes."""

import base64

import numpy as np
import pytest

from clients import Client

pytestmark = pytest.mark.weights

SIZE = 64
TEXTS = ["def add(a, b): return a + b", "the sum of two numbers", "a bird in the hand " * 20]


def post(server, path, **body):
    return server.post(path, **{"model": "vectors"} | body)


@pytest.fixture(scope="module")
def reference():
    """Return a small random model of transformers, in 32 bits."""
    torch = pytest.importorskip("torch", reason="torch comes with the quantize extra")
    transformers = pytest.importorskip("transformers", reason="comes with the quantize extra")
    torch.manual_seed(5)
    config = transformers.Qwen2Config(
        vocab_size=49152,
        hidden_size=SIZE,
        intermediate_size=2 * SIZE,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        initializer_range=0.3,
    )
    return transformers.Qwen2Model(config).eval()


@pytest.fixture(scope="module")
def server(smollm2_gguf, gguf, reference, tmp_path_factory, serve_folder):
    folder = tmp_path_factory.mktemp("models")
    (folder / "writer.gguf").symlink_to(smollm2_gguf)
    write_embedding_model(gguf, reference, smollm2_gguf, folder / "vectors.gguf")
    return serve_folder(folder, 4 * 2**30)


def write_embedding_model(gguf, reference, vocabulary, target):
    """Write a model as an embedding GGUF with the tokenizer of another file."""
    config = reference.config
    writer = gguf.GGUFWriter(target, "qwen2")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    for field in gguf.GGUFReader(vocabulary).fields.values():
        if field.name.startswith("tokenizer.ggml."):
            part = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=part)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, tensor in reference.state_dict().items():
        ours = names.get_name(f"model.{name}", try_suffixes=(".weight", ".bias"))
        writer.add_tensor(ours, tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def vectors(server):
    """Return one of each text, as the plain route gives them."""
    data = post(server, "/v1/embeddings", input=TEXTS).json()["data"]
    return np.array([each["embedding"] for each in data], np.float32)


def test_vectors_are_the_mean_of_the_last_hidden_states_of_transformers(server, vectors, reference):
    torch = pytest.importorskip("torch", reason="torch comes with the quantize extra")
    for text, vector in zip(TEXTS, vectors, strict=True):
        tokens = post(server, "/tokenize", content=text, add_special=True).json()["tokens"]
        with torch.no_grad():
            expected = reference(torch.tensor([tokens])).last_hidden_state[0].mean(0).numpy()
        assert float(expected @ vector) / np.linalg.norm(expected) > 0.9999


def test_vectors_have_length_one_and_do_not_depend_on_their_company(server, vectors):
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        [alone] = post(server, "/v1/embeddings", input=text).json()["data"]
        assert float(np.array(alone["embedding"], np.float32) @ vector) > 0.999


def test_this_projects_client_reads_the_vectors_in_the_order_of_the_texts(server, vectors):
    with Client(server.url, model="vectors") as client:
        found = np.array(client.embeddings(TEXTS), np.float32)
    assert np.abs(found - vectors).max() < 1e-3


def test_token_lists_base64_and_fewer_dimensions(server, vectors):
    tokens = post(server, "/tokenize", content=TEXTS[0], add_special=True).json()["tokens"]
    for given in (tokens, [tokens]):
        answer = post(server, "/v1/embeddings", input=given, encoding_format="base64").json()
        assert answer["usage"] == {"prompt_tokens": len(tokens), "total_tokens": len(tokens)}
        raw = base64.b64decode(answer["data"][0]["embedding"])
        assert np.frombuffer(raw, "<f4") == pytest.approx(vectors[0], abs=1e-3)
    [short] = post(server, "/v1/embeddings", input=TEXTS[0], dimensions=16).json()["data"]
    expected = vectors[0][:16] / np.linalg.norm(vectors[0][:16])
    assert short["embedding"] == pytest.approx(expected, abs=1e-3)


def test_the_other_dialects_give_the_same_vectors(server, vectors):
    native = post(server, "/embedding", content=TEXTS[0]).json()
    assert native[0]["embedding"][0] == pytest.approx(vectors[0], abs=1e-3)
    raw = post(server, "/embedding", content=TEXTS[0], embd_normalize=-1).json()
    assert np.linalg.norm(raw[0]["embedding"][0]) > 2
    old = post(server, "/api/embeddings", prompt=TEXTS[0]).json()
    assert old["embedding"] == pytest.approx(vectors[0], abs=1e-3)


def test_the_sdks_get_them(server, vectors):
    openai = pytest.importorskip("openai", reason="the openai SDK comes with the dev extra")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as sdk:
        answer = sdk.embeddings.create(model="vectors", input=TEXTS)
        assert {each.id for each in sdk.models.list()} == {"vectors", "writer"}
    got = [each.embedding for each in answer.data]
    assert np.array(got) == pytest.approx(vectors, abs=1e-3)
    ollama = pytest.importorskip("ollama", reason="the ollama client comes with the dev extra")
    with ollama.Client(host=server.url) as client:
        answer = client.embed("vectors", TEXTS)
        assert np.array(answer.embeddings) == pytest.approx(vectors, abs=1e-3)
        assert client.show("vectors").capabilities == ["embedding"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/embeddings", {"model": "writer", "input": "a"}, "writer generates text"),
        ("/api/embed", {"model": "writer", "input": "a"}, "writer generates text"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}, "no text"),
        ("/api/generate", {"prompt": "a"}, "no text"),
        ("/v1/embeddings", {"input": []}, "1 to 2048"),
        ("/v1/embeddings", {"input": ""}, "an input is empty"),
        ("/v1/embeddings", {"input": [1, "a"]}, "mixes"),
        ("/v1/embeddings", {"input": [10**6]}, "does not exist"),
        ("/v1/embeddings", {"input": "word " * 300}, "takes 256 at once"),
        ("/v1/embeddings", {"input": "a", "dimensions": 65}, "the model has 64"),
        ("/api/embed", {"input": "word " * 300, "truncate": False}, "takes 256 at once"),
    ],
)
def test_what_cannot_be_embedded_is_a_400_that_says_why(server, path, body, words):
    response = post(server, path, **body)
    assert response.status_code == 400
    assert words in response.text


def test_ollamas_route_cuts_long_texts_unless_told_otherwise(server):
    assert post(server, "/api/embed", input="word " * 300).json()["prompt_eval_count"] == 256


def test_lists_tell_an_embedding_model_from_a_writer(server):
    entries = {each["id"]: each for each in server.http.get("/v1/models").json()["data"]}
    assert entries["vectors"]["capabilities"] == ["embedding"]
    assert "completion" in entries["writer"]["capabilities"]


def test_metrics_count_what_was_read(server):
    def read():
        page = server.http.get("/metrics", params={"model": "vectors"}).text
        figures = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[:1] != "#")
        assert float(figures["llamacpp:tokens_predicted_total"]) == 0
        names = ("edgesmith_prompt_tokens_total", "llamacpp:n_decode_total")
        return [float(figures[name]) for name in names]

    post(server, "/v1/embeddings", input="a")
    before = read()
    usage = post(server, "/v1/embeddings", input=TEXTS).json()["usage"]
    assert [now - then for now, then in zip(read(), before, strict=True)] == [
        usage["prompt_tokens"],
        1,
    ]

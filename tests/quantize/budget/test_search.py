"""A search measures on the model itself, lands under its budget, and says what cannot be done."""

import pytest

from quantize.budget.artifact import choice
from quantize.budget.probe import Probe
from quantize.budget.reach import target_bytes
from quantize.budget.search import Search, grouped
from quantize.budget.sensitivity import weigh
from quantize.config import BudgetConfig
from quantize.errors import BudgetError, ConfigError
from quantize.examples import ScoredText
from quantize.imatrix.collect import collect
from quantize.llama.gguf_header import read_header
from quantize.llama.quant_types import table
from quantize.llama.quantizer import TypeChoice, quantize_file
from quantize.llama.session import LlamaSession
from quantize.llama.weights import weights
from quantize.perplexity import score, score_reference

TEXTS = [ScoredText(prompt_token_ids=[5, 6], response_token_ids=list(range(900, 920)))]
TYPES = ("q2_k", "q4_k", "q6_k", "q8_0")


@pytest.fixture(scope="module")
def f16(tiny_merged):
    return tiny_merged / "f16.gguf"


@pytest.fixture(scope="module")
def means(f16):
    entries = collect(f16, [range(900, 990)]).entries
    return {name: entry.means() for name, entry in entries.items()}


def search(f16, means, **settings):
    config = BudgetConfig(target_bpw=6.6, probes=9, types=TYPES, **settings)
    return Search(f16, config, means, TEXTS)


@pytest.fixture(scope="module")
def found(f16, means):
    told = []
    size = target_bytes(BudgetConfig(target_bpw=6.6), read_header(f16), None)
    result = search(f16, means).run(size, on_group=lambda groups: told.append(len(groups)))
    assert told == list(range(1, len(result.groups) + 1))
    return result


def test_the_file_lands_within_a_hundredth_under_the_budget(f16, means, found, tmp_path):
    quantize_file(f16, tmp_path / "fit.gguf", choice(found), imatrix=means)
    size = (tmp_path / "fit.gguf").stat().st_size
    assert 0.99 * found.target_bytes <= size <= found.file_bytes <= found.target_bytes
    held = {tensor.name: tensor.type_name for tensor in read_header(tmp_path / "fit.gguf").tensors}
    assert found.types.items() <= held.items()
    assert set(found.types.values()) <= set(TYPES)


def test_at_equal_bytes_it_loses_less_than_a_stock_type_with_the_same_matrix(f16, means, tmp_path):
    stock, fit = tmp_path / "stock.gguf", tmp_path / "fit.gguf"
    quantize_file(f16, stock, TypeChoice(quant_type=table()["q4_k_m"]), imatrix=means)
    chosen = search(f16, means).run(stock.stat().st_size)
    quantize_file(f16, fit, choice(chosen), imatrix=means)
    unseen = [ScoredText(prompt_token_ids=[9], response_token_ids=list(range(2000, 2060)))]
    with LlamaSession(f16, n_ctx=64) as session:
        _, reference = score_reference(session, unseen)
    losses = []
    for path in (fit, stock):
        with LlamaSession(path, n_ctx=64) as session:
            losses.append(score(session, unseen, reference).mean_kld_nats)
    reference.close()
    assert fit.stat().st_size <= stock.stat().st_size
    assert losses[0] <= 0.85 * losses[1]


def test_stock_types_that_fit_are_named_best_first(found):
    assert found.stock
    assert all(stock.file_bytes <= found.target_bytes for stock in found.stock)
    losses = [stock.predicted_kld_nats for stock in found.stock]
    assert losses == sorted(losses)
    assert found.predicted_kld_nats <= losses[0]


def test_what_was_measured_before_a_kill_is_not_measured_again(f16, means, found):
    told = []
    size = found.target_bytes
    again = search(f16, means).run(size, known=found.groups, on_group=told.append)
    assert told == []
    assert again == found


def test_an_embedding_type_is_a_knob_of_its_own(f16, means, found):
    chosen = search(f16, means, embedding_type="q4_k")
    assert chosen.run(found.target_bytes, known=found.groups).types["token_embd.weight"] == "q4_k"


def test_a_budget_below_the_smallest_file_says_what_that_is(f16, means):
    with pytest.raises(BudgetError, match=r"below the smallest file .*, [\d,]+ bytes \("):
        search(f16, means).run(1_000_000)


def test_a_budget_above_the_reference_names_it(f16, means):
    with pytest.raises(BudgetError, match="holds the whole f16"):
        search(f16, means).run(10**10)


def test_a_tensor_type_that_is_unknown_is_refused(f16):
    with pytest.raises(ConfigError, match="unknown tensor type 'q9_k'"):
        Search(f16, BudgetConfig(types=("q9_k",)), None, TEXTS).run(10**7)


def test_a_probe_finds_what_the_written_file_would_show_and_puts_the_weights_back(
    f16, means, tmp_path
):
    changed = {"blk.0.ffn_down.weight": "q2_k", "blk.1.attn_v.weight": "q2_k"}
    with Probe(f16, weights(read_header(f16)), TEXTS, means) as probe:
        probed = probe.mean_kld(changed)
        assert probe.mean_kld({}) == 0
    kept = {name: "f16" for name in weights(read_header(f16)) if "norm" not in name}
    written = TypeChoice(quant_type=table()["q8_0"], tensor_types=kept | changed)
    quantize_file(f16, tmp_path / "q.gguf", written, imatrix=means)
    with LlamaSession(f16, n_ctx=32) as session:
        _, reference = score_reference(session, TEXTS)
    with LlamaSession(tmp_path / "q.gguf", n_ctx=32) as session:
        measured = score(session, TEXTS, reference).mean_kld_nats
    reference.close()
    assert probed > 0
    assert probed == pytest.approx(measured, rel=0.05)


def test_weights_of_one_role_and_depth_are_probed_together():
    names = [f"blk.{layer}.{role}.weight" for layer in range(8) for role in ("attn_q", "ffn_up")]
    groups = grouped(["token_embd.weight", *names], 5)
    assert len(groups) == 5
    assert groups["token_embd.weight"] == ["token_embd.weight"]
    assert groups["attn_q.weight 0"] == [f"blk.{layer}.attn_q.weight" for layer in range(4)]


def test_types_that_need_importances_are_offered_with_them_only(f16, means):
    held = weights(read_header(f16))
    one = [held["blk.0.attn_q.weight"]]
    (without,), (with_them,) = (
        weigh(one, ("iq2_xs", "q4_k"), None),
        weigh(one, ("iq2_xs", "q4_k"), means),
    )
    assert [option.type_name for option in without.options] == ["q4_k"]
    assert [option.type_name for option in with_them.options] == ["iq2_xs", "q4_k"]
    assert with_them.options[0].error > with_them.options[1].error > 0

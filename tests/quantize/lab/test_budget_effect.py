"""A searched file is set beside every stock type of about its size; what is known is not redone."""

import pytest

from quantize.budget.search import Found, Stock
from quantize.lab import budget_effect
from quantize.lab.budget_effect import Bench, compared
from quantize.llama.quant_types import table
from quantize.llama.quantizer import TypeChoice
from quantize.progress import Steps

FIGURES = {"mean_kld_nats": 0.02, "top1_agreement": 0.9, "text_top1_agreement": 0.8}

KLDS = {
    "q4_k_m": (1000, 0.05, 0.04),
    "q4_k_s": (950, 0.06, 0.02),
    "iq4_xs": (800, 0.04, 0.05),
    "fit_1000": (990, 0.02, 0.03),
}


class FakeBench:
    """Know figures beforehand; search nothing."""

    def figures(self, name, made):
        size, kld, text = KLDS[name]
        return FIGURES | {"file_bytes": size, "mean_kld_nats": kld, "text_mean_kld_nats": text}

    def search(self, size, texts):
        sizes = {"q4_k_m": 1000, "q4_k_s": 950, "iq4_xs": 800, "q2_k": 500}
        stock = [
            Stock(type_name=name, file_bytes=each, predicted_kld_nats=1.0)
            for name, each in sizes.items()
        ]
        return Found(
            target_bytes=size,
            file_bytes=size,
            predicted_kld_nats=0.5,
            quant_type="q4_k_m",
            types={},
            groups=(),
            stock=tuple(stock),
        )


def test_the_searched_file_is_set_beside_the_best_stock_type_on_each_text():
    lines = compared(FakeBench(), table()["q4_k_m"], [])
    names = [line.split(" | ")[0].strip("| ") for line in lines[2:-3]]
    assert names == ["fit_1000", "iq4_xs", "q4_k_m", "q4_k_s"]  # q2_k is far smaller
    assert lines[-2] == (
        "0.50 times the KLD of iq4_xs, the best stock type, on held-out examples; "
        "1.50 times the KLD of q4_k_s, the best stock type, on the text"
    )


def test_a_file_that_was_judged_is_not_made_again(tiny_merged, tmp_path):
    judged = []

    class Judge:
        def of(self, path, draw):
            judged.append(path.stat().st_size)
            return FIGURES

    bench = Bench(tiny_merged / "f16.gguf", {}, Judge(), tmp_path, Steps())
    made = TypeChoice(quant_type=table()["q4_0"])
    first = bench.figures("q4_0", made)
    assert first == FIGURES | {"file_bytes": judged[0]}
    assert bench.figures("q4_0", made) == first
    assert len(judged) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["q4_0.json"]


@pytest.mark.parametrize("budget", ["q4_k_x", "q4_k_m"])
def test_an_unknown_type_or_a_missing_file_is_one_line_and_status_2(tmp_path, capsys, budget):
    files = [f"--{name}={tmp_path / name}" for name in ("train", "heldout", "text", "imatrix")]
    asked = [str(tmp_path / "none.gguf"), *files, "--budget", budget]
    assert budget_effect.main([*asked, "--state", str(tmp_path / "state")]) == 2
    assert capsys.readouterr().err.startswith("error: ")

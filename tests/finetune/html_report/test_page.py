"""The page holds the run's figures, and asks for nothing from outside."""

import json
import re
from html.parser import HTMLParser

import pytest

from finetune.errors import RunError
from finetune.evaluate.figures import Figures
from finetune.evaluate.outcome import Evaluation, Shown, folder_of, write
from finetune.evaluate.scoring import PassRates
from finetune.html_report.command import page, write_html
from finetune.run import Run

METRICS = {
    "heldout_response_loss_before_nats": 1.5,
    "heldout_response_loss_after_nats": 1.2,
    "num_steps": 4,
    "train_tokens": 5_000,
    "train_seconds": 125.0,
    "train_tokens_per_second": 40.0,
    "peak_memory_bytes": 2**31,
}
VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Collects table rows by the table's id or class, and every address."""

    def __init__(self):
        super().__init__()
        self.tables, self.addresses, self.open, self.texts = {}, [], [], []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [found[name] for name in ("src", "href") if name in found]
        if tag == "table":
            self.rows = self.tables.setdefault(found.get("id") or found.get("class"), [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())
        if self.open[-1:] and self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "runs" / "finetune" / "20260101T000000Z-00000000")
    run.path.mkdir(parents=True)
    (run.path / "config.toml").write_text('[data]\nref = "<b>"\n', encoding="utf-8")
    run.log("estimated", train_seconds=100.0, tokens_per_second=50.0)
    for step, loss in ((1, 2.0), (2, 1.8), (2, 1.7), (3, None), (4, 1.4)):
        run.log("step", step=step, loss_nats=loss, learning_rate=1e-4, tokens_per_second=40.0)
    run.log("heldout_loss", moment="checkpoint", step=2, loss_nats=1.3)
    run.complete(
        {
            "schema_version": 1,
            "run_id": run.path.name,
            "created_at": "2026-01-01T00:00:00Z",
            "config_hash": "0" * 64,
            "git": {"commit": "abc", "dirty": True},
            "seed": 7,
            "inputs": [{"role": "data", "ref": "rows<1>.jsonl"}],
            "base_model": {"ref": "tiny", "licence": None, "kind": "hf_dir", "sha256": "f" * 64},
            "versions": {"torch": "2.13"},
            "hardware": {"cpu": "A", "num_cores": 2, "memory_bytes": 2**34, "gpu": None},
            "metrics": METRICS,
        }
    )
    return run


def add_evaluation(run):
    shares = {"num_answers": 10, "exact_match_rate": None}
    evaluation = Evaluation(
        run_id=run.path.name,
        suite="humaneval",
        created_at="",
        settings="",
        device="CPU",
        base=Figures(parse_rate=0.5, stop_rate=0.1, **shares),
        tuned=Figures(parse_rate=0.75, stop_rate=1.0, **shares),
        reference_parse_rate=1.0,
        pass_at_1=PassRates(
            num_problems=10, first=0.1, second=0.3, difference=0.2, low=-0.1, high=0.4
        ),
        shown=(Shown(question="1 < 2?", reference="r", base="<script>", tuned="t"),),
    )
    folder = folder_of(run.path, "humaneval")
    folder.mkdir(parents=True)
    write(evaluation, folder)


def test_the_figures_of_the_run_are_there(run):
    found = read(page(run))
    assert "1.500 → 1.200" in found.texts
    assert "2:05" in found.texts
    assert ["training time, m:ss", "1:40", "2:05"] in found.tables["estimates"]
    assert ["commit", "abc, with uncommitted changes"] in found.tables["origin"]
    assert ["train_tokens", "5,000"] in found.tables["metrics"]


def test_nothing_is_fetched_and_no_script_runs(run):
    add_evaluation(run)
    text = page(run)
    assert read(text).addresses == []
    assert not re.search(r"<script|https?://|@import|url\(", text)


def test_the_loss_curve_has_each_step_once_and_the_heldout_loss_between(run):
    svg = re.search(r"<svg.*?</svg>", page(run))[0]
    drawn = re.findall(r'<polyline class="line(\d)[^"]*" points="([^"]+)"', svg)
    assert [(number, len(points.split())) for number, points in drawn] == [
        ("0", 3),
        ("1", 3),
        ("2", 3),
    ]
    assert re.findall(r"<title>(.*?)</title>", svg) == ["0: 1.5", "2: 1.3", "4: 1.2"]


def test_evaluations_and_answers_are_shown_as_text(run):
    assert "Not evaluated yet." in " ".join(read(page(run)).texts)
    add_evaluation(run)
    found = read(page(run))
    assert ["pass@1 on 10 problems", "10.0%", "30.0%"] in found.tables["evaluation"]
    assert ["stops by itself", "10.0%", "100.0%"] in found.tables["evaluation"]
    assert "<script>" in found.texts


def test_the_data_report_is_part_of_it(run):
    lengths = {"tokens": {"p50": 7, "p100": 9}, "learnt_tokens": {"p50": 3, "p100": 4}}
    side = lengths | {"total_tokens": 1_234, "total_learnt_tokens": 99}
    names = ("num_found", "num_exact_duplicates", "num_near_duplicates", "num_contaminated")
    gate = dict.fromkeys((*names, "num_problems", "num_with_secrets"), 3)
    counts = ("too_long", "truncated", "train", "heldout")
    report = {
        "source": {"ref": "rows.jsonl", "size_bytes": 10, "licence": "MIT"},
        "gate": gate | {"formats": {"alpaca": 20}, "licence_notices": {}, "secrets_dropped": True},
        "counts": {f"num_{name}_examples": 5 for name in counts},
        "train": side,
        "heldout": side,
    }
    (run.path / "data_report").mkdir()
    (run.path / "data_report" / "report.json").write_text(json.dumps(report), encoding="utf-8")
    found = read(page(run))
    assert ["formats", "alpaca: 20"] in found.tables["gate"]
    assert ["train, whole", "7", "9", "1,234"] in found.tables["lengths"]


def test_it_lies_beside_the_runs(run):
    before = {path.name for path in run.path.iterdir()}
    path = write_html([str(run.path)])
    assert path == run.path.parent.parent / "reports" / f"{run.path.name}.html"
    assert {file.name for file in run.path.iterdir()} == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_unfinished_run_has_none(tmp_path):
    with pytest.raises(RunError, match="is no finished run"):
        write_html([str(tmp_path)])

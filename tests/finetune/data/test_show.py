"""The report counts what was found and shows the end-of-turn token inside the loss."""

import subprocess
import sys

import msgspec
import pytest

from finetune.data.examples import conversation
from finetune.data.show import LEARNT, lengths_of, masked_examples
from finetune.data.tokens import encode, stop_token_ids


def test_percentiles_are_values_that_occur(tiny_tokenizer):
    rows = encoded(tiny_tokenizer, ["a", "a b", "a b c"])
    lengths = lengths_of(rows)
    counts = [row.num_tokens for row in rows]
    assert lengths.tokens == {
        "p50": sorted(counts)[1],
        **dict.fromkeys(("p90", "p99", "p100"), max(counts)),
    }
    assert lengths.total_learnt_tokens == sum(row.num_learnt for row in rows)


def encoded(tokenizer, answers):
    stops = stop_token_ids(tokenizer)
    return [encode(conversation("say", answer), tokenizer, stops) for answer in answers]


def test_the_answer_and_its_end_are_coloured_and_the_question_is_not(tiny_tokenizer):
    (text,) = masked_examples(encoded(tiny_tokenizer, ["return a"]), tiny_tokenizer)
    learnt = [text.plain[span.start : span.end] for span in text.spans if span.style == LEARNT]
    assert learnt == ["return a<|im_end|>"]
    assert "say" in text.plain
    (framed,) = masked_examples(encoded(tiny_tokenizer, ["return a"]), tiny_tokenizer, framed=True)
    assert framed.plain.endswith("⟦return a<|im_end|>⟧")


@pytest.mark.slow
def test_the_command_prints_and_writes_the_report(tiny_model, tmp_path):
    rows = [{"instruction": f"add {n} to a number", "output": f"return x + {n}"} for n in range(9)]
    path = tmp_path / "rows.json"
    path.write_bytes(msgspec.json.encode(rows))
    pairs = [f"base_model.ref={tiny_model}", "data.source=file", f"data.path={path}"]
    pairs.append("data.near_duplicates=0")
    words = [word for pair in pairs for word in ("--set", pair)]
    command = [sys.executable, "-m", "finetune", "data", *words, "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "alpaca (9 rows)" in done.stdout
    assert "What carries loss stands between ⟦ and ⟧" in done.stdout
    assert "<|im_end|>⟧" in done.stdout
    report = msgspec.json.decode((tmp_path / "out" / "report.json").read_bytes())
    assert report["gate"]["num_kept"] == 9
    assert report["counts"]["num_train_examples"] + report["counts"]["num_heldout_examples"] == 9
    assert (tmp_path / "out" / "report.md").read_text(encoding="utf-8").startswith("# Data of")


def test_the_report_names_the_whole_and_its_parts(rows_file, tmp_path, tiny_tokenizer):
    from finetune.config import Config
    from finetune.data.gate import pass_gate
    from finetune.data.prepare import prepare
    from finetune.data.settings import DataConfig
    from finetune.data.show import report_json
    from finetune.data.sources import load_dataset

    for name in ("a.md", "b.md"):
        (tmp_path / "notes").mkdir(exist_ok=True)
        (tmp_path / "notes" / name).write_text(f"Words of {name}.\n", encoding="utf-8")
    data = DataConfig(source="file", path=str(rows_file), texts=(str(tmp_path / "notes"),))
    dataset, gate = pass_gate(load_dataset(data), data)
    figures = report_json(dataset, gate, prepare(dataset, tiny_tokenizer, Config(data=data)))
    assert figures["source"]["ref"] == "rows.jsonl + notes"
    assert [part["ref"] for part in figures["parts"]] == ["rows.jsonl", "notes"]

"""The command as a user runs it, in processes of their own on a tiny random model."""

import json
import math
import signal
import subprocess
import sys
from os import environ
from pathlib import Path

import pytest

from finetune.fingerprint import sha256_file

SETTINGS = (
    "train.max_seq_length=128",
    "train.max_steps=10",
    "train.save_steps=2",
    "train.grad_accumulation=8",
    "train.learning_rate=0.01",
    "data.source=file",
    "data.licence=mit",
    "lora.dropout=0.1",
    "train.neftune_alpha=5",
    "train.keep_best=true",
    'train.loggers=["tensorboard"]',
)


def options(base, data):
    pairs = [*SETTINGS, f"base_model.ref={base}", f"data.path={data}"]
    return [word for pair in pairs for word in ("--set", pair)]


def manifest_of(path):
    return json.loads((Path(path) / "manifest.json").read_text(encoding="utf-8"))


def run_command(home, words):
    repository = str(Path(__file__).resolve().parents[2])
    return subprocess.run(
        [sys.executable, "-m", "finetune", *words],
        cwd=home,
        env=environ | {"EDGESMITH_HOME": str(home), "PYTHONPATH": repository},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@pytest.fixture(scope="module")
def finished(tiny_model, tmp_path_factory):
    """A complete run of the tiny model: (home, data file, process)."""
    home = tmp_path_factory.mktemp("home")
    data = home / "rows.jsonl"
    rows = ({"prompt": f"add {n}", "completion": f"return a + {n}"} for n in range(20))
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = run_command(home, options(tiny_model, data))
    assert done.returncode == 0, done.stderr
    return home, data, done


def test_stdout_holds_the_run_directory_and_nothing_else(finished):
    home, _, done = finished
    path = Path(done.stdout.rstrip("\n"))
    assert path.parent == home / "runs" / "finetune"
    assert done.stdout == f"{path}\n"


def test_nothing_is_left_in_the_working_directory(finished):
    home, data, _ = finished
    assert {path.name for path in home.iterdir()} == {"runs", data.name}


def test_training_lowers_the_heldout_loss_and_says_so(finished):
    metrics = manifest_of(finished[2].stdout.strip())["metrics"]
    before = metrics["heldout_response_loss_before_nats"]
    assert metrics["heldout_response_loss_after_nats"] < before
    assert metrics["num_steps"] == 10
    assert metrics["train_tokens"] > 0
    assert metrics["train_tokens_per_second"] > 0
    assert metrics["peak_memory_bytes"] > 1e8


def test_the_manifest_lists_every_artifact_with_its_true_hash(finished):
    path = Path(finished[2].stdout.strip())
    outputs = manifest_of(path)["outputs"]
    assert {entry["role"] for entry in outputs} == {
        "adapter",
        "tokenizer",
        "chat_template",
        "train_examples",
        "heldout_examples",
        "data_report",
        "report",
        "model_card",
    }
    for entry in outputs:
        assert sha256_file(path / entry["path"]) == entry["sha256"]


def test_the_manifest_names_base_and_data_with_licences(finished):
    manifest = manifest_of(finished[2].stdout.strip())
    licences = {entry["role"]: entry["licence"] for entry in manifest["inputs"]}
    assert licences == {"base_model": "MIT", "data": "MIT"}
    assert manifest["base_model"]["kind"] == "hf_dir"
    assert {"unsloth", "torch", "transformers", "trl", "peft"} <= set(manifest["versions"])
    assert len(manifest["config_hash"]) == 64


def test_the_adapter_is_plain_peft_and_changes_the_model(finished):
    from safetensors.numpy import load_file

    folder = Path(finished[2].stdout.strip()) / "adapter"
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "tiny-llama"
    weights = load_file(folder / "adapter_model.safetensors")
    assert any(abs(tensor).max() > 0 for name, tensor in weights.items() if "lora_B" in name)


def test_plain_peft_loads_the_adapter_with_the_reported_loss(finished, tiny_model):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from finetune.data.examples import Message, make_example
    from finetune.data.tokens import encode, stop_token_ids
    from finetune.heldout import response_loss_nats

    path = Path(finished[2].stdout.strip())
    tokenizer = AutoTokenizer.from_pretrained(path / "tokenizer")
    rows = []
    for line in (path / "heldout.jsonl").read_text(encoding="utf-8").splitlines():
        messages = [Message(**turn) for turn in json.loads(line)["messages"]]
        rows.append(encode(make_example(messages), tokenizer, stop_token_ids(tokenizer)))
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = PeftModel.from_pretrained(base, path / "adapter")
    reported = manifest_of(path)["metrics"]["heldout_response_loss_after_nats"]
    assert response_loss_nats(model, rows) == pytest.approx(reported, abs=1e-4)


def test_train_and_heldout_files_share_no_example(finished):
    path = Path(finished[2].stdout.strip())
    ids = [
        {json.loads(line)["id"] for line in (path / name).read_text(encoding="utf-8").splitlines()}
        for name in ("train.jsonl", "heldout.jsonl")
    ]
    assert ids[0]
    assert ids[1]
    assert not ids[0] & ids[1]


def run_again(finished, command, *more):
    home, _, _ = finished
    return command(*more, EDGESMITH_HOME=str(home))


def test_the_same_fine_tune_is_printed_again_and_not_redone(finished, command, tiny_model):
    home, data, done = finished
    before = set((home / "runs" / "finetune").iterdir())
    again = run_again(finished, command, *options(tiny_model, data))
    assert again.stdout == done.stdout
    assert "are trained already" in again.stderr
    assert set((home / "runs" / "finetune").iterdir()) == before


def test_a_complete_run_is_not_resumed_but_named(finished, command):
    done = finished[2]
    again = run_again(finished, command, "--resume", done.stdout.strip())
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "is complete; nothing to resume" in again.stderr


def events_of(path, event):
    lines = (path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [found for found in map(json.loads, lines) if found["event"] == event]


def test_the_best_checkpoint_is_what_the_run_holds(finished):
    path = Path(finished[2].stdout.strip())
    metrics = manifest_of(path)["metrics"]
    events = events_of(path, "heldout_loss")
    losses = {event["step"]: event["loss_nats"] for event in events if "step" in event}
    assert sorted(losses) == [2, 4, 6, 8, 10]
    assert metrics["best_step"] == min(losses, key=losses.get)
    after = metrics["heldout_response_loss_after_nats"]
    assert after == pytest.approx(min(losses.values()), abs=1e-5)


def test_tensorboard_lies_in_the_run_and_is_no_artifact(finished):
    path = Path(finished[2].stdout.strip())
    assert list((path / "logs" / "tensorboard").glob("events.out.tfevents.*"))
    assert not any(entry["path"].startswith("logs") for entry in manifest_of(path)["outputs"])


@pytest.mark.slow
def test_training_that_gains_no_more_ends_and_keeps_the_best(command, tiny_model, rows_file):
    more = ("train.learning_rate=2", "train.max_steps=40", "train.early_stopping_patience=1")
    words = [word for pair in more for word in ("--set", pair)]
    done = command(*options(tiny_model, rows_file), *words)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    metrics = manifest_of(path)["metrics"]
    losses = [event["loss_nats"] for event in events_of(path, "heldout_loss") if "step" in event]
    assert metrics["num_steps"] == 2 * len(losses) < metrics["num_planned_steps"] == 40
    assert losses[-1] >= losses[-2] == min(losses)
    assert metrics["heldout_response_loss_after_nats"] == pytest.approx(min(losses), abs=1e-5)
    assert metrics["train_tokens"] == events_of(path, "step")[-1]["num_tokens"]


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_adapter(finished, command, tmp_path, tiny_model):
    _, data, done = finished
    words = [sys.executable, "-m", "finetune", *options(tiny_model, data)]
    with subprocess.Popen(
        words, cwd=tmp_path, env=command.environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 3/"):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    (path,) = (tmp_path / "runs" / "finetune").iterdir()
    assert f"--resume {path}" in rest
    assert not (path / "manifest.json").exists()

    changed = data.read_bytes()
    data.write_bytes(changed.replace(b"add 1", b"sub 1"))
    refused = command("--resume", path)
    data.write_bytes(changed)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "its inputs changed: inputs.data was" in refused.stderr

    resumed = command("--resume", path)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == f"{path}\n"
    assert_same_weights(Path(done.stdout.strip()), path)
    ours, theirs = (manifest_of(run)["metrics"] for run in (path, done.stdout.strip()))
    for name in ("train_tokens", "num_steps", "best_step", "heldout_response_loss_before_nats"):
        assert ours[name] == theirs[name]


def assert_same_weights(one, other):
    import numpy as np
    from safetensors.numpy import load_file

    ours, theirs = (load_file(run / "adapter/adapter_model.safetensors") for run in (one, other))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        np.testing.assert_allclose(tensor, theirs[name], atol=1e-6, err_msg=name)


@pytest.mark.weights
@pytest.mark.slow
def test_a_few_steps_on_real_weights_lower_the_loss(command, smollm2_gguf, rows_file):
    pairs = [
        f"base_model.ref={smollm2_gguf}",
        "data.source=file",
        f"data.path={rows_file}",
        "data.max_heldout_examples=2",
        "train.max_steps=3",
        "train.grad_accumulation=2",
        "train.warmup_steps=0",
        "train.max_seq_length=128",
    ]
    done = command(*[word for pair in pairs for word in ("--set", pair)])
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    manifest = manifest_of(path)
    metrics = manifest["metrics"]
    before = metrics["heldout_response_loss_before_nats"]
    assert metrics["heldout_response_loss_after_nats"] < before
    assert manifest["base_model"]["path"] == "base_model"
    assert manifest["base_model"]["quantized_from"] == "Q4_1"
    assert (path / "base_model" / "model.safetensors").is_file()
    assert "license: apache-2.0" in (path / "MODEL_CARD.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_loss_that_explodes_stops_the_run_with_its_step(command, tiny_model, rows_file):
    words = options(tiny_model, rows_file)
    done = command(*words, "--set", "train.learning_rate=1e30", "--set", "train.max_grad_norm=1e30")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the loss stopped being a finite number at step" in done.stderr
    assert "Traceback" not in done.stderr


def test_refused_data_leaves_no_run_behind(command, tiny_model, rows_file, tmp_path):
    words = options(tiny_model, rows_file)
    done = command(*words, "--set", "train.max_seq_length=8")
    assert done.returncode == 2
    assert "longer than train.max_seq_length (8 tokens)" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_counts_and_writes_nothing(command, tiny_model, rows_file, tmp_path):
    done = command("--dry-run", *options(tiny_model, rows_file))
    assert (done.returncode, done.stdout) == (0, "")
    assert "held out, of 20 found" in done.stderr
    assert "steps:    10" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_llama_recipe_gets_as_far_as_the_hub(command):
    recipe = Path(__file__).resolve().parents[2] / "finetune/configs/llama-3.2-1b-python.toml"
    done = command("--config", recipe, "--dry-run", HF_HUB_OFFLINE="1", HF_HOME="/nonexistent")
    assert done.returncode == 2
    assert "meta-llama/Llama-3.2-1B is not on this machine and the hub cannot" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "train.epocs=1"], "did you mean `train.epochs`"),
        (["--config", "absent.toml"], "absent.toml: no such configuration file"),
        (["--set", "base_model.ref=./gone"], "is no file or folder here"),
        (["--resume", "nowhere"], "is no unfinished fine-tune"),
        (["--resume", "r", "--force"], "--resume takes its configuration from the run"),
        (["reprot", "r"], "no command reprot: did you mean report?"),
        (["my.toml"], "(a configuration: --config FILE.toml)"),
        (["report", "gone"], "gone is no folder; name a run directory"),
        (["base", "packaged:x"], "no packaged model `packaged:x`"),
    ],
)
def test_a_user_error_is_one_line_with_exit_status_2(command, words, message):
    done = command(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.weights
def test_base_prints_where_a_base_model_is(command, smollm2_gguf):
    done = command("base", smollm2_gguf)
    assert done.stdout == f"{smollm2_gguf.resolve()}\n"


@pytest.fixture(scope="module")
def preferred(finished, tiny_model):
    """A preference stage that goes on with the adapter of the finished run."""
    home, _, done = finished
    pairs = home / "pairs.jsonl"
    rows = ({"prompt": f"add {n}", "chosen": "return a", "rejected": "no."} for n in range(20))
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    more = (
        f"base_model.adapter={done.stdout.strip()}",
        "train.method=dpo",
        "train.max_steps=6",
        "train.warmup_steps=0",
        "train.learning_rate=0.05",
        "train.neftune_alpha=0",
    )
    words = [*options(tiny_model, pairs), *(word for pair in more for word in ("--set", pair))]
    second = run_command(home, words)
    pairs.unlink()
    assert second.returncode == 0, second.stderr
    assert "held-out preference loss 0.6931 -> " in second.stderr
    return Path(second.stdout.strip())


@pytest.mark.slow
def test_the_preferred_answer_gains_on_the_rejected_one(finished, preferred):
    second = preferred
    metrics = manifest_of(second)["metrics"]
    assert metrics["heldout_preference_loss_after_nats"] < math.log(2)
    assert metrics["heldout_preference_gain_nats"] > 0
    steps = events_of(second, "step")
    margins = [event["reward_margin"] for event in steps]
    assert margins[0] == pytest.approx(0, abs=0.1)  # dropout moves the first step a little
    assert margins[-1] > max(0.05, margins[0])
    assert steps[0]["loss_nats"] == pytest.approx(math.log(2), abs=0.15)


@pytest.mark.slow
def test_it_starts_where_the_first_run_ended_and_leaves_one_adapter(finished, preferred):
    first, second = Path(finished[2].stdout.strip()), preferred
    assert sorted(path.name for path in (second / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    from safetensors.numpy import load_file

    ours, theirs = (load_file(run / "adapter/adapter_model.safetensors") for run in (second, first))
    assert ours.keys() == theirs.keys()
    moved = max(float(abs(ours[name] - theirs[name]).max()) for name in ours)
    assert 0 < moved < 0.5


@pytest.mark.slow
def test_the_manifest_names_the_first_run_and_all_data(finished, preferred):
    first, second = Path(finished[2].stdout.strip()), preferred
    manifest = manifest_of(second)
    assert [(entry["role"], entry["ref"]) for entry in manifest["inputs"]] == [
        ("base_model", "tiny-llama"),
        ("data", "pairs.jsonl"),
        ("finetune_run", first.name),
        ("data", "rows.jsonl"),
    ]
    assert manifest["config"]["train"]["method"] == "dpo"
    heldout = (second / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["rejected"] for line in heldout} == {"no."}

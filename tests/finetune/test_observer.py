"""The observer logs each step and stops training when it must."""

import json
import signal
from types import SimpleNamespace

import pytest

from finetune.config import TrainConfig
from finetune.data.tokens import Encoded
from finetune.errors import TrainingError
from finetune.observer import Observer
from finetune.progress import Progress, StepFigures, clock
from finetune.run import Run
from finetune.steps import StepShape, make_schedule
from finetune.stopping import StopWish

SCHEDULE = make_schedule(
    [Encoded(id=str(n), input_ids=[n] * 25, labels=[n] * 25) for n in range(8)],
    TrainConfig(),
    StepShape(row_tokens=0, rows_per_step=2),
    pad_id=0,
)


@pytest.fixture
def observer(tmp_path):
    return Observer(Run(tmp_path), Progress(4), StopWish(), SCHEDULE, seconds_before=100.0)


def state(step):
    return SimpleNamespace(global_step=step, max_steps=4)


def test_each_step_is_logged_with_units_and_shown(observer, capsys):
    observer.begin(state(0))
    observer.step_logged({"loss": 1.5, "grad_norm": 0.2, "learning_rate": 1e-4}, state(1))
    (event,) = observer.run.events("step")
    assert (event["step"], event["loss_nats"], event["num_tokens"]) == (1, 1.5, 50)
    assert event["elapsed_seconds"] >= 100.0
    assert "step 1/4  loss 1.5000" in capsys.readouterr().err


def test_the_closing_summary_is_no_step(observer):
    observer.step_logged({"train_runtime": 3.0}, state(4))
    assert observer.run.events("step") == []


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_its_step(observer, loss):
    observer.begin(state(0))
    observer.step_logged({"loss": loss}, state(3))
    lines = sorted(index + 1 for row in SCHEDULE.rows[4:6] for index in row.examples)
    where = rf"at step 3 \(lines {lines[0]}, {lines[1]} of .*train\.jsonl"
    with pytest.raises(TrainingError, match=where):
        observer.raise_non_finite()
    text = (observer.run.path / "log.jsonl").read_text(encoding="utf-8")
    assert json.loads(text.splitlines()[0])["loss_nats"] is None
    assert observer.run.events("non_finite_loss")[0]["examples"] == [line - 1 for line in lines]


def test_a_signal_saves_and_stops_after_the_step(observer):
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    observer.step_ended(control, state(2))
    assert not control.should_training_stop
    with observer.wish:
        signal.raise_signal(signal.SIGTERM)
    observer.step_ended(control, state(2))
    assert (control.should_save, control.should_training_stop) == (True, True)


def test_a_second_signal_acts_at_once():
    with StopWish() as wish:
        signal.raise_signal(signal.SIGINT)
        assert wish.signal_number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_figures_fit_one_line():
    figures = StepFigures(step=1, num_steps=9, loss=2.0, tokens_per_second=1234.5, eta_seconds=65)
    assert figures.line() == "step 1/9  loss 2.0000  1,234 tokens/s  ETA 1:05"
    assert clock(3725) == "1:02:05"

"""The held-out loss at checkpoints: what is kept, when training ends, and the same after a kill."""

import shutil

import pytest

from finetune.best import HeldoutWatch
from finetune.run import Run

LOSSES = {2: 3.0, 4: 2.0, 6: 2.5, 8: 2.0, 10: 1.0}


def make_watch(run, measured, *, patience=0, keep_best=True):
    """A watch whose model has the loss of the step it stands at."""

    def save(folder):
        folder.mkdir(parents=True)
        (folder / "weights").write_text(str(measured["at"]), encoding="utf-8")

    def measure():
        measured["asked"].append(measured["at"])
        return LOSSES[measured["at"]]

    return HeldoutWatch(run, patience=patience, keep_best=keep_best, measure=measure, save=save)


@pytest.fixture
def measured():
    return {"at": 0, "asked": []}


def go(watch, measured, *steps):
    for step in steps:
        measured["at"] = step
        watch.checkpoint_saved(step)


def kept(run):
    return [folder.name for folder in (run.path / "checkpoints").iterdir()]


def test_only_the_adapter_with_the_lowest_loss_is_kept(tmp_path, measured):
    run = Run(tmp_path)
    watch = make_watch(run, measured)
    go(watch, measured, 2, 4, 6, 8)
    assert (watch.best_step, kept(run)) == (4, ["best-4"])
    assert (watch.best_folder / "weights").read_text(encoding="utf-8") == "4"
    go(watch, measured, 10)
    assert kept(run) == ["best-10"]


def test_training_ends_after_that_many_checkpoints_without_a_lower_loss(tmp_path, measured):
    watch = make_watch(Run(tmp_path), measured, patience=2, keep_best=False)
    go(watch, measured, 2, 4, 6)
    assert not watch.is_exhausted
    go(watch, measured, 8)
    assert watch.is_exhausted
    assert watch.best_folder is None


def test_nothing_is_measured_when_nobody_asks(tmp_path, measured):
    watch = make_watch(Run(tmp_path), measured, keep_best=False)
    go(watch, measured, 2)
    assert measured["asked"] == []
    assert watch.best_step is None


def test_a_resumed_watch_remembers_and_measures_nothing_twice(tmp_path, measured):
    run = Run(tmp_path)
    go(make_watch(run, measured), measured, 2, 4, 6)
    measured["asked"].clear()
    watch = make_watch(run, measured, patience=2)
    watch.resume(6)
    assert (watch.losses, measured["asked"]) == ({2: 3.0, 4: 2.0, 6: 2.5}, [])
    go(watch, measured, 8)
    assert watch.is_exhausted


def test_a_checkpoint_whose_loss_was_not_logged_is_measured_on_resumption(tmp_path, measured):
    run = Run(tmp_path)
    go(make_watch(run, measured), measured, 2)
    shutil.copytree(run.path / "checkpoints/best-2", run.path / "checkpoints/best-4.partial")
    watch = make_watch(run, measured)
    measured["at"] = 4
    watch.resume(4)
    assert (measured["asked"], kept(run)) == ([2, 4], ["best-4"])


def test_the_loss_before_training_is_no_checkpoint(tmp_path, measured):
    run = Run(tmp_path)
    run.log("heldout_loss", moment="before", loss_nats=0.1)
    watch = make_watch(run, measured)
    measured["at"] = 2
    watch.resume(2)
    assert watch.losses == {2: 3.0}

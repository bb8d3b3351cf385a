"""Only whole checkpoints count; figures are those of their step."""

from finetune.checkpoints import figures_until, newest_checkpoint
from finetune.run import Run


def test_a_checkpoint_without_its_last_file_is_passed_over(tmp_path):
    for step, files in ((5, ("optimizer.pt", "trainer_state.json")), (10, ("optimizer.pt",))):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).touch()
    assert newest_checkpoint(tmp_path).name == "checkpoint-5"


def test_figures_are_those_of_the_checkpoint_and_not_of_steps_lost_after_it(tmp_path):
    run = Run(tmp_path)
    for step, seconds, loss in ((1, 2.0, 3.5), (2, 4.0, 3.0), (3, 6.0, 2.5)):
        run.log("step", step=step, elapsed_seconds=seconds, loss_nats=loss)
    assert figures_until(run, tmp_path / "checkpoint-2") == (4.0, 3.0)
    assert figures_until(run, None) == (0.0, None)

"""What a user sees while something takes long."""

from finetune import progress


def test_counts_are_told_while_it_lasts_and_not_at_every_one(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    show = progress.counting("answers", 9)
    for done in range(1, 10):
        now[0] += 2
        show(done)
    assert capsys.readouterr().err.splitlines() == ["answers: 3/9", "answers: 6/9", "answers: 9/9"]

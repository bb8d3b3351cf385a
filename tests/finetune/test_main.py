"""What the command makes of errors that come from below, without starting a process."""

import errno
import signal

import pytest

from finetune import job
from finetune.__main__ import main
from finetune.errors import InterruptedRunError, TrainingError


def raising(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(job, "fine_tune", fail)


def test_a_full_disk_is_a_clear_line_with_the_remedy(monkeypatch, capsys):
    raising(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "adapter.safetensors"))
    assert main([]) == 2
    shown = capsys.readouterr()
    assert "error: no space left for adapter.safetensors: free some, then continue" in shown.err
    assert shown.out == ""


def test_other_system_errors_keep_their_traceback(monkeypatch):
    raising(monkeypatch, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError, match="Input/output error"):
        main([])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TrainingError("it broke"), 1),
        (InterruptedRunError("stopped", signal_number=signal.SIGTERM), 143),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_end_has_its_exit_status(monkeypatch, capsys, error, status):
    raising(monkeypatch, error)
    assert main([]) == status
    assert capsys.readouterr().err.startswith("error: ")


def test_what_is_printed_below_goes_to_stderr_and_the_path_to_stdout(monkeypatch, capsys, tmp_path):
    def chatty(*_, **__):
        print("a library's banner")
        return tmp_path

    monkeypatch.setattr(job, "fine_tune", chatty)
    assert main([]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (f"{tmp_path}\n", "a library's banner\n")


def test_force_reaches_the_job(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(job, "fine_tune", lambda _, *, force: asked.append(force) or tmp_path)
    main(["--force"])
    main([])
    assert asked == [True, False]

"""The console script, on stages of the test's own making."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clients import edgesmith

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """Write small stages, and make the script start those."""

    def write(**sources: str) -> None:
        for name, source in sources.items():
            (tmp_path / f"stage_{name}.py").write_text(source)
            phrases = {**edgesmith.STAGES, name: (f"stage_{name}", "a test's stage")}
            monkeypatch.setattr(edgesmith, "STAGES", phrases)
        monkeypatch.syspath_prepend(str(tmp_path))

    return write


def test_help_lists_every_command_with_a_phrase(capsys):
    assert edgesmith.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in ("train", "quantize", "serve", "chat", "complete", "fim", "models", "doctor"):
        assert f"\n  {name} " in out


def test_the_listed_client_commands_are_those_the_clients_take():
    from clients.__main__ import COMMANDS

    assert list(edgesmith.CLIENT_COMMANDS) == list(COMMANDS)


def test_version_is_one_line(capsys):
    assert edgesmith.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("edgesmith ")


def test_a_stage_gets_its_arguments_and_its_status_comes_back(stages, capsys):
    stages(train="import sys\nprint(sys.argv[1:], __name__)\nraise SystemExit(3)\n")
    before = sys.argv
    assert edgesmith.main(["train", "--set", "a=1"]) == 3
    assert capsys.readouterr().out == "['--set', 'a=1'] __main__\n"
    assert sys.argv is before


def test_a_stage_that_returns_is_a_success(stages):
    stages(train="")
    assert edgesmith.main(["train"]) == 0


def test_a_message_as_exit_code_is_shown_and_means_failure(stages, capsys):
    stages(train="raise SystemExit('no disk')")
    assert edgesmith.main(["train"]) == 1
    assert "no disk" in capsys.readouterr().err


def test_a_missing_dependency_names_the_extra_to_install(stages, capsys):
    stages(train="import a_library_nobody_has")
    assert edgesmith.main(["train"]) == 2
    err = capsys.readouterr().err
    assert "a_library_nobody_has" in err
    assert 'pip install "edgesmith[stage_train]"' in err
    assert err.count("\n") == 1


def test_a_broken_stage_is_not_taken_for_a_missing_dependency(stages):
    stages(train="import stage_train.inner")
    with pytest.raises(ModuleNotFoundError):
        edgesmith.main(["train"])


def test_an_unknown_command_suggests_the_near_one(capsys):
    assert edgesmith.main(["quantise"]) == 2
    assert "did you mean 'quantize'?" in capsys.readouterr().err


def test_client_commands_reach_the_clients(fake_server):
    flags = ["models", "--base-url", fake_server.base_url]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "clients.edgesmith", *flags],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "tiny\t2048 tokens\n", "")


def write_stages(folder: Path, **sources: str) -> None:
    for name, source in sources.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
        (folder / name / "__main__.py").write_text(source)
    (folder / "clients").symlink_to(REPOSITORY / "clients")


def test_several_stages_run_in_order_and_stop_at_the_first_failure(tmp_path):
    source = "print('{0} ran', flush=True)\nraise SystemExit({1})\n"
    write_stages(
        tmp_path,
        finetune=source.format("finetune", 0),
        quantize=source.format("quantize", 4),
        serve=source.format("serve", 0),
    )
    done = subprocess.run(
        [sys.executable, "-m", "clients.edgesmith", "train", "quantize", "serve"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stdout.split("\n") == ["finetune ran", "quantize ran", ""]
    assert "quantize failed with status 4" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_running_stage_gets_to_end_by_itself_when_told_to_stop(tmp_path, number):
    server = (
        "import os, signal\n"
        "def stop(*_):\n"
        "    print('stopped in order', flush=True)\n"
        "    raise SystemExit(0)\n"
        "signal.signal(signal.SIGINT, stop)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    write_stages(tmp_path, finetune="", serve=server)
    with subprocess.Popen(
        [sys.executable, "-m", "clients.edgesmith", "train", "serve"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # a terminal's ^C reaches every process
        else:
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "stopped in order\n")
    assert "Traceback" not in err

"""Hostile programs hurt nothing and are told apart from honest ones."""

import os
import sys
from pathlib import Path

import pytest

from clients.evaluate import sandbox

ENDINGS = {
    "x = 1\nassert x == 1": "passed",
    "assert 1 == 2, 'no'": "failed",
    "1 / 0": "error",
    "def (": "error",
    "import sys; sys.exit(0)": "error",
    "import os; os._exit(0)": "error",
    "import ctypes; ctypes.string_at(0)": "killed",
    "x = bytearray(4 << 30)": "error",
    "while True: pass": "timeout",
    "import time; time.sleep(60)": "timeout",
    "while True: print('x' * 1000)": "timeout",
    "import sys\nwhile True: sys.stderr.write('x' * 100_000)": "error",
    "open('/tmp/x', 'wb').write(b'x' * (100 << 20))": "error",
    "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass": "timeout",
}


@pytest.mark.parametrize("program", ENDINGS, ids=range(len(ENDINGS)))
def test_every_ending_is_told_apart(cage, program):
    assert cage.run(program).outcome == ENDINGS[program]


def test_the_last_error_line_is_kept(cage):
    assert cage.run("assert 1 == 2, 'not two'").detail == "AssertionError: not two"


def test_a_program_may_write_its_scratch_folder(cage):
    program = "open('x', 'w').write('a')\nassert open('/tmp/x').read() == 'a'"
    assert cage.run(program).outcome == "passed"


def test_files_outside_are_neither_seen_nor_harmed(cage, tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("kept")
    tmp_path.chmod(0o777)
    precious.chmod(0o666)
    assert cage.run(f"open({str(precious)!r}).read()").outcome == "error"
    assert cage.run(f"open({str(precious)!r}, 'w').write('gone')").outcome == "error"
    wipe = f"import shutil\nfor d in ('/bin', {str(tmp_path)!r}): shutil.rmtree(d, True)\n"
    cage.run(wipe)
    assert precious.read_text() == "kept"
    assert Path(sys.executable).exists()


def test_system_folders_cannot_be_written_or_made_writable(cage):
    assert cage.run(f"open({os.__file__!r}, 'a')").outcome == "error"
    remount = (
        "import ctypes\n"
        "done = ctypes.CDLL(None).mount(b'none', b'/usr', None, 32 | 4096, b'')\n"
        "assert done == 0, 'refused'\n"
    )
    assert cage.run(remount).detail == "AssertionError: refused"


@pytest.mark.parametrize("address", ["127.0.0.1", "1.1.1.1"])
def test_there_is_no_network(cage, address):
    verdict = cage.run(f"import socket\nsocket.create_connection(({address!r}, 53), 1)")
    assert "unreachable" in verdict.detail.lower()


def test_other_processes_are_out_of_sight_and_reach(cage):
    assert "ProcessLookupError" in cage.run(f"import os\nos.kill({os.getpid()}, 0)").detail


def test_what_a_program_leaves_running_dies_with_it(cage):
    marker = "edgesmith-left-behind"
    program = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    import ctypes; ctypes.CDLL(None).prctl(15, {marker[:15].encode()!r}, 0, 0, 0)\n"
        "    time.sleep(600)\n"
    )
    assert cage.run(program).outcome == "passed"
    names = []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            names.append(comm.read_text().strip())
        except OSError:
            continue  # it ended while we looked
    assert marker[:15] not in names


def test_the_environment_is_not_handed_over(cage, monkeypatch):
    monkeypatch.setenv("EDGESMITH_API_KEY", "secret")
    assert cage.run("import os\nassert 'EDGESMITH_API_KEY' not in os.environ").outcome == "passed"


def test_a_cage_that_cannot_be_built_runs_nothing(monkeypatch, tmp_path):
    broken = tmp_path / "jail.py"
    broken.write_text("raise OSError('unshare: not permitted')")
    monkeypatch.setattr(sandbox, "JAIL", broken)
    with pytest.raises(sandbox.SandboxError, match="could not be set up: OSError: unshare"):
        sandbox.Sandbox("namespaces").run("pass")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only for root")
def test_limits_that_do_not_bind_root_are_not_offered_to_root():
    with pytest.raises(sandbox.SandboxError, match="ordinary user"):
        sandbox.weaker(sandbox.Limits())


@pytest.mark.skipif(sys.platform == "win32", reason="rlimits are Unix")
def test_rlimits_alone_still_end_what_runs_too_long():
    limits = sandbox.Limits(wall_seconds=3.0, cpu_seconds=1)
    cage = sandbox.Sandbox("rlimits", limits)
    assert cage.run("assert True").outcome == "passed"
    assert cage.run("while True: pass").outcome == "timeout"

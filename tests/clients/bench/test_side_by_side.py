"""A whole comparison of servers that it starts itself."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clients.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[3]


def test_servers_are_started_asked_one_at_a_time_and_the_result_is_kept(
    fake_peers, tmp_path, capsys
):
    out = tmp_path / "out"
    flags = [f"--serve={name}={fake_peers.command(name)}" for name in ("a", "b", "c")]
    sizes = ["--rounds", "2", "--prompt-tokens", "40", "--output", str(out)]
    assert main(["bench", *flags, *sizes]) == 0
    shown, err = capsys.readouterr()
    assert shown == (out / "results.md").read_text(encoding="utf-8")
    assert "| decode, one stream ↑ | tok/s |" in shown
    assert str(out) in err
    assert json.loads((out / "results.json").read_bytes())["schema_version"] == 1
    assert (out / "logs" / "b.log").read_text() == "listening\n"
    busy = dict.fromkeys("abc", 0)
    for name, what in fake_peers.asked():
        busy[name] += 1 if what == "begin" else -1
        assert sum(number > 0 for number in busy.values()) <= 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_ending_a_comparison_ends_the_servers_it_started(tmp_path, how):
    pipe = tmp_path / "pid"
    os.mkfifo(pipe)
    peer = tmp_path / "peer.py"
    peer.write_text(
        "import os, sys, threading\n"
        "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        "threading.Event().wait()\n"
    )
    serve = f"--serve=a='{sys.executable}' '{peer}' '{pipe}' {{port}}"
    command = [sys.executable, "-m", "clients", "bench", serve, "--output", str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL) as bench:
        pid = int(pipe.read_text())
        bench.send_signal(how)
        assert bench.wait(timeout=60) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

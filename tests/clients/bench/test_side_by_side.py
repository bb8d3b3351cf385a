"""A whole comparison of servers that it starts itself."""

import json

from clients.__main__ import main


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

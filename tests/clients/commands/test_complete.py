import io

from clients.__main__ import main


def test_the_prompt_comes_from_the_argument_or_from_standard_input(
    fake_server, monkeypatch, capsys
):
    flags = ["--base-url", fake_server.base_url, "--temperature", "0", "--stop", "a", "--stop", "b"]
    assert main(["complete", "def f", *flags]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("def g"))
    assert main(["complete", "--suffix", "x", *flags]) == 0
    first, second = fake_server.bodies("/v1/completions")
    assert (first["prompt"], second["prompt"], second["suffix"]) == ("def f", "def g", "x")
    assert (first["temperature"], first["stop"]) == (0.0, ["a", "b"])
    assert "top_p" not in first
    assert capsys.readouterr().out == "".join(fake_server.words) * 2

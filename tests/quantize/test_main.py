"""Bad input ends with status 2 and one line; help is instant."""

import subprocess
import sys

import pytest

from quantize.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--types", "q9_9"], "unknown quant type 'q9_9'"),
        (["--types", "iq1_s", "--imatrix", "none"], "importance matrix"),
        (["--set", "measur.n=1"], "did you mean measure?"),
        (["--config", "none.toml"], "cannot read the configuration"),
        (["--from", "none"], "no such file"),
        (["verify", "none"], "has no manifest.json"),
        (["measure", "none", "--full"], "has no manifest.json"),
        (["recommend", "none", "--ram", "4G"], "has no manifest.json"),
    ],
)
def test_a_user_error_is_one_line_and_status_2(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path))
    assert main(arguments) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert said in errors[0]
    assert captured.out == ""


def test_a_file_that_is_no_gguf_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path))
    (tmp_path / "a.gguf").write_text("hello")
    assert main(["--from", str(tmp_path / "a.gguf")]) == 2
    assert "not a GGUF" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(capsys, tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path))
    assert main(["--from", str(tiny_run), "--dry-run"]) == 0
    assert capsys.readouterr().out == "new run\n"
    assert list(tmp_path.iterdir()) == []


def test_types_are_listed(capsys):
    assert main(["types"]) == 0
    listed = capsys.readouterr().out
    assert "q4_k_m" in listed
    assert "q4_k       means q4_k_m" in listed


def test_help_loads_no_heavy_library():
    code = (
        "import sys\nfrom quantize.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'llama_cpp', 'numpy', 'gguf'} & set(sys.modules)\n"
        "sys.exit(1 if heavy else 0)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
        == 0
    )


def test_full_means_the_same_as_a_flag_and_as_a_key():
    from quantize.__main__ import _config, _parser

    asked = [["--full"], ["--set", "measure.full=true"]]
    configs = [_config(_parser().parse_args(["measure", "RUN", *each])).measure for each in asked]
    assert configs[0] == configs[1]
    assert configs[0].num_rounds == 5
    assert _config(_parser().parse_args(["measure", "RUN"])).measure.num_rounds == 3


def test_a_text_that_is_not_there_is_named_once(tmp_path):
    from quantize.errors import SourceError
    from quantize.examples import text_file

    path = tmp_path / "none.txt"
    with pytest.raises(SourceError) as error:
        text_file(path)
    assert str(error.value) == f"cannot read the text {path}: No such file or directory"
    path.write_bytes(b"ab\xff")
    with pytest.raises(SourceError, match="no UTF-8 text: byte 2 is none"):
        text_file(path)

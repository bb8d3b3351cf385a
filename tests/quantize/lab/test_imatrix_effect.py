"""One table says what each matrix is worth for each type, on text that shaped none of them."""

from quantize.lab.imatrix_effect import halves, main


def test_each_type_is_judged_without_and_with_either_matrix(
    tiny_merged, tiny_run, tmp_path, capsys
):
    text = tmp_path / "text.txt"
    text.write_text("Words of a text.\n" * 200)
    files = ["--train", str(tiny_run / "train.jsonl"), "--heldout", str(tiny_run / "heldout.jsonl")]
    asked = [*files, "--text", str(text), "--types", "q4_0,iq2_xs", "--tokens", "128"]
    assert main([str(tiny_merged / "f16.gguf"), *asked]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [(row[0].strip("| "), row[1]) for row in rows] == [
        ("q4_0", "none"),
        ("q4_0", "own"),
        ("q4_0", "text"),
        ("iq2_xs", "own"),
        ("iq2_xs", "text"),
    ]
    assert all(float(row[3]) > 0 for row in rows)
    assert len({row[3] for row in rows}) == 5


def test_the_halves_of_a_text_have_no_line_in_common(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"line {number}\n" for number in range(9)))
    first, second = halves(text, tmp_path)
    assert first.read_text() + second.read_text() == text.read_text()
    assert first.read_text().count("\n") == 4


def test_a_missing_file_is_one_line_and_status_2(tmp_path, capsys):
    files = [f"--{name}={tmp_path / name}" for name in ("train", "heldout", "text")]
    assert main([str(tmp_path / "none.gguf"), *files]) == 2
    assert capsys.readouterr().err.startswith("error: ")

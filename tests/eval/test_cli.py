"""Every mistake on the command line: exit code 2, one line that names it, nothing written."""

import pytest

import eval.__main__ as cli


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "compare"),
        (["copare", "demo"], "unknown command 'copare': use compare"),
        (["compare"], "PROTOCOL"),
        (["compare", "dmo"], "unknown protocol 'dmo': use demo"),
        (["compare", "demo", "--chekpoint", "x"], "--chekpoint"),
        (["compare", "demo", "--num-seeds", "many"], "--num-seeds"),
        (["compare", "demo", "--num-seeds", "0"], "num_seeds=0: use an integer of at least 1"),
        (["compare", "demo", "--checkpoint", "none.safetensors"], "none.safetensors"),
        (["compare", "demo", "--baselines", "none.json"], "none.json: no such results file"),
    ],
)
def test_mistakes(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_earlier_results_are_not_overwritten(tmp_path, capsys):
    (tmp_path / "results.json").write_text("precious")
    assert cli.main(["compare", "demo", "--out-dir", str(tmp_path)]) == 2
    assert "pass --overwrite" in capsys.readouterr().err
    assert (tmp_path / "results.json").read_text() == "precious"


def test_an_out_dir_that_is_a_file(tmp_path, capsys):
    path = tmp_path / "file"
    path.write_text("")
    assert cli.main(["compare", "demo", "--out-dir", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_help_is_not_an_error(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", "--help"])
    assert not stop.value.code
    assert "--checkpoint" in capsys.readouterr().out

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
        (["suite", "meta_tst"], "unknown task family 'meta_tst': did you mean meta_test"),
        (["suite", "fmnist8_mlp32", "--checkpoint", "none.safetensors"], "none.safetensors"),
        (["suite", "fmnist8_mlp32", "--optax", "nothing"], "name a contender as module:function"),
        (["suite", "fmnist8_mlp32", "--tuning", "none"], "tuning='none': use full or coarse"),
        (["suite", "fmnist8_mlp32", "--num-rounds", "7"], "eval_every=5: use a divisor of num_rounds=7"),
        (["suite", "fmnist8_mlp32", "--baselines", "nowhere"], "not the run folder"),
        (["suite", "fmnist8_mlp32", "--checkpoint", "lagg_fmnist8_k8_h4", "--num-workers", "2"], "built for 8 workers"),
        (["axis", "wdth"], "unknown axis 'wdth': use one of num_local_steps"),
        (["axis", "width", "--values", "32,many"], "--values 32,many: use numbers"),
        (["axis", "label_noise", "--task", "fmnist"], "unknown task family 'fmnist'"),
        (["report"], "no run given"),
        (["report", "nowhere"], "nowhere: no such results file"),
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


def test_a_damaged_result_file_of_a_run(tmp_path, capsys):
    (tmp_path / "results.json").write_text("{")
    assert cli.main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "results.json: damaged or not JSON" in error and error.count("\n") == 1


def test_help_is_not_an_error(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", "--help"])
    assert not stop.value.code
    assert "--checkpoint" in capsys.readouterr().out

"""Every mistake on the command line: exit code 2, one line that names it, nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import eval.__main__ as cli

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "compare"),
        (["copare", "demo"], "unknown command 'copare': did you mean 'compare'? use compare"),
        (["compare", "demo", "--num-worker", "3"], "--num-worker: unknown flag; did you mean --num-workers? 'python"),
        (["compare", "demo", "--task", "zzz"], "task family: 'zzz' is unknown: use one that 'python -m tasks' lists"),
        (["compare", "dmo"], "protocol: 'dmo' is unknown; did you mean 'demo'"),
        (["compare", "demo", "--task", "mlp"], "task family: 'mlp' is unknown; did you mean"),
        (["compare", "demo", "--task", "no_such.py:family"], "there is no file 'no_such.py'"),
        (["compare", "demo", "--task", "image_mlp"], "task family: 'image_mlp' lacks dataset: add ,dataset=VALUE"),
        (["compare", "demo", "--task", "nowhere:mlp32"], "dataset 'nowhere' not found"),
        (["compare", "demo", "--data-dir", "nowhere"], "--data-dir nowhere: there is no such folder"),
        (["compare", "demo", "--baselines", "cor"], "baselines: 'cor' is unknown; did you mean 'core'"),
        (["compare", "demo", "--eval-every", "7"], "eval_every=7: use a divisor of num_rounds=300"),
        (["compare", "demo", "--chekpoint", "x"], "--chekpoint"),
        (["compare", "demo", "--num-seeds", "many"], "--num-seeds"),
        (["compare", "demo", "--num-seeds", "0"], "num_seeds=0: use an integer of at least 1"),
        (["compare", "demo", "--checkpoint", "none.safetensors"], "none.safetensors"),
        (["compare", "demo", "--baselines-from", "none.json"], "none.json: no such results file"),
        (["suite"], "no suite named: use meta_train"),
        (["suite", "zzz"], "unknown task family 'zzz': use meta_train, meta_valid"),
        (["suite", "meta_tst"], "unknown task family 'meta_tst': did you mean 'meta_test'"),
        (["suite", "fmnist28_mlp128x128,cifar10_cnn"], "2 of 2 task families cannot be used"),
        (["suite", "fmnist8_mlp32", "--checkpoint", "none.safetensors"], "none.safetensors"),
        (["suite", "fmnist8_mlp32", "--contender", "nothing"], "contender: 'nothing' is unknown"),
        (["suite", "fmnist8_mlp32", "--tuning", "none"], "tuning='none': use full or coarse"),
        (["suite", "fmnist8_mlp32", "--num-rounds", "7"], "eval_every=5: use a divisor of num_rounds=7"),
        (["suite", "fmnist8_mlp32", "--baselines-from", "nowhere"], "not the run folder"),
        (["suite", "fmnist8_mlp32", "--checkpoint", "lagg_fmnist8_k8_h4", "--num-workers", "2"], "built for 8 workers"),
        (["axis", "wdth"], "axis: 'wdth' is unknown; did you mean 'width'"),
        (["axis", "width", "--values", "32,many"], "--values 32,many: use numbers"),
        (["axis", "label_noise", "--task", "fmnist"], "task family: 'fmnist' is unknown"),
        (["ood", "quadratics32"], "task='quadratics32' has no images with labels to shift: use one that classifies"),
        (["ood", "--checkpoint", "none.safetensors"], "none.safetensors"),
        (["report"], "no run given"),
        (["report", "nowhere"], "nowhere: no such results file"),
    ],
)
def test_mistakes(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEARNED_OPT_DATA", "")
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


FAMILY_FILE = """
from tests.eval.toy import toy_data, toy_family
def letters(shift=0):
    data = toy_data()
    for leaves in data.values():
        leaves["label"] = leaves["label"] + shift
    return toy_family(data)
def broken():
    family = toy_family()
    def task(config, data):
        inner = family.task(config, data)
        return inner._replace(loss=lambda params, key, batch: inner.loss(params, key, batch) @ 3)
    return family._replace(task=task)
def number():
    return 3
"""

SMALL = ("--num-rounds", "2", "--num-workers", "2", "--num-local-steps", "1", "--batch-size", "4", "--num-seeds", "1")


def test_a_task_of_ones_own_is_compared_and_reported(tmp_path, capsys):
    file, out = tmp_path / "mine.py", tmp_path / "out"
    file.write_text(FAMILY_FILE)
    arguments = ["compare", "--task", f"{file}:letters", "--out-dir", str(out), "--baselines", "none", *SMALL]
    assert cli.main([*arguments, "--contender", "optax:sgd,learning_rate=0.5"]) == 0
    assert {p.name for p in out.iterdir()} >= {"results.json", "table.md", "curves.png", "report.html", "report.md"}
    assert "sgd" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("letters,shift=1", "task family toy, train/label: labels 1 to 3, with 3 classes they lie in 0 to 2 (do they"),
        ("number", "returned int: return a tasks.base.TaskFamily"),
        ("nothing", "has no 'nothing'"),
    ],
)
def test_odd_tasks_of_ones_own(tmp_path, capsys, function, message):
    file = tmp_path / "mine.py"
    file.write_text(FAMILY_FILE)
    assert cli.main(["compare", "--task", f"{file}:{function}", "--out-dir", str(tmp_path / "out"), *SMALL]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1


def test_an_error_inside_jax_is_told_by_the_line_of_the_users_file(tmp_path):
    (tmp_path / "mine.py").write_text(FAMILY_FILE)
    command = [sys.executable, "-m", "eval", "compare", "--task", f"{tmp_path / 'mine.py'}:broken", *SMALL]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"eval: error: {tmp_path}/mine.py, line " in done.stderr and "matmul" in done.stderr
    assert "Traceback" not in done.stderr and "tasks/check.py" not in done.stderr


def test_a_fault_during_the_work_leaves_with_its_traceback(tmp_path, monkeypatch):
    def fails(*arguments):
        raise ValueError("from inside")

    monkeypatch.setattr("eval.compare.compare.run", fails)
    with pytest.raises(ValueError, match="from inside"):
        cli.main(["compare", "demo", "--baselines", "none", "--out-dir", str(tmp_path)])

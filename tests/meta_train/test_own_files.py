"""A user's own task and optimizer, in files outside the repository, are meta-trained, resumed and saved by name."""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest

import meta_train.__main__
import meta_train.runs.run
from learned_opt.checkpoint import load_checkpoint
from meta_train.__main__ import main
from meta_train.references import find_optimizer
from meta_train.runs.run import resume
from meta_train.runs.run_store import read_rows
from tests.meta_train.own_files import SMALL, write_files
from tests.meta_train.spawned import end, spawn
from tests.meta_train.toy_trainer import result_of


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's AdamW raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def files(tmp_path, monkeypatch):
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(f"user_file:{tmp_path}")]:
        del sys.modules[name]


OWN = ("--task=my_task.py:line,slope=3.0", "--optimizer=my_opt.py:learned_rate,rate=0.25")


def test_trained_resumed_elsewhere_and_loaded(files, monkeypatch, capsys):
    run_dir = files / "run"
    start = ["lopt_fmnist8_k8_h4", "--run-dir", str(run_dir), "--meta-steps=3", *OWN, *SMALL]
    assert main(start) == 0
    config = json.loads((run_dir / "config.json").read_text())
    assert config["task"] == f"{files}/my_task.py:line,slope=3.0"
    assert config["optimizer"] == f"{files}/my_opt.py:learned_rate,rate=0.25"
    (row,) = read_rows(run_dir / "provenance.jsonl")
    assert set(row["files"]) == {f"{files}/my_task.py", f"{files}/my_opt.py"} and row["meta_steps"] == 3
    monkeypatch.chdir("/")
    (files / "my_task.py").write_text((files / "my_task.py").read_text() + "\n# changed\n")
    capsys.readouterr()
    assert main(["resume", str(run_dir), "--meta-steps", "5"]) == 0
    output = capsys.readouterr().out
    assert output.count(f"{files}/my_task.py has changed since the start before") == 1 and "my_opt.py has" not in output
    rows = result_of(run_dir)[2]
    assert len(rows) == 5
    module = sys.modules[f"user_file:{files}/my_opt.py"]
    path = run_dir / "optimizer.safetensors"
    with pytest.raises(ValueError, match="learned_rate"):
        load_checkpoint(path)
    checkpoint = load_checkpoint(path, architectures={"learned_rate": module.learned_rate})
    assert checkpoint.lopt.config == {"architecture": "learned_rate", "rate": 0.25}
    # Training has moved it.
    assert 0 < abs(checkpoint.theta["log_rate"][0] - np.log(0.25)) < 0.1
    assert checkpoint.local_opt == {"name": "sgd", "learning_rate": 0.1}
    assert checkpoint.card["task"] == "my_task_line" and checkpoint.card["num_workers"] == 2
    # And goes on from there.
    again = ["lopt_fmnist8_k8_h4", "--run-dir", str(files / "again"), "--meta-steps=1", *SMALL]
    own = [option.replace("=my_", f"={files}/my_") for option in OWN]
    assert (
        main([*again, *own, f"--initial-theta={path}", "--meta-learning-rate=1e-9", "--final-meta-learning-rate=0"])
        == 0
    )
    continued = load_checkpoint(files / "again" / "optimizer.safetensors", {"learned_rate": module.learned_rate})
    np.testing.assert_allclose(continued.theta["log_rate"], checkpoint.theta["log_rate"], rtol=1e-6)
    other = [own[0], own[1].replace("0.25", "0.5")]
    assert main([*again[:2], str(files / "third"), *again[3:], *other, f"--initial-theta={path}"]) == 2
    assert "'rate': 0.25}, this run trains {'architecture': 'learned_rate', 'rate': 0.5}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, words",
    [
        ("--optimizer=my_opt.py:broken", ["my_opt.py, line 23", "ZeroDivisionError"]),
        ("--optimizer=my_opt.py:no_optimizer", ["returned GradientTransformation", "return a LearnedOptimizer"]),
        ("--optimizer=my_opt.py:nameless", ["{'rate': 0.5}", "'architecture'"]),
        ("--optimizer=my_opt.py:learned_rat", ["did you mean 'learned_rate'"]),
        ("--optimizer=my_opt.py:learned_rate,rat=1", ["no argument 'rat'"]),
        ("--optimizer=my_typo.py:make", ["no file", "my_typo.py"]),
        ("--task=my_task.py:lin", ["did you mean 'line'"]),
        ("--task=my_task.py:line,slop=1", ["no argument 'slop'"]),
        ("--components my_task.py:line (my_task.py:line,slope=1),nam=b", ["'nam'", "did you mean 'name'"]),
        ("--optimizer=my_syntax.py:make", ["my_syntax.py, line 2", "SyntaxError"]),
    ],
)
def test_mistakes_are_one_line(files, flags, words, capsys, monkeypatch):
    monkeypatch.setattr(meta_train.__main__, "_run", lambda config: 0)
    (files / "my_syntax.py").write_text("def make():\n    return (\n")
    assert main(["lopt_fmnist8_k8_h4", *flags.split()]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(word in error for word in words), error


def test_wrong_families_are_named_when_they_are_built(files, capsys):
    start = ["lopt_fmnist8_k8_h4", "--run-dir", str(files / "run"), *SMALL]
    assert main([*start, "--task=my_task.py:no_family"]) == 2
    error = capsys.readouterr().err
    assert "returned dict: return a TaskFamily" in error and error.count("\n") == 1
    assert not (files / "run" / "config.json").exists()


def test_own_preset(files, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(meta_train.__main__, "_run", lambda config: seen.append(config) or 0)
    assert main(["my_preset.py:mine", "--seed", "4"]) == 0
    assert (seen[0].preset, seen[0].meta_steps, seen[0].seed) == ("mine", 3, 4)
    with pytest.raises(SystemExit):
        main(["my_preset.py:mine", "--help"])
    assert "My recipe." in capsys.readouterr().out
    assert main(["my_opt.py:learned_rate"]) == 2
    assert "returned LearnedOptimizer: return a MetaTrainConfig" in capsys.readouterr().err


def test_an_argument_for_the_number_of_workers_is_filled_in():
    config = meta_train.runs.run.MetaTrainConfig(num_workers=3)
    assert find_optimizer(config).num_workers == 3
    assert find_optimizer(dataclasses.replace(config, optimizer="lagg_a,num_workers=5")).num_workers == 5
    assert find_optimizer(dataclasses.replace(config, optimizer="lopt_a")).num_workers is None


@pytest.mark.slow  # two processes compile
def test_launched_in_two_processes_and_resumed_in_one(files):
    run_dir = files / "run"
    program = (sys.executable, "-m", "meta_train")
    start = ["lopt_fmnist8_k8_h4", "--run-dir", str(run_dir), "--meta-steps=3", *OWN, *SMALL]
    root = str(meta_train.__main__.__file__).rpartition("/meta_train/")[0]
    launcher = spawn("launch", "--processes", "2", *start, program=program, devices=1, PYTHONPATH=root)
    try:
        output = launcher.communicate(timeout=500)[0]
    finally:
        end(launcher)
    assert launcher.returncode == 0, output
    assert resume(run_dir, meta_steps=4).step == 4

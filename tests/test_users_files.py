"""What users bring, from a folder outside the repository: a task and an optimizer in files of theirs are meta-trained,
resumed, loaded and evaluated without an edit of the package."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import eval.__main__
import learned_opt
import meta_train.__main__
from learned_opt.names import resolve

ROOT = Path(__file__).resolve().parents[1]
OPTIMIZER = '''
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer


def my_lopt(rate=0.5):
    """Server SGD whose rate is learned."""

    def transform(theta, num_steps=None):
        return optax.with_extra_args_support(optax.sgd(jnp.exp(theta["log_rate"])))

    config = {"architecture": "my_lopt", "rate": rate}
    return LearnedOptimizer(lambda key: {"log_rate": jnp.log(jnp.float32(rate))}, transform, config, reads="mean")
'''
TASK = '''
import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import SPLITS, Task, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows


def family(size=4):
    """Linear regression."""
    x = np.random.default_rng(0).normal(size=(256, size)).astype(np.float32)
    data = {split: {"x": x, "y": x.sum(axis=1)} for split in SPLITS}

    def task(config, data):
        def loss(params, key, batch):
            return jnp.mean(jnp.square(batch["x"] @ params["w"] - batch["y"]))

        return Task(
            init=lambda key: {"w": 0.1 * jax.random.normal(key, (size,))},
            loss=loss,
            sample_batch=lambda key, split, shape: sample_rows(key, split_of(data, split), shape),
            metrics=lambda params, batch: {"loss": loss(params, None, batch)},
        )

    return TaskFamily("my_task", data, lambda key: {}, task, float(size), whole_rows)
'''
SIZES = ["--num-workers", "2", "--num-local-steps", "2", "--batch-size", "8"]
TRAIN = [
    *["demo", "--task", "my_task.py:family", "--optimizer", "my_opt.py:my_lopt,rate=0.3", "--run-dir", "runs/mine"],
    *["--local-optimizer", "sgd,learning_rate=0.05", "--num-tasks", "2", "--meta-steps", "4"],
    *["--truncation-length", "4", "--min-unroll-length", "4", "--max-unroll-length", "8", "--eval-protocol", "None"],
    *SIZES,
]
COMPARE = [
    *["compare", "demo", "--task", "my_task.py:family", "--baselines", "local_sgd", "--out-dir", "runs/eval"],
    *["--checkpoint", "runs/mine,architecture=my_opt.py:my_lopt", "--num-rounds", "10", "--num-seeds", "1"],
    *["--tuning", "coarse", "--max-extensions", "0", *SIZES],
]


ELSEWHERE = ["--out-dir", "runs/wrong"]


WRONG_LINES = {
    "family": ("    x = np.random", "    {}['images']; x = np.random", "in family: KeyError: 'images'"),
    "sample_batch": ("split_of(data, split)", "data[split + 's']", "in <lambda>: KeyError: 'trains'"),
    "loss": ('params["w"] -', 'params["v"] -', "in loss: KeyError: 'v'"),
}
"""What is wrong in a user's task: the text, what stands in its place, and how the error ends."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "my_opt.py").write_text(OPTIMIZER)
    (folder / "my_task.py").write_text(TASK)
    return folder


def run(folder, module, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def trained(folder):
    done = run(folder, "meta_train", *TRAIN)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "mine"


def test_meta_trained_and_loaded(folder, trained):
    build = resolve(f"{folder}/my_opt.py:my_lopt", {}, "optimizer")
    checkpoint = learned_opt.load_checkpoint(trained, architectures={"my_lopt": build})
    assert checkpoint.lopt.config == {"architecture": "my_lopt", "rate": 0.3}
    assert checkpoint.local_opt == {"name": "sgd", "learning_rate": 0.05}
    assert checkpoint.card["task"] == "my_task_family" and np.isfinite(checkpoint.theta["log_rate"])
    with pytest.raises(ValueError, match="architecture='my_lopt'"):
        learned_opt.load(trained)


def test_resumed_from_another_folder(trained, tmp_path):
    done = run(tmp_path, "meta_train", "resume", str(trained))
    assert done.returncode == 0 and "already finished at meta-step 4" in done.stdout, done.stderr


def test_evaluated_with_a_report(folder, trained):
    done = run(folder, "eval", *COMPARE)
    assert done.returncode == 0, done.stderr
    assert "my_lopt" in (folder / "runs" / "eval" / "report.md").read_text()


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("meta_train", [*TRAIN[:4], "my_opt.py:my_lop", "--run-dir", "runs/wrong"], "did you mean 'my_lopt'?"),
        ("meta_train", ["demo", "--task", "broken.py:family", "--run-dir", "runs/wrong"], "broken.py, line 2: ZeroDiv"),
        ("eval", ["compare", "demo", "--task", "my_task.py:familly", *ELSEWHERE], "did you mean 'family'?"),
        ("eval", ["compare", "demo", "--checkpoint", "runs/none,archi=my_opt.py:my_lopt", *ELSEWHERE], "runs/none"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(folder, module, arguments, message):
    (folder / "broken.py").write_text("x = 1\ny = x / 0\n")
    done = run(folder, module, *arguments)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (folder / "runs" / "wrong").exists()


@pytest.mark.parametrize("program", [meta_train.__main__, eval.__main__], ids=["meta_train", "eval"])
@pytest.mark.parametrize("where", WRONG_LINES)
def test_an_error_in_a_users_file_is_told_by_its_line_and_function(program, where, tmp_path, monkeypatch, capsys):
    text, wrong, end = WRONG_LINES[where]
    (tmp_path / "wrong.py").write_text(TASK.replace(text, wrong))
    line = 1 + TASK[: TASK.index(text)].count("\n")
    monkeypatch.chdir(tmp_path)
    name, command = {
        meta_train.__main__: ("meta_train", ["demo", "--run-dir", "new"]),
        eval.__main__: ("eval", ["compare", "demo", "--out-dir", "new"]),
    }[program]
    assert program.main([*command, "--task", "wrong.py:family"]) == 2
    *code, message = capsys.readouterr().err.splitlines()
    assert message.startswith(f"{name}: error: ")
    assert message.endswith(f"{tmp_path}/wrong.py, line {line}, {end}")
    if code:
        assert any(wrong.strip() in shown for shown in code) and not any("tasks/check.py" in shown for shown in code)
    else:
        # What a reference names is part of the message.
        assert "wrong.py:family': " in message


def test_one_process_of_several_ends_with_exit_code_2_so_that_none_is_restarted(tmp_path, monkeypatch, capsys):
    (tmp_path / "wrong.py").write_text("def fails():\n    return {}['x']\n")
    fails = resolve(f"{tmp_path}/wrong.py:fails", {}, "task")

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr("meta_train.processes.distributed.join", lambda group: None)
    monkeypatch.setattr("meta_train.__main__._run", lambda config: fails())
    with pytest.raises(SystemExit) as stop:
        meta_train.__main__.main(["demo", "--distributed", "127.0.0.1:2911,2,0"])
    assert stop.value.code == 2
    assert f"{tmp_path}/wrong.py, line 2, in fails: KeyError: 'x'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["tasks", "learned_opt optimizers"])
def test_output_that_nobody_reads_to_its_end_is_no_error(command):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, stdout=closed, stderr=subprocess.PIPE)
    assert done.returncode == 1 and done.stderr == b""

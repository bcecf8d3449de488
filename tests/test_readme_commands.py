"""Every command line that the documents show: all are parsed as the command itself parses them, the quick ones run, and
with `-m slow` the others at tiny settings."""

import importlib.util
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import eval.__main__
import learned_opt.__main__
import meta_train.__main__
import tasks.__main__
from eval.commands import COMMANDS
from eval.machine.command_line import parse_command
from meta_train.processes.distributed import parse_setting
from tests.test_readme import python_blocks

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob(".github/*.md"),
        *ROOT.glob("[a-z]*/**/*.md"),
        *ROOT.glob("eval/*/*.py"),
    ]
)
PROGRAM = r"(?:srun |[A-Z_]+=\S+ )*(?:\S*/)?(?:python -m|make|pip)"
PLACEHOLDERS = {
    "NAME_OR_FILE": "lopt_generalist",
    "NAME": "lopt_generalist",
    "PRESET": "lopt_fmnist8_k8_h4",
    "RUN": "runs/mine",
    "RUN_DIR": "runs/mine",
    "SUITE": "meta_test",
    "DATA": ".",
    "FOLDER": ".",
    "[--field value]": "--seed 3",
    "NUM_PROCESSES,PROCESS_ID": "2,0",
    "--processes N (PRESET ... | resume RUN)": "--processes 2 resume runs/mine",
}


def commands(text: str) -> list[str]:
    """The command lines of a text: those that stand alone, in a block or not, and those between backquotes."""
    text = re.sub(r"^```python.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\s*\\\n\s*", " ", text)
    found = []
    for line in text.splitlines():
        shown = re.match(rf"(?:    )?({PROGRAM} .*)", line)
        lines = [shown[1]] if shown else re.findall(rf"`({PROGRAM} [^`]+)`", line)
        found += [shlex.join(shlex.split(_filled_in(line), comments=True)) for line in lines]
    return found


def _filled_in(line: str) -> str:
    line = line.replace(" ...", "", line.endswith(" ..."))
    for placeholder, value in sorted(PLACEHOLDERS.items(), key=lambda item: -len(item[0])):
        line = re.sub(rf"(?<![\w/]){re.escape(placeholder)}(?![\w/])", value, line)
    return line


SHOWN = {name: commands((ROOT / name).read_text()) for name in DOCUMENTS}
EVERY_COMMAND = list(dict.fromkeys(command for lines in SHOWN.values() for command in lines))


def module_and_arguments(command: str) -> tuple[str, list[str]]:
    """`python -m MODULE ARGUMENTS`, whatever stands before it."""
    _, _, rest = command.partition("python -m ")
    module, *arguments = shlex.split(rest)
    return module, arguments


def in_no_group(setting, action):
    parse_setting(setting or "none")
    return action()


@pytest.fixture
def no_work(monkeypatch):
    """Commands of meta_train end where their work would begin."""
    monkeypatch.setattr(meta_train.__main__, "_run", lambda config: 0)
    monkeypatch.setattr(meta_train.__main__, "_resume", lambda run_dir, meta_steps: 0)
    monkeypatch.setattr(
        meta_train.__main__, "_in_group", lambda setting, action: (parse_setting(setting or "none"), 0)[1]
    )
    monkeypatch.setattr("meta_train.processes.launch.launch", lambda *arguments: 0)
    monkeypatch.setattr("meta_train.runs.run_store.read_config", lambda run_dir: {})
    monkeypatch.setattr("meta_train.stored_config.from_json", lambda *arguments: None)
    monkeypatch.setattr("meta_train.cost_estimate.estimate_cost", lambda config: None)
    monkeypatch.setattr("meta_train.cost_estimate.report", lambda config, cost: "")
    monkeypatch.setattr("eval.machine.devices.use_all_cores", lambda: None)
    # --data-dir sets it for the whole process; afterwards it is what it was.
    monkeypatch.setenv("LEARNED_OPT_DATA", "")
    monkeypatch.delenv("LEARNED_OPT_DATA")


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """A folder with what the documents say to write into files."""
    block = next(code for _, code in python_blocks((ROOT / "meta_train/README.md").read_text()) if "my_family" in code)
    for name in ("my_task.py", "my_opt.py"):
        (tmp_path / name).write_text(block)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (300, 8, 8), dtype=np.uint8), rng.integers(0, 5, 300)
    np.savez(tmp_path / "my_letters.npz", x_train=x[:250], y_train=y[:250], x_test=x[250:], y_test=y[250:])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.mark.usefixtures("no_work", "own_files")
@pytest.mark.parametrize("command", [c for c in EVERY_COMMAND if "python -m" in c])
def test_the_command_understands_it(command, capsys):
    module, arguments = module_and_arguments(command)
    if module == "eval" and len(arguments) > 1:
        parse_command(COMMANDS, "python -m eval", None, arguments)
    elif module == "eval":
        # A mention; some commands need more.
        assert arguments[0] in COMMANDS
    elif module == "meta_train":
        assert meta_train.__main__.main(arguments) == 0, capsys.readouterr().err
    elif module == "learned_opt":
        assert learned_opt.__main__.main(arguments) == 0, capsys.readouterr().err
    elif module == "tasks":
        names = ["quadratics32" if argument == "lopt_generalist" else argument for argument in arguments]
        assert tasks.__main__.main(names) == 0, capsys.readouterr().err
    else:
        assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("command", [c for c in EVERY_COMMAND if "python -m" not in c])
def test_what_make_and_pip_are_asked_for_is_there(command):
    program, *arguments = shlex.split(command)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert {argument for argument in arguments if "=" not in argument} <= set(targets)
    else:
        assert arguments[0] == "install"
        extras = re.findall(r"^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
        assert {extra for name in re.findall(r"learned-opt\[([a-z,]+)\]", command) for extra in name.split(",")} <= set(
            extras
        )


def test_commands_are_found():
    text = (
        "Say `python -m tasks NAME`.\n\n    make install  # once\n    python -m eval report RUN \\\n      --out-dir x\n"
    )
    assert commands(text) == [
        "python -m tasks lopt_generalist",
        "make install",
        "python -m eval report runs/mine --out-dir x",
    ]
    assert len(SHOWN["README.md"]) > 12 and all(
        SHOWN[f"{folder}/README.md"] for folder in ("tasks", "eval", "meta_train")
    )


@pytest.mark.parametrize("command", ["tasks", "learned_opt list", "eval compare --help", "meta_train demo --help"])
def test_what_only_prints_answers_within_three_seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and len(done.stdout) > 500
    # Seconds of the processor, which other processes on the machine do not change much.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


TINY_PROTOCOL = "--num-rounds=2 --eval-every=1 --num-seeds=1 --tuning=coarse --max-extensions=0 --tuning-seeds=1"
TINY = {
    ("meta_train", "run"): "--meta-steps=2 --num-tasks=2 --truncation-length=2 --min-unroll-length=2 "
    "--max-unroll-length=2 --num-local-steps=1 --batch-size=4 --warmup-steps=1",
    ("eval", "compare"): f"{TINY_PROTOCOL} --baselines=local_sgd --one-setting=none --batch-size=4",
    ("eval", "suite"): f"{TINY_PROTOCOL} --baselines=local_sgd --one-setting=none --batch-size=4",
    ("eval", "axis"): f"{TINY_PROTOCOL} --baselines=none --one-setting=none --batch-size=4 --values=1,2",
}
"""Flags behind those of the document, which they override."""


def run_tiny(command: str) -> None:
    module, arguments = module_and_arguments(command)
    # All of the suite would take its hour.
    arguments = ["xor_clusters,matrix_sensing" if argument == "meta_test" else argument for argument in arguments]
    kind = "run" if module == "meta_train" and arguments[0] not in ("list", "resume", "plan") else arguments[0]
    main = {"eval": eval.__main__.main, "meta_train": meta_train.__main__.main}[module]
    tiny = shlex.split(TINY.get((module, kind), ""))
    if kind == "run" and "--eval-protocol" not in arguments:
        tiny.append("--eval-protocol=None")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert main([*arguments, *tiny]) == 0, command


@pytest.mark.slow  # tests/test_users_files.py runs the like of them, in processes
def test_own_task_and_optimizer_in_four_commands(own_files, capsys):
    trained, resumed, compared, reported = [line for line in SHOWN["meta_train/README.md"] if "runs/own" in line]
    for command in (trained, resumed, compared, reported):
        run_tiny(command)
    assert (own_files / "runs" / "own" / "eval" / "report.html").is_file()
    shown = capsys.readouterr().out
    assert "my_lopt" in shown and "local_sgd" in shown


@pytest.mark.slow
def test_the_commands_of_the_readme(own_files, monkeypatch):
    monkeypatch.setattr("eval.machine.devices.use_all_cores", lambda: None)
    for command in SHOWN["README.md"]:
        if re.search("-m (eval|meta_train)", command):
            run_tiny(command)
    assert (Path("runs") / "test" / "report.html").is_file()

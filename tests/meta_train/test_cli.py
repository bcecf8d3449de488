"""Every mistake on the command line is one line that names the value and the fix, with exit code
2."""

import dataclasses
import os
import subprocess
import sys
import time

import jax
import pytest

import meta_train.__main__
import meta_train.runs.run
from eval.machine.command_line import flag
from meta_train.__main__ import main
from meta_train.config import MetaTrainConfig
from meta_train.config_checks import validate
from meta_train.presets import PRESETS
from tests.meta_train.toy_trainer import result_of, toy_config, toy_trainer


@pytest.fixture
def no_compile(monkeypatch):
    """Building a trainer fails the test: a mistake must be found before."""

    def build(config, given):
        raise RuntimeError("reached the trainer")

    monkeypatch.setattr(meta_train.runs.run, "build_trainer", build)


_MISTAKES = [
    ("dem", "demo"),
    ("lagg_fmnist8", "lagg_fmnist8_k8_h4"),
    ("resum runs/x", "resume"),
    ("demo --meta-step 3", "--meta-steps"),
    ("demo --learning-rate 3", "--learning-rate: unknown flag; did you mean --meta-learning-rate? "),
    ("demo --lr 3", "--lr: unknown flag; did you mean --meta-learning-rate? 'python -m meta_train demo --help'"),
    ("demo --final-meta-lr=3", "did you mean --final-meta-learning-rate? "),
    ("fmnist", "did you mean 'lagg_fmnist8_k8_h4'"),
    ("demo --data-dir no/such/folder", "--data-dir no/such/folder: there is no such folder"),
    ("demo --task zzz", "'zzz' is unknown: use one that 'python -m tasks' lists"),
    ("demo --meta-steps three", "--meta-steps"),
    ("demo --meta-steps 3.5", "--meta-steps"),
    ("demo --meta-steps", "--meta-steps"),
    ("demo 3", "3"),
    ("demo -x", "-x"),
    ("demo --meta-steps 0", "meta_steps=0: use at least 1"),
    ("demo --meta-steps -5", "meta_steps=-5"),
    ("demo --seed -1", "seed=-1: use 0 to"),
    ("demo --seed 4294967296", "seed=4294967296"),
    ("demo --run-dir=", "run_dir"),
    ("demo --run-dir /dev/null/run", "/dev/null/run cannot be created"),
    ("demo --num-workers 0", "num_workers=0"),
    ("demo --num-local-steps 0", "num_local_steps=0"),
    ("demo --batch-size -32", "batch_size=-32"),
    ("demo --local-optimizer sgd", "'learning_rate'"),
    ("demo --local-optimizer sgd,learning_rate=-0.5", "learning_rate"),
    ("demo --local-optimizer sgd,learning_rate=nan", "learning_rate"),
    (
        "demo --local-optimizer sgd,rate=0.5",
        "no argument 'rate'; did you mean 'learning_rate'?",
    ),
    ("demo --local-optimizer rmsprop,learning_rate=0.01", "use adam_b1_0 for Adam without momentum"),
    ("demo --meta-learning-rate inf", "meta_learning_rate=inf"),
    ("demo --meta-learning-rate 0", "meta_learning_rate=0"),
    ("demo --final-meta-learning-rate 1", "final_meta_learning_rate=1"),
    ("demo --sigma 0", "sigma=0"),
    ("demo --num-tasks 0", "num_tasks=0"),
    ("demo --truncation-length 7", "truncation_length=7"),
    ("demo --truncation-length 0", "truncation_length=0"),
    ("demo --min-unroll-length 30", "min_unroll_length=30"),
    ("demo --max-unroll-length 305", "max_unroll_length=305: use a multiple of truncation_length=20, e.g. 300"),
    ("demo --min-unroll-length 400 --max-unroll-length 300", "max_unroll_length=300"),
    ("demo --optimizer lag_a", "'lagg_a'"),
    ("demo --optimizer lagg_a,nominal=averge", "average"),
    ("demo --optimizer lagg_a,nominal=adam", "nominal='adam'"),
    ("demo --optimizer lagg_a,hidden=8", "no argument 'hidden'; did you mean 'hidden_size'"),
    ("demo --optimizer lagg_a,hidden_size=0", "hidden_size=0"),
    ("demo --optimizer lagg_a,num_workers=4", "num_workers=8: use 4"),
    ("demo --optimizer no/such/file.py:make", "no/such/file.py"),
    ("demo --optimizer no.such.module:make", "no.such.module"),
    ("demo --optimizer adafac_mlp_lopt", "num_workers=8: use 1"),
    ("adafac_generalist --num-local-steps 4", "num_local_steps=4: use 1"),
    ("demo --meta-loss-split valid", "outer_valid"),
    ("demo --task fmnist8_mlp", "'fmnist8_mlp32'"),
    ("demo --eval-protocol dmo", "'demo'"),
    ("demo --num-workers 4", "eval_protocol"),
    ("demo --theta-average-decay 1", "theta_average_decay=1"),
    ("demo --hidden-size 8", "--hidden-size: unknown flag"),
    ("demo --checkpoint-every 0", "checkpoint_every=0"),
    ("demo --keep-checkpoints 0", "keep_checkpoints=0"),
    ("demo --components fmnist8_mlp32,num_worker=4", "'num_worker'"),
    ("demo --components fmnist8_mlp32,num_workers=four", "num_workers='four'"),
    ("demo --components num_workers=4", "num_workers=4"),
    ("demo --components fmnist8_mlp32,num_workers", "field=value"),
    ("demo --components fmnist8_mlp3", "'fmnist8_mlp32'"),
    ("demo --components fmnist8_mlp32,weight=0", "weight=0"),
    ("demo --components fmnist8_mlp32,weight=nan", "weight="),
    ("demo --components fmnist8_mlp32,name=a/b", "name='a/b'"),
    ("demo --components fmnist8_mlp32,truncation_length=7", "components[0] fmnist8_mlp32: min_unroll_length"),
    ("demo --components fmnist8_mlp32,local_optimizer=(adm,learning_rate=0.1)", "'adam'"),
    ("demo --components fmnist8_mlp32 fmnist8_mlp32", "name=..."),
    ("demo --components fmnist8_mlp32,num_workers=4", "num_workers=4: use 8, which this lagg_a"),
    ("demo --components fmnist8_mlp32 --components-per-step 2", "components_per_step=2: use at most 1"),
    ("demo --worker-devices 3", "worker_devices=3"),
    ("demo --estimator pse", "'pes'"),
    ("demo --objective last", "final"),
    ("demo --estimator full_backprop --pairs-per-task 2", "pairs_per_task=2: use 1"),
    ("demo --pairs-per-task 0", "pairs_per_task=0"),
    ("no/such/preset.py:mine", "no/such/preset.py"),
    ("demo --compilation-cache=", "compilation-cache"),
    ("plan", "plan"),
    ("plan dem", "demo"),
    ("plan demo --num-tasks 0", "num_tasks=0"),
    ("resume", "resume"),
    ("resume a b", "resume"),
    ("resume no/such/run", "no/such/run"),
    ("resume --meta-steps 3", "config.json"),
    ("resume a --seed 3", "config.json"),
    ("resume a --meta-steps three", "'three'"),
    ("demo --log tensorbord", "did you mean 'tensorboard'"),
    ("demo --validate-every -1", "validate_every=-1"),
    ("demo --validation fmnist8_mlp12", "did you mean 'fmnist8_mlp128'"),
    ("demo --validate-every 5 --validation fmnist8_mlp128,num_workers=4", "validation: fmnist8_mlp128: num_workers=4"),
]


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("line, word", _MISTAKES, ids=[line for line, _ in _MISTAKES])
def test_mistakes(line, word, no_compile, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("meta_train: error: ") and word in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize(
    "text, word",
    [
        (None, "no config.json"),
        ("", "damaged"),
        ("{", "damaged"),
        ("[1]", "damaged"),
        ("\x00\xff", "damaged"),
        ('{"num_wrkers": 3}', "num_wrkers"),
        ('{"num_workers": "3"}', "num_workers"),
        ('{"num_workers": true}', "num_workers"),
        ('{"num_workers": 0}', "num_workers=0"),
    ],
)
def test_damaged_config(tmp_path, no_compile, capsys, text, word):
    if text is not None:
        (tmp_path / "config.json").write_text(text, encoding="latin-1")
    assert main(["resume", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and word in error and str(tmp_path) in error


def test_existing_folder_names_both_ways_out(tmp_path, no_compile, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert main(["lagg_fmnist8_k8_h4", "--run-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"resume {tmp_path}" in error and "--run-dir" in error


def test_any_field_is_a_flag(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(meta_train.__main__, "_run", lambda config: seen.append(config) or 0)
    line = (
        f"demo --run-dir {tmp_path} --meta-steps 7 --seed 3 --num_local_steps 2 --sigma=0.1 "
        "--no-reuse-run-dir --eval-protocol None"
    )
    assert main(line.split()) == 0
    expected = dataclasses.replace(
        PRESETS["demo"](),
        run_dir=str(tmp_path),
        meta_steps=7,
        seed=3,
        num_local_steps=2,
        sigma=0.1,
        reuse_run_dir=False,
        eval_protocol=None,
    )
    assert seen == [expected]


def test_compiled_programs_are_kept_where_told(tmp_path, monkeypatch):
    monkeypatch.setattr(meta_train.__main__, "_run", lambda config: 0)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", before := os.environ["JAX_COMPILATION_CACHE_DIR"])
    try:
        assert main(["demo", "--compilation-cache", str(tmp_path / "cache"), "--seed", "3"]) == 0
        # Processes that are started from here inherit it.
        assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "cache") and (tmp_path / "cache").is_dir()
        assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "cache")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_run_resume_and_exit_codes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(meta_train.runs.run, "build_trainer", lambda config, given: toy_trainer())
    start = ["lagg_fmnist8_k8_h4", "--meta-steps", "5", "--run-dir"]
    assert main([*start, str(tmp_path / "a")]) == 0
    assert "optimizer.safetensors" in capsys.readouterr().out
    assert main(["resume", str(tmp_path / "a")]) == 0
    assert "already finished" in capsys.readouterr().out
    assert result_of(tmp_path / "a")[0] == 5

    diverging = toy_trainer(first_bad_step=1)
    monkeypatch.setattr(meta_train.runs.run, "build_trainer", lambda config, given: diverging)
    assert main([*start, str(tmp_path / "b"), "--max-consecutive-skips", "2"]) == 3
    error = capsys.readouterr().err
    assert "not finite; lower --sigma" in error

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("meta_train.runs.run_store.save_checkpoint", full)
    assert main([*start, str(tmp_path / "c")]) == 1
    assert "No space left" in capsys.readouterr().err.splitlines()[-1]


def test_interrupt_before_the_run(monkeypatch, capsys):
    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr("meta_train.__main__._run", interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid_and_documented(preset):
    config = PRESETS[preset]()
    validate(config)
    assert config.preset == preset and config.run_dir == f"runs/{preset}"
    for word in ("Command:", "Hardware:", "Wall time:", "Expected:"):
        assert word in (PRESETS[preset].__doc__ or "")


def test_every_field_has_a_help_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    fields = dataclasses.fields(MetaTrainConfig)
    for field in fields:
        assert flag(field.name) in text
    assert text.count("(default:") == len(fields)


def test_list(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(f"{preset}: " in text for preset in PRESETS)


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["list"]])
def test_help_does_not_import_jax(arguments):
    program = (
        "import sys; from meta_train.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "assert 'jax' not in sys.modules and 'numpy' not in sys.modules, 'imported'"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
    assert time.perf_counter() - start < 10  # 0.5 s on a quiet core


def test_toy_state_matches_the_real_interface(tmp_path):
    state = jax.eval_shape(toy_trainer().init, jax.random.key(0))
    assert state.step.dtype == "int32"
    validate(toy_config(tmp_path))

"""Command line: `python -m meta_train PRESET [--field value]`, `resume RUN_DIR`, `launch ...`, `plan PRESET`, `list`.

Exit codes: 0 done, 1 the machine or this program failed, 2 a mistake in the flags or in a user's own file, 3 diverged,
75 saved after a signal (EX_TEMPFAIL, so that a scheduler requeues). `--help` and `list` answer without importing JAX.
"""

import inspect
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from eval.machine.command_line import fail, fail_in_user_code, parse_flags
from meta_train.command_line import PROGRAM, UsageError, parse_preset, without_option
from meta_train.config import MetaTrainConfig
from meta_train.presets import PRESETS

if TYPE_CHECKING:
    from meta_train.runs.run import RunOutcome

_EXIT_CODES = {"finished": 0, "preempted": 75, "diverged": 3}
_CACHE = "JAX_COMPILATION_CACHE_DIR"
_DATA = "LEARNED_OPT_DATA"
_USAGE = f"""usage: {PROGRAM} PRESET [--run-dir DIR] [--meta-steps N] [--seed S] [--FIELD VALUE]
       {PROGRAM} resume RUN_DIR [--meta-steps N]
       {PROGRAM} launch --processes N (PRESET ... | resume RUN_DIR ...)
       {PROGRAM} plan PRESET [--FIELD VALUE]
       {PROGRAM} list

Meta-trains a learned optimizer. '{PROGRAM} PRESET --help' shows every field.
resume --meta-steps N extends a run: from there on its learning rate is that of a run of N meta-steps.
A preset, task, optimizer or estimator of your own is named by module:function or path/to/file.py:function.

Every command but list takes
  --distributed auto | COORDINATOR:PORT,NUM_PROCESSES,PROCESS_ID
        one run over several processes: auto under SLURM, Kubernetes or MPI, else given to each (on one machine: launch)
  --compilation-cache DIR
        keep compiled programs in DIR, so that the next start with the same shapes skips the compilation
        (default: the environment variable {_CACHE}, if set)
  --data-dir DIR
        folder with your data sets (default: the environment variable {_DATA}, if set)

presets: {", ".join(PRESETS)}"""


def main(arguments: list[str]) -> int:
    """Runs one command; returns the exit code."""
    try:
        return _dispatch(arguments)
    except (UsageError, ValueError, FileNotFoundError) as error:
        return fail_in_user_code("meta_train", error) or fail("meta_train", error, 2)
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not write to it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        code = fail_in_user_code("meta_train", error)
        return code or fail("meta_train", f"{error}; checkpoints saved before are intact", 1)
    except KeyboardInterrupt:
        return fail("meta_train", "interrupted", 130)
    except Exception as error:
        code = fail_in_user_code("meta_train", error)
        if code is None:
            raise
        return code


def _dispatch(arguments: list[str]) -> int:
    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help"):
        print(_USAGE)
        return 0
    if command == "list":
        for name, preset in PRESETS.items():
            print(f"{name}: {inspect.getdoc(preset)}\n")
        return 0
    rest, cache = without_option(rest, "--compilation-cache")
    if cache is not None:
        _use_cache(cache)
    rest, data_dir = without_option(rest, "--data-dir")
    if data_dir is not None:
        if not Path(data_dir).is_dir():
            raise FileNotFoundError(f"--data-dir {data_dir}: there is no such folder")
        # Where tasks.datasets looks, and what processes started from here inherit.
        os.environ[_DATA] = str(Path(data_dir).absolute())
    if command == "launch":
        return _launch(rest)
    rest, setting = without_option(rest, "--distributed")
    if command == "resume":
        run_dir, meta_steps = _what_to_resume(rest)
        return _in_group(setting, lambda: _resume(run_dir, meta_steps))
    if command == "plan":
        return _plan(rest)
    config = _preset_config(command, rest)
    return _in_group(setting, lambda: _run(config))


def _use_cache(folder: str) -> None:
    """Where JAX keeps compiled programs, in this process and in those that it starts."""
    if not folder:
        raise ValueError("compilation-cache: name a folder, e.g. --compilation-cache ~/.cache/jax")
    path = Path(folder).expanduser().absolute()
    path.mkdir(parents=True, exist_ok=True)
    os.environ[_CACHE] = str(path)
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_compilation_cache_dir", str(path))


def _preset_config(preset: str, arguments: list[str]) -> MetaTrainConfig:
    config = parse_preset(preset, arguments)
    from meta_train.config_checks import validate

    validate(config)
    return config


def _plan(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        raise ValueError(f"plan: takes a preset and its flags; e.g. {PROGRAM} plan demo --num-workers 4")
    config = _preset_config(arguments[0], arguments[1:])
    from eval.machine.devices import use_all_cores
    from meta_train.cost_estimate import estimate_cost, report

    use_all_cores()
    print(report(config, estimate_cost(config)))
    return 0


def _what_to_resume(arguments: list[str]) -> tuple[str, int | None]:
    """The run folder, and the number of meta-steps to extend the run to."""
    rest, text = without_option(
        [argument.replace("--meta_steps", "--meta-steps") for argument in arguments], "--meta-steps"
    )
    if len(rest) != 1 or rest[0].startswith("-"):
        raise ValueError(
            "resume: takes one run folder and --meta-steps, all other settings come from config.json; "
            f"e.g. {PROGRAM} resume runs/demo --meta-steps 800"
        )
    if text is not None and not text.isdecimal():
        raise ValueError(f"resume: --meta-steps {text!r} is no number of meta-steps; e.g. --meta-steps 800")
    return rest[0], None if text is None else int(text)


def _in_group(setting: str | None, action: Callable[[], int]) -> int:
    """Runs `action` in the group of processes that --distributed names."""
    if setting in (None, "none"):
        return action()
    from eval.machine.devices import use_all_cores
    from meta_train.processes.distributed import join, parse_setting

    group = parse_setting(setting)
    use_all_cores()
    join(group)
    try:
        return action()
    except (ValueError, OSError):
        # Raised in every process alike.
        raise
    except BaseException as error:
        # The others wait for this one: an orderly exit would wait for them in turn.
        code = fail_in_user_code("meta_train", error) if isinstance(error, Exception) else None
        if code is None:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code or 1)


def _launch(arguments: list[str]) -> int:
    from meta_train.processes.launch import LaunchConfig, launch, validate_launch
    from meta_train.runs import run_store

    rest, own = list(arguments), []
    while rest and rest[0].startswith("-"):
        own.append(rest.pop(0))
        if "=" not in own[-1] and rest:
            own.append(rest.pop(0))
    launch_config = parse_flags(LaunchConfig(), f"{PROGRAM} launch", LaunchConfig.__doc__, own)
    validate_launch(launch_config)
    if not rest:
        raise ValueError(f"launch: names no run; e.g. {PROGRAM} launch --processes 2 demo")
    command, *flags = rest
    if command == "resume":
        from meta_train.stored_config import from_json

        run_dir = Path(_what_to_resume(flags)[0])
        from_json(run_store.read_config(run_dir), f"{run_dir}/config.json")
    else:
        config = _preset_config(command, flags)
        run_dir = Path(config.run_dir)
        if not (config.reuse_run_dir and (run_dir / "config.json").exists()):
            run_store.create_run(run_dir)
    return launch(launch_config, rest, run_dir, lambda line: print(line, file=sys.stderr, flush=True))


def _run(config: MetaTrainConfig) -> int:
    from eval.machine.devices import use_all_cores
    from meta_train.runs.run import run

    use_all_cores()
    return _report(run(config))


def _resume(run_dir: str, meta_steps: int | None) -> int:
    from eval.machine.devices import use_all_cores
    from meta_train.runs.run import resume

    use_all_cores()
    return _report(resume(run_dir, meta_steps=meta_steps))


def _report(outcome: "RunOutcome") -> int:
    run_dir, step = outcome.run_dir, outcome.step
    if outcome.status == "preempted":
        print(f"{run_dir}: saved at meta-step {step}; '{PROGRAM} resume {run_dir}' continues it")
    elif outcome.status == "diverged":
        message = (
            f"{run_dir}: stopped at meta-step {step}, the last {outcome.config.max_consecutive_skips} meta-gradients "
            "were not finite; lower --sigma, --meta-learning-rate or the learning rate of --local-optimizer"
        )
        return fail("meta_train", message, _EXIT_CODES["diverged"])
    else:
        figure = run_dir / "figures" / "meta_loss.png"
        print(f"{run_dir}: finished; optimizer {outcome.optimizer_path}, figure {figure}")
        if outcome.config.eval_protocol is not None:
            _evaluate(outcome, outcome.config.eval_protocol)
    return _EXIT_CODES[outcome.status]


def _evaluate(outcome: "RunOutcome", reference: str) -> None:
    import jax

    if jax.process_count() > 1:
        # The comparison is a program for one process.
        print(f"to compare it with tuned baselines, run '{PROGRAM} resume {outcome.run_dir}' in one process")
        return
    from eval.compare.compare import compare
    from eval.machine.progress import show_progress
    from eval.report.comparison import write_comparison
    from eval.report.table import plain_table
    from meta_train.references import checkpoint_reference, find_protocol

    folder = outcome.run_dir / "eval"
    protocol = find_protocol(reference)
    print(f"comparing it with tuned baselines over {protocol.num_rounds} rounds", flush=True)
    with show_progress() as progress:
        results = compare(protocol, [checkpoint_reference(outcome.config, outcome.optimizer_path)], folder, progress)
    write_comparison(results, folder)
    print(plain_table(results))
    print(f"table {folder / 'table.md'}, figure {folder / 'curves.png'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

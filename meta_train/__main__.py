"""Command line: `python -m meta_train PRESET [--field value]`, `resume RUN_DIR`, `launch ...`, `plan PRESET`,
`list`.

Exit codes: 0 done, 1 the machine failed (disk full), 2 a usage error, 3 diverged, 75 saved after a
signal (EX_TEMPFAIL, so that a scheduler requeues). JAX is imported only after the arguments are
known to be good.
"""

import contextlib
import dataclasses
import difflib
import io
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from meta_train.component import Component, component_text, parse_component
from meta_train.config import MetaTrainConfig, check_choice, flag, validate
from meta_train.presets import DESCRIPTIONS, PRESETS

if TYPE_CHECKING:
    from meta_train.runs.run import Outcome

T = TypeVar("T")
_PROGRAM = "python -m meta_train"
_EXIT_CODES = {"finished": 0, "preempted": 75, "diverged": 3}
_USAGE = f"""usage: {_PROGRAM} PRESET [--run-dir DIR] [--meta-steps N] [--seed S] [--FIELD VALUE]
       {_PROGRAM} resume RUN_DIR
       {_PROGRAM} launch --processes N (PRESET ... | resume RUN_DIR)
       {_PROGRAM} plan PRESET [--FIELD VALUE]
       {_PROGRAM} list

Meta-trains a learned optimizer. '{_PROGRAM} PRESET --help' shows every field.
One run over several processes: add --distributed auto under SLURM, Kubernetes or MPI, or
--distributed COORDINATOR:PORT,NUM_PROCESSES,PROCESS_ID to each; on one machine use launch.

presets: {", ".join(PRESETS)}"""


class _UsageError(Exception):
    """A mistake on the command line."""


def main(arguments: list[str]) -> int:
    """Runs one command; returns the exit code."""
    try:
        return _dispatch(arguments)
    except (_UsageError, ValueError, FileNotFoundError) as error:
        return _fail(error, 2)
    except OSError as error:
        return _fail(f"{error}; checkpoints saved before are intact", 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _dispatch(arguments: list[str]) -> int:
    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help"):
        print(_USAGE)
        return 0
    if command == "list":
        for name, description in DESCRIPTIONS.items():
            print(f"{name}: {description}\n")
        return 0
    if command == "launch":
        return _launch(rest)
    rest, setting = _without_distributed(rest)
    if command == "resume":
        run_dir = _folder_to_resume(rest)
        return _in_group(setting, lambda: _resume(run_dir))
    if command == "plan":
        return _plan(rest)
    config = _preset_config(command, rest)
    return _in_group(setting, lambda: _run(config))


def _preset_config(preset: str, arguments: list[str]) -> MetaTrainConfig:
    check_choice("preset", preset, [*PRESETS, "resume", "launch", "plan", "list"])
    config = _parse(preset, arguments)
    validate(config)
    return config


def _plan(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        raise _UsageError(f"plan: takes a preset and its flags; e.g. {_PROGRAM} plan demo --num-workers 4")
    config = _preset_config(arguments[0], arguments[1:])
    from eval.machine.devices import use_all_cores
    from meta_train.plan import make_plan, report

    use_all_cores()
    print(report(config, make_plan(config)))
    return 0


def _folder_to_resume(arguments: list[str]) -> str:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise _UsageError(
            f"resume: takes one run folder, its settings come from config.json; e.g. {_PROGRAM} resume runs/demo"
        )
    return arguments[0]


def _without_distributed(arguments: list[str]) -> tuple[list[str], str]:
    """The arguments less --distributed, and its value."""
    rest, setting = [], "none"
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name == "--distributed":
            setting = value if equals else next(remaining, "")
        else:
            rest.append(argument)
    return rest, setting


def _in_group(setting: str, action: Callable[[], int]) -> int:
    """Runs `action` in the group of processes that --distributed names."""
    if setting == "none":
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
    except BaseException:
        # The others wait for this one: an orderly exit would wait for them in turn.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _launch(arguments: list[str]) -> int:
    from meta_train.config import from_json
    from meta_train.processes.launch import LaunchConfig, launch, validate_launch
    from meta_train.runs import run_store

    rest, own = list(arguments), []
    while rest and rest[0].startswith("-"):
        own.append(rest.pop(0))
        if "=" not in own[-1] and rest:
            own.append(rest.pop(0))
    launch_config = _parse_flags("launch", LaunchConfig(), own, LaunchConfig.__doc__)
    validate_launch(launch_config)
    if not rest:
        raise _UsageError(f"launch: names no run; e.g. {_PROGRAM} launch --processes 2 demo")
    command, *flags = rest
    if command == "resume":
        run_dir = Path(_folder_to_resume(flags))
        from_json(run_store.read_config(run_dir), f"{run_dir}/config.json")
    else:
        config = _preset_config(command, flags)
        run_dir = Path(config.run_dir)
        if not (config.reuse_run_dir and (run_dir / "config.json").exists()):
            run_store.create_run(run_dir)
    return launch(launch_config, rest, run_dir, lambda line: print(line, file=sys.stderr, flush=True))


def _parse(preset: str, arguments: list[str]) -> MetaTrainConfig:
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

    registry = ConstructorRegistry()
    components = PrimitiveConstructorSpec(
        nargs=1,
        metavar="TASK[,FIELD=VALUE]...",
        instance_from_str=_component,
        is_instance=lambda instance: isinstance(instance, Component),
        str_from_instance=lambda component: [component_text(component)],
    )
    registry.primitive_rule(lambda info: components if info.type is Component else None)
    return _parse_flags(preset, PRESETS[preset], arguments, DESCRIPTIONS[preset], registry)


def _parse_flags(command: str, default: T, arguments: list[str], description: str | None, registry: Any = None) -> T:
    """The configuration `default`, a frozen dataclass, with what the flags change."""
    import tyro

    flags = [flag(field.name) for field in dataclasses.fields(default)]  # pyright: ignore[reportArgumentType]
    known = [*flags, "--no-reuse-run-dir", "--help"]
    for argument in arguments:
        name = argument.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise _UsageError(f"{name}: unknown flag; {hint}'{_PROGRAM} {command} --help' lists them all")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                type(default),
                default=default,
                args=arguments,
                prog=f"{_PROGRAM} {command}",
                description=description,
                registry=registry,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise _UsageError(_first_line(errors.getvalue(), command)) from None


def _component(arguments: list[str]) -> Component:
    try:
        return parse_component(arguments[0])
    except ValueError as error:
        # tyro would put a text of its own in the place of a ValueError's.
        raise _UsageError(str(error)) from None


def _first_line(text: str, command: str) -> str:
    """The message of tyro's framed error, in one line."""
    lines = [re.sub(r"^[│╭╰─\s]+|[│╮╯─\s]+$", "", line) for line in text.splitlines()]
    message = " ".join(lines[1:]).partition("Argument helptext")[0].partition("For full help")[0]
    return f"{message.strip()}; '{_PROGRAM} {command} --help' lists the fields"


def _run(config: MetaTrainConfig) -> int:
    from eval.machine.devices import use_all_cores
    from meta_train.runs.run import run

    use_all_cores()
    return _report(run(config))


def _resume(run_dir: str) -> int:
    from eval.machine.devices import use_all_cores
    from meta_train.runs.run import resume

    use_all_cores()
    return _report(resume(run_dir))


def _report(outcome: "Outcome") -> int:
    run_dir, step = outcome.run_dir, outcome.step
    if outcome.status == "preempted":
        print(f"{run_dir}: saved at meta-step {step}; '{_PROGRAM} resume {run_dir}' continues it")
    elif outcome.status == "diverged":
        message = (
            f"{run_dir}: stopped at meta-step {step}, the last "
            f"{outcome.config.max_consecutive_skips} meta-gradients were not finite; "
            "lower --sigma, --meta-learning-rate or --local-learning-rate"
        )
        return _fail(message, _EXIT_CODES["diverged"])
    else:
        figure = run_dir / "figures" / "meta_loss.png"
        print(f"{run_dir}: finished; optimizer {outcome.optimizer_path}, figure {figure}")
        if outcome.config.eval_protocol is not None:
            _evaluate(outcome)
    return _EXIT_CODES[outcome.status]


def _evaluate(outcome: "Outcome") -> None:
    import jax

    if jax.process_count() > 1:
        # The comparison is a program for one process.
        print(f"to compare it with tuned baselines, run '{_PROGRAM} resume {outcome.run_dir}' in one process")
        return
    from eval.compare.compare import compare
    from eval.machine.progress import show_progress
    from eval.protocol import PROTOCOLS
    from eval.report.table import plain_table

    folder = outcome.run_dir / "eval"
    protocol = PROTOCOLS[outcome.config.eval_protocol or ""]
    print(f"comparing it with tuned baselines over {protocol.num_rounds} rounds", flush=True)
    with show_progress() as progress:
        results = compare(protocol, [outcome.optimizer_path], folder, progress)
    print(plain_table(results))
    print(f"table {folder / 'table.md'}, figure {folder / 'curves.png'}")


def _fail(error: object, code: int) -> int:
    message = " ".join(str(error).split())
    print(f"meta_train: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

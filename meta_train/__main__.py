"""Command line: `python -m meta_train PRESET [--field value]`, `resume RUN_DIR`, `list`.

Exit codes: 0 done, 1 the machine failed (disk full), 2 a usage error, 3 diverged, 75 saved after a
signal (EX_TEMPFAIL, so that a scheduler requeues). JAX is imported only after the arguments are
known to be good.
"""

import contextlib
import dataclasses
import difflib
import io
import re
import sys
from typing import TYPE_CHECKING

from meta_train.config import MetaTrainConfig, check_choice, flag, validate
from meta_train.presets import DESCRIPTIONS, PRESETS

if TYPE_CHECKING:
    from meta_train.run import Outcome

_PROGRAM = "python -m meta_train"
_EXIT_CODES = {"finished": 0, "preempted": 75, "diverged": 3}
_USAGE = f"""usage: {_PROGRAM} PRESET [--run-dir DIR] [--meta-steps N] [--seed S] [--FIELD VALUE]
       {_PROGRAM} resume RUN_DIR
       {_PROGRAM} list

Meta-trains a learned optimizer. '{_PROGRAM} PRESET --help' shows every field.

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
    if command == "resume":
        if len(rest) != 1 or rest[0].startswith("-"):
            raise _UsageError(
                f"resume: takes one run folder, its settings come from config.json; e.g. {_PROGRAM} resume runs/demo"
            )
        return _resume(rest[0])
    check_choice("preset", command, [*PRESETS, "resume", "list"])
    config = _parse(command, rest)
    validate(config)
    return _run(config)


def _parse(preset: str, arguments: list[str]) -> MetaTrainConfig:
    import tyro

    flags = [flag(field.name) for field in dataclasses.fields(MetaTrainConfig)]
    known = [*flags, "--no-reuse-run-dir", "--help"]
    for argument in arguments:
        name = argument.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise _UsageError(f"{name}: unknown flag; {hint}'{_PROGRAM} {preset} --help' lists them all")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                MetaTrainConfig,
                default=PRESETS[preset],
                args=arguments,
                prog=f"{_PROGRAM} {preset}",
                description=DESCRIPTIONS[preset],
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise _UsageError(_first_line(errors.getvalue(), preset)) from None


def _first_line(text: str, preset: str) -> str:
    """The message of tyro's framed error, in one line."""
    lines = [re.sub(r"^[│╭╰─\s]+|[│╮╯─\s]+$", "", line) for line in text.splitlines()]
    message = " ".join(lines[1:]).partition("Argument helptext")[0].partition("For full help")[0]
    return f"{message.strip()}; '{_PROGRAM} {preset} --help' lists the fields"


def _run(config: MetaTrainConfig) -> int:
    from eval.devices import use_all_cores
    from meta_train.run import run

    use_all_cores()
    return _report(run(config))


def _resume(run_dir: str) -> int:
    from eval.devices import use_all_cores
    from meta_train.run import resume

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
    from eval.compare import compare
    from eval.progress import show_progress
    from eval.protocol import PROTOCOLS
    from eval.table import plain_table

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

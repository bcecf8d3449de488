"""Command line: `python -m eval compare PROTOCOL --checkpoint PATH --out-dir DIR`."""

import contextlib
import dataclasses
import difflib
import io
import re
import sys
from pathlib import Path
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare meta-trained optimizers with tuned baselines."""

    protocol: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PROTOCOL")]
    """demo or fmnist8_k8_h4."""
    checkpoint: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="PATH")] = ()
    """Checkpoint file or name of a pretrained optimizer; may be given several times."""
    out_dir: str = "runs/eval"
    """Folder for results.json, table.md and curves.png."""
    overwrite: bool = False
    """Replace the results of an earlier comparison in out_dir."""
    baselines: str | None = None
    """Results file of the same protocol whose tuned baselines are used instead of tuning again."""
    num_seeds: int | None = None
    """Final runs per contender; the protocol's own number by default."""
    num_rounds: int | None = None
    """Rounds of every run; the protocol's own number by default."""
    seed: int | None = None
    """Root of all randomness; the protocol's own by default."""


COMMANDS = {"compare": Compare}

USER_OS_ERRORS = (FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError)
"""What a mistyped path raises."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code.

    0 done, 1 the machine failed (disk full), 2 a user's mistake, 130 interrupted; all but 0 print
    one line on standard error.
    """
    try:
        run_compare(parse(sys.argv[1:] if arguments is None else arguments))
    except (ValueError, *USER_OS_ERRORS) as error:
        return _fail(error, 2)
    except OSError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def parse(arguments: list[str]) -> Compare:
    """The command of the arguments.

    Raises:
      ValueError: an unknown command or flag, or a value of the wrong type.
      SystemExit: with code 0 after --help.
    """
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        raise ValueError(f"unknown command {arguments[0]!r}: use {', '.join(COMMANDS)}")
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="python -m eval", description=__doc__, args=arguments
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(_one_line(messages.getvalue())) from None


def run_compare(command: Compare) -> None:
    """Checks the arguments before JAX is asked for anything, then compares."""
    from eval.protocol import PROTOCOLS

    if command.protocol not in PROTOCOLS:
        close = difflib.get_close_matches(command.protocol, PROTOCOLS) or list(PROTOCOLS)
        raise ValueError(f"unknown protocol {command.protocol!r}: use {' or '.join(close)}")
    changes = {
        field: value for field in ("num_seeds", "num_rounds", "seed") if (value := getattr(command, field)) is not None
    }
    protocol = dataclasses.replace(PROTOCOLS[command.protocol], **changes)
    earlier = Path(command.out_dir) / "results.json"
    if earlier.exists() and not command.overwrite:
        raise ValueError(f"{earlier} exists: choose another --out-dir or pass --overwrite")

    from eval.compare import compare
    from eval.devices import use_all_cores
    from eval.progress import show_progress
    from eval.table import plain_table

    use_all_cores()
    with show_progress() as progress:
        results = compare(
            protocol,
            command.checkpoint,
            command.out_dir,
            progress,
            baselines_from=command.baselines,
        )
    print(plain_table(results))
    print(f"wrote results.json, table.md and curves.png to {Path(command.out_dir)}")


def _fail(error: object, code: int) -> int:
    print(f"eval: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _one_line(message: str) -> str:
    """tyro's message without its box, its title and the help text of the flag."""
    lines = [line for line in message.splitlines() if not line.startswith(("╭", "╰"))]
    text = " ".join(" ".join(lines).replace("│", " ").replace("─", " ").split())
    text = text.partition("Argument helptext")[0].partition("For full help")[0]
    text = re.sub(r"(Perhaps you meant: [\w-]+).*", r"\1", text)
    return f"{text.strip() or 'bad command line'}; see python -m eval --help"


if __name__ == "__main__":
    sys.exit(main())

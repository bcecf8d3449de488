"""What command lines have in common: tyro's messages in one line, and one line for a mistake."""

import contextlib
import io
import re
import sys
from typing import Any

import tyro


def parse_command(commands: dict[str, Any], program: str, description: str | None, arguments: list[str]) -> Any:
    """The command of the arguments, an instance of one of `commands`.

    Args:
      commands: dataclass by subcommand.
      program: how it is called, e.g. "python -m eval".
      description: for --help.
      arguments: of the command line.

    Raises:
      ValueError: an unknown command or flag, or a value of the wrong type.
      SystemExit: with code 0 after --help.
    """
    if arguments and not arguments[0].startswith("-") and arguments[0] not in commands:
        raise ValueError(f"unknown command {arguments[0]!r}: use {', '.join(commands)}")
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.extras.subcommand_cli_from_dict(commands, prog=program, description=description, args=arguments)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(f"{one_line(messages.getvalue())}; see {program} --help") from None


def one_line(message: str) -> str:
    """tyro's message without its box, its title and the help text of the flag."""
    lines = [line for line in message.splitlines() if not line.startswith(("╭", "╰"))]
    text = " ".join(" ".join(lines).replace("│", " ").replace("─", " ").split())
    text = text.partition("Argument helptext")[0].partition("For full help")[0]
    text = re.sub(r"(Perhaps you meant: [\w-]+).*", r"\1", text)
    return text.strip() or "bad command line"


def fail(program: str, error: object, code: int) -> int:
    """Prints one line on standard error; returns the exit code."""
    print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code

"""Mistakes on command lines, in one line whatever tyro prints around them."""

import dataclasses

import pytest
import tyro

from eval.machine.command_line import check_flags, flags_of, one_line, parse_command, parse_flags

FRAMED = """\
╭─ Value error ─────────────────╮
│ Error parsing --rate: no type │
│ matching FLOAT.               │
│                               │
│ Got errors:                   │
│ - <class 'float'>: ...        │
│ ───────────────────────────── │
│ For full helptext, see x      │
╰───────────────────────────────╯
"""
PLAIN = """
 Value error
 ------------------------------
  Error parsing --rate: no type
  matching FLOAT.
  -----------------------------
  For full helptext, see x
"""


@dataclasses.dataclass(frozen=True)
class Group:
    batch_size: int = 3
    """B."""


@dataclasses.dataclass(frozen=True)
class Settings:
    what: tyro.conf.Positional[str] = "demo"
    """Which."""
    rate: float = 0.1
    """Rate."""
    again: bool = False
    """Once more."""
    group: Group = Group()
    times: int = 1
    """How often."""


@pytest.mark.parametrize("message", [FRAMED, PLAIN])
def test_frame_title_and_help_go(message):
    assert one_line(message) == "Error parsing --rate: no type matching FLOAT."


def test_flags_of_a_dataclass_are_those_of_its_fields_and_groups():
    assert flags_of(Settings) == ["--rate", "--again", "--no-again", "--batch-size", "--times"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rat", "3"], "^--rat: unknown flag; did you mean --rate[?] 'run --help' lists them all$"),
        (["--lr", "3"], "^--lr: unknown flag; 'run --help' lists them all$"),
        (["--xyz=3"], "^--xyz: unknown flag; 'run --help' lists them all$"),
        (["--rate", "fast"], "^Error parsing --rate: 'fast' is no number; see run --help$"),
        (["--times", "many"], "^Error parsing --times: 'many' is no whole number"),
        (["a", "b"], "b; see run --help$"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message) as found:
        parse_flags(Settings(), "run", "Runs.", arguments)
    assert "\n" not in str(found.value)


def test_flags_change_a_default():
    assert parse_flags(Settings(), "run", None, ["--rate=2", "--again", "x"]) == Settings("x", 2.0, True)
    check_flags(["--local-steps"], "run", ["--local_steps=3", "--help", "-5"])


def test_a_missing_command_and_a_missing_argument():
    @dataclasses.dataclass(frozen=True)
    class Needs:
        name: tyro.conf.Positional[str]

    with pytest.raises(ValueError, match="unknown command 'card': did you mean 'cards'[?] use cards"):
        parse_command({"cards": Needs}, "run", None, ["card"])
    with pytest.raises(ValueError, match="Missing from run cards: STR name; see run cards --help"):
        parse_command({"cards": Needs, "other": Settings}, "run", None, ["cards"])

"""What a run folder holds: the cells of a sweep and who takes part, as `RUN/sweep.json`."""

import dataclasses
import re
from pathlib import Path

from eval.protocol import EvalProtocol, protocol_from_record
from eval.versioned_json import JsonFormat

FORMAT = JsonFormat("sweep file", 2, "python -m eval suite or axis", indent=1)
PLAN_FILE = "sweep.json"
BASELINES_BEFORE_VERSION_2 = ("sgd", "adam", "local_sgd", "slowmo", "diloco", "diloco_adam", "fedadam")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One comparison of a sweep."""

    name: str
    """Of its folder; letters, digits and _ . + - only."""
    protocol: EvalProtocol
    """What everyone is given in it."""
    value: float | None = None
    """Where it lies on the axis of an axis sweep."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*", self.name):
            raise ValueError(f"cell {self.name!r}: use letters, digits and _ . + - only")


@dataclasses.dataclass(frozen=True)
class SweepPlan:
    """What a run folder holds; every process that shares it must come with the same."""

    kind: str
    """"suite", "axis", or "compare" for a single comparison."""
    name: str
    """Of the suite or the axis."""
    cells: tuple[Cell, ...]
    checkpoints: tuple[tuple[str, str], ...] = ()
    """(name in tables, file or pretrained name) of every learned optimizer."""
    contenders: tuple[str, ...] = ()
    """References of those who take part beside the baselines."""
    tune_multiplier: bool = False
    """Whether a factor on the learned updates is tuned with a baseline's budget."""
    one_setting: str | None = None
    """File of calibrated settings, or "shipped", for a row with one setting per baseline."""
    baselines_from: str | None = None
    """Run folder, or file of settings, whose tuned baselines are used where it has the same cell."""
    baselines: tuple[str, ...] = ("core",)
    """Names and groups of eval.compare.baselines."""
    label: str = ""
    """Of an axis."""
    card_field: str | None = None
    """Where a card states the meta-training value of an axis."""


def reference_name(reference: str) -> str:
    """A name for files and tables: the reference itself where it is one, else its letters and digits."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", reference).strip("_.") or "_"


def write_or_check_plan(plan: SweepPlan, folder: Path) -> None:
    """Writes the plan of a new run folder.

    Raises:
      ValueError: the folder has another.
    """
    path = folder / PLAN_FILE
    if not path.exists():
        FORMAT.write(path, dataclasses.asdict(plan))
        return
    there = load_plan(path)
    for field in dataclasses.fields(SweepPlan):
        old, new = getattr(there, field.name), getattr(plan, field.name)
        if old != new:
            detail = f"{field.name}={new!r}, the folder was made for {old!r}"
            if field.name == "cells":
                detail = "its cells or their protocol differ from what the folder was made for"
            raise ValueError(f"{path}: {detail}; repeat the first command or choose another --run-dir")


def load_plan(path: Path) -> SweepPlan:
    """Reads a plan.

    Raises:
      FileNotFoundError: there is none.
      ValueError: an unreadable one.
    """
    fields = FORMAT.read(path)
    try:
        cells = tuple(Cell(c["name"], protocol_from_record(c["protocol"]), c["value"]) for c in fields.pop("cells"))
        fields["checkpoints"] = tuple((name, checkpoint) for name, checkpoint in fields["checkpoints"])
        fields["contenders"] = tuple(fields["contenders"])
        fields["baselines"] = tuple(fields.get("baselines", BASELINES_BEFORE_VERSION_2))
        return SweepPlan(cells=cells, **fields)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged, its fields do not fit ({error}); run the sweep in a new folder") from None

"""Markdown of what the check found, as the README holds it."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Column(NamedTuple):
    """A field of the rows: its header, and how a value is written; a missing value is a dash."""

    field: str
    header: str
    form: str = "{}"
    scale: float = 1.0


TESTS = (Column("outcome", "tests marked gpu"),)
UPDATES = (
    Column("tree", "parameters"),
    Column("optimizer", "learned optimizer"),
    Column("adamw_ms", "AdamW, ms", "{:.3g}"),
    Column("step_ms", "learned, ms", "{:.3g}"),
    Column("ratio", "ratio", "{:.2f}"),
    Column("temp_bytes_per_param", "temporary bytes per parameter", "{:.3g}"),
)
LAYOUTS = (
    Column("devices", "devices"),
    Column("meta_step_s", "seconds per meta-step", "{:.3g}"),
    Column("bits", "hash after 3 meta-steps"),
)
PRESETS = (
    Column("preset", "preset"),
    Column("meta_steps_per_s", "meta-steps per second", "{:.3g}"),
    Column("first_step_s", "seconds until the first", "{:.0f}"),
    Column("peak_bytes", "peak memory, GB", "{:.2f}", 1e-9),
)


def table(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table, with its last newline; empty without rows."""
    if not rows:
        return ""
    lines = [[column.header for column in columns], ["---"] * len(columns)]
    lines += [[_written(column, row.get(column.field)) for column in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _written(column, value):
    if value is None:
        return "-"
    return column.form.format(value * column.scale if column.scale != 1 else value)

"""One measurement in a process of its own: `python -m meta_train.gpu_check.measure WHAT [NAME]` prints JSON lines."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import jax

from eval.machine.devices import use_all_cores
from meta_train.gpu_check import meta_steps, updates


def machine_row() -> dict[str, Any]:
    """What the figures were measured on."""
    devices = jax.devices()
    return {"platform": devices[0].platform, "device": devices[0].device_kind, "devices": len(devices)} | {
        "jax": jax.__version__,
        "python": sys.version.split()[0],
    }


def rows(what: str, name: str) -> Iterator[dict[str, Any]]:
    """The rows of one measurement, as they are measured."""
    if what == "machine":
        yield machine_row()
    elif what == "updates":
        yield from updates.rows()
    elif what == "layout":
        yield meta_steps.layout_row(name)
    elif what == "preset":
        yield meta_steps.preset_row(name)
    else:
        raise ValueError(f"measurement {what!r}: use machine, updates, layout or preset")


if __name__ == "__main__":
    use_all_cores()
    for row in rows(*(sys.argv[1:] + [""])[:2]):
        print(json.dumps(row), flush=True)

"""One hyper-parameter setting per baseline for every cell, beside the settings that are tuned anew in each.

A learned optimizer is not tuned where it is judged; a baseline with one setting is not either. The setting is chosen on
other tasks: of those that were tried in all cells of a calibration run, the one with the lowest mean over cells of the
log of the inner-validation loss (equal factors count alike, whatever a loss's unit). The budget is that of the tuning.

    python -m eval suite SUITE --run-dir RUN ...
    python -m eval calibrate RUN --out FILE
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.compare.contenders import Contender
from eval.compare.grids import GridAxis, Setting
from eval.protocol import EvalProtocol
from eval.results import ContenderResult, Results
from eval.versioned_json import JsonFormat

FORMAT = JsonFormat("calibration", 1, "python -m eval calibrate", indent=1, holds=("calibrations",))
SHIPPED = Path(__file__).with_name("one_setting.json")
"""Made by the commands that it holds; one calibration for each schedule in it."""


class OneSetting(NamedTuple):
    """A calibrated setting.

    Attributes:
      hparams: the setting.
      num_runs: training runs that the calibration used.
      seconds: that they took.
      edge: hyper-parameters whose value is the lowest or highest that was tried in all cells.
    """

    hparams: Setting
    num_runs: int
    seconds: float
    edge: tuple[str, ...]


def calibrate(cells: Mapping[str, Results]) -> dict[str, OneSetting]:
    """The best common setting of every tuned baseline.

    Args:
      cells: comparisons by name, all under the same protocol but for the task.

    Raises:
      ValueError: no cells, different protocols, a loss that is not positive, or no setting that is finite in all cells.
    """
    if not cells:
        raise ValueError("nothing to calibrate on: name the run folder of a suite with finished cells")
    protocols = {cell: _without_task(results.protocol) for cell, results in cells.items()}
    first = next(iter(protocols))
    for cell, fields in protocols.items():
        for field, value in fields.items():
            if value != protocols[first][field]:
                raise ValueError(f"{cell} has {field}={value}, {first} {protocols[first][field]}: use one protocol")
    everyone = [{c.name: c for c in results.contenders if c.tuning["trials"]} for results in cells.values()]
    names = [name for name in everyone[0] if all(name in found for found in everyone)]
    baselines = [name for name in names if everyone[0][name].kind == "baseline"]
    return {name: _best_common(name, [found[name] for found in everyone]) for name in baselines}


def _best_common(name: str, results: Sequence[ContenderResult]) -> OneSetting:
    tables = [{tuple(t["hparams"].items()): t["loss"] for t in c.tuning["trials"]} for c in results]
    common = [setting for setting in tables[0] if all(setting in table for table in tables)]
    scores = {}
    for setting in common:
        losses = [table[setting] for table in tables]
        if any(loss is not None and loss <= 0 for loss in losses):
            raise ValueError(f"{name}: a loss of the calibration is not positive and has no log: leave its cell out")
        scores[setting] = math.inf if None in losses else float(np.mean(np.log(losses)))
    best = min(scores, key=scores.__getitem__, default=None)
    if best is None or scores[best] == math.inf:
        raise ValueError(f"{name}: no setting was tried, and finite, in all cells")
    tried = {field: sorted({dict(setting)[field] for setting in common}) for field in dict(best)}
    edge = tuple(f for f, v in dict(best).items() if len(tried[f]) > 1 and v in (tried[f][0], tried[f][-1]))
    num_runs = sum(c.tuning["num_runs"] for c in results)
    seconds = sum(c.tuning.get("seconds", 0.0) for c in results)
    return OneSetting(dict(best), num_runs, round(seconds, 1), edge)


def save_calibration(path: str | os.PathLike[str], cells: Mapping[str, Results], command: Sequence[str]) -> None:
    """Adds a calibration to a file, in place of one for the same schedule.

    Raises:
      ValueError: as `calibrate`, or the file holds something else.
    """
    settings = calibrate(cells)
    calibrations = FORMAT.read(path)["calibrations"] if Path(path).exists() else {}
    protocol = next(iter(cells.values())).protocol
    calibrations[protocol.schedule] = {
        "command": " ".join(command),
        "runs": sorted({" ".join(["python -m eval", *r.provenance.get("argv", ())[1:]]) for r in cells.values()}),
        "cells": list(cells),
        "protocol": _without_task(protocol),
        "settings": {name: setting._asdict() for name, setting in settings.items()},
    }
    FORMAT.write(path, {"calibrations": calibrations})


def one_setting_contenders(
    path: str | os.PathLike[str], protocol: EvalProtocol, tuned: Sequence[Contender]
) -> list[Contender]:
    """`NAME_one_setting` for those of the tuned contenders that the file has a setting for.

    They share the programs of the tuned ones.

    Args:
      path: a file of `save_calibration`, or "shipped".
      protocol: its schedule chooses the calibration; none for it, no contenders.
      tuned: the baselines.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an unreadable one.
    """
    path = SHIPPED if path == "shipped" else path
    calibration = FORMAT.read(path)["calibrations"].get(protocol.schedule)
    if calibration is None:
        return []
    found = []
    for contender in tuned:
        setting = calibration["settings"].get(contender.name)
        if setting is not None and set(setting["hparams"]) == set(contender.grid):
            grid = {name: GridAxis((setting["hparams"][name],)) for name in contender.grid}
            details = {"one_setting": {**setting, "cells": calibration["cells"]}}
            found.append(contender._replace(name=f"{contender.name}_one_setting", grid=grid, details=details))
    return found


def _without_task(protocol: EvalProtocol) -> dict[str, Any]:
    return {field: getattr(protocol, field) for field in protocol.__dataclass_fields__ if field != "task"}

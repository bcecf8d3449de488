"""Where else the rows of a run's metrics go, beside metrics.jsonl: TensorBoard, Weights & Biases.

Both are extras. TensorBoard's events are in RUN/tensorboard; those of meta-steps that a resumed run takes again are
hidden. Weights & Biases writes to RUN/wandb and sends nothing unless WANDB_MODE=online says so.
"""

import dataclasses
import hashlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from learned_opt.names import hint
from meta_train.config import MetaTrainConfig
from meta_train.runs.metrics_log import Row


class Tracker(NamedTuple):
    """One place.

    Attributes:
      write: takes a row.
      close: waits until all of them are written.
    """

    write: Callable[[Row], None]
    close: Callable[[], None]


class Extra(NamedTuple):
    """How a tracker is opened, and the package that it needs.

    Attributes:
      package: to import.
      open: (run folder, meta-steps done, settings) -> Tracker.
    """

    package: str
    open: Callable[[Path, int, MetaTrainConfig], Tracker]


def _tensorboard(run_dir: Path, step: int, config: MetaTrainConfig) -> Tracker:
    from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

    del config
    # Its files are named after the second, so two starts within one would share a file.
    writer: Any = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1, filename_suffix=f".{step}")

    def write(row: Row) -> None:
        for name, value in _numbers(row).items():
            writer.add_scalar(name, value, row["step"])

    return Tracker(write, writer.close)


def _wandb(run_dir: Path, step: int, config: MetaTrainConfig) -> Tracker:
    import wandb  # pyright: ignore[reportMissingImports]

    del step
    session: Any = wandb.init(
        dir=str(run_dir),
        name=run_dir.name,
        # One run there for all starts of a run here.
        id=hashlib.sha256(str(run_dir.absolute()).encode()).hexdigest()[:16],
        resume="allow",
        mode=os.environ.get("WANDB_MODE", "offline"),
        config=dataclasses.asdict(config),
    )
    return Tracker(lambda row: session.log(_numbers(row), step=row["step"]), session.finish)


TRACKERS = {"tensorboard": Extra("tensorboardX", _tensorboard), "wandb": Extra("wandb", _wandb)}


def tracker_names(log: str) -> list[str]:
    """The names in a setting such as "tensorboard,wandb".

    Raises:
      ValueError: an unknown name, or one whose package is not installed.
    """
    names = [name.strip() for name in log.split(",") if name.strip()]
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"log={name!r}: {hint(name, TRACKERS)}")
        if importlib.util.find_spec(TRACKERS[name].package) is None:
            raise ValueError(
                f"log={name!r}: {TRACKERS[name].package} is not installed; pip install {TRACKERS[name].package}"
            )
    return names


def open_trackers(names: Sequence[str], run_dir: Path, step: int, config: MetaTrainConfig) -> Tracker:
    """All of them as one.

    Args:
      names: from `tracker_names`.
      run_dir: the run folder.
      step: meta-steps done.
      config: the settings.
    """
    trackers = [TRACKERS[name].open(run_dir, step, config) for name in names]

    def write(row: Row) -> None:
        for tracker in trackers:
            tracker.write(row)

    def close() -> None:
        for tracker in trackers:
            tracker.close()

    return Tracker(write, close)


def _numbers(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "step" and value is not None}

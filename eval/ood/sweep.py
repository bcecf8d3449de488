"""Trains every setting of every contender's grid, and measures the accuracy in and out of distribution of each.

Optimizer selection matters out of distribution where, at one accuracy on the data as they are, one optimizer keeps more
of it on shifted data (Naganuma et al. 2023, TMLR, "Empirical Study on Optimizer Selection for Out-of-Distribution
Generalization"). So it is the whole sweep that is measured, not only its best setting: a line through the runs of an
optimizer, accuracy on shifted test images against accuracy on the test images.

A learned optimizer has nothing to tune; its sweep is that of a factor on its updates (`NAME_tuned`), and so is that of
its anchor beside it (`NAME_tuned_anchor`). Settings are compared by the inner-validation split; on the test split,
shifted or not, nothing is chosen. Runs that learned next to nothing say nothing of a slope, and are left out of it:
those below LEARNED times the accuracy of a guess.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from eval.compare.contenders import Contender
from eval.compare.grids import settings
from eval.compare.initial_states import FINAL, draw_initial_states
from eval.compare.participants import participants
from eval.compare.runner import make_runner
from eval.compare.split_metrics import make_evaluator
from eval.machine.progress import Progress
from eval.ood.shifts import shifted_versions
from eval.protocol import EvalProtocol
from eval.task_families import make_family
from tasks.base import TaskFamily
from tasks.check import check_family

OOD_PROTOCOL = EvalProtocol(
    task="fmnist8_mlp32", num_rounds=300, batch_size=16, num_seeds=3, tuning="coarse", eval_every=300
)
"""Of `python -m eval ood`, changed by its flags."""
CHECKPOINTS = ("lopt_generalist", "lagg_any")
"""Who takes part in it where no checkpoint is named: what was made for any task and any number of workers."""

LEARNED = 2.0
"""Times the accuracy of a guess that a run must have to count in a slope."""


class OodSweep(NamedTuple):
    """The runs of one contender, [settings, seeds] each.

    Attributes:
      name: of the contender.
      settings: of its grid.
      valid_loss: on the inner-validation split; inf where it diverged.
      in_distribution: accuracy on the test split.
      out_of_distribution: shift -> accuracy on the test split under it.
      guess: accuracy of a uniform guess.
    """

    name: str
    settings: tuple[Mapping[str, float], ...]
    valid_loss: Float[np.ndarray, "settings seeds"]
    in_distribution: Float[np.ndarray, "settings seeds"]
    out_of_distribution: Mapping[str, Float[np.ndarray, "settings seeds"]]
    guess: float


class Line(NamedTuple):
    """A least-squares line through (accuracy, mean accuracy under the shifts) of runs.

    Attributes:
      slope: nan where fewer than three runs learned, or all have one accuracy.
      centre: means of both, that the line goes through.
      runs: how many it was drawn through.
    """

    slope: float
    centre: tuple[float, float]
    runs: int

    def at(self, in_distribution: float) -> float:
        """The line's accuracy under the shifts at an accuracy without."""
        return self.centre[1] + self.slope * (in_distribution - self.centre[0])


def line(sweep: OodSweep) -> Line:
    """The line of a sweep, through the runs that learned."""
    x = sweep.in_distribution.reshape(-1)
    y = np.mean([values.reshape(-1) for values in sweep.out_of_distribution.values()], axis=0)
    learned = np.isfinite(sweep.valid_loss.reshape(-1)) & (x >= LEARNED * sweep.guess)
    x, y = x[learned].astype(np.float64), y[learned].astype(np.float64)
    centre = (float(x.mean()), float(y.mean())) if len(x) else (np.nan, np.nan)
    spread = float(np.sum((x - centre[0]) ** 2))
    if len(x) < 3 or spread < 1e-12:
        return Line(np.nan, centre, len(x))
    return Line(float(np.sum((x - centre[0]) * (y - centre[1])) / spread), centre, len(x))


def best_setting(sweep: OodSweep) -> int:
    """The setting with the lowest mean loss on the inner-validation split."""
    return int(np.argmin(sweep.valid_loss.mean(axis=1)))


class Prepared(NamedTuple):
    """What may begin: the family with its data, the shifted test images by name, and who takes part."""

    protocol: EvalProtocol
    family: TaskFamily
    shifted: Mapping[str, np.ndarray]
    contenders: tuple[Contender, ...]


def prepare(
    protocol: EvalProtocol,
    checkpoints: Sequence[str] = (),
    baselines: Sequence[str] = ("sgd", "adam"),
    contenders: Sequence[str | Contender] = (),
    family: TaskFamily | None = None,
) -> Prepared:
    """Everything but the training; arguments as of `eval.compare.compare.prepare`.

    Raises:
      ValueError: a family without images and classes, an unknown name, or nobody to compare.
      FileNotFoundError: no such checkpoint or dataset.
    """
    everyone = participants(
        protocol, checkpoints=checkpoints, baselines=baselines, contenders=contenders, tune_multiplier=True
    )
    if not everyone:
        raise ValueError("nobody takes part: name a checkpoint or baselines, e.g. sgd,adam")
    family = make_family(protocol.task) if family is None else family
    check_family(family)
    test = family.data["test"]
    if "image" not in test or "label" not in test:
        raise ValueError(
            f"task={protocol.task!r} has no images with labels to shift: use one that classifies images, such as "
            "fmnist8_mlp32, fmnist8_cnn or omniglot8_vit"
        )
    return Prepared(protocol, family, shifted_versions(np.asarray(test["image"])), tuple(everyone))


def run(prepared: Prepared, progress: Progress = lambda stage, done, total: None) -> list[OodSweep]:
    """Trains and measures everyone; `progress` is called with (stage, done, total)."""
    protocol, family, shifted, everyone = prepared
    train = {"train": family.data["train"]}
    starts = draw_initial_states(family, protocol, train, FINAL, protocol.num_seeds)
    valid = make_evaluator(family, family.data, "inner_valid")
    test = make_evaluator(family, family.data, "test")
    versions = {
        name: make_evaluator(family, {**train, "test": {**family.data["test"], "image": images}}, "test")
        for name, images in shifted.items()
    }
    guess = 1 / (int(np.max(family.data["train"]["label"])) + 1)
    sweeps = []
    for contender in everyone:
        tried = settings(contender.grid)
        runner = make_runner(family, contender, protocol, train, starts)
        runs = runner.train(tried, starts, _stage(progress, contender.name))
        shape = (len(tried), protocol.num_seeds)

        def measured(evaluator: Any, metric: str, runs: Any = runs, shape: Any = shape) -> np.ndarray:
            return evaluator.metrics(runs.params, starts.task_config)[metric].reshape(shape)

        out = {name: measured(evaluator, "accuracy") for name, evaluator in versions.items()}
        sweeps.append(
            OodSweep(contender.name, tuple(tried), measured(valid, "loss"), measured(test, "accuracy"), out, guess)
        )
    return sweeps


def _stage(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(f"sweep of {name}", done, total)

"""One thing varied at a time: a sweep whose cells are the values of an axis, everyone tuned anew at each.

Training is changed by the axis, measurement is not. Where a card states what an optimizer was meta-trained on, that
part of the axis is shaded in the figure.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from eval.compare.learned import named_checkpoints
from eval.different_data import dirichlet_workers
from eval.protocol import EvalProtocol
from eval.references import made_by
from eval.sweep.plan import Cell, SweepPlan, reference_name
from eval.sweep.suite import SUITE_PROTOCOL
from eval.sweep.sweep import fits
from eval.task_families import make_family
from learned_opt.names import parse
from tasks.augmentation import (
    with_gradient_noise,
    with_label_noise,
    with_reparametrisation,
)
from tasks.base import TaskFamily
from tasks.datasets.load import load_dataset
from tasks.families.images.image_mlp import image_mlp

BASE_WIDTH = 32
"""Units of a hidden layer on the depth axis, and the smallest width of the width axis."""

AXIS_PROTOCOL = dataclasses.replace(SUITE_PROTOCOL, task="fmnist8_mlp32")


class SweepAxis(NamedTuple):
    """One axis.

    Attributes:
      label: of the horizontal axis of the figure.
      values: the default ones; multiples of the protocol's own rounds on the axis num_rounds.
      field: the protocol field that it sets, None if it changes the family.
      card_field: where a card states the meta-training value.
      change: (family of the protocol's task, value, protocol) -> family.
      whole: whether its values are whole numbers of at least 1.
    """

    label: str
    values: tuple[float, ...]
    field: str | None = None
    card_field: str | None = None
    change: Callable[[TaskFamily, float, EvalProtocol], TaskFamily] = lambda family, value, protocol: family
    whole: bool = False


def _mlp(hidden_sizes: Sequence[int], name: str) -> TaskFamily:
    return image_mlp(load_dataset("fashion_mnist", image_size=8, grey=True), tuple(hidden_sizes), name)


POWERS_OF_TWO = tuple(float(2**i) for i in range(7))

AXES: dict[str, SweepAxis] = {
    "num_local_steps": SweepAxis("local steps H", POWERS_OF_TWO, "num_local_steps", "num_local_steps", whole=True),
    "num_workers": SweepAxis("workers K", POWERS_OF_TWO, "num_workers", "num_workers", whole=True),
    "batch_size": SweepAxis("batch size B", (8, 16, 32, 64, 128, 256), "batch_size", "batch_size", whole=True),
    "num_rounds": SweepAxis("communication rounds", (0.5, 1, 2, 5, 10), "num_rounds", "max_unroll_length"),
    "width": SweepAxis(
        "units of the hidden layer",
        (32, 64, 128, 256),
        None,
        None,
        lambda family, value, protocol: _mlp((int(value),), f"fmnist8_mlp{int(value)}"),
        whole=True,
    ),
    "depth": SweepAxis(
        f"hidden layers of {BASE_WIDTH} units",
        (1, 2, 3, 4),
        None,
        None,
        lambda family, value, protocol: _mlp((BASE_WIDTH,) * int(value), f"fmnist8_mlp{BASE_WIDTH}x{int(value)}"),
        whole=True,
    ),
    "dirichlet_alpha": SweepAxis(
        "concentration alpha of the workers' labels",
        (0.1, 0.3, 1, 3, 10, 100),
        None,
        None,
        lambda family, value, protocol: dirichlet_workers(family, value, protocol.num_workers),
    ),
    "label_noise": SweepAxis(
        "share of training labels drawn anew",
        (0, 0.1, 0.2, 0.4),
        None,
        None,
        lambda family, value, protocol: with_label_noise(family, (value, value)),
    ),
    "gradient_noise": SweepAxis(
        "standard deviation of the gradient noise",
        (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        None,
        None,
        lambda family, value, protocol: with_gradient_noise(family, (value, value)),
    ),
    "parameter_scale": SweepAxis(
        "scale of the parametrisation",
        (0.01, 0.1, 1, 10, 100),
        None,
        None,
        lambda family, value, protocol: with_reparametrisation(family, (value, value)),
    ),
}
"""The axes by name. To add one is to add an entry."""


def make_axis(reference: str) -> SweepAxis:
    """The axis of a name of AXES, or what `module:function` returns.

    Raises:
      ValueError: nothing of that name, or it returned something else.
    """
    made = made_by(reference, {name: lambda axis=axis: axis for name, axis in AXES.items()}, "axis")
    if not isinstance(made, SweepAxis):
        raise ValueError(f"axis: {reference!r} returned {type(made).__name__}: return an eval.sweep.axes.SweepAxis")
    return made


def axis_plan(
    name: str,
    protocol: EvalProtocol = AXIS_PROTOCOL,
    checkpoints: Sequence[str | os.PathLike[str]] = (),
    *,
    values: Sequence[float] = (),
    baselines: Sequence[str] = ("core",),
    contenders: Sequence[str] = (),
    tune_multiplier: bool = False,
    one_setting: str | None = None,
    baselines_from: str | None = None,
) -> SweepPlan:
    """The plan of an axis sweep; run it with `run_sweep(plan, run_dir, axis_family(name))`.

    Args:
      name: see `make_axis`.
      protocol: of the cells, where the axis does not say otherwise.
      checkpoints, baselines, contenders, tune_multiplier, one_setting, baselines_from: as for
        `eval.sweep.suite.suite_plan`.
      values: in place of the axis's own, ascending in the figure.

    Raises:
      ValueError: an unknown axis, an unsuitable value, a damaged checkpoint, or one that fits no value.
      FileNotFoundError: no such checkpoint.
    """
    axis = make_axis(name)
    prefix = reference_name(parse(name).target.rpartition(":")[2])
    cells = tuple(_cell(prefix, axis, float(value), protocol) for value in sorted(values or axis.values))
    if len({cell.name for cell in cells}) < len(cells):
        raise ValueError(f"values={tuple(values)}: one comes twice")
    named = named_checkpoints(checkpoints, tune_multiplier)
    plan = SweepPlan(
        kind="axis",
        name=name,
        cells=cells,
        checkpoints=named,
        contenders=tuple(contenders),
        tune_multiplier=tune_multiplier,
        one_setting=one_setting,
        baselines_from=baselines_from,
        baselines=tuple(baselines),
        label=axis.label,
        card_field=axis.card_field,
    )
    for label, path in named:
        if not any(fits(plan, path, cell) for cell in cells):
            raise ValueError(f"{label} ({path}) serves none of the values of the axis {name}: choose other values")
    return plan


def axis_family(name: str) -> Callable[[Cell], TaskFamily]:
    """What makes the family of a cell of this axis."""

    axis = make_axis(name)

    def make(cell: Cell) -> TaskFamily:
        value = 0.0 if cell.value is None else cell.value
        return axis.change(make_family(cell.protocol.task), value, cell.protocol)

    return make


def meta_training_range(card: dict[str, Any], field: str | None) -> tuple[float, float] | None:
    """Lowest and highest value of a field that an optimizer was meta-trained on; None where its card is silent.

    Read from the card itself, its `meta_train_config` and the components of a mixture; a number or a list of them.
    """
    if field is None:
        return None
    config = card.get("meta_train_config")
    config = config if isinstance(config, dict) else {}
    components = config.get("components") or card.get("components") or ()
    if isinstance(components, dict):
        components = components.values()
    sources = [c for c in components if isinstance(c, dict) and field in c] or [
        source for source in (card, config) if field in source
    ][:1]
    numbers: list[float] = []
    for source in sources:
        value = source[field]
        several = value if isinstance(value, list | tuple) else [value]
        numbers += [float(x) for x in several if isinstance(x, int | float) and not isinstance(x, bool)]
    return (min(numbers), max(numbers)) if numbers else None


def _cell(prefix: str, axis: SweepAxis, value: float, protocol: EvalProtocol) -> Cell:
    if axis.whole and (value != int(value) or value < 1):
        raise ValueError(f"{prefix}={value:g}: use whole numbers of at least 1")
    if axis.field == "num_rounds":
        # As many points on every curve, so that longer ones are not read more often.
        eval_every = max(1, round(protocol.eval_every * value))
        rounds = max(1, round(protocol.num_rounds * value / eval_every)) * eval_every
        changed = dataclasses.replace(protocol, num_rounds=rounds, eval_every=eval_every)
        return Cell(f"{prefix}_{rounds}", changed, float(rounds))
    if axis.field is not None:
        protocol = dataclasses.replace(protocol, **{axis.field: int(value)})
    return Cell(f"{prefix}_{value:g}", protocol, value)

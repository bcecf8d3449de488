"""One thing varied at a time: a sweep whose cells are the values of an axis, everyone tuned anew at each.

Training is changed by the axis, measurement is not. Where a card states what an optimizer was meta-trained on, that
part of the axis is shaded in the figure.
"""

import dataclasses
import difflib
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from eval.protocol import EvalProtocol
from eval.sweep.suite import SUITE_PROTOCOL, named_checkpoints
from eval.sweep.sweep import Cell, Plan, fits
from tasks.augmentation import (
    with_dirichlet_workers,
    with_gradient_noise,
    with_label_noise,
    with_reparametrisation,
)
from tasks.base import TaskFamily
from tasks.datasets.load import load_dataset
from tasks.families.images.image_mlp import image_mlp
from tasks.suites import FAMILIES, make_family

BASE_WIDTH = 32
"""Units of a hidden layer on the depth axis, and the smallest width of the width axis."""

AXIS_PROTOCOL = dataclasses.replace(SUITE_PROTOCOL, task="fmnist8_mlp32")


class Axis(NamedTuple):
    """One axis.

    Attributes:
      label: of the horizontal axis of the figure.
      values: the default ones; multiples of the protocol's own rounds on the axis num_rounds.
      field: the protocol field that it sets, None if it changes the family.
      card_field: where a card states the meta-training value.
      change: (family of the protocol's task, value, protocol) -> family.
    """

    label: str
    values: tuple[float, ...]
    field: str | None
    card_field: str | None
    change: Callable[[TaskFamily, float, EvalProtocol], TaskFamily] = lambda family, value, protocol: family


def _mlp(hidden_sizes: Sequence[int], name: str) -> TaskFamily:
    return image_mlp(load_dataset("fashion_mnist", image_size=8, grey=True), tuple(hidden_sizes), name)


POWERS_OF_TWO = tuple(float(2**i) for i in range(7))

AXES: dict[str, Axis] = {
    "num_local_steps": Axis("local steps H", POWERS_OF_TWO, "num_local_steps", "num_local_steps"),
    "num_workers": Axis("workers K", POWERS_OF_TWO, "num_workers", "num_workers"),
    "batch_size": Axis("batch size B", (8, 16, 32, 64, 128, 256), "batch_size", "batch_size"),
    "num_rounds": Axis("communication rounds", (0.5, 1, 2, 5, 10), "num_rounds", "max_unroll_length"),
    "width": Axis(
        "units of the hidden layer",
        (32, 64, 128, 256),
        None,
        None,
        lambda family, value, protocol: _mlp((int(value),), f"fmnist8_mlp{int(value)}"),
    ),
    "depth": Axis(
        f"hidden layers of {BASE_WIDTH} units",
        (1, 2, 3, 4),
        None,
        None,
        lambda family, value, protocol: _mlp((BASE_WIDTH,) * int(value), f"fmnist8_mlp{BASE_WIDTH}x{int(value)}"),
    ),
    "dirichlet_alpha": Axis(
        "concentration alpha of the workers' labels",
        (0.1, 0.3, 1, 3, 10, 100),
        None,
        None,
        lambda family, value, protocol: with_dirichlet_workers(family, value, protocol.num_workers),
    ),
    "label_noise": Axis(
        "share of training labels drawn anew",
        (0, 0.1, 0.2, 0.4),
        None,
        None,
        lambda family, value, protocol: with_label_noise(family, (value, value)),
    ),
    "gradient_noise": Axis(
        "standard deviation of the gradient noise",
        (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        None,
        None,
        lambda family, value, protocol: with_gradient_noise(family, (value, value)),
    ),
    "parameter_scale": Axis(
        "scale of the parametrisation",
        (0.01, 0.1, 1, 10, 100),
        None,
        None,
        lambda family, value, protocol: with_reparametrisation(family, (value, value)),
    ),
}
"""The axes by name. To add one is to add an entry."""

WHOLE_NUMBERS = ("num_local_steps", "num_workers", "batch_size", "width", "depth")


def axis_plan(
    name: str,
    protocol: EvalProtocol = AXIS_PROTOCOL,
    checkpoints: Sequence[str | os.PathLike[str]] = (),
    *,
    values: Sequence[float] = (),
    contenders: Sequence[str] = (),
    tune_multiplier: bool = False,
    baselines_from: str | None = None,
) -> Plan:
    """The plan of an axis sweep; run it with `run_sweep(plan, run_dir, axis_family(name))`.

    Args:
      name: of AXES.
      protocol: of the cells, where the axis does not say otherwise.
      checkpoints, contenders, tune_multiplier, baselines_from: as for `eval.sweep.suite.suite_plan`.
      values: in place of the axis's own, ascending in the figure.

    Raises:
      ValueError: an unknown axis or task, an unsuitable value, a damaged checkpoint, or one that fits no value.
      FileNotFoundError: no such checkpoint.
    """
    if name not in AXES:
        raise ValueError(f"unknown axis {name!r}: use one of {', '.join(AXES)}")
    if protocol.task not in FAMILIES:
        near = difflib.get_close_matches(protocol.task, FAMILIES) or sorted(FAMILIES)
        raise ValueError(f"unknown task family {protocol.task!r}: did you mean {' or '.join(near)}?")
    cells = tuple(_cell(name, float(value), protocol) for value in sorted(values or AXES[name].values))
    if len({cell.name for cell in cells}) < len(cells):
        raise ValueError(f"values={tuple(values)}: one comes twice")
    named = named_checkpoints(checkpoints, tune_multiplier)
    plan = Plan("axis", name, cells, named, tuple(contenders), tune_multiplier, baselines_from)
    for label, path in named:
        if not any(fits(plan, path, cell) for cell in cells):
            raise ValueError(f"{label} ({path}) serves none of the values of the axis {name}: choose other values")
    return plan


def axis_family(name: str) -> Callable[[Cell], TaskFamily]:
    """What makes the family of a cell of this axis."""

    def make(cell: Cell) -> TaskFamily:
        value = 0.0 if cell.value is None else cell.value
        return AXES[name].change(make_family(cell.protocol.task), value, cell.protocol)

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


def _cell(name: str, value: float, protocol: EvalProtocol) -> Cell:
    field = AXES[name].field
    if name in WHOLE_NUMBERS and (value != int(value) or value < 1):
        raise ValueError(f"{name}={value:g}: use whole numbers of at least 1")
    if name == "num_rounds":
        # As many points on every curve, so that longer ones are not read more often.
        eval_every = max(1, round(protocol.eval_every * value))
        rounds = max(1, round(protocol.num_rounds * value / eval_every)) * eval_every
        return Cell(
            f"num_rounds_{rounds}",
            dataclasses.replace(protocol, num_rounds=rounds, eval_every=eval_every),
            float(rounds),
        )
    if field is not None:
        protocol = dataclasses.replace(protocol, **{field: int(value)})
    return Cell(f"{name}_{value:g}", protocol, value)

"""The table of all hand-designed optimizers, by name: what workers run, and `eval` compares as `dp_NAME`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import optax

from learned_opt.optimizers.adam_b1_0 import adam_b1_0
from learned_opt.optimizers.adamp import adamp
from learned_opt.optimizers.asgd import asgd
from learned_opt.optimizers.diffgrad import diffgrad
from learned_opt.optimizers.nero import nero
from learned_opt.optimizers.normalized_logistic import normalized_logistic
from learned_opt.optimizers.normalized_sgd import normalized_sgd
from learned_opt.optimizers.perp_grad import perp_adam
from learned_opt.optimizers.relative_adam import relative_adam
from learned_opt.optimizers.relative_rmsprop import relative_rmsprop
from learned_opt.optimizers.sam import sam
from learned_opt.optimizers.schedule_free_adamw import schedule_free_adamw
from learned_opt.optimizers.sgdp import sgdp
from learned_opt.optimizers.smoothness_adaptive import sa_sam, sa_sgd


class OptimizerEntry(NamedTuple):
    """A row of the table.

    Attributes:
      make: (learning_rate, ...) -> transform of gradients.
      paper: where it is from.
      use: what it is for, in one line.
      gradients: computed by a step; beyond the first by `grad_fn`.
    """

    make: Callable[..., optax.GradientTransformation]
    paper: str
    use: str
    gradients: int = 1


OPTIMIZERS: dict[str, OptimizerEntry] = {
    "sgd": OptimizerEntry(optax.sgd, "", "the plain step; momentum=0.9, nesterov=True"),
    "adam": OptimizerEntry(optax.adam, "Kingma 2015, 1412.6980", "the usual choice where scales differ"),
    "adamw": OptimizerEntry(optax.adamw, "Loshchilov 2019, 1711.05101", "Adam with decoupled weight decay"),
    "adam_b1_0": OptimizerEntry(adam_b1_0, "", "Adam without momentum, under a server that has one; not optax.rmsprop"),
    "relative_adam": OptimizerEntry(relative_adam, "", "relative_rmsprop with Adam's momentum"),
    "relative_rmsprop": OptimizerEntry(
        relative_rmsprop, "Shazeer 2018, 1804.04235", "adam_b1_0 relative to each tensor"
    ),
    "normalized_sgd": OptimizerEntry(normalized_sgd, "You 2017, 1708.03888", "a share of each tensor, no state"),
    "nadamw": OptimizerEntry(optax.nadamw, "Dozat 2016", "AdamW that looks ahead"),
    "radam": OptimizerEntry(optax.radam, "Liu 2020, 1908.03265", "Adam that needs no warm-up"),
    "adabelief": OptimizerEntry(optax.adabelief, "Zhuang 2020, 2010.07468", "Adam by the variance about the momentum"),
    "diffgrad": OptimizerEntry(diffgrad, "Dubey 2020, 1909.11015", "Adam, slower where the gradient stays as it is"),
    "adopt": OptimizerEntry(optax.contrib.adopt, "Taniguchi 2024, 2411.02853", "Adam that converges for every b2"),
    "ademamix": OptimizerEntry(
        optax.contrib.ademamix, "Pagliardini 2024, 2409.03137", "Adam with a second, slow momentum"
    ),
    "optimistic_adam": OptimizerEntry(
        optax.optimistic_adam_v2, "Daskalakis 2018, 1711.00141", "games; predicted gradients"
    ),
    "optimistic_sgd": OptimizerEntry(
        optax.optimistic_gradient_descent,
        "Rakhlin 2013; Jiang 2023, 2302.04552",
        "optimistic mirror descent, Euclidean",
    ),
    "adafactor": OptimizerEntry(optax.adafactor, "Shazeer 2018, 1804.04235", "rows and columns for the second moment"),
    "lion": OptimizerEntry(optax.lion, "Chen 2023, 2302.06675", "the sign of a momentum; a tenth of Adam's rate"),
    "muon": OptimizerEntry(optax.contrib.muon, "Jordan 2024", "orthogonal steps of matrices, Adam for the rest"),
    "nero": OptimizerEntry(nero, "Liu 2021, 2102.07227", "hardly to be tuned: turns each neuron by a fixed angle"),
    "adamp": OptimizerEntry(adamp, "Heo 2021, 2006.08217", "Adam for normalised networks: weights that do not grow"),
    "sgdp": OptimizerEntry(sgdp, "Heo 2021, 2006.08217", "SGD for normalised networks: weights that do not grow"),
    "perp_adam": OptimizerEntry(perp_adam, "Prieto 2025, 2501.04697", "groks without weight decay: no longer weights"),
    "sam": OptimizerEntry(sam, "Foret 2021, 2010.01412", "flat minima: the gradient uphill of here", 2),
    "sa_sgd": OptimizerEntry(sa_sgd, "Malitsky 2020, 1910.09529", "a rate that follows the curvature", 2),
    "sa_sam": OptimizerEntry(sa_sam, "Naganuma 2024", "SAM with that rate, and its root as the radius", 3),
    "schedule_free_adamw": OptimizerEntry(
        schedule_free_adamw, "Defazio 2024, 2405.15682", "an average in the place of a schedule; evaluates the average"
    ),
    "asgd": OptimizerEntry(asgd, "Liu 2021, 2101.09048", "SGD whose average is evaluated, counted weight by weight"),
    "prodigy": OptimizerEntry(optax.contrib.prodigy, "Mishchenko 2023, 2306.06101", "finds its rate; learning_rate=1"),
    "normalized_logistic": OptimizerEntry(
        normalized_logistic, "Tyurin 2024, 2412.08424", "separable classes: steps that do not vanish with the loss"
    ),
}
"""Name -> how to make it, in the order of lists."""


def optimizers_text() -> str:
    """The table as text, an optimizer a line: name, module, gradients a step, paper, use."""
    heading = ("name", "of", "gradients", "paper", "use")
    rows = [
        (name, "optax" if _is_optax(entry) else "here", str(entry.gradients), entry.paper, entry.use)
        for name, entry in OPTIMIZERS.items()
    ]
    widths = [max(len(row[column]) for row in (heading, *rows)) for column in range(4)]
    lines = [
        "learned_opt.make_local_optimizer('NAME,learning_rate=0.01'); --local-optimizer NAME,learning_rate=0.01",
        "",
    ]
    for row in (heading, *rows):
        lines.append("  ".join([text.ljust(width) for text, width in zip(row, widths, strict=False)] + [row[4]]))
    return "\n".join(lines)


def _is_optax(entry: OptimizerEntry) -> bool:
    module = getattr(entry.make, "func", entry.make).__module__
    return module.startswith("optax")

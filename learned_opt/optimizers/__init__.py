"""Local optimizers by name: what takes the H steps on a worker between two communication rounds.

    sgd               y <- y - lr g                                         optax.sgd (momentum, nesterov)
    adam              y <- y - lr m / (sqrt(v) + eps), bias-corrected       optax.adam (b1, b2, eps)
    adamw             the same, and y <- y - lr weight_decay y              optax.adamw (the same, weight_decay)
    adam_b1_0         y <- y - lr g / (sqrt(v) + eps), bias-corrected       Adam without momentum; not optax.rmsprop
    relative_rmsprop  y <- y - lr max(rms(y), 0.03) g / (sqrt(v) + eps)     adam_b1_0 relative to each tensor
    relative_adam     the same with Adam's momentum m in the place of g
    normalized_sgd    y <- y - lr max(rms(y), 1e-3) g / rms(g)              a share of each tensor, no state

and the others of table.py, which `python -m learned_opt optimizers` lists with their papers. All of them take a
learning rate that is a number, a traced scalar or an optax schedule over local steps. Their state stays on its worker
between rounds, and a schedule's count with it. Any other optax transform serves as well: these are the ones that a
checkpoint can name. Target-based surrogates (Lavington et al. 2023, arXiv 2302.02607) are not among them: their steps
need the gradient by the model's outputs, and a local optimizer sees parameters alone; they go around an algorithm, see
`learned_opt.algorithms.target_surrogate`.
"""

from __future__ import annotations

from collections.abc import Callable

import optax

from learned_opt.argument_checks import check_transform
from learned_opt.names import check_arguments, parse, resolve
from learned_opt.optimizers.adam_b1_0 import adam_b1_0 as adam_b1_0
from learned_opt.optimizers.learning_rate import LearningRate, check_learning_rate
from learned_opt.optimizers.normalized_sgd import normalized_sgd as normalized_sgd
from learned_opt.optimizers.relative_adam import relative_adam as relative_adam
from learned_opt.optimizers.relative_rmsprop import relative_rmsprop as relative_rmsprop
from learned_opt.optimizers.table import OPTIMIZERS

LOCAL_OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    name: entry.make for name, entry in OPTIMIZERS.items()
}
"""Name -> function(learning_rate, ...) -> transform."""


def make_local_optimizer(reference: str, learning_rate: LearningRate | None = None) -> optax.GradientTransformation:
    """The local optimizer that a reference names.

    Args:
      reference: a name of `LOCAL_OPTIMIZERS`, `module:function` or `file.py:function`, with or without arguments:
        "adam,learning_rate=0.01,b1=0.8".
      learning_rate: in place of the reference's, or where it has none: a number, a traced scalar or a schedule over
        local steps.

    Raises:
      ValueError: an unknown name, an argument the function does not take, no learning rate, or one that is none.
    """
    check_not_ambiguous(reference)
    make = resolve(reference, LOCAL_OPTIMIZERS, "local optimizer")
    rate = getattr(make, "keywords", {}).get("learning_rate") if learning_rate is None else learning_rate
    if rate is not None:
        check_learning_rate(rate, f"local optimizer {reference!r}: learning_rate")
    elif reference.split(",")[0].strip() in LOCAL_OPTIMIZERS:
        raise ValueError(f"local optimizer {reference!r} has no learning rate: use '{reference},learning_rate=0.01'")
    if learning_rate is not None:
        check_arguments(make, ["learning_rate"], f"local optimizer {reference!r}")
    try:
        made = make() if learning_rate is None else make(learning_rate=learning_rate)
    except TypeError as error:
        raise ValueError(f"local optimizer {reference!r}: {error}") from error
    check_transform(made, f"local optimizer {reference!r}")
    return made


def check_not_ambiguous(reference: str) -> None:
    """ValueError for "rmsprop", which earlier versions called what is not `optax.rmsprop`."""
    if parse(reference).target == "rmsprop":
        raise ValueError(
            f"local optimizer {reference!r}: use adam_b1_0 for Adam without momentum, once called so here, or "
            "optax:rmsprop for RMSProp"
        )

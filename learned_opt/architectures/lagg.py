"""LOpt-A and LAgg-A: learned server optimizers for local SGD (Joseph et al. 2025, arXiv 2312.02204).

Both average pseudo-gradients in their accumulators. LOpt-A's MLP reads the mean over workers, so it serves any number
of them; LAgg-A's reads the K workers' updates as K inputs, so it is tied to K and to their order. The MLP is fed the
published sign (after - before, minus the pseudo-gradient): published weights work unchanged.

`nominal` anchors the update on a hand-made step (see `per_parameter`): "none" is the published form, "average" adds the
workers' average (Local SGD), "momentum" that average with Nesterov momentum (DiLoCo, Douillard et al. 2023, arXiv
2311.08105).
"""

from __future__ import annotations

import jax
import optax

from learned_opt.architectures.adafac_mlp_lopt import check_nominal, check_sizes, init_theta
from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.transform import per_parameter_transform

NOMINALS = ("none", "average", "momentum")
_PUBLISHED_STEP_MULT = 1e-3
_NOMINAL_STEP_MULT = 3.0


def lopt_a(
    hidden_size: int = 32,
    hidden_layers: int = 2,
    exp_mult: float = 1e-3,
    step_mult: float | jax.Array | None = None,
    nominal: str = "none",
    nominal_learning_rate: float = 0.7,
    nominal_momentum: float = 0.9,
) -> LearnedOptimizer:
    """LOpt-A: reads the mean pseudo-gradient, for any number of workers.

    Args:
      hidden_size: units per hidden layer.
      hidden_layers: hidden layers of the MLP.
      exp_mult: multiplies the log magnitude m.
      step_mult: multiplies the learned step; 1e-3 in the published form, 3 (times the root mean square of the
        pseudo-gradient) with a nominal step.
      nominal: "none", "average" or "momentum".
      nominal_learning_rate: server learning rate of "momentum".
      nominal_momentum: Nesterov momentum of "momentum".

    Raises:
      ValueError: for an unknown nominal step or an empty MLP.
    """
    return _server_optimizer(
        "lopt_a",
        None,
        hidden_size=hidden_size,
        hidden_layers=hidden_layers,
        exp_mult=exp_mult,
        step_mult=step_mult,
        nominal=nominal,
        nominal_learning_rate=nominal_learning_rate,
        nominal_momentum=nominal_momentum,
    )


def lagg_a(
    num_workers: int = 8,
    hidden_size: int = 32,
    hidden_layers: int = 2,
    exp_mult: float = 1e-3,
    step_mult: float | jax.Array | None = None,
    nominal: str = "none",
    nominal_learning_rate: float = 0.7,
    nominal_momentum: float = 0.9,
) -> LearnedOptimizer:
    """LAgg-A: reads the K worker updates; its transform needs `worker_updates` with a leading [K] axis.

    Args: as `lopt_a`, and
      num_workers: K.

    Raises:
      ValueError: for an unknown nominal step, an empty MLP or num_workers < 1; by the transform's update without
        `worker_updates` or with another K.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers={num_workers}: use at least 1 worker")
    return _server_optimizer(
        "lagg_a",
        num_workers,
        hidden_size=hidden_size,
        hidden_layers=hidden_layers,
        exp_mult=exp_mult,
        step_mult=step_mult,
        nominal=nominal,
        nominal_learning_rate=nominal_learning_rate,
        nominal_momentum=nominal_momentum,
    )


def _server_optimizer(
    architecture,
    num_workers,
    *,
    hidden_size,
    hidden_layers,
    exp_mult,
    step_mult,
    nominal,
    nominal_learning_rate,
    nominal_momentum,
):
    check_sizes(hidden_size, hidden_layers)
    check_nominal(nominal, NOMINALS)
    if step_mult is None:
        step_mult = _PUBLISHED_STEP_MULT if nominal == "none" else _NOMINAL_STEP_MULT
    config = {
        "architecture": architecture,
        "hidden_size": hidden_size,
        "hidden_layers": hidden_layers,
        "exp_mult": exp_mult,
        "step_mult": step_mult,
        "nominal": nominal,
        "nominal_learning_rate": nominal_learning_rate,
        "nominal_momentum": nominal_momentum,
    }
    if num_workers is not None:
        config["num_workers"] = num_workers
    nominal_step = {
        "none": None,
        "average": optax.sgd(1.0),
        "momentum": optax.sgd(nominal_learning_rate, nominal_momentum, nesterov=True),
    }[nominal]
    num_deltas = 1 if num_workers is None else num_workers
    return LearnedOptimizer(
        init=lambda key: init_theta(key, num_deltas, hidden_size, hidden_layers, zero_output=nominal != "none"),
        transform=lambda theta, num_steps=None: per_parameter_transform(
            theta,
            num_workers=num_workers,
            exp_mult=exp_mult,
            step_mult=step_mult,
            sign=-1.0,
            nominal=nominal_step,
        ),
        config=config,
        reads="mean" if num_workers is None else "workers",
        num_workers=num_workers,
    )

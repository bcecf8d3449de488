"""LOpt-A: a learned server optimizer for local SGD, for any number of workers (Joseph et al. 2025, arXiv 2312.02204).

A per-parameter MLP reads the mean pseudo-gradient and accumulators of it (`per_parameter.transform`). It is fed the
published sign (after - before, minus the pseudo-gradient): published weights work unchanged. `nominal` anchors it on a
hand-made server step, see `server_anchor`.
"""

from __future__ import annotations

import jax

from learned_opt.architectures.server_anchor import NOMINALS, server_anchor
from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.output_rule import check_nominal, default_step_mult, exponential_step
from learned_opt.per_parameter.theta import check_sizes, init_theta
from learned_opt.per_parameter.transform import Given, Inputs, per_parameter_transform


def lopt_a(
    hidden_size: int = 32,
    hidden_layers: int = 2,
    exp_mult: float = 1e-3,
    step_mult: float | jax.Array | None = None,
    nominal: str = "none",
    nominal_learning_rate: float = 0.7,
    nominal_momentum: float = 0.9,
) -> LearnedOptimizer:
    """LOpt-A.

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
    check_sizes(hidden_size, hidden_layers)
    check_nominal(nominal, NOMINALS)
    step_mult = default_step_mult(nominal) if step_mult is None else step_mult
    step = exponential_step(step_mult, exp_mult)
    return LearnedOptimizer(
        init=lambda key: init_theta(key, 1, hidden_size, hidden_layers, zero_output=nominal != "none"),
        transform=lambda theta, num_steps=None: per_parameter_transform(
            theta,
            inputs=_mean,
            step=step,
            nominal=server_anchor(nominal, nominal_learning_rate, nominal_momentum),
        ),
        config={
            "architecture": "lopt_a",
            "hidden_size": hidden_size,
            "hidden_layers": hidden_layers,
            "exp_mult": exp_mult,
            "step_mult": step_mult,
            "nominal": nominal,
            "nominal_learning_rate": nominal_learning_rate,
            "nominal_momentum": nominal_momentum,
        },
        reads="mean",
    )


def _mean(given: Given) -> Inputs:
    return Inputs(averaged=-given.updates, deltas=[-given.updates])

"""LAgg-A: a learned server optimizer that reads every worker's update (Joseph et al. 2025, arXiv 2312.02204).

As LOpt-A, with the K workers' pseudo-gradients in place of their mean as the MLP's first K inputs; accumulators still
average the mean. It is therefore tied to K and to the workers' order.
"""

from __future__ import annotations

import jax

from learned_opt.architectures.server_anchor import NOMINALS, server_anchor
from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.output_rule import check_nominal, default_step_mult, exponential_step
from learned_opt.per_parameter.theta import check_sizes, init_theta
from learned_opt.per_parameter.transform import Given, Inputs, per_parameter_transform


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
    """LAgg-A; its transform needs `worker_updates` with a leading [K] axis.

    Args: as `lopt_a`, and
      num_workers: K.

    Raises:
      ValueError: for an unknown nominal step, an empty MLP or num_workers < 1; by the transform's update without
        `worker_updates` or with another K.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers={num_workers}: use at least 1 worker")
    check_sizes(hidden_size, hidden_layers)
    check_nominal(nominal, NOMINALS)
    step_mult = default_step_mult(nominal) if step_mult is None else step_mult
    step = exponential_step(step_mult, exp_mult)

    def workers(given: Given) -> Inputs:
        worker_updates = given.extra.get("worker_updates")
        if worker_updates is None:
            raise ValueError(
                f"worker_updates is None: lagg_a(num_workers={num_workers}) reads every worker's pseudo-gradient; pass "
                "update(..., worker_updates=tree with a leading [workers] axis), or use lopt_a"
            )
        return Inputs(averaged=-given.updates, deltas=list(-given.leading(worker_updates, num_workers)))

    return LearnedOptimizer(
        init=lambda key: init_theta(key, num_workers, hidden_size, hidden_layers, zero_output=nominal != "none"),
        transform=lambda theta, num_steps=None: per_parameter_transform(
            theta,
            inputs=workers,
            step=step,
            nominal=server_anchor(nominal, nominal_learning_rate, nominal_momentum),
        ),
        config={
            "architecture": "lagg_a",
            "hidden_size": hidden_size,
            "hidden_layers": hidden_layers,
            "exp_mult": exp_mult,
            "step_mult": step_mult,
            "nominal": nominal,
            "nominal_learning_rate": nominal_learning_rate,
            "nominal_momentum": nominal_momentum,
            "num_workers": num_workers,
        },
        reads="workers",
        num_workers=num_workers,
    )

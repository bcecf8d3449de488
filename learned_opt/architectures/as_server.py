"""A single-machine learned optimizer as the server of local SGD: the mean pseudo-gradient takes the gradient's place.

    x <- x + update(mean_k (x - y_k)),     one update a round

(Reddi et al. 2021, arXiv 2003.00295). `value` is then the mean loss of the round, and `num_steps` counts rounds.
Published rules divide what they read by its size, so most of them do not mind that a pseudo-gradient is H learning
rates times smaller than a gradient; their own learning rate (`step_mult`, `learning_rate`) is that of the server.
"""

from __future__ import annotations

from typing import Any

from learned_opt.architectures.base_optimizer import base_optimizer
from learned_opt.base import LearnedOptimizer


def as_server(base: LearnedOptimizer | dict[str, Any]) -> LearnedOptimizer:
    """The same optimizer with `reads="mean"`; theta is the base's.

    Args:
      base: reads gradients; from a checkpoint, its config.

    Raises:
      ValueError: the base reads pseudo-gradients already, or no optimizer is given.
    """
    lopt = base_optimizer(base)
    if lopt.reads != "gradient":
        raise ValueError(f"base reads {lopt.reads!r}: {lopt.config['architecture']} is a server optimizer already")
    return lopt._replace(config={"architecture": "as_server", "base": lopt.config}, reads="mean")

"""A single-machine learned optimizer as the server of local SGD: the mean pseudo-gradient takes the gradient's place.

    x <- x + update(mean_k (x - y_k)),     one update a round

(Reddi et al. 2021, arXiv 2003.00295). `value` is then the mean loss of the round, and `num_steps` counts rounds.
Published rules divide what they read by its size, so most of them do not mind that a pseudo-gradient is H learning
rates times smaller than a gradient; their own learning rate (`step_mult`, `learning_rate`) is that of the server.
"""

from __future__ import annotations

from learned_opt.base import LearnedOptimizer


def as_server(base: LearnedOptimizer) -> LearnedOptimizer:
    """The same optimizer with `reads="mean"`; theta is the base's.

    Args:
      base: reads gradients.

    Raises:
      ValueError: the base reads pseudo-gradients already.
    """
    if base.reads != "gradient":
        raise ValueError(f"base reads {base.reads!r}: {base.config['architecture']} is a server optimizer already")
    return base._replace(config={"architecture": "as_server", "base": base.config}, reads="mean")

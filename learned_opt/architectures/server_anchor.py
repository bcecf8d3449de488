"""The hand-made server step that LOpt-A and LAgg-A can be anchored on, by name.

"none" is the published form, "average" takes the workers' average (Local SGD's server), "momentum" is DiLoCo's. The
learned step is then a correction to it, zero before meta-training (nominal terms: Harrison et al. 2022, arXiv
2209.11208).
"""

from __future__ import annotations

import optax

from learned_opt.algorithms.server import diloco, fedavg

NOMINALS = ("none", "average", "momentum")


def server_anchor(nominal: str, learning_rate: float, momentum: float) -> optax.GradientTransformation | None:
    """The server optimizer of a name of `NOMINALS`; None for "none".

    Args:
      nominal: its name.
      learning_rate: server learning rate of "momentum".
      momentum: Nesterov momentum of "momentum".
    """
    return {"none": None, "average": fedavg(), "momentum": diloco(learning_rate, momentum)}[nominal]

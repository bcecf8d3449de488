"""DiLoCo as it is run (Douillard et al. 2023, arXiv 2311.08105): AdamW on the workers, under a schedule.

    y_k <- x;  H times: y_k <- AdamW(y_k, grad, learning rate of the schedule);
    m <- b m + mean_k(x - y_k);   x <- x - a (b m + mean_k(x - y_k))

The local schedule counts local steps and goes on over rounds, as AdamW's moments do: neither is reset at a
communication. Rankings of optimizers flip while the learning rate decays (Wen et al. 2025, arXiv 2509.02046), so
compare at the end of it. Defaults: the workers' are those of OpenDiLoCo (Jaghouar et al. 2024, arXiv 2407.07852).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import optax

from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.server import diloco
from learned_opt.argument_checks import check_number
from learned_opt.base import LocalAlgorithm

if TYPE_CHECKING:
    from jaxtyping import Array


def diloco_adamw(
    num_steps: int,
    learning_rate: float | Array = 4e-4,
    *,
    warmup_steps: int = 1000,
    final_fraction: float = 0.1,
    b1: float | Array = 0.9,
    b2: float | Array = 0.95,
    weight_decay: float | Array = 0.1,
    server_learning_rate: float | Array = 0.7,
    server_momentum: float | Array = 0.9,
) -> LocalAlgorithm:
    """DiLoCo with AdamW, warm-up and cosine decay.

    Args:
      num_steps: length of the training, in local steps (rounds * H).
      learning_rate: of AdamW, at its peak.
      warmup_steps: local steps over which it rises from 0.
      final_fraction: of the peak, at the end of the training.
      b1: AdamW's decay of the mean.
      b2: AdamW's decay of the second moment.
      weight_decay: times the learning rate, of all parameters.
      server_learning_rate: a; 0.3 to 0.9 are in use, more for more workers.
      server_momentum: b.

    Raises:
      ValueError: a warm-up that does not end before the training, or a schedule in the place of the peak.
    """
    check_number(learning_rate, "learning_rate")
    if not 0 <= warmup_steps < num_steps:
        raise ValueError(f"warmup_steps={warmup_steps}: use 0 to num_steps - 1 = {num_steps - 1} local steps")
    # Of peak 1, so that the learning rate itself may be traced.
    shape = optax.warmup_cosine_decay_schedule(
        0.0 if warmup_steps else 1.0, 1.0, warmup_steps, num_steps, final_fraction
    )
    local_opt = optax.adamw(lambda step: learning_rate * shape(step), b1=b1, b2=b2, weight_decay=weight_decay)
    return local_sgd(local_opt, diloco(server_learning_rate, server_momentum))

"""A schedule from the gradient norms of a finished run (Defazio et al. 2023, arXiv 2310.07831).

    G = median filter of |g_1| .. |g_T|;   w_t = G_t^-power;   s_t = w_t sum_{p > t} w_p,   over its largest

The last iterate of a run under s is as good as the best average of one without: warm-up and a fall to zero come out
where gradients are large at first, and exactly the linear decay where they keep their norm. The next run of the same
training, at the same or a new peak rate, takes it. power = 2 is for SGD with the L2 norm of the gradient, 1 for Adam
with its L1 norm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import optax

if TYPE_CHECKING:
    from jaxtyping import Float

WIDTH = 0.1
"""Share of a run that the median filter spans."""


def refined_factors(gradient_norms: Any, power: float = 2.0, width: int | None = None) -> Float[np.ndarray, "steps"]:
    """Factors on the learning rate, 0 to 1, of every step of the next run; the last one is 0.

    Args:
      gradient_norms: of the steps of the run, in order, [T].
      power: 2 for SGD, 1 for Adam.
      width: steps that the median filter spans, an odd number; None: about a tenth of the run. Beyond either end the
        norms are mirrored.

    Raises:
      ValueError: fewer than two norms, one that is not a positive finite number, or a width that is even or below 1.
    """
    norms = np.asarray(gradient_norms, np.float64)
    if norms.ndim != 1 or len(norms) < 2:
        raise ValueError(f"gradient_norms has shape {norms.shape}: use one number for each of at least 2 steps")
    if not np.all(np.isfinite(norms) & (norms > 0)):
        bad = int(np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))[0])
        raise ValueError(f"gradient_norms[{bad}]={norms[bad]}: use positive finite numbers")
    width = 2 * round(WIDTH * len(norms) / 2) + 1 if width is None else width
    if width < 1 or width % 2 == 0:
        raise ValueError(f"width={width}: use an odd number of at least 1")
    padded = np.pad(norms, width // 2, mode="symmetric")
    weights = np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1) ** -power
    later = np.cumsum(weights[::-1])[::-1] - weights
    later[-1] = 0
    factors = weights * later
    return factors / factors.max()


def refined_schedule(
    gradient_norms: Any, learning_rate: float = 1.0, power: float = 2.0, width: int | None = None
) -> optax.Schedule:
    """An optax schedule over steps with peak `learning_rate`, 0 beyond the run; other arguments and errors as for
    `refined_factors`."""
    rates = np.asarray(learning_rate * refined_factors(gradient_norms, power, width), np.float32)
    return lambda count: jnp.asarray(rates)[jnp.minimum(count, len(rates) - 1)]

"""One number of a whole curve, where the theory asks for one.

    early peak of Tr F      the largest value in the first half of the run; the higher, the worse is generalization
                            (Jastrzebski et al. 2021, "Catastrophic Fisher Explosion", arXiv 2012.14193)
    distance per e-fold     slope of |x_t - x_0| on ln t, least squares; a diffusion in a random landscape is a straight
                            line (Hoffer et al. 2017, arXiv 1705.08741)

Both are means over seeds, of the points where the diagnostic was measured.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

EARLY = 0.5
"""Share of a run."""


class CurveNumber(NamedTuple):
    """A number of the curve of a diagnostic: its name in tables, and (rounds, values) -> number, nan if undefined."""

    name: str
    number: Callable[[Int[np.ndarray, "points"], Float[np.ndarray, "seeds points"]], float]


def early_peak(rounds: Int[np.ndarray, "points"], values: Float[np.ndarray, "seeds points"]) -> float:
    """Largest value in the first half of the run."""
    return _mean_over_seeds(rounds, values, lambda r, v: np.max(v[r <= EARLY * rounds[-1]], initial=-np.inf))


def slope_on_log_round(rounds: Int[np.ndarray, "points"], values: Float[np.ndarray, "seeds points"]) -> float:
    """Growth when the number of rounds is multiplied by e."""
    return _mean_over_seeds(rounds, values, lambda r, v: np.polyfit(np.log(r), v, 1)[0] if len(r) > 1 else np.nan)


def _mean_over_seeds(rounds, values, number: Callable[[np.ndarray, np.ndarray], float]) -> float:
    """Of the seeds whose number is finite."""
    found = []
    for seed in np.asarray(values, np.float64):
        measured = np.isfinite(seed)
        found.append(number(rounds[measured], seed[measured]))
    finite = [value for value in found if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


CURVE_NUMBERS: dict[str, CurveNumber] = {
    "fisher_trace": CurveNumber("early peak of the fisher trace", early_peak),
    "distance_from_initialisation": CurveNumber("distance per e-fold of rounds", slope_on_log_round),
}
"""By diagnostic."""

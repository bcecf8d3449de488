"""Exact solutions of the viscous Burgers equation u_t + u u_x = nu u_xx by the Cole-Hopf transform, in NumPy float64.

With u_0 = U_0' and f(y) = exp(-U_0(y) / (2 nu)),

    u(t, x) = int u_0(y) f(y) G(x - y) dy / int f(y) G(x - y) dy,   G(s) = exp(-s^2 / (4 nu t))

(Cole 1951; Hopf 1950). Gauss-Hermite quadrature in z = (x - y) / sqrt(4 nu t) evaluates both integrals, as Basdevant
et al. (1986, "Spectral and finite difference solutions of the Burgers equation", Computers & Fluids 14) do for
u_0 = -sin(pi x).
"""

import numpy as np
from jaxtyping import Float

NUM_NODES = 100


def sine_series(coefficients: Float[np.ndarray, "*#n modes"], x: Float[np.ndarray, "*#n"]) -> Float[np.ndarray, "..."]:
    """sum_k a_k sin(k pi x), k = 1, 2, ...: it vanishes at -1 and 1."""
    wave_numbers = np.pi * np.arange(1, coefficients.shape[-1] + 1)
    return np.sum(coefficients * np.sin(wave_numbers * x[..., None]), axis=-1)


def burgers_solution(
    t: Float[np.ndarray, "n"],
    x: Float[np.ndarray, "n"],
    coefficients: Float[np.ndarray, "n modes"],
    viscosity: float,
    num_nodes: int = NUM_NODES,
) -> Float[np.ndarray, "n"]:
    """u(t, x) on [-1, 1] with u = 0 at both ends, from a sine series as initial condition.

    The odd, 2-periodic continuation of the series solves the problem on the whole line and vanishes at both ends for
    all t, so that the integrals over the line are exact.

    Args:
      t: times, at least 0; each row is one query.
      x: places.
      coefficients: a_k of the initial condition sum_k a_k sin(k pi x), for each row.
      viscosity: nu, positive.
      num_nodes: of the quadrature, at most 100, up to which NumPy's nodes are tested.

    Raises:
      ValueError: a viscosity that is not positive.
    """
    if viscosity <= 0:
        raise ValueError(f"viscosity={viscosity}: use a positive one")
    nodes, weights = np.polynomial.hermite.hermgauss(num_nodes)
    y = x[:, None] - np.sqrt(4 * viscosity * t)[:, None] * nodes
    start, antiderivative = np.zeros_like(y), np.zeros_like(y)
    for k in range(1, coefficients.shape[-1] + 1):
        a = coefficients[:, k - 1, None]
        start += a * np.sin(k * np.pi * y)
        antiderivative -= a * np.cos(k * np.pi * y) / (k * np.pi)
    # Both integrals are divided by the largest term: the exponents reach hundreds where the viscosity is small.
    log_terms = np.log(weights) - antiderivative / (2 * viscosity)
    terms = np.exp(log_terms - log_terms.max(axis=1, keepdims=True))
    return np.sum(start * terms, axis=1) / np.sum(terms, axis=1)

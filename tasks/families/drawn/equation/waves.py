"""Sums of waves: the solutions of drawn differential equations.

    u*(p) = sum_k a_k cos(w_k . p + b_k)     or     sum_k a_k prod_axis cos(w_k,axis p_axis + b_k,axis)

The n-th derivative of cos(w p + b) is w^n cos(w p + b + n pi / 2).
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tasks.families.drawn.equation.choices import Choices
from tasks.families.drawn.equation.terms import Jet

_NUM_POINTS = 2048
"""On which the root mean square of a solution is measured."""


class Waves(NamedTuple):
    """Frequencies and phases [K, axes] and amplitudes [K, outputs] of a sum of waves, or of products of them."""

    products: bool
    frequencies: np.ndarray
    phases: np.ndarray
    amplitudes: np.ndarray


def draw_waves(choices: Choices, rng: np.random.Generator) -> Waves:
    """Waves of the drawn number, frequency and root mean square."""
    shape = (choices.num_waves, choices.num_axes)
    cycles = choices.frequency * rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape)
    amplitudes = rng.uniform(0.3, 1, (choices.num_waves, choices.num_outputs))
    amplitudes *= rng.choice([-1, 1], amplitudes.shape)
    waves = Waves(choices.products, 2 * math.pi * cycles, rng.uniform(0, 2 * math.pi, shape), amplitudes)
    values = waves_jet(waves, rng.uniform(size=(_NUM_POINTS, choices.num_axes))).value
    return waves._replace(amplitudes=amplitudes * choices.amplitude / np.sqrt(np.mean(values**2, axis=0)))


def waves_jet(waves: Waves, points: Float[np.ndarray, "n axes"]) -> Jet:
    """The solution and all of its derivatives, in float64."""
    axes = range(points.shape[1])

    def derivative(order: int, axis: int) -> np.ndarray:
        quarters = order * np.array([axis == other for other in axes]) * (math.pi / 2)
        angles = points[:, None] * waves.frequencies + waves.phases + quarters
        parts = np.prod(np.cos(angles), axis=2) if waves.products else np.cos(np.sum(angles, axis=2))
        return (parts * waves.frequencies[:, axis] ** order) @ waves.amplitudes

    return Jet(derivative(0, 0), *(tuple(derivative(order, axis) for axis in axes) for order in (1, 2)))

import math

import numpy as np
import pytest

from tasks.networks.cole_hopf import burgers_solution, sine_series


def spectral_solution(coefficients, viscosity, end, num_points, num_steps):
    """u(end, .) on a grid of [-1, 1), by a Fourier method with 2/3 dealiasing and classical Runge-Kutta, the diffusion
    exactly by an integrating factor: shares nothing with the transform."""
    x = 2 * np.arange(num_points) / num_points - 1
    wave = np.pi * np.arange(num_points // 2 + 1)
    keep = wave < np.pi * num_points / 3
    step = end / num_steps
    half = np.exp(-viscosity * wave**2 * step / 2)

    def advection(spectrum):
        return -0.5j * wave * keep * np.fft.rfft(np.fft.irfft(spectrum) ** 2)

    u = np.fft.rfft(sine_series(np.broadcast_to(coefficients, (num_points, len(coefficients))), x))
    for _ in range(num_steps):
        k1 = advection(u)
        k2 = advection(half * (u + step / 2 * k1))
        k3 = advection(half * u + step / 2 * k2)
        k4 = advection(half**2 * u + step * half * k3)
        u = half**2 * u + step / 6 * (half**2 * k1 + 2 * half * (k2 + k3) + k4)
    return x, np.fft.irfft(u)


def solution_at(t, x, coefficients, viscosity):
    rows = np.broadcast_to(np.asarray(coefficients, np.float64), (len(x), len(coefficients)))
    return burgers_solution(np.full(len(x), float(t)), x, rows, viscosity)


@pytest.mark.parametrize(
    "coefficients, viscosity, end, num_points, num_steps",
    [((-1.0,), 0.01 / math.pi, 0.3, 512, 500), ((1.0, -0.7, 0.5), 0.05 / math.pi, 1.0, 256, 500)],
)
def test_it_agrees_with_a_spectral_solve(coefficients, viscosity, end, num_points, num_steps):
    x, expected = spectral_solution(np.asarray(coefficients), viscosity, end, num_points, num_steps)
    np.testing.assert_allclose(solution_at(end, x, coefficients, viscosity), expected, atol=1e-6)
    start = sine_series(np.broadcast_to(np.asarray(coefficients), (len(x), len(coefficients))), x)
    assert abs(expected - start).max() > 0.3


def test_steepest_slope_is_the_published_one():
    """Basdevant et al. (1986): max |u_x| = 152.00516 at pi t = 1.6037 for nu = 0.01 / pi, at x = 0."""
    step = 1e-6
    times = np.linspace(1.59, 1.62, 61) / math.pi
    slopes = -burgers_solution(times, np.full(61, step), np.full((61, 1), -1.0), 0.01 / math.pi) / step
    np.testing.assert_allclose(slopes.max(), 152.00516, rtol=1e-6)
    np.testing.assert_allclose(times[np.argmax(slopes)] * math.pi, 1.6037, atol=5e-4)


def test_initial_and_boundary_values():
    x = np.linspace(-1, 1, 21)
    coefficients = (0.4, -1.3)
    expected = 0.4 * np.sin(np.pi * x) - 1.3 * np.sin(2 * np.pi * x)
    np.testing.assert_allclose(solution_at(0, x, coefficients, 0.02), expected, atol=1e-12)
    ends = solution_at(0.7, np.array([-1.0, 1.0]), coefficients, 0.02)
    np.testing.assert_allclose(ends, 0, atol=1e-12)


def test_bad_viscosity():
    with pytest.raises(ValueError, match="viscosity=0"):
        solution_at(0.5, np.zeros(1), (1.0,), 0.0)

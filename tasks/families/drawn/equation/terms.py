"""Terms of drawn differential equations (`sampled_equation`).

A function of points is a `Jet`: its values with its first and second derivatives along every axis.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.networks.physics_informed import Solution, first_derivative, second_derivative


class Jet(NamedTuple):
    """A function's value [n, outputs] at points, and for each axis its first and second derivative there.

    None stands for a derivative that no term reads.
    """

    value: Any
    slopes: tuple[Any, ...]
    curvatures: tuple[Any, ...]


def jet_of(u: Solution, points: Float[Array, "n axes"], orders: tuple[int, ...]) -> Jet:
    """u, a function of points [n, axes] to [n, outputs], with its derivatives up to an order for each axis."""
    value, slopes, curvatures = None, [], []
    for axis, order in enumerate(orders):
        slope = curvature = None
        if order == 2:
            value, slope, curvature = second_derivative(u, points, axis)
        elif order == 1:
            slope = first_derivative(u, points, axis)
        slopes.append(slope)
        curvatures.append(curvature)
    return Jet(u(points) if value is None else value, tuple(slopes), tuple(curvatures))


def orders_of(terms: tuple[str, ...], num_axes: int) -> tuple[int, ...]:
    """The highest order of derivative that the terms read along each axis."""
    orders = [2 if f"u_{axis}{axis}" in terms else int(f"u_{axis}" in terms) for axis in range(num_axes)]
    if {"a u_s", "u_s^2"} & set(terms):
        orders[-1] = max(orders[-1], 1)
    return tuple(orders)


def term_of(name: str, jet: Jet, a: Any = None) -> Any:
    """A term at each point, [n, outputs].

    Args:
      name: u and its derivatives along an axis, as u_0 and u_00; `a u_s` and `u_s^2` are of the slope along the last
        axis; `other`, `product` and `sin other` read the other output too.
      jet: the function.
      a: [n], the varying coefficient; needed by `a u_s` alone.
    """
    u, slope = jet.value, jet.slopes[-1]
    if name.startswith("u_") and name[2:].isdigit():
        return (jet.slopes if len(name) == 3 else jet.curvatures)[int(name[2])]
    if name == "u":
        return u
    if name == "u^2":
        return u * u
    if name == "u^3":
        return u * u * u
    if name == "sin u":
        return _sine(u)
    if name == "a u_s":
        return a[:, None] * slope
    if name == "u_s^2":
        return slope * slope
    other = u[:, ::-1]
    return {"other": lambda: other, "product": lambda: u * other, "sin other": lambda: _sine(other)}[name]()


def sum_of_terms(
    terms: tuple[str, ...], coefficients: Float[np.ndarray, "terms outputs"], jet: Jet, a: Any = None
) -> Any:
    """sum_i c_i T_i(u) at each point, [n, outputs], in the dtype of the terms; c differs between outputs."""
    parts = [term_of(name, jet, a) for name in terms]
    rows = coefficients.astype(parts[0].dtype)
    total = rows[0][None] * parts[0]
    for row, part in zip(rows[1:], parts[1:], strict=True):
        total = total + row[None] * part
    return total


def _sine(u: Any) -> Any:
    """Of NumPy arrays without a program to compile."""
    return np.sin(u) if isinstance(u, np.ndarray) else jnp.sin(u)

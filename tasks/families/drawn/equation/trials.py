"""Trial functions of drawn differential equations (`choices.TRIALS`), in one function.

    tanh, sin, gelu  a network of that activation          residual  h <- h + act(h W + b) from the second layer on
    fourier          a network of fixed random waves of the point (Tancik et al. 2020, arXiv 2006.10739)
    product          sum_r g_r(first axis) h_r(last axis), two networks
    matrix           rows(first axis)^T C columns(last axis), linear in the table C

Rows and columns are cosines, Legendre polynomials or Gaussian bumps; in one variable, the columns are the first
Legendre polynomials of the same variable, so that each row has a polynomial of its own.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tasks.base import Params
from tasks.families.drawn.equation.choices import Choices
from tasks.networks.variants import ACTIVATIONS

_ACTIVATIONS = ACTIVATIONS | {"sin": jnp.sin}
_NUM_FEATURES = 12


def shapes_of(choices: Choices) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters by name, in the order in which they are used."""
    c = choices
    if c.trial == "matrix":
        return {f"table{i}": c.basis_sizes for i in range(c.num_outputs)}
    if c.trial == "product":
        return {f"{net}_{n}": s for net in ("g", "h") for n, s in _layers(c, 1, c.num_terms * c.num_outputs).items()}
    return _layers(c, 2 * _NUM_FEATURES if c.trial == "fourier" else c.num_axes, c.num_outputs)


def initial(choices: Choices, name: str, shape: tuple[int, ...], key: Key[Array, ""]) -> Float[Array, "..."]:
    """The initial parameter of a name, from `shapes_of`."""
    noise, c = jax.random.normal(key, shape), choices
    if name.startswith("table"):
        return 0.1 * c.output_scale * noise
    if len(shape) == 1:
        return (0.0 if name.endswith("last_b") else c.bias_scale) * noise
    scale = c.init_scale * shape[0] ** -0.5
    if not name.endswith("last_w"):
        return scale * noise
    if c.trial == "product":
        return scale * (c.output_scale * c.num_terms**-0.5) ** 0.5 * noise
    return scale * c.output_scale * noise


def trial_of(choices: Choices, params: Params, points: Array) -> Float[Array, "n outputs"]:
    """The function at points [n, axes] of the box [0, 1]^axes."""
    c, x = choices, 2 * points - 1
    if c.trial == "matrix":
        kind = "legendre" if c.num_axes == 1 else c.basis
        rows = _basis(c.basis, c.basis_sizes[0], c.decay, x[:, 0])
        columns = _basis(kind, c.basis_sizes[1], c.decay, x[:, -1])
        tables = [params[f"table{i}"] for i in range(c.num_outputs)]
        return jnp.stack([jnp.sum((rows @ table) * columns, axis=1) for table in tables], axis=1)
    x = c.input_scale * x
    if c.trial == "product":
        g, h = _network(c, params, "g_", x[:, :1]), _network(c, params, "h_", x[:, -1:])
        return jnp.sum((g * h).reshape(len(x), c.num_terms, c.num_outputs), axis=1)
    if c.trial == "fourier":
        angles = x @ jnp.asarray(_features(c), x.dtype)
        x = math.sqrt(2) * jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1)
    return _network(c, params, "", x)


def _layers(choices: Choices, size: int, outputs: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(choices.depth):
        shapes |= {f"w{i}": (size, choices.width), f"b{i}": (choices.width,)}
        size = choices.width
    return shapes | {"last_w": (size, outputs), "last_b": (outputs,)}


def _network(choices: Choices, params: Params, net: str, h: Array) -> Float[Array, "n outputs"]:
    act = _ACTIVATIONS[choices.activation]
    for i in range(choices.depth):
        out = act(h @ params[f"{net}w{i}"] + params[f"{net}b{i}"][None])
        h = h + out if choices.trial == "residual" and i else out
    return h @ params[f"{net}last_w"] + params[f"{net}last_b"][None]


def _features(choices: Choices) -> np.ndarray:
    """Frequencies [axes, features] about those of the solution, of what the network reads."""
    rng = np.random.default_rng([24, choices.num_axes])
    return math.pi * choices.frequency / choices.input_scale * rng.standard_normal((choices.num_axes, _NUM_FEATURES))


def _basis(kind: str, size: int, decay: float, x: Array) -> Float[Array, "n size"]:
    """Functions 1..size of x [n] in [-1, 1]; the k-th one is k^-decay of its kind, bumps are equally high."""
    index = jnp.arange(size, dtype=x.dtype)
    if kind == "bumps":
        spacing = 2 / (size - 1)
        return jnp.exp(-0.5 * jnp.square((x[:, None] + 1 - spacing * index[None]) / ((0.5 + decay / 2) * spacing)))
    scales = (1 + index) ** -decay
    if kind == "cosines":
        return jnp.cos(0.5 * math.pi * (x[:, None] + 1) * index[None]) * scales[None]
    polynomials = [jnp.ones_like(x), x]
    for k in range(1, size - 1):
        polynomials.append(((2 * k + 1) * x * polynomials[k] - k * polynomials[k - 1]) / (k + 1))
    return jnp.stack(polynomials, axis=1) * scales[None]

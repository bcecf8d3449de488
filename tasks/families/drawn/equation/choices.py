"""What a differential equation that is drawn at random consists of (`sampled_equation`)."""

from typing import NamedTuple

import numpy as np

EQUATIONS = ("ordinary", "evolution", "variational", "plane", "system")
TRIALS = ("tanh", "matrix", "sin", "residual", "product", "gelu", "fourier")
BASES = ("cosines", "bumps", "legendre")
SMOOTH = ("tanh", "sin", "gelu")

ALGEBRAIC = ("u", "u^2", "u^3", "sin u")
COUPLINGS = ("other", "product", "sin other")
LINEAR = ("u", "u_0", "u_1", "u_00", "u_11", "a u_s", "other")
_ONE_AXIS = ("u_0", "u_00", "a u_s", "u_s^2")
_TWO_AXES = ("u_1", "u_11", "a u_s", "u_s^2")


class Choices(NamedTuple):
    """What a seed decides; axis 0 is t or x, axis 1 is x or y.

    Attributes:
      equation: one of `EQUATIONS`: in t; in t and x; the least energy, in one or two variables; in x and y; two in t.
      trial: one of `TRIALS`.
      terms: names from `terms`; none for an energy.
      num_axes, num_outputs: variables, and functions of them.
      slopes: whether some of the conditions are on derivatives.
      weight: of the conditions, that of the equation being 1.
      products: whether the solution is a sum of products of waves, else of plane waves.
      num_waves, frequency: their number, and their typical cycles over the box [0, 1]^num_axes.
      amplitude: root mean square of the solution.
      activation: one of `SMOOTH`.
      width, depth: units of a hidden layer, and their number.
      num_terms: of a sum of products.
      basis, basis_sizes, decay: functions that the rows and columns of a matrix multiply; their sizes fall as k^-decay.
      input_scale: the network reads the box as [-input_scale, input_scale]^num_axes.
      init_scale, bias_scale, output_scale: of the initial matrices, of biases, and another on the last matrix.
      num_rows: collocation points.
    """

    equation: str
    trial: str
    terms: tuple[str, ...]
    num_axes: int
    num_outputs: int
    slopes: bool
    weight: float
    products: bool
    num_waves: int
    frequency: float
    amplitude: float
    activation: str
    width: int
    depth: int
    num_terms: int
    basis: str
    basis_sizes: tuple[int, int]
    decay: float
    input_scale: float
    init_scale: float
    bias_scale: float
    output_scale: float
    num_rows: int


def choices_of(seed: int) -> Choices:
    """The choices of a seed; over 35 seeds every kind of equation meets every kind of trial function once."""
    rng = np.random.default_rng([23, seed])
    equation, trial = EQUATIONS[seed % len(EQUATIONS)], TRIALS[seed % len(TRIALS)]
    energy = equation == "variational"
    num_axes = int(rng.integers(1, 3)) if energy else 1 + (equation in ("evolution", "plane"))
    terms = () if energy else _terms(rng, equation, linear=trial == "matrix")
    if equation == "plane":
        slopes = bool(rng.random() < 0.4)
    else:
        # Two conditions at the start, or for half of the ordinary equations one at either end.
        slopes = "u_00" in terms and (equation == "evolution" or rng.random() < 0.5)
    depth = int(rng.integers(1, 5))
    if trial in ("product", "fourier"):
        depth = 1 + depth % 2
    if trial == "residual":
        depth = max(depth, 2)
    # In one variable, the columns are polynomials already.
    rows, columns = (16, 4) if num_axes == 1 else (int(rng.choice([8, 12])), int(rng.choice([6, 8, 12])))
    basis = str(rng.choice(BASES[: num_axes + 1]))
    return Choices(
        equation=equation,
        trial=trial,
        terms=terms,
        num_axes=num_axes,
        num_outputs=2 if equation == "system" else 1,
        slopes=slopes,
        weight=_log_uniform(rng, 0.3, 30),
        products=bool(rng.random() < 0.5),
        num_waves=int(rng.integers(1, 6)),
        frequency=_log_uniform(rng, 0.3, 3.0 if num_axes == 1 else 2.0),
        amplitude=_log_uniform(rng, 0.5, 2),
        activation=trial if trial in SMOOTH else SMOOTH[rng.integers(len(SMOOTH))],
        width=int(rng.choice([16, 24, 32, 48] if depth < 3 else [16, 24, 32])),
        depth=depth,
        num_terms=int(rng.choice([2, 4, 8])),
        basis=basis,
        basis_sizes=(rows, columns),
        decay=float(rng.uniform(0.5, 2)),
        input_scale=_log_uniform(rng, 0.7, 3),
        init_scale=_log_uniform(rng, 0.7, 1.6),
        bias_scale=float(rng.choice([0.0, 0.5])),
        output_scale=float(rng.choice([0.1, 0.5])),
        num_rows=int(rng.choice([128, 512, 2048, 8192])),
    )


def is_held_out(terms: tuple[str, ...]) -> bool:
    """Whether an equation is another suite's: Poisson's in any dimension, or the heat equation (also with decay)."""
    return set(terms) <= {"u_00", "u_11"} or set(terms) - {"u"} == {"u_0", "u_11"}


def _terms(rng: np.random.Generator, equation: str, linear: bool) -> tuple[str, ...]:
    """Two to five terms; of evolution one is a derivative in time, of a system one couples its two equations."""
    one_axis = equation in ("ordinary", "system")
    pool = [*ALGEBRAIC, *(_ONE_AXIS if one_axis else _TWO_AXES), *(["u_00"] if equation == "plane" else [])]
    while True:
        terms = list(rng.choice(pool, size=rng.integers(1, 4), replace=False))
        if equation == "plane":
            terms.append(str(rng.choice(["u_00", "u_11"])))
        else:
            terms.append(str(rng.choice(["u_0", "u_00"])))
        if equation == "system":
            terms.append(str(rng.choice(COUPLINGS)))
        drawn = tuple(sorted({str(term) for term in terms}))
        if (not linear or set(drawn) <= set(LINEAR)) and len(drawn) > 1 and not is_held_out(drawn):
            return drawn


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))

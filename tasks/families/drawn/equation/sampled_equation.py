"""Differential equations drawn at random, with a known solution, solved by trial functions drawn at random.

    residual  sum_i c_i T_i(u) - f,   f = sum_i c_i T_i(u*)
    loss = (mean residual^2 / mean f^2 + weight mean (B u - B u*)^2 / mean u*^2) / that of the zero function

The terms T_i are u and its derivatives, u^2, u^3, sin u, the square of a slope and a slope with a varying
coefficient; the rms of c_i T_i(u*) is drawn over two orders of magnitude, so some equations are stiff. B takes values
or slopes at the start or on the boundary. u* is a sum of waves or of products of waves: the right-hand side has no
noise (`solution`). Such losses are the physics-informed ones (Raissi, Perdikaris & Karniadakis 2019, JCP 378).
A fifth of the seeds minimise an energy instead (E & Yu 2018, arXiv 1710.00211), with natural boundary conditions,

    1/2 int p(x) |grad u|^2 + q u^2  -  int p grad u* . grad u + q u* u   minus its least value, over that of zero.

Its load is in weak form, and the difference is 1/2 int p |grad (u - u*)|^2 + q (u - u*)^2, which is how it is computed,
for a difference of two energies has few digits. Trial functions: `trials`; those that are linear in a matrix meet
linear equations alone, so that their loss is a quadratic.

A seed stands for one problem: points, equation and solution are fixed, initial parameters and batches are not.

Held out, because other suites judge on them: the heat equation, Poisson's equation in any dimension, terms u u_x
(Burgers), weights or points that follow the residual, transformers of points, and networks inside a solver.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.base import Batch, Params, TaskFamily
from tasks.families.drawn.equation.choices import Choices, choices_of
from tasks.families.drawn.equation.solution import Equation, draw_equation
from tasks.families.drawn.equation.terms import jet_of, orders_of, sum_of_terms
from tasks.families.drawn.equation.trials import initial, shapes_of, trial_of
from tasks.families.drawn.family import check_seed, drawn_family
from tasks.networks.physics_informed import relative_l2


def sampled_equation(seed: int = 0, name: str = "") -> TaskFamily:
    """The problem of a seed.

    Args:
      seed: decides everything but initial parameters and batches; see `choices_of`.
      name: the family's name; "sampled_equation_<seed>" where empty.

    Raises:
      ValueError: a negative seed.
    """
    check_seed(seed)
    choices = choices_of(seed)
    equation, data = draw_equation(choices, seed)

    def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
        value, estimate = _loss(choices, equation, params, batch)
        return {"loss": value, "relative_l2": relative_l2(estimate.ravel(), batch["u"].ravel())}

    return drawn_family(
        name or f"sampled_equation_{seed}",
        data,
        shapes_of(choices),
        functools.partial(initial, choices),
        lambda params, batch: _loss(choices, equation, params, batch)[0],
        equation.uninformed_loss,
        metrics,
    )


def _loss(
    choices: Choices, equation: Equation, params: Params, batch: Batch
) -> tuple[Float[Array, ""], Float[Array, "batch outputs"]]:
    """The loss, and u at the points."""

    def u(points):
        return trial_of(choices, params, points)

    if choices.equation == "variational":
        jet = jet_of(u, batch["interior"], (1,) * choices.num_axes)
        slopes = jnp.concatenate(jet.slopes, axis=1) - batch["u_slopes"]
        energies = jnp.sum(batch["p"] * jnp.square(slopes), axis=1)
        energies = energies + float(equation.coefficients[0, 0]) * jnp.square(jet.value - batch["u"])[:, 0]
        return equation.interior_scale * jnp.mean(energies), jet.value
    jet = jet_of(u, batch["interior"], orders_of(choices.terms, choices.num_axes))
    residual = sum_of_terms(choices.terms, equation.coefficients, jet, batch.get("a")) - batch["f"]
    if choices.slopes:
        values, slopes = jax.jvp(u, (batch["edge"],), (batch["direction"],))
        edge = batch["on_value"][:, None] * values + slopes - batch["g"]
    else:
        edge = u(batch["edge"]) - batch["g"]
    squares = [jnp.mean(jnp.sum(jnp.square(error), axis=1)) for error in (residual, edge)]
    return equation.interior_scale * squares[0] + equation.edge_scale * squares[1], jet.value
